//! What may be asked.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::{Span, Timestamp, tz::TimeZone};
use tower_api_key::{AccountId, Environment, KeyId, KeyName, KeyPrefix, Scope, Sources};

/// Manages API keys in a store of tower-api-key.
#[derive(Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    /// Where the keys are: sqlite:PATH, postgres://… or redis://…
    ///
    /// A URL with a password is better given by the variable: others can see a program's arguments.
    #[arg(long, env = "API_KEY_STORE", hide_env_values = true, global = true)]
    pub(crate) store: Option<StoreUrl>,
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
    /// Reads a key from the standard input and says whether it works, and whose it is.
    Verify,
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

/// How keys are made.
#[derive(Args)]
pub(crate) struct Making {
    /// What the service's keys begin with, such as acme.
    #[arg(long, env = "API_KEY_PREFIX")]
    pub(crate) prefix: KeyPrefix,
    /// How many active keys an account may have.
    #[arg(long, default_value_t = tower_api_key::DEFAULT_KEY_LIMIT)]
    pub(crate) limit: usize,
}

/// Where a store is.
#[derive(Clone)]
pub(crate) enum StoreUrl {
    Sqlite(PathBuf),
    Postgres(String),
    Redis(String),
}

impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sqlite", "")) | None => {
                Err("neither sqlite:PATH nor postgres://… nor redis://…")
            }
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.trim_start_matches("//").into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(text.to_owned())),
            Some(("memory", _)) => {
                Err("keys in the memory of this program would be gone at its end")
            }
            Some(_) => Err("neither sqlite:PATH nor postgres://… nor redis://…"),
        }
    }
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
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let end = from_now(text).ok_or(Unreadable)?;
        // What passed while this was computed is no part of it.
        let grace = end.duration_since(Timestamp::now()).as_millis().max(0);
        let seconds = u64::try_from(grace).map_err(|_| Unreadable)?.div_ceil(1_000);
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
