//! The page of standards (`src/docs/standards.md`) says what is so: no requirement is left out, each has a
//! test or a reason, and each test that is named is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tower_api_key::store::contract::PROMISES;

const PAGE: &str = include_str!("../../src/docs/standards.md");

/// The sections of the ASVS 5.0.0 that the page is about, and how many requirements each has.
const SECTIONS: &[(&str, usize)] = &[
    ("3.4", 8),
    ("3.5", 8),
    ("4.1", 5),
    ("6.3", 8),
    ("6.5", 8),
    ("7.2", 4),
    ("7.4", 5),
    ("8.2", 4),
    ("8.3", 3),
    ("8.4", 2),
    ("11.2", 5),
    ("11.4", 4),
    ("11.5", 2),
    ("12.1", 5),
    ("12.2", 2),
    ("12.3", 5),
    ("13.2", 6),
    ("13.3", 4),
    ("14.2", 8),
    ("14.3", 3),
    ("15.2", 5),
    ("15.3", 7),
    ("15.4", 4),
    ("16.2", 5),
    ("16.3", 4),
    ("16.4", 3),
    ("16.5", 4),
];

/// And the RFCs.
const RFCS: &[(&str, usize)] =
    &[("9110", 17), ("6750", 9), ("9457", 9), ("7239", 12), ("9745", 5), ("8594", 5)];

/// What a row may begin with that says how a requirement is met, before a colon.
const VERDICTS: &[&str] = &["Met", "Partly", "Not met", "The service's", "Does not apply"];

/// A line of a table.
struct Row {
    requirement: &'static str,
    here: &'static str,
    tests: Vec<&'static str>,
}

/// The lines of all tables, or of the one under a heading.
fn rows(under: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut is_wanted = under.is_none();
    for line in PAGE.lines() {
        if let (Some(heading), Some(under)) = (line.strip_prefix("## "), under) {
            is_wanted = heading.starts_with(under);
        }
        if is_wanted && line.starts_with('|') {
            rows.extend(row(line));
        }
    }
    rows
}

/// The row of a line, unless that is the head of a table.
fn row(line: &'static str) -> Option<Row> {
    let inner = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    let cells: Vec<&str> = inner.unwrap_or_default().split(" | ").collect();
    let [requirement, here, tests] = cells[..] else { panic!("not three cells: {line}") };
    if requirement == "requirement" || requirement == "---" {
        return None;
    }
    let quoted = |name: &'static str| {
        let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        name.unwrap_or_else(|| panic!("no name of a test: {line}"))
    };
    let tests = if tests == "–" { Vec::new() } else { tests.split(", ").map(quoted).collect() };
    Some(Row { requirement, here, tests })
}

/// Whether there is a test of this name, as libtest prints it, in this binary or in the crate.
fn is_test(name: &str) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let path: Vec<&str> = module.split("::").collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["tests/it", "src"].iter().any(|folder| is_in(&root.join(folder), &path, test))
}

/// Whether a module has the test: in a file of its own, or in that of the module around it.
fn is_in(folder: &Path, module: &[&str], test: &str) -> bool {
    if let Some(code) = file_of(folder, module) {
        return has_test(&code, test);
    }
    let Some((inner, outer)) = module.split_last() else { return false };
    file_of(folder, outer).is_some_and(|code| {
        let is_written = code.contains(&format!("\nmod {inner} {{")) || is_backend(&code, inner);
        (is_written && has_test(&code, test))
            || (is_contract(&code, inner) && PROMISES.contains(&test))
    })
}

fn file_of(folder: &Path, module: &[&str]) -> Option<String> {
    let path = module.iter().fold(folder.to_owned(), |path, segment| path.join(segment));
    fs::read_to_string(path.with_extension("rs")).ok()
}

/// Whether the function is there, and its attributes make a test of it.
fn has_test(code: &str, name: &str) -> bool {
    code.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        let above = code[..at].rsplit("\n\n").next().unwrap_or_default();
        let attribute = above.rfind("#[test]").max(above.rfind("#[tokio::test"));
        // Another function in between has the attribute for itself.
        attribute.is_some_and(|from| !above[from..].contains("fn "))
    })
}

/// Whether `store_contract!` makes a module of all promises, of this name.
fn is_contract(code: &str, module: &str) -> bool {
    code.contains(&format!("\nstore_contract!({module}, "))
}

/// Whether `servers!`, of the tests of faults, makes a module of this name.
fn is_backend(code: &str, module: &str) -> bool {
    let list = code.split_once("\nservers! {\n").and_then(|(_, rest)| rest.split_once("\n}"));
    let start = format!("    {module}: ");
    list.is_some_and(|(list, _)| list.lines().any(|line| line.starts_with(&start)))
}

#[test]
fn every_test_that_is_named_is_there() {
    let names: BTreeSet<&str> = rows(None).into_iter().flat_map(|row| row.tests).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "these are no tests: {missing:#?}");
    assert!(names.len() > 100, "{}", names.len());
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    for Row { requirement, here, tests } in rows(None) {
        // Nothing stands between a verdict and its colon: "Met where …" is partly met, or is not.
        let (verdict, why) =
            here.split_once(": ").unwrap_or_else(|| panic!("{requirement}: {here}"));
        assert!(VERDICTS.contains(&verdict), "{requirement}: {verdict} is no verdict");
        let words = why.split_whitespace().filter(|word| word.len() > 1).count();
        let is_shown = !tests.is_empty() || !["Met", "Partly"].contains(&verdict);
        assert!(is_shown, "{requirement}: {verdict}, and no test says so");
        assert!(verdict == "Met" || words >= 3, "{requirement}: {verdict}, and why is not said");
    }
}

#[test]
fn no_requirement_is_left_out() {
    let mut listed = 0;
    for (section, many) in SECTIONS {
        let rows = rows(Some(&format!("ASVS {section}: ")));
        let numbers: Vec<&str> =
            rows.iter().filter_map(|row| row.requirement.split(' ').next()).collect();
        let expected: Vec<String> =
            (1..=*many).map(|number| format!("{section}.{number}")).collect();
        assert_eq!(numbers, expected);
        for row in &rows {
            let level = row.requirement.split(' ').nth(1);
            assert!(matches!(level, Some("(L1)" | "(L2)" | "(L3)")), "{}", row.requirement);
        }
        listed += rows.len();
    }
    for (rfc, many) in RFCS {
        let rows = rows(Some(&format!("RFC {rfc}: ")));
        assert_eq!(rows.len(), *many, "RFC {rfc}");
        assert!(rows.iter().all(|row| row.requirement.starts_with("§ ")), "RFC {rfc}");
        listed += rows.len();
    }
    assert_eq!(listed, rows(None).len(), "a table that is under no heading of these");
}

#[test]
fn a_name_that_is_no_test_is_found_out() {
    for name in [
        "standards::a_name_that_is_no_test_is_found_out",
        "decision::a_valid_key_brings_its_identity_and_leaves_the_request",
        "cache::history::deleting_is_final",
        "contract::memory::the_cap_holds_under_races",
        "contract::remote::postgres_itself::the_cap_holds_under_races",
        "faults::redis::is_refused_while_the_server_is_killed",
        "digest::tests::a_difference_of_any_single_bit_is_seen",
        "key::tests::every_assembled_key_is_native",
        "store::turns::tests::those_who_wait_share_the_next_answer",
    ] {
        assert!(is_test(name), "{name}");
    }
    for name in [
        "",
        "a_name_that_is_no_test_is_found_out",
        "standards::a_name_that_is_no_test_is_found",
        "standards::name_that_is_no_test_is_found_out",
        // Functions that are no tests.
        "standards::is_test",
        "decision::who",
        "decision::find",
        "contract::openings",
        // Tests of another module.
        "sockets::a_valid_key_brings_its_identity_and_leaves_the_request",
        "cache::deleting_is_final",
        "digest::a_difference_of_any_single_bit_is_seen",
        // Promises that nobody makes, or of nobody.
        "contract::memory::the_cap_holds_under_race",
        "contract::memory::memory_forgets_old_changes",
        "contract::nothing::the_cap_holds_under_races",
        "contract::the_cap_holds_under_races",
        "faults::sqlite::is_refused_while_the_server_is_killed",
        "faults::redis::is_refused_while_the_server_is_kill",
    ] {
        assert!(!is_test(name), "{name}");
    }
}
