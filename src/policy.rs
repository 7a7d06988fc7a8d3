//! Whether a record whose key was proven may be used here and now. Pure: knows no store, no clock
//! and no HTTP.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::record::{Environment, KeyRecord, Scope};
use crate::rejection::RejectionKind;

/// What a service asks of a key beside being live.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) environment: Here,
    /// All of them.
    pub(crate) scopes: Vec<Scope>,
}

/// Which environment this is, for keys that are bound to one.
#[derive(Clone, Debug, Default)]
pub(crate) enum Here {
    /// None of theirs: who forgets to say it refuses too much, not too little.
    #[default]
    Unsaid,
    In(Environment),
    Anywhere,
}

impl Policy {
    /// `now` is a function because most keys never expire and asking for the time costs 28 ns; `from`,
    /// because most keys may be used from anywhere. Where it is not known, such a key alone may be.
    pub(crate) fn check(
        &self,
        record: &KeyRecord,
        now: impl FnOnce() -> SystemTime,
        from: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<(), RejectionKind> {
        if record.expires_at.is_some() && record.is_expired(now()) {
            return Err(RejectionKind::ExpiredKey);
        }
        if !self.is_of_this_environment(record) {
            return Err(RejectionKind::WrongEnvironment);
        }
        if !record.sources.is_anywhere() && !from().is_some_and(|from| record.sources.allow(from)) {
            return Err(RejectionKind::WrongSource);
        }
        if !self.scopes.iter().all(|scope| record.scopes.contains(scope)) {
            return Err(RejectionKind::MissingScope);
        }
        Ok(())
    }

    /// A key that is bound to an environment works in that one only; a key that is bound to none
    /// works in all.
    fn is_of_this_environment(&self, record: &KeyRecord) -> bool {
        let Some(its) = &record.environment else { return true };
        match &self.environment {
            Here::Unsaid => false,
            Here::In(ours) => ours == its,
            Here::Anywhere => true,
        }
    }
}

#[cfg(test)]
mod tests;
