//! Stores whose servers, networks and disks fail: what is then refused, and what is still true
//! afterwards. Each sentence is a function over a backend; what it measured is printed.

mod backend;
mod calls;
mod cut;
mod disk;
mod failing;
mod kills;
mod ledger;
mod outage;
mod state;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::{ApiKeyLayer, Identity, KeyRegistry, Transport};

use crate::servers::{Postgres, Redis};
use backend::Backend;

type Store = Arc<dyn KeyRegistry>;

/// Runs each sentence against each backend, every time against a server of its own.
macro_rules! servers {
    ($($backend:ident: $start:expr;)*) => {
        $(mod $backend {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn is_refused_while_the_server_is_killed() {
                let Some(backend) = $start else { return };
                outage::is_refused_and_ends(backend, outage::Fault::Killed).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_refused_while_the_server_is_paused() {
                let Some(backend) = $start else { return };
                outage::is_refused_and_ends(backend, outage::Fault::Paused).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_refused_while_the_wire_is_cut() {
                let Some(backend) = $start else { return };
                outage::is_refused_and_ends(backend, outage::Fault::Cut).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_refused_while_the_wire_is_silent() {
                let Some(backend) = $start else { return };
                outage::is_refused_and_ends(backend, outage::Fault::Silent).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_write_that_is_cut_off_is_whole() {
                let Some(backend) = $start else { return };
                cut::a_write_that_is_cut_off_is_whole(backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn answered_writes_survive_a_hundred_kills() {
                let Some(backend) = $start else { return };
                kills::answered_writes_survive(backend, 100).await;
            }
        })*
    };
}

servers! {
    postgres: Backend::postgres(Postgres::options().durable()).await;
    redis: Backend::redis(&Redis::DURABLE);
}

/// A service behind the layer, in this process.
#[derive(Clone)]
struct Door(ApiKeyLayer);

impl Door {
    fn of(store: Store) -> Self {
        Self(ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https()))
    }

    /// The status with which a key is answered, and how long that took.
    async fn ask(&self, key: &str) -> (u16, Duration) {
        let inner = service_fn(async |request: Request<()>| {
            assert!(request.extensions().get::<Identity>().is_some());
            Ok::<_, Infallible>(Response::new(bytes::Bytes::new()))
        });
        let mut request = Request::new(());
        request.headers_mut().insert("api-key", HeaderValue::from_str(key).unwrap());
        let start = Instant::now();
        let response = self.0.layer(inner).oneshot(request).await.unwrap();
        (response.status().as_u16(), start.elapsed())
    }

    async fn status(&self, key: &str) -> u16 {
        self.ask(key).await.0
    }
}

/// A well-formed key that no store has.
async fn unknown_key() -> String {
    crate::support::with_key(tower_api_key::MemoryStore::new()).await.1
}
