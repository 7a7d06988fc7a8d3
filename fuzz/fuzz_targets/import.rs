//! Rows of another system: whatever the file has in it, an import does what its dry run said, all of it or
//! nothing, can be repeated, and no word of its report repeats what stands in a row.

#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use tower_api_key::manage::import::{Import, ImportError, ImportReport, ImportRows};
use tower_api_key::testing::TestKeys;
use tower_api_key::{KeyEvent, KeyEvents, KeyManager};
use tower_api_key_fuzz::now;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rows = ImportRows::from_json_lines(text);
    let keys = TestKeys::new();
    let written = Arc::new(AtomicUsize::new(0));
    let manager = &keys.manager().clone().with_events(Counted(Arc::clone(&written)));

    let forecast = now(manager.import(rows.clone(), &Import::default().as_dry_run()));
    assert_eq!(written.load(Relaxed), 0, "a dry run writes nothing");
    match (forecast, now(manager.import(rows.clone(), &Import::default()))) {
        (Ok(forecast), Ok(report)) => {
            assert_eq!((forecast.imported, forecast.already), (report.imported, report.already));
            assert!(report.refused.is_empty());
            assert_eq!(written.load(Relaxed), report.imported);
            again(manager, &rows, &report);
        }
        (Err(ImportError::Refused(forecast)), Err(ImportError::Refused(report))) => {
            assert_eq!(forecast.to_string(), report.to_string());
            assert_eq!(written.load(Relaxed), 0, "none, where one is refused");
            says_nothing_of(text, &report);
            let skipping = Import::default().skipping_refused();
            let report = now(manager.import(rows.clone(), &skipping)).expect("the others");
            says_nothing_of(text, &report);
        }
        (forecast, done) => panic!("{forecast:?}, but {done:?}"),
    }
});

/// How many keys were filed.
struct Counted(Arc<AtomicUsize>);

impl KeyEvents for Counted {
    fn hear(&self, event: &KeyEvent<'_>) {
        if matches!(event, KeyEvent::Imported { .. }) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// The same rows once more are all there already.
fn again(manager: &KeyManager, rows: &ImportRows, first: &ImportReport) {
    let report = now(manager.import(rows.clone(), &Import::default())).expect("the same rows");
    assert_eq!((report.imported, report.already), (0, first.imported + first.already));
}

/// No part of a row that is long enough to be a secret.
fn says_nothing_of(text: &str, report: &ImportReport) {
    let told = format!("{report} {report:?}");
    let is_part = |letter: char| !letter.is_ascii_alphanumeric();
    for word in text.split(is_part).filter(|word| word.len() >= 24) {
        assert!(!told.contains(word), "{told}");
    }
}
