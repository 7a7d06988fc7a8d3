//! The scripts, each of which is one whole write or one consistent read, and how they are called.
//!
//! A script is called by its hash. A server that does not know it (it was restarted, or its scripts
//! were flushed) is sent the text, which it then remembers.

use std::fmt::Display;
use std::sync::LazyLock;

use redis::{Cmd, Script, ToRedisArgs};

use super::record::Listed;
use crate::record::AccountId;
use crate::store::{CHANGES_KEPT, StoreError, Written};

/// The newest layout of the data.
pub(super) const LAYOUT: i64 = 1;

/// A script's text and its hash.
pub(super) struct Text {
    text: &'static str,
    hash: String,
}

/// A script of several files. A flag says what Redis may let it do: `allow-oom` for what ends keys,
/// which must work when the memory is full; `no-writes` for what only reads.
macro_rules! script {
    ($name:ident, $flags:literal, $($file:literal)*) => {
        pub(super) static $name: LazyLock<Text> = LazyLock::new(|| {
            let text = concat!("#!lua", $flags, "\n", $(include_str!($file)),*);
            Text { text, hash: Script::new(text).get_hash().to_owned() }
        });
    };
}

script!(OPEN, " flags=allow-oom", "open.lua");
script!(INSERT, "", "record.lua" "write.lua" "insert.lua");
script!(INSERT_FIRST, "", "record.lua" "write.lua" "insert_first.lua");
script!(RENAME, "", "record.lua" "write.lua" "rename.lua");
script!(REPLACE, " flags=allow-oom", "record.lua" "write.lua" "replace.lua");
script!(REHASH, "", "record.lua" "write.lua" "rehash.lua");
script!(ROTATE_WITH_GRACE, "", "record.lua" "write.lua" "rotate.lua");
script!(ROTATE_AT_ONCE, " flags=allow-oom", "record.lua" "write.lua" "rotate.lua");
script!(DELETE, " flags=allow-oom", "record.lua" "write.lua" "delete.lua");
script!(DELETE_ALL, " flags=allow-oom", "record.lua" "write.lua" "delete_all.lua");
script!(MARK_USED, "", "record.lua" "write.lua" "mark_used.lua");
script!(USAGE, " flags=no-writes", "record.lua" "usage.lua");
script!(GET, " flags=no-writes", "record.lua" "get.lua");
script!(LIST, " flags=no-writes", "record.lua" "list.lua");
script!(ENROL, " flags=allow-oom", "replicas.lua" "enrol.lua");
script!(RENEW, " flags=allow-oom", "replicas.lua" "renew.lua" "changes.lua");
script!(WITHDRAW, " flags=allow-oom", "replicas.lua" "withdraw.lua");
script!(ROLL, " flags=no-writes", "replicas.lua" "roll.lua");
script!(SUSPECT, " flags=allow-oom", "replicas.lua" "suspect.lua");
script!(CHANGES, " flags=no-writes", "record.lua" "changes.lua");

/// The names of a namespace's keys. Its name in braces puts all of them in one slot of a cluster.
#[derive(Debug)]
pub(super) struct Keys {
    namespace: String,
    pub(super) secrets: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), secrets: format!("{{{namespace}}}:secrets") }
    }

    /// The stream of changes, and the channel that says that there is a new one.
    pub(super) fn changes(&self) -> String {
        self.named("changes")
    }

    fn named(&self, name: impl Display) -> String {
        format!("{{{}}}:{name}", self.namespace)
    }
}

/// One call of a script.
pub(super) struct Call {
    script: &'static Text,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// With every key that a script may touch, but those of an account.
    pub(super) fn new(script: &'static Text, keys: &Keys) -> Self {
        let keys = vec![keys.named("layout"), keys.secrets.clone(), keys.named("changes")];
        Self { script, keys, arguments: Vec::new() }
    }

    /// A read of what an account has.
    pub(super) fn of(script: &'static Text, keys: &Keys, account: &AccountId) -> Self {
        let mut call = Self::new(script, keys);
        call.keys.push(keys.named(format_args!("account:{account}")));
        call.keys.push(keys.named(format_args!("expiries:{account}")));
        call
    }

    /// A read of what was counted of the use of an account's keys.
    pub(super) fn of_usage(script: &'static Text, keys: &Keys, account: &AccountId) -> Self {
        let mut call = Self::of(script, keys, account);
        call.keys.push(keys.named(format_args!("usage:{account}")));
        call
    }

    /// A read of the roll of replicas, or a write to it.
    pub(super) fn on_the_roll(script: &'static Text, keys: &Keys) -> Self {
        let mut call = Self::new(script, keys);
        call.keys.push(keys.named("replicas"));
        call
    }

    /// A write to what an account has.
    pub(super) fn write(script: &'static Text, keys: &Keys, account: &AccountId) -> Self {
        Self::of(script, keys, account).with(LAYOUT).with(CHANGES_KEPT)
    }

    /// Adds an argument.
    pub(super) fn with(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// The call by the script's hash.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// The call by the script's text.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// What a script answered: a word, and what belongs to it.
pub(super) type Answer = Vec<Vec<u8>>;

/// What became of a write, with what the script says more.
pub(super) fn written(mut answer: Answer) -> Result<Written<Answer>, StoreError> {
    let more = answer.split_off(answer.len().min(1));
    match answer.first().map(Vec::as_slice) {
        Some(b"done") => Ok(Written::Done(more)),
        Some(b"not found") => Ok(Written::NotFound),
        Some(b"refused") => Ok(Written::Refused),
        Some(b"taken") => Ok(Written::Taken),
        Some(b"superseded") => Ok(Written::Superseded),
        Some(b"layout") => Err(layout(&more)),
        Some(b"foreign") => Err(FOREIGN),
        _ => Err(StoreError::unavailable("redis", "a script gave an answer that is none")),
    }
}

/// What a read found.
pub(super) fn read(answer: Answer) -> Result<Answer, StoreError> {
    match written(answer)? {
        Written::Done(found) => Ok(found),
        _ => Err(StoreError::unavailable("redis", "a script gave an answer to another question")),
    }
}

/// A page of an account's keys.
pub(super) struct Page {
    /// That of the account's last write: pages of one version belong together.
    pub(super) version: Vec<u8>,
    /// Where the next page begins.
    pub(super) next: Option<Vec<u8>>,
    /// What the page lists.
    pub(super) keys: Answer,
}

pub(super) fn page(mut found: Answer) -> Result<Page, StoreError> {
    let keys = found.split_off(found.len().min(2));
    let [version, next] = <[_; 2]>::try_from(found)
        .map_err(|_| StoreError::unavailable("redis", "a script gave a page that is none"))?;
    Ok(Page { version, next: (next != b"0").then_some(next), keys })
}

/// What a script says of an account's keys.
pub(super) fn listed(answer: &Answer) -> impl Iterator<Item = Listed<'_>> {
    let (listed, _) = answer.as_chunks::<3>();
    listed.iter().map(|[id, fingerprint, record]| Listed { id, fingerprint, record })
}

/// Whether what [`OPEN`] found is of a layout that this version knows.
pub(super) fn opened(answer: Answer) -> Result<(), StoreError> {
    match answer.as_slice() {
        [word, found] if word == b"layout" && *found == LAYOUT.to_string().into_bytes() => Ok(()),
        _ => written(answer).and(Err(FOREIGN)),
    }
}

/// Why a layout that is not [`LAYOUT`] is refused.
fn layout(found: &[Vec<u8>]) -> StoreError {
    let found = found.first().and_then(|found| str::from_utf8(found).ok()?.parse::<i64>().ok());
    match found {
        Some(found) if found > LAYOUT => StoreError::Newer { store: "redis", found, known: LAYOUT },
        _ => FOREIGN,
    }
}

const FOREIGN: StoreError =
    StoreError::Foreign { store: "redis", what: "the namespace holds another application's keys" };
