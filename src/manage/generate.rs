//! New secrets and ids, straight from the system's generator.

use std::convert::Infallible;

use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::SysRng;
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
    let random = base62(SysRng, RANDOM_DIGITS)?;
    Ok(ApiKey::assemble(prefix, environment, &random))
}

/// A new id: `key_` and 22 unbiased base62 digits.
pub(super) fn id() -> Result<KeyId, ManageError> {
    let text = format!("key_{}", *base62(SysRng, ID_DIGITS)?);
    text.parse().map_err(|error| ManageError::Randomness(Box::new(error)))
}

/// The id that belongs to an idempotency key: of 128 bits of a hash of the account and the key.
pub(super) fn id_of(account: &AccountId, key: &IdempotencyKey) -> Result<KeyId, ManageError> {
    let name = digest::name_of([account.as_str(), key.as_str()]);
    format!("key_{name:032x}").parse().map_err(|error| ManageError::Randomness(Box::new(error)))
}

/// Digits drawn from a generator, none of which is used where it failed for one of them.
fn base62<R: TryCryptoRng>(generator: R, digits: usize) -> Result<Zeroizing<String>, ManageError>
where
    R::Error: Send + Sync + 'static,
{
    let mut noting = Noting { generator, failure: None };
    // The sampler reserves the whole length before it writes, so that no copy is left behind.
    let text = Zeroizing::new(Alphanumeric.sample_string(&mut noting, digits));
    match noting.failure {
        None => Ok(text),
        Some(failure) => Err(ManageError::Randomness(Box::new(failure))),
    }
}

/// A generator in the form that samplers want, which cannot say that it failed: its failure is kept, and it gives
/// zeros in place of what was not drawn.
struct Noting<R: TryRng> {
    generator: R,
    failure: Option<R::Error>,
}

impl<R: TryRng> Noting<R> {
    fn noting<T: Default>(&mut self, drawn: Result<T, R::Error>) -> T {
        drawn.unwrap_or_else(|failure| {
            self.failure = Some(failure);
            T::default()
        })
    }
}

impl<R: TryRng> TryRng for Noting<R> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let drawn = self.generator.try_next_u32();
        Ok(self.noting(drawn))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let drawn = self.generator.try_next_u64();
        Ok(self.noting(drawn))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let drawn = self.generator.try_fill_bytes(bytes);
        self.noting(drawn);
        Ok(())
    }
}

impl<R: TryCryptoRng> TryCryptoRng for Noting<R> {}

#[cfg(test)]
mod tests;
