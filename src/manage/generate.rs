//! New secrets and ids, straight from the system's generator.

use std::convert::Infallible;

use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::{SysError, SysRng};
use rand::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

use super::ManageError;
use crate::digest;
use crate::key::{ApiKey, RANDOM_DIGITS};
use crate::record::{AccountId, Environment, IdempotencyKey, KeyId, KeyPrefix};

/// Base62 digits of an id: 62^22 > 2^128.
const ID_DIGITS: usize = 22;

/// A new key: 43 unbiased base62 digits, which hold 256 bits.
pub(super) fn key(
    prefix: &KeyPrefix,
    environment: Option<&Environment>,
) -> Result<ApiKey, ManageError> {
    let random = base62(RANDOM_DIGITS)?;
    Ok(ApiKey::assemble(prefix, environment, &random))
}

/// A new id: `key_` and 22 unbiased base62 digits.
pub(super) fn id() -> Result<KeyId, ManageError> {
    let text = format!("key_{}", *base62(ID_DIGITS)?);
    text.parse().map_err(|error| ManageError::Randomness(Box::new(error)))
}

/// The id that belongs to an idempotency key: of 128 bits of a hash of the account and the key.
pub(super) fn id_of(account: &AccountId, key: &IdempotencyKey) -> Result<KeyId, ManageError> {
    let name = digest::name_of([account.as_str(), key.as_str()]);
    format!("key_{name:032x}").parse().map_err(|error| ManageError::Randomness(Box::new(error)))
}

fn base62(digits: usize) -> Result<Zeroizing<String>, ManageError> {
    let mut rng = SystemGenerator { failure: None };
    // The sampler reserves the whole length before it writes, so that no copy is left behind.
    let text = Zeroizing::new(Alphanumeric.sample_string(&mut rng, digits));
    match rng.failure {
        None => Ok(text),
        Some(failure) => Err(ManageError::Randomness(Box::new(failure))),
    }
}

/// The system's generator in the form that samplers want, which cannot say that it failed: it keeps
/// the failure and gives zeros from there on, and what was drawn is thrown away.
struct SystemGenerator {
    failure: Option<SysError>,
}

impl SystemGenerator {
    fn noting<T: Default>(&mut self, drawn: Result<T, SysError>) -> T {
        drawn.unwrap_or_else(|failure| {
            self.failure = Some(failure);
            T::default()
        })
    }
}

impl TryRng for SystemGenerator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.noting(SysRng.try_next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.noting(SysRng.try_next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.noting(SysRng.try_fill_bytes(bytes));
        Ok(())
    }
}

impl TryCryptoRng for SystemGenerator {}

#[cfg(test)]
mod tests;
