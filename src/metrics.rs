//! Key events as counters of the `metrics` facade, for whatever exporter the service has. Knows no
//! exporter and no HTTP.

use metrics::{counter, describe_counter};

use crate::events::{KeyEvent, KeyEvents};

/// Counts what happens to keys.
///
/// | counter | labels | counts |
/// | --- | --- | --- |
/// | `api_key_requests_total` | | accepted requests, as they are [written](crate::Usage) |
/// | `api_key_refusals_total` | `reason`, as [`RejectionKind::as_str`](crate::RejectionKind::as_str) | refused requests |
/// | `api_key_shadow_refusals_total` | `reason`, likewise | requests that would be refused, but for the [shadow mode](crate::ApiKeyLayer::dangerously_in_shadow_mode) |
/// | `api_key_events_total` | `event`, as [`KeyEvent::name`] | everything else that happens to keys; a key that is deleted with all others of its account is `deleted` |
///
/// No label has a key, an account or an address: there would be as many series as customers. Which key
/// it was is in the log, and in [`KeyManager::usage`](crate::KeyManager::usage).
///
/// ```
/// use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore, Metrics, Usage, UsageSettings};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let metrics = Metrics::new(); // after the exporter was installed
/// let store = MemoryStore::new();
/// let usage = Usage::collect(store.clone(), UsageSettings::default().with_events(metrics));
/// let manager = KeyManager::new(store.clone(), "acme".parse()?).with_events(metrics);
/// let layer = ApiKeyLayer::new(store).with_usage(&usage).with_events(metrics);
/// # let _ = (manager, layer);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metrics {}

impl Metrics {
    /// Describes the counters to the exporter that is installed.
    #[must_use]
    pub fn new() -> Self {
        describe_counter!("api_key_requests_total", "requests that a key was accepted for");
        describe_counter!("api_key_refusals_total", "refused requests, by reason");
        describe_counter!(
            "api_key_shadow_refusals_total",
            "requests that would be refused, but for the shadow mode, by reason"
        );
        describe_counter!("api_key_events_total", "what else happened to keys");
        Self {}
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyEvents for Metrics {
    fn hear(&self, event: &KeyEvent<'_>) {
        match event {
            KeyEvent::Used { of } => counter!("api_key_requests_total").increment(of.requests),
            KeyEvent::Refused { rejection } => {
                let reason = rejection.kind().as_str();
                counter!("api_key_refusals_total", "reason" => reason).increment(1);
            }
            KeyEvent::WouldRefuse { rejection } => {
                let reason = rejection.kind().as_str();
                counter!("api_key_shadow_refusals_total", "reason" => reason).increment(1);
            }
            KeyEvent::DeletedAll { count, .. } => {
                counter!("api_key_events_total", "event" => "deleted").increment(*count as u64);
            }
            event => counter!("api_key_events_total", "event" => event.name()).increment(1),
        }
    }
}
