//! Who may use whom. The table is the one that the design speaks of; change it with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module, the modules of this crate that it may use, and the crates.
const TABLE: &[(&str, &str, &str)] = &[
    // The decision, in reading order.
    (
        "middleware/service",
        "events extract identity limits middleware rejection transport verify",
        "bytes http tower_service",
    ),
    ("extract", "key rejection", "http"),
    ("transport", "rejection", "http thiserror"),
    ("transport/advice", "clock transport", "tracing"),
    ("transport/proxies", "network transport", "http ipnet thiserror"),
    ("transport/forwarded", "", ""),
    (
        "verify",
        "clock digest identity key policy record rejection store",
        "thiserror tokio tracing",
    ),
    ("verify/search", "digest record rejection store", "thiserror"),
    (
        "verify/direct",
        "clock digest identity key policy record rejection store verify",
        "futures_util",
    ),
    ("key", "record", "crc32fast zeroize"),
    ("digest", "key", "hex sha2 subtle"),
    ("digest/hashing", "digest key record", "hmac sha2 zeroize"),
    ("digest/foreign", "digest key record", "sha2"),
    ("policy", "record rejection", ""),
    ("identity", "digest record", ""),
    ("limits", "identity rejection", "thiserror"),
    ("limits/governed", "identity limits network record", "governor"),
    ("rejection", "digest record", "thiserror"),
    // What it is about.
    ("record", "digest", ""),
    ("record/sources", "network record", "ipnet"),
    ("record/tally", "", ""),
    ("record/text", "", "thiserror"),
    ("logged", "", "http"),
    ("network", "", "ipnet"),
    ("clock", "", "rustix tokio"),
    ("events", "record rejection store", "tracing"),
    ("metrics", "events", "metrics"),
    ("usage", "clock digest events record store", "tokio tracing"),
    // Hears of verification, which knows it only as somebody who hears.
    ("upgrades", "clock digest record store verify", "tokio tracing"),
    ("ends", "clock identity store", "tokio"),
    ("ends/guard", "ends", "futures_util http_body pin_project_lite"),
    ("ends/watcher", "digest ends record store", "futures_util tokio tracing"),
    ("store", "digest record", "async_trait thiserror"),
    ("store/changes", "digest", ""),
    ("store/current", "record store", ""),
    ("store/uses", "digest record", ""),
    // Leaves.
    ("store/arc", "digest record store", "async_trait"),
    ("store/fleet", "clock store", "async_trait tokio"),
    ("store/memory", "", ""),
    ("store/memory/registry", "digest record store", "async_trait tokio"),
    ("store/memory/books", "digest record store", ""),
    ("store/memory/index", "digest store", ""),
    ("store/memory/usage", "record store", ""),
    ("store/remote", "", "tracing"),
    ("store/stored", "digest record store", "thiserror"),
    ("store/uniform", "", ""),
    ("store/turns", "store", "tokio"),
    ("store/cached", "clock digest record store", "async_trait tokio tracing"),
    ("store/cached/settings", "", ""),
    ("store/cached/lease", "store", ""),
    // A replica's name must be like no other's.
    ("store/cached/replica", "clock store", "futures_util rand tokio tracing"),
    ("store/cached/flights", "digest record store", "futures_util"),
    ("store/cached/entries", "digest record store", "quick_cache"),
    ("store/redis", "digest store", "redis tokio"),
    ("store/redis/demands", "store", "tracing"),
    ("store/redis/link", "clock store", "redis thiserror tokio"),
    ("store/redis/options", "record store", "redis tracing"),
    ("store/redis/record", "digest record store", "hex thiserror tracing"),
    ("store/redis/registry", "digest record store", "async_trait tokio"),
    ("store/redis/replicas", "store", "async_trait hex tokio"),
    ("store/redis/scripts", "record store", "redis"),
    ("store/redis/usage", "record store", "tokio"),
    ("store/redis/server", "store", "futures_util redis rustls_native_certs tokio tokio_rustls"),
    // The contract looks at stores from outside, and at the manager, which relies on it.
    ("store/contract", "store", ""),
    ("store/contract/cap", "store", ""),
    ("store/contract/collisions", "digest key manage record store", "async_trait"),
    ("store/contract/ending", "record store", ""),
    ("store/contract/finding", "record store", ""),
    ("store/contract/first", "record store", ""),
    ("store/contract/following", "digest store", ""),
    ("store/contract/given", "digest key record store", "tokio"),
    ("store/contract/handles", "digest record store", "async_trait"),
    ("store/contract/leaving", "store", "tokio"),
    ("store/contract/races", "record store", ""),
    ("store/contract/rehashing", "digest record store", ""),
    ("store/contract/renewing", "record store", ""),
    ("store/contract/roll", "digest store", "tokio"),
    ("store/contract/rotating", "record store", ""),
    ("store/contract/subject", "store", "tokio"),
    ("store/contract/taken", "record store", ""),
    ("store/contract/texts", "record store", ""),
    ("store/contract/usage", "record store", ""),
    ("store/contract/uses", "digest record store", ""),
    ("store/contract/versions", "digest record store", ""),
    ("store/sqlite", "digest record store", "async_trait sqlx tokio"),
    ("store/sqlite/replicas", "store", "async_trait sqlx tokio"),
    ("store/sqlite/open", "store", "sqlx tokio"),
    ("store/sqlite/statements", "digest record store", "sqlx"),
    ("store/sqlite/usage", "record store", "sqlx"),
    ("store/sqlite/row", "digest record store", "sqlx thiserror tracing"),
    ("store/postgres", "digest record store", "async_trait sqlx"),
    ("store/postgres/options", "store", "sqlx"),
    ("store/postgres/connections", "clock store", "sqlx tokio"),
    ("store/postgres/replicas", "store", "async_trait hex sqlx tokio"),
    ("store/postgres/open", "store", "sqlx tokio"),
    ("store/postgres/transaction", "digest store", "sqlx"),
    ("store/postgres/statements", "digest record store", "sqlx"),
    ("store/postgres/usage", "record store", "sqlx"),
    ("store/postgres/row", "digest record store", "hex sqlx thiserror tracing"),
    (
        "middleware/layer",
        "clock digest events extract key limits middleware policy record store transport upgrades usage verify",
        "tower_layer tracing",
    ),
    (
        "middleware/future",
        "extract identity middleware rejection verify",
        "bytes http pin_project_lite tower_service",
    ),
    ("middleware/log", "logged record rejection", "http tracing"),
    ("middleware/response", "record rejection", "bytes http tracing"),
    ("middleware/notice", "identity limits rejection", "http httpdate"),
    (
        "middleware/scope",
        "events identity middleware record rejection",
        "bytes http pin_project_lite tower_layer tower_service tracing",
    ),
    ("middleware/shadow", "", "http tracing"),
    ("middleware/grpc", "middleware rejection", "bytes http"),
    ("middleware/body", "", "bytes http_body pin_project_lite"),
    (
        "middleware/watch",
        "digest events extract identity network rejection usage verify",
        "http tokio tracing",
    ),
    ("middleware/connection", "transport", "http tower_service"),
    ("middleware", "", ""),
    (
        "axum",
        "identity middleware transport",
        "axum axum_core bytes http pin_project_lite serde_json tower_layer tower_service tracing",
    ),
    ("testing", "clock identity manage middleware record store transport verify", "tokio"),
    ("axum/self_revoke", "identity manage rejection", "axum http serde_json tracing"),
    ("tls", "middleware transport", "axum_server tokio tokio_rustls"),
    ("manage", "clock digest events record store", ""),
    ("manage/change", "events manage record store", "tokio tracing"),
    ("manage/error", "manage record store", "thiserror"),
    ("manage/issued", "key record", ""),
    ("manage/new_key", "clock manage record", ""),
    ("manage/import", "events manage record store", "thiserror"),
    ("manage/import/check", "digest manage record store", ""),
    ("manage/import/lines", "digest manage record", "base64 hex jiff serde serde_json zeroize"),
    ("manage/import/row", "digest key record", "thiserror zeroize"),
    ("manage/generate", "digest key manage record", "rand zeroize"),
    ("manage/principal", "manage record", ""),
    ("manage/upkeep", "manage record", ""),
    ("manage/revoke", "manage record store", ""),
    // What is done about keys that others have seen.
    ("leaks", "", ""),
    ("leaks/revoke", "events manage record", "tokio tracing"),
    (
        "leaks/github",
        "events identity leaks manage record rejection verify",
        "axum http serde_json tokio tracing",
    ),
    ("leaks/public_keys", "", "base64 p256 serde serde_json thiserror"),
    ("leaks/report", "digest key", "hex serde"),
    // Surfaces.
    (
        "manage/api",
        "identity manage record",
        "axum axum_core http jiff serde_json tower_http tracing",
    ),
    ("manage/api/body", "manage", "serde serde_json"),
    ("manage/api/failure", "manage record", "axum axum_core http serde tracing utoipa"),
    ("manage/api/noted", "logged manage record", "axum axum_core http tracing"),
    ("manage/api/openapi", "extract manage", "serde utoipa"),
    ("manage/api/paging", "manage record", "base64"),
    ("manage/api/view", "key record", "jiff serde utoipa"),
    ("manage/page", "manage", "axum http serde_json tracing"),
    ("manage/page/assets", "", "axum http"),
    ("manage/page/dates", "store", "jiff maud"),
    ("manage/page/dialogs", "record", "maud"),
    // It looks for an identity to refuse it.
    ("manage/page/guard", "identity logged", "axum http serde_json tower_http tracing"),
    ("manage/page/row", "manage record", "maud"),
    ("manage/page/usage", "manage store", "maud"),
    ("manage/page/view", "manage record store", "maud"),
];

/// Every file of `src` but the tests, by its module's path.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root);
    let module = |path: &Path| {
        let path = path.strip_prefix(&root).unwrap().with_extension("");
        path.to_str().unwrap().replace('\\', "/")
    };
    let is_test = |name: &String| name.ends_with("/tests");
    let named = files.iter().map(|path| (module(path), code(&fs::read_to_string(path).unwrap())));
    // Programs see of the crate what everybody sees.
    let is_program = |name: &str| name.starts_with("bin/");
    named.filter(|(name, _)| !is_test(name) && !is_program(name) && name != "lib").collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// A file without its comments.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The first segment after each `start` in the code, as in `crate::digest::…`.
fn segments_after<'a>(code: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(start).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The crate's own modules that a file names, by `crate::` or `super::`.
fn own_modules(name: &str, code: &str) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = segments_after(code, "crate::").map(str::to_owned).collect();
    let (parent, _) = name.split_once('/').unwrap_or(("", name));
    if code.contains("super::") && !parent.is_empty() {
        used.insert(parent.to_owned());
    }
    // A module may use its own children.
    used.remove(name);
    used
}

/// The crates that are declared and that a file names.
fn foreign_crates(code: &str) -> BTreeSet<String> {
    let manifest = include_str!("../../Cargo.toml");
    // Those of every target: `[dependencies]` and `[target.….dependencies]`.
    let sections =
        manifest.split("\n[").filter_map(|section| section.split_once("dependencies]\n"));
    let sections = sections.filter(|(target, _)| target.is_empty() || target.ends_with('.'));
    let declared = sections.flat_map(|(_, lines)| lines.lines());
    declared
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .filter(|name| {
            let path = format!("{name}::");
            code.match_indices(&path).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            })
        })
        .collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn dependencies_point_one_way() {
    let table: BTreeMap<&str, _> =
        TABLE.iter().map(|(name, own, foreign)| (*name, (words(own), words(foreign)))).collect();
    let modules = modules();
    let named: BTreeSet<&str> = modules.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = table.keys().copied().collect();
    assert_eq!(named, listed, "every file has its line in the table, and every line its file");
    for (name, code) in &modules {
        let (own, foreign) = &table[name.as_str()];
        assert_eq!(&own_modules(name, code), own, "modules of this crate that {name} uses");
        assert_eq!(&foreign_crates(code), foreign, "crates that {name} uses");
    }
}

/// Nobody but those who work on this crate reads the documentation of a private module.
#[test]
fn what_users_must_know_is_not_kept_in_private_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts = rust_files(&root).into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), text)
    });
    let texts: Vec<(String, String)> = texts.collect();
    let public: BTreeSet<&str> = texts
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .chain(["lib", "main"])
        .collect();
    assert!(public.contains("usage") && !public.contains("postgres"), "{public:?}");
    for (name, text) in &texts {
        let documentation = text.lines().filter(|line| line.starts_with("//!")).count();
        assert!(documentation <= 10 || public.contains(name.as_str()), "{name}: {documentation}");
    }
}

/// One idea a file: about 300 lines of code is where to look for the second one.
#[test]
fn no_file_has_many_lines() {
    for (name, code) in modules() {
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 330, "{name}: {lines} lines of code");
    }
}

/// Asserts that only these files contain a text.
fn only_in(text: &str, files: &[&str]) {
    let modules = modules();
    let holders: Vec<&str> = modules
        .iter()
        .filter(|(_, code)| code.contains(text))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(holders, files, "{text}");
}

#[test]
fn each_primitive_has_one_place() {
    only_in("Sha256", &["digest", "digest/foreign", "digest/hashing"]);
    only_in("Hmac", &["digest/hashing"]);
    only_in("ct_eq", &["digest"]);
    only_in("SysRng", &["manage/generate", "store/cached/replica"]);
    only_in("SystemTime::now", &["clock"]);
    only_in("Instant::now", &["clock"]);
    only_in("Identity::verified", &["verify"]);
    only_in("Connection::tls_ended_here", &["tls"]);
    // A store knows no other, and whoever uses stores knows none of them.
    only_in("MemoryStore", &["store", "store/memory", "store/memory/registry", "testing"]);
    only_in("SqliteStore", &["store", "store/sqlite", "store/sqlite/replicas"]);
    let postgres = ["store/postgres", "store/postgres/options", "store/postgres/replicas"];
    only_in("PostgresStore", &[&["store"], &postgres[..]].concat());
    let redis = ["options", "registry", "replicas"].map(|file| format!("store/redis/{file}"));
    let redis: Vec<_> =
        ["store", "store/redis"].into_iter().chain(redis.iter().map(String::as_str)).collect();
    only_in("RedisStore", &redis);
    only_in("CachedStore", &["store", "store/cached"]);
    for store in ["memory", "sqlite", "postgres", "redis", "cached"] {
        only_in(&format!("store::{store}"), &[]);
    }
    let surfaces = [
        "axum",
        "axum/self_revoke",
        "leaks/github",
        "manage/api",
        "manage/api/failure",
        "manage/api/noted",
        "manage/page",
        "manage/page/assets",
        "manage/page/guard",
        "middleware/response",
    ];
    only_in("StatusCode::", &surfaces);
    let managed = [
        "ends",
        "ends/watcher",
        "manage",
        "manage/import/check",
        "store",
        "store/arc",
        "store/cached",
        "store/current",
        "store/fleet",
        "store/memory/registry",
        "store/postgres",
        "store/redis/registry",
        "store/sqlite",
        "upgrades",
        "usage",
    ];
    let examined = ["", "/cap", "/collisions", "/ending", "/first", "/following", "/given"];
    let examined = examined.into_iter().chain(["/handles", "/roll", "/subject"]);
    let examined = examined.map(|file| format!("store/contract{file}"));
    let mut all: Vec<_> = managed.into_iter().map(str::to_owned).chain(examined).collect();
    all.sort();
    only_in("KeyRegistry", &all.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn no_secret_and_no_digest_can_be_compared_printed_or_serialised() {
    let modules = modules();
    for (file, types) in
        [("key", "ApiKey RevealedKey"), ("digest", "KeyDigest"), ("digest/hashing", "Pepper")]
    {
        for name in types.split(' ') {
            let code = &modules[file];
            let declaration = code.find(&format!("pub struct {name}(")).unwrap();
            let derives = code[..declaration].rsplit("\n\n").next().unwrap();
            for forbidden in ["PartialEq", "Eq", "Hash", "Debug", "Serialize", "Deserialize"] {
                assert!(!derives.contains(forbidden), "{name} derives {forbidden}");
                let implemented = format!("{forbidden} for {name}");
                let redacted = forbidden == "Debug" && code.contains(&format!("\"{name}(…)\""));
                assert!(!code.contains(&implemented) || redacted, "{implemented}");
            }
            assert!(!code.contains(&format!("Display for {name}")));
        }
    }
}

/// What a listener or an importer matches can say more some day, without a break: a struct variant may get fields,
/// but for those whose fields are of types that can grow themselves.
#[test]
fn variants_that_are_read_can_get_more_fields() {
    let grown = "Refused WouldRefuse Exposed Expiring Used";
    let modules = modules();
    let mut seen = 0;
    for (file, name) in
        [("events", "KeyEvent<'a>"), ("events", "Exposure<'a>"), ("manage/import", "ImportError")]
    {
        let code = &modules[file];
        let body = &code[code.find(&format!("pub enum {name} {{\n")).unwrap()..];
        let mut lines = body[..body.find("\n}\n").unwrap()].lines();
        let mut attributes = Vec::new();
        for line in lines.by_ref().skip(1).filter_map(|line| line.strip_prefix("    ")) {
            let variant = line.split([' ', '(', ',']).next().unwrap();
            if line.starts_with("#[") {
                attributes.push(line);
            } else if variant.starts_with(char::is_alphabetic) {
                let fixed = !line.contains(" {") || words(grown).contains(variant);
                let can_grow = attributes.contains(&"#[non_exhaustive]");
                assert_eq!(can_grow, !fixed, "{name}::{variant}");
                attributes.clear();
                seen += usize::from(can_grow);
            }
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn the_traits_of_stores_have_no_default_methods() {
    let store = &modules()["store"];
    for name in ["pub trait KeyStore", "pub trait KeyRegistry"] {
        let body = &store[store.find(name).unwrap()..];
        let body = &body[..body.find("\n}\n").unwrap()];
        assert_eq!(body.matches('{').count(), 1, "{name} has a body inside");
    }
}

#[test]
fn the_readme_counts_the_promises_of_stores() {
    let many = tower_api_key::store::contract::PROMISES.len();
    let said = format!("one contract of {many} promises");
    assert!(include_str!("../../README.md").contains(&said), "{said}");
}

#[test]
fn the_example_programs_protect_whole_routers() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for path in rust_files(&examples) {
        let text = code(&fs::read_to_string(&path).unwrap());
        assert!(!text.contains("route_layer("), "{path:?}");
        if text.contains("ApiKeyLayer::new") && text.contains("axum") {
            assert!(text.contains("protect(") && !text.contains(".layer("), "{path:?}");
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

/// Whoever is depended on is in the table of those that were looked at.
#[test]
fn every_direct_dependency_was_looked_at() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supply/README.md"))
            .unwrap();
    let sections = manifest
        .split("\n[")
        .filter(|section| section.starts_with("dependencies]") || section.starts_with("target."));
    let lines = sections.flat_map(|section| section.lines().skip(1));
    let names: Vec<&str> = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let locked =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let packages = locked.split("[[package]]");
    let this = packages.clone().find(|package| package.contains("\nname = \"tower-api-key\"\n"));
    let this = this.unwrap().to_owned();
    for name in &names {
        let row = table.lines().find(|line| {
            line.strip_prefix("| ")
                .is_some_and(|row| row.split('|').next().unwrap().contains(&format!("`{name}` ")))
        });
        let row = row.unwrap_or_else(|| panic!("{name}"));
        let version = row.split(&format!("`{name}` ")).nth(1).unwrap();
        let version = version.split([',', ' ']).next().unwrap();
        // Where there are several of a name, the lock file says which of them this package has.
        let ours = format!(" \"{name} ");
        let package = format!("name = \"{name}\"\nversion = \"");
        let text = if this.contains(&ours) { &this } else { &locked };
        let beginning = if this.contains(&ours) { &ours } else { &package };
        let (_, is_locked) = text.split_once(beginning.as_str()).unwrap();
        let rest = is_locked.strip_prefix(version);
        assert!(
            rest.is_some_and(|rest| rest.starts_with(['.', '"', '-', '+'])),
            "{name} {version} is not what is locked: look at what has changed"
        );
    }
}

/// The documents are read on docs.rs and beside the code, so their links must be whole URLs, which rustdoc does not
/// check.
#[test]
fn the_links_of_the_documents_lead_to_what_is_there() {
    const ROOT: &str = "https://docs.rs/tower-api-key/latest/tower_api_key/";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root);
    let source: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut seen = 0;
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for link in text.split("](").skip(1).chain(text.split("]: ").skip(1)) {
            let link = link.split([')', '\n']).next().unwrap();
            assert!(link.starts_with("https://"), "{link}");
            let Some(link) = link.strip_prefix(ROOT) else { continue };
            let (page, place) = link.split_once('#').unwrap_or((link, ""));
            let mut modules: Vec<&str> = page.split('/').collect();
            let file = modules.pop().unwrap();
            let mut wanted: Vec<String> =
                modules.iter().map(|module| format!("pub mod {module}")).collect();
            // `index.html`, or `struct.Name.html` with `#method.name`.
            if let Some((kind, name)) = file.trim_end_matches(".html").split_once('.') {
                wanted.push(format!("pub {kind} {name}"));
            }
            if let Some((_, name)) = place.split_once('.') {
                wanted.push(format!("fn {name}("));
            }
            for wanted in wanted {
                assert!(source.contains(&wanted), "{link}: {wanted}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}
