use super::*;

#[test]
fn no_more_changes_are_kept_than_are_promised() {
    let (mut books, secret) = (Books::default(), Fingerprint::from_bytes([7; 8]));
    for version in 1..=CHANGES_KEPT + 100 {
        books.note(&[secret]);
        assert_eq!(books.changes.len() as u64, version.min(CHANGES_KEPT));
    }
}
