//! What may be asked.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::{Span, Timestamp, tz::TimeZone};
use tower_api_key::{
    AccountId, Environment, Hashing, KeyId, KeyName, KeyPrefix, Pepper, Scheme, Scope, Sources,
};

use crate::commands::Failure;

/// Manages API keys in a store of tower-api-key.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exits with 0 when it is done, 1 when the answer is no (a key is not valid, rows were refused, a deletion was not confirmed), 2 when it was asked wrongly, 3 when it failed."
)]
pub(crate) struct Arguments {
    /// Where the keys are: sqlite:PATH, postgres://… or redis://…
    ///
    /// A URL with a password is better given by the variable: others can see a program's arguments.
    #[arg(long, env = "API_KEY_STORE", hide_env_values = true, global = true)]
    pub(crate) store: Option<String>,
    /// Answers as JSON on the standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a key and writes it to the standard output, once.
    Create(Create),
    /// Lists an account's keys.
    List {
        #[command(flatten)]
        account: Account,
    },
    /// Makes a new key beside an old one, which goes on working for a grace.
    Rotate(Rotate),
    /// Deletes keys, for good: any application that uses one loses access immediately.
    Delete {
        #[command(flatten)]
        account: Account,
        /// The ids of the keys, as `list` shows them.
        #[arg(required = true)]
        ids: Vec<KeyId>,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Files keys of another system, or none if any row of theirs is refused.
    Import(Importing),
    /// Reads a key from the standard input and says whether it works, and whose it is.
    ///
    /// It is valid in the store; the service may want a checksum, an environment or a scope besides.
    Verify {
        /// Taken so that it is not repeated in an error.
        #[arg(hide = true)]
        key: Option<String>,
        #[command(flatten)]
        hashing: HashingArguments,
        /// Where it is used from, for keys that may not be used from anywhere.
        #[arg(long)]
        from: Option<IpAddr>,
    },
    /// Writes what completes this program's arguments in a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Args)]
pub(crate) struct Account {
    /// Whose keys, as the service calls its accounts.
    #[arg(long)]
    pub(crate) account: AccountId,
}

#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) account: Account,
    /// What the key is called, such as "Production CRM".
    #[arg(long)]
    pub(crate) name: KeyName,
    #[command(flatten)]
    pub(crate) making: Making,
    /// The environment that the key is for, such as live.
    #[arg(long)]
    pub(crate) environment: Option<Environment>,
    /// What the key may be used for; may be given again.
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<Scope>,
    /// Where it may be used from: CIDR blocks or addresses, separated by spaces.
    #[arg(long, default_value = "")]
    pub(crate) sources: Sources,
    /// When it ends: a time such as 2027-01-31T00:00:00Z, or from now, such as 90d.
    #[arg(long)]
    pub(crate) expires: Option<Expiry>,
}

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) account: Account,
    /// The id of the key, as `list` shows it.
    pub(crate) id: KeyId,
    /// How long the old key goes on working, such as 24h; 0s ends it at once.
    #[arg(long, default_value = "24h")]
    pub(crate) grace: Grace,
    #[command(flatten)]
    pub(crate) making: Making,
}

#[derive(Args)]
pub(crate) struct Importing {
    /// A file of JSON Lines, or - for the standard input.
    pub(crate) file: PathBuf,
    /// Writes nothing, and says what would be.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Imports the other rows where some are refused.
    #[arg(long)]
    pub(crate) skip_refused: bool,
    /// Takes texts that look easy to guess, too.
    #[arg(long)]
    pub(crate) dangerously_allow_weak_texts: bool,
    /// How many active keys an account may have.
    #[arg(long, default_value_t = tower_api_key::DEFAULT_KEY_LIMIT)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) hashing: HashingArguments,
}

/// How digests are made: as the service does it.
#[derive(Args)]
pub(crate) struct HashingArguments {
    /// The file that holds the service's pepper, if it has one.
    #[arg(long, env = "API_KEY_PEPPER_FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// Other digests that the service accepts: sha256, sha512, sanctum or prefixed-api-key:PREFIX; may be
    /// given again.
    #[arg(long = "accept", value_parser = scheme)]
    pub(crate) accepted: Vec<Scheme>,
}

fn scheme(name: &str) -> Result<Scheme, String> {
    match name.split_once(':') {
        Some(("prefixed-api-key", prefix)) => {
            Scheme::prefixed_api_key(prefix).map_err(|error| error.to_string())
        }
        None if name == "sha256" => Ok(Scheme::sha256()),
        None if name == "sha512" => Ok(Scheme::sha512()),
        None if name == "sanctum" => Ok(Scheme::sanctum()),
        _ => Err("neither sha256 nor sha512 nor sanctum nor prefixed-api-key:PREFIX".to_owned()),
    }
}

impl HashingArguments {
    /// Reads the pepper.
    pub(crate) fn read(self) -> Result<Hashing, Failure> {
        let pepper = self.pepper_file.map(|file| -> Result<Pepper, Failure> {
            let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(Pepper::new(bytes)?)
        });
        let hashing = pepper.transpose()?.map_or_else(Hashing::default, Hashing::peppered);
        Ok(self.accepted.into_iter().fold(hashing, Hashing::accepting))
    }
}

/// How keys are made.
#[derive(Args)]
pub(crate) struct Making {
    #[command(flatten)]
    pub(crate) hashing: HashingArguments,
    /// What the service's keys begin with, such as acme.
    #[arg(long, env = "API_KEY_PREFIX")]
    pub(crate) prefix: KeyPrefix,
    /// How many active keys an account may have.
    #[arg(long, default_value_t = tower_api_key::DEFAULT_KEY_LIMIT)]
    pub(crate) limit: usize,
}

/// A time of day, from now or of its own.
#[derive(Clone, Copy)]
pub(crate) struct Expiry(pub(crate) SystemTime);

impl FromStr for Expiry {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let time = match text.parse::<Timestamp>() {
            Ok(time) => time,
            Err(_) => from_now(text).ok_or(Unreadable)?,
        };
        Ok(Self(time.into()))
    }
}

fn from_now(text: &str) -> Option<Timestamp> {
    let span: Span = text.parse().ok()?;
    let end = Timestamp::now().to_zoned(TimeZone::UTC).checked_add(span).ok()?;
    Some(end.timestamp())
}

/// A time that something lasts.
#[derive(Clone, Copy)]
pub(crate) struct Grace(pub(crate) Duration);

impl FromStr for Grace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "no time such as 24h or 7d, or 0s";
        let end = from_now(text).ok_or(RULE)?;
        // What passed while this was computed is no part of it, and is much less than half a second.
        let seconds = end.duration_since(Timestamp::now()).as_millis() + 500;
        let seconds = u64::try_from(seconds.div_euclid(1_000)).map_err(|_| RULE)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "neither a time such as 2027-01-31T00:00:00Z nor one from now such as 90d or 24h",
        )
    }
}

impl std::error::Error for Unreadable {}
