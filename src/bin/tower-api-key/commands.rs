//! What is done.

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tower_api_key::manage::import::{Import, ImportError, ImportRows};
use tower_api_key::{
    AccountId, IssuedKey, KeyFormat, KeyId, KeyManager, KeyRegistry, KeyVerifier, ManageError,
    NewKey, Refusal, Scopes,
};
use zeroize::Zeroizing;

use crate::arguments::{Arguments, Command, Create, Importing, Making, Rotate};
use crate::{show, store};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Longer than any key, with a line's end.
const MOST_READ: u64 = 1_024;

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { store, json, command } = arguments;
    let makes_keys = match &command {
        Command::Create(_) => true,
        Command::Import(wanted) => !wanted.dry_run,
        _ => false,
    };
    let store = store::open(store, makes_keys).await?;
    match command {
        Command::Create(new) => create(store, new, json).await?,
        Command::Rotate(old) => rotate(store, old, json).await?,
        Command::List { account } => {
            let keys = store.list(&account.account).await?;
            show::keys(&keys, json)?;
        }
        Command::Delete { account, ids, yes } => {
            return delete(store, &account.account, &ids, yes).await;
        }
        Command::Import(wanted) => return import(store, wanted, json).await,
        Command::Verify { key: Some(_), .. } => {
            return Err(
                "others can see a program's arguments: send the key on the standard input".into()
            );
        }
        Command::Verify { key: None, hashing, from } => {
            let verifier = KeyVerifier::new(store).with_key_format(KeyFormat::Any);
            // It is asked whether the key works, and not where.
            let verifier = verifier.with_any_environment();
            return verify(verifier.with_hashing(hashing.read()?), from, json).await;
        }
        Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn manager(store: Arc<dyn KeyRegistry>, making: Making) -> Result<KeyManager, Failure> {
    let hashing = making.hashing.read()?;
    Ok(KeyManager::new(store, making.prefix).with_limit(making.limit).with_hashing(hashing))
}

/// Where no key is made, no prefix is needed.
fn manager_without_prefix(store: Arc<dyn KeyRegistry>) -> Result<KeyManager, Failure> {
    Ok(KeyManager::new(store, "none".parse()?))
}

async fn create(store: Arc<dyn KeyRegistry>, wanted: Create, json: bool) -> Result<(), Failure> {
    let Create { account, name, making, environment, scopes, sources, expires } = wanted;
    let mut new = NewKey::new(name).with_scopes(Scopes::new(scopes)?).with_sources(sources);
    if let Some(environment) = environment {
        new = new.with_environment(environment);
    }
    if let Some(expires) = expires {
        new = new.with_expires_at(expires.0);
    }
    let manager = manager(store, making)?;
    let issued = manager.create(&account.account, new).await?;
    hand_over(&manager, issued, json, "").await
}

async fn rotate(store: Arc<dyn KeyRegistry>, wanted: Rotate, json: bool) -> Result<(), Failure> {
    let Rotate { account, id, grace, making } = wanted;
    let manager = manager(store, making)?;
    let issued = manager.rotate(&account.account, &id, grace.0).await?;
    let loss = format!("; {id} ends after its grace of {:?} all the same: make a new key", grace.0);
    hand_over(&manager, issued, json, &loss).await
}

/// Writes a new key to the standard output. One that nobody could read is deleted again, and `loss` said.
async fn hand_over(
    manager: &KeyManager,
    issued: IssuedKey,
    json: bool,
    loss: &str,
) -> Result<(), Failure> {
    let (record, key) = issued.into_parts();
    let key = key.reveal();
    let written = if json {
        let mut shown = show::key(&record);
        shown["api_key"] = json!(key.as_str());
        writeln!(io::stdout(), "{shown}")
    } else {
        writeln!(io::stdout(), "{}", key.as_str())
    };
    if let Err(failure) = written.and_then(|()| io::stdout().flush()) {
        let id = &record.id;
        let deleted = manager.delete(&record.account, id).await;
        deleted.map_err(|error| {
            format!("the key {id} could not be written ({failure}) nor deleted again ({error}): delete it{loss}")
        })?;
        return Err(format!(
            "the key could not be written, and was deleted again: {failure}{loss}"
        )
        .into());
    }
    if !json {
        eprintln!("{} ({}): this is the only time that the key is shown.", record.name, record.id);
    }
    Ok(())
}

async fn delete(
    store: Arc<dyn KeyRegistry>,
    account: &AccountId,
    ids: &[KeyId],
    yes: bool,
) -> Result<ExitCode, Failure> {
    let manager = manager_without_prefix(store)?;
    let mut ids: Vec<_> = ids.iter().collect();
    ids.sort_unstable();
    ids.dedup();
    for id in &ids {
        let record = manager.get(account, id).await.map_err(|error| of(id, error))?;
        eprintln!("{} ({id})", record.name);
    }
    if !yes && !confirmed()? {
        eprintln!("nothing was deleted");
        return Ok(ExitCode::FAILURE);
    }
    for id in ids {
        manager.delete(account, id).await.map_err(|error| of(id, error))?;
        eprintln!("deleted {id}");
    }
    Ok(ExitCode::SUCCESS)
}

fn of(id: &KeyId, error: ManageError) -> Failure {
    match error {
        ManageError::NotFound => format!("the account has no key {id}").into(),
        error => error.into(),
    }
}

fn confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err("deleting asks first: answer with --yes where there is no terminal".into());
    }
    eprint!("Any application that uses these loses access immediately. Delete them? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn import(
    store: Arc<dyn KeyRegistry>,
    wanted: Importing,
    json: bool,
) -> Result<ExitCode, Failure> {
    let rows = ImportRows::from_json_lines(&read(&wanted.file)?);
    let mut import = Import::default().with_limit(wanted.limit).with_progress(|done, all| {
        if done % 1_000 == 0 || done == all {
            eprintln!("{done} of {all}");
        }
    });
    if wanted.dry_run {
        import = import.as_dry_run();
    }
    if wanted.skip_refused {
        import = import.skipping_refused();
    }
    if wanted.dangerously_allow_weak_texts {
        import = import.dangerously_allowing_weak_texts();
    }
    let hashing = wanted.hashing.read()?;
    let manager = manager_without_prefix(store)?.with_hashing(hashing);
    match manager.import(rows, &import).await {
        Ok(report) => {
            if wanted.dry_run {
                eprintln!("a dry run: nothing was imported, and this would be:");
            }
            show::report(&report, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ImportError::Refused(report)) => {
            eprintln!(
                "rows were refused, so no other was imported after them; --skip-refused leaves them out"
            );
            show::report(&report, json)?;
            Ok(ExitCode::FAILURE)
        }
        Err(stopped) => Err(stopped.into()),
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text)
}

async fn verify(
    verifier: KeyVerifier,
    from: Option<IpAddr>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut text = Zeroizing::new(String::new());
    io::stdin().take(MOST_READ).read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    let answer = match from {
        Some(from) => verifier.verify_from(text, from).await,
        None => verifier.verify(text).await,
    };
    match answer {
        Ok(caller) => {
            show::caller(&caller, json)?;
            Ok(ExitCode::SUCCESS)
        }
        // "No" and "broken" are different.
        Err(rejection) if rejection.kind().refusal() == Refusal::Unavailable => {
            Err(rejection.into())
        }
        Err(rejection) => {
            show::rejection(&rejection, json)?;
            Ok(ExitCode::FAILURE)
        }
    }
}
