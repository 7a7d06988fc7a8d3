//! Keys of another system, filed as they are: their owners go on using the texts that they have.
//!
//! ```
//! use tower_api_key::manage::import::{Import, ImportedKey};
//! use tower_api_key::{ForeignDigest, Hashing, KeyManager, MemoryStore, Scheme};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What accepts Sanctum's tokens. The layer is told the same, and `KeyFormat::Any`.
//! let hashing = Hashing::default().accepting(Scheme::sanctum());
//! let manager = KeyManager::new(MemoryStore::new(), "acme".parse()?).with_hashing(hashing);
//!
//! let token = [0x5a; 32]; // the column `token` of the row 17, from hex
//! let digest = ForeignDigest::sanctum("17", token)?;
//! let row = ImportedKey::of_digest("customer@example.com".parse()?, "CRM".parse()?, digest);
//!
//! let would_be = manager.import(vec![row.clone()], &Import::default().as_dry_run()).await?;
//! assert_eq!(would_be.imported, 1);
//! let report = manager.import(vec![row], &Import::default()).await?;
//! assert_eq!((report.imported, report.already), (1, 0));
//! # Ok(()) }
//! ```
//!
//! All rows are looked at before the first is written, and where one is refused nothing is, unless
//! [told](Import::skipping_refused) to leave such rows out. A [dry run](Import::as_dry_run) does the first
//! half and reports what the second would.
//!
//! When the store fails in the middle, the rows before it are filed, and the same rows can be imported once
//! more: those that are there already are no errors. That is known by the digest, or by the text, and holds
//! also for keys that were [upgraded](crate::Upgrades) since. A key that was deleted or regenerated here
//! since stays so, and its row is refused.
//!
//! # What their clients send
//!
//! A text in the header `API-Key` is taken with [`KeyFormat::Any`](crate::KeyFormat::Any), since only keys of
//! this crate have its checksum. Sanctum's clients send `Authorization: Bearer`: tell the layer
//! [`with_bearer`](crate::ApiKeyLayer::with_bearer). Clients of `djangorestframework-api-key` send
//! `Authorization: Api-Key …`, and others `X-API-Key`: put a layer outside of this one that moves the value to
//! `API-Key`, for as long as there are such clients.
//!
//! With the feature `import`, `ImportRows::from_json_lines` reads rows from a file.

mod check;
#[cfg(feature = "import")]
mod lines;
mod row;

use std::fmt;
use std::sync::Arc;

use self::check::{Checked, Checks, Standing};
pub use self::row::{ImportedKey, RefusedRow, RowRefusal};
use super::{KeyManager, ManageError};
use crate::events::KeyEvent;
use crate::record::KeyRecord;
use crate::store::Written;

/// How keys are imported; by default all rows or none, for real, under the manager's limit.
#[derive(Clone, Default)]
#[must_use]
pub struct Import {
    is_dry_run: bool,
    skips_refused: bool,
    allows_weak: bool,
    limit: Option<usize>,
    progress: Option<Progress>,
}

type Progress = Arc<dyn Fn(usize, usize) + Send + Sync>;

impl Import {
    /// Writes nothing, and reports what would be.
    pub fn as_dry_run(mut self) -> Self {
        self.is_dry_run = true;
        self
    }

    /// Imports the other rows where some are refused.
    pub fn skipping_refused(mut self) -> Self {
        self.skips_refused = true;
        self
    }

    /// How many active keys an account may have, in place of the manager's limit. What had not expired when
    /// the row's key was made counts.
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Takes texts that look easy to guess, too. Whoever reads the store finds such keys out; only a
    /// [`Pepper`](crate::Pepper) helps. Better: have their owners make new ones.
    pub fn dangerously_allowing_weak_texts(mut self) -> Self {
        self.allows_weak = true;
        self
    }

    /// Says after each row that is written how many rows are done, and of how many. Must not block.
    pub fn with_progress(mut self, tell: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(tell));
        self
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("is_dry_run", &self.is_dry_run)
            .field("skips_refused", &self.skips_refused)
            .field("allows_weak", &self.allows_weak)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Rows to import, and those that could not even be read.
#[derive(Clone, Debug, Default)]
pub struct ImportRows {
    rows: Vec<ImportedKey>,
    refused: Vec<RefusedRow>,
}

/// Rows that are numbered as they stand here, from one.
impl From<Vec<ImportedKey>> for ImportRows {
    fn from(mut rows: Vec<ImportedKey>) -> Self {
        for (row, line) in rows.iter_mut().zip(1..) {
            row.line = line;
        }
        Self { rows, refused: Vec::new() }
    }
}

/// What an import has done, or would do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// How many keys were imported; of a dry run, how many would be.
    pub imported: usize,
    /// How many rows were there already, from an earlier import.
    pub already: usize,
    /// The rows that were refused, in order. Says nothing of secrets and digests.
    pub refused: Vec<RefusedRow>,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { imported, already, refused } = self;
        write!(f, "{imported} imported, {already} already there, {} refused", refused.len())?;
        refused.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

/// Why an import was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Rows were refused, so nothing was imported; or, where another process wrote at the same time, no row
    /// after the one that was refused last.
    #[error("the import was refused: {0}")]
    Refused(ImportReport),
    /// The store failed, or the system's generator, after so many rows: import the same rows again.
    #[error("the import stopped: {report}")]
    #[non_exhaustive]
    Stopped {
        /// How far it came. The next key may have been imported, too.
        report: ImportReport,
        /// What failed.
        source: ManageError,
    },
}

impl KeyManager {
    /// Files keys of another system; see the [module](self). Dropping the future leaves the keys that were
    /// filed until then.
    ///
    /// # Errors
    ///
    /// [`Refused`](ImportError::Refused) and [`Stopped`](ImportError::Stopped).
    pub async fn import(
        &self,
        rows: impl Into<ImportRows>,
        import: &Import,
    ) -> Result<ImportReport, ImportError> {
        let ImportRows { rows, refused } = rows.into();
        let mut report = ImportReport { refused, ..ImportReport::default() };
        let checked = match self.check(&rows, import, &mut report).await {
            Ok(checked) => checked,
            Err(source) => return Err(ImportError::Stopped { report, source }),
        };
        report.refused.sort_by_key(|row| row.line);
        if !report.refused.is_empty() && !import.skips_refused {
            return Err(ImportError::Refused(report));
        }
        if import.is_dry_run {
            report.imported = checked.len();
            return Ok(report);
        }
        let done = self.write_all(checked, import, &mut report).await;
        // What was filed can be used everywhere, however it went on.
        if report.imported > 0 && self.settles {
            self.settle().await;
        }
        match done {
            Ok(true) => Ok(report),
            Ok(false) => Err(ImportError::Refused(report)),
            Err(source) => Err(ImportError::Stopped { report, source }),
        }
    }

    /// The rows that are to be filed.
    async fn check(
        &self,
        rows: &[ImportedKey],
        import: &Import,
        report: &mut ImportReport,
    ) -> Result<Vec<Checked>, ManageError> {
        let limit = import.limit.unwrap_or(self.limit);
        let mut checks = Checks::new(self, limit, import.allows_weak);
        let mut checked = Vec::new();
        for row in rows {
            match checks.check(row).await? {
                Standing::New(new) => checked.push(new),
                Standing::Already => report.already += 1,
                Standing::Refused(reason) => {
                    report.refused.push(RefusedRow { line: row.line, reason });
                }
            }
        }
        Ok(checked)
    }

    /// Whether every row was filed; the last one that was looked at was not, where this is `false`.
    async fn write_all(
        &self,
        checked: Vec<Checked>,
        import: &Import,
        report: &mut ImportReport,
    ) -> Result<bool, ManageError> {
        let all = checked.len();
        for (place, row) in checked.into_iter().enumerate() {
            match self.write(&row, import).await? {
                Standing::New(()) => report.imported += 1,
                Standing::Already => report.already += 1,
                Standing::Refused(reason) => {
                    report.refused.push(RefusedRow { line: row.line, reason });
                    if !import.skips_refused {
                        return Ok(false);
                    }
                }
            }
            if let Some(tell) = &import.progress {
                tell(place + 1, all);
            }
        }
        Ok(true)
    }

    /// Files one row. Somebody else may have written since it was checked.
    async fn write(
        &self,
        Checked { id, record, .. }: &Checked,
        import: &Import,
    ) -> Result<Standing<()>, ManageError> {
        let limit = import.limit.unwrap_or(self.limit);
        Ok(match self.file(Arc::clone(record), limit).await? {
            Written::Done(()) => Standing::New(()),
            Written::Taken => {
                let (account, id) = (&record.account, id.as_ref());
                let standing =
                    check::standing(&*self.registry, account, id, &record.digest, &record.hint)
                        .await?;
                standing.unwrap_or(Standing::Refused(RowRefusal::IdInUse))
            }
            _ => Standing::Refused(RowRefusal::LimitReached { limit }),
        })
    }

    async fn file(&self, record: Arc<KeyRecord>, limit: usize) -> Result<Written<()>, ManageError> {
        self.to_the_end(async move |manager| {
            let written = manager.registry.insert(Arc::clone(&record), limit).await?;
            if matches!(written, Written::Done(())) {
                manager.log("key imported", &record);
                manager.tell(&KeyEvent::Imported { key: &record, by: manager.actor.as_ref() });
            }
            Ok(written)
        })
        .await
    }
}
