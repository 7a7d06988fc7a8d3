//! A service with the page, over TLS: signed in is who has the cookie `account`.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ::axum::Router;
use ::axum::extract::FromRequestParts;
use ::axum::response::Html;
use ::axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use http::StatusCode;
use http::request::Parts;
use tower_api_key::manage::page::KeysPage;
use tower_api_key::manage::{Principal, api};
use tower_api_key::{KeyManager, ManualClock, MemoryStore, NewKey, SqliteStore};

use crate::servers::local;
use crate::support::{account, named, server_config};

const DAY: Duration = Duration::from_hours(24);

struct Visitor(Principal);

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = (StatusCode, Html<&'static str>);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let cookie = parts.headers.get("cookie").and_then(|cookie| cookie.to_str().ok());
        let name = cookie.and_then(|cookie| cookie.strip_prefix("account="));
        let name = name.ok_or((StatusCode::UNAUTHORIZED, Html("<h1>Sign in</h1>")))?;
        Ok(Self(Principal::new(account(&format!("{name}@example.com")))))
    }
}

impl From<Visitor> for Principal {
    fn from(visitor: Visitor) -> Self {
        visitor.0
    }
}

pub(super) struct Site {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
}

impl Site {
    pub(super) async fn start() -> Self {
        let store = MemoryStore::new();
        let clock = ManualClock::at(SystemTime::now());
        let manager = KeyManager::new(store, "acme".parse().unwrap()).with_clock(clock.clone());
        fill(&manager, &clock).await;
        let app = Router::new()
            .nest("/console/", page(&manager))
            .nest("/console/api", api::router::<Visitor>(manager))
            .nest("/broken/", page(&broken().await))
            .route("/elsewhere", get(async || Html("<!doctype html><title>Elsewhere</title>")));

        let handle = Handle::new();
        let config = RustlsConfig::from_config(server_config());
        let server = axum_server::bind_rustls(local(0), config).handle(handle.clone());
        tokio::spawn(server.serve(app.into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { address, handle }
    }

    pub(super) fn base(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn page(manager: &KeyManager) -> Router {
    KeysPage::new(manager.clone())
        .with_service("Acme")
        .with_sign_out("/sign-out")
        .router::<Visitor>()
}

/// A manager whose store is closed.
async fn broken() -> KeyManager {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    store.close().await;
    KeyManager::new(store, "acme".parse().unwrap())
}

/// Accounts in every state; the others have never had a key.
async fn fill(manager: &KeyManager, clock: &ManualClock) {
    let now = SystemTime::now();
    let live = |name: &str| named(name).with_environment("live".parse().unwrap());
    let test = |name: &str| named(name).with_environment("test".parse().unwrap());
    let make = async |owner: &str, days_ago: u32, new: NewKey| {
        clock.set(now - DAY * days_ago);
        manager.create(&account(owner), new).await.unwrap().record().id.clone()
    };

    let busy = "busy@example.com";
    make(busy, 412, live("Production CRM")).await;
    make(busy, 300, live("Website booking form")).await;
    let old = make(busy, 190, live("Data warehouse export")).await;
    make(busy, 120, test("Staging").with_expires_at(now + DAY * 9)).await;
    make(busy, 60, test("Load test, spring").with_expires_at(now - DAY * 4)).await;
    make(busy, 33, live("Zapier").with_expires_at(now + DAY * 332)).await;
    make(busy, 2, named("Partner: Northwind Traders")).await;
    clock.set(now - DAY);
    let _ = manager.rotate(&account(busy), &old, DAY * 7).await.unwrap();

    let odd = "odd@example.com";
    let names = [
        "<script>alert(1)</script><b onmouseover=alert(2)>\"'&amp;</b>".to_owned(),
        "👩‍👩‍👧‍👦🏳️‍🌈🧑🏽‍🚀".chars().cycle().take(100).collect(),
        "مفتاح الإنتاج لنظام إدارة العملاء (النسخة ٢)".to_owned(),
        "W".repeat(100),
        "ключ для складского учёта — не трогать без Ольги".to_owned(),
        "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘".to_owned(),
    ];
    for name in &names {
        make(odd, 1, live(name)).await;
    }

    for number in 1..=25 {
        make("full@example.com", 40, live(&format!("Integration {number}"))).await;
    }
    let emptied = "emptied@example.com";
    let id = make(emptied, 3, live("Gone")).await;
    manager.delete(&account(emptied), &id).await.unwrap();
    clock.set(now);
}
