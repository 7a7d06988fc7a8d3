//! What is shown, to people and to programs. Never a digest, and no key but a new one.

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};
use tower_api_key::manage::import::ImportReport;
use tower_api_key::{Identity, KeyRecord, Rejection};

/// A key, for programs.
pub(crate) fn key(record: &KeyRecord) -> Value {
    json!({
        "id": record.id.as_str(),
        "account": record.account.as_str(),
        "name": record.name.as_str(),
        "environment": record.environment.as_ref().map(ToString::to_string),
        "scopes": record.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sources": record.sources.to_string().split_whitespace().collect::<Vec<_>>(),
        "hint": record.hint.as_str(),
        "created_at": time(record.created_at),
        "expires_at": record.expires_at.map(time),
        "last_used_at": record.last_used_at.map(time),
        "replaced_by": record.replaced_by.as_ref().map(ToString::to_string),
        "status": status(record),
    })
}

pub(crate) fn keys(records: &[Arc<KeyRecord>], as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let keys: Vec<_> = records.iter().map(|record| key(record)).collect();
        return writeln!(out, "{}", json!({ "data": keys }));
    }
    let head = ["ID", "NAME", "HINT", "CREATED", "LAST USED", "EXPIRES", "STATUS"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(records.iter().map(|record| {
        let or_never = |at: Option<SystemTime>| at.map_or_else(|| "never".to_owned(), minute);
        [
            record.id.to_string(),
            record.name.to_string(),
            record.hint.as_str().to_owned(),
            minute(record.created_at),
            or_never(record.last_used_at),
            or_never(record.expires_at),
            status(record).to_owned(),
        ]
    }));
    table(&mut out, &rows)
}

/// Columns as wide as their longest text, but the last.
fn table<const N: usize>(out: &mut impl io::Write, rows: &[[String; N]]) -> io::Result<()> {
    let length = |text: &String| text.chars().count();
    let widths: [usize; N] =
        std::array::from_fn(|at| rows.iter().map(|row| length(&row[at])).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells.map(|(text, width)| format!("{text:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

pub(crate) fn caller(caller: &Identity, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let caller = json!({
            "valid": true,
            "account": caller.account().as_str(),
            "id": caller.key_id().as_str(),
            "name": caller.key_name().as_str(),
            "expires_at": caller.expires_at().map(time),
        });
        return writeln!(out, "{caller}");
    }
    let (name, id, account) = (caller.key_name(), caller.key_id(), caller.account());
    writeln!(out, "valid: {name} ({id}) of account {account}")
}

/// The whole reason: who runs this has the store.
pub(crate) fn rejection(rejection: &Rejection, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let rejection = json!({
            "valid": false,
            "reason": rejection.kind().as_str(),
            "account": rejection.account().map(ToString::to_string),
            "id": rejection.key_id().map(ToString::to_string),
            "name": rejection.key_name().map(ToString::to_string),
        });
        return writeln!(out, "{rejection}");
    }
    write!(out, "not valid: {rejection}")?;
    if let (Some(name), Some(id)) = (rejection.key_name(), rejection.key_id()) {
        write!(out, ": {name} ({id})")?;
    }
    writeln!(out)
}

/// What an import has done, or would do.
pub(crate) fn report(report: &ImportReport, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !as_json {
        return writeln!(out, "{report}");
    }
    let refused = report.refused.iter();
    let refused: Vec<_> =
        refused.map(|row| json!({ "line": row.line, "reason": row.reason.to_string() })).collect();
    let report =
        json!({ "imported": report.imported, "already": report.already, "refused": refused });
    writeln!(out, "{report}")
}

/// An error with all that it is due to.
pub(crate) fn failure(error: &dyn Error) {
    eprint!("tower-api-key: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
}

fn status(record: &KeyRecord) -> &'static str {
    match (record.is_expired(SystemTime::now()), &record.replaced_by) {
        (true, _) => "expired",
        (false, Some(_)) => "replaced",
        (false, None) => "active",
    }
}

fn time(at: SystemTime) -> Option<String> {
    Timestamp::try_from(at).ok().map(|at| at.to_string())
}

fn minute(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).ok();
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}
