//! A service with the page, over TLS: signed in is who has the cookie `account`.

use std::net::{IpAddr, SocketAddr};
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
use tower_api_key::{
    KeyManager, KeyRecord, KeyRegistry as _, ManualClock, MemoryStore, NewKey, SqliteStore, Use,
};

use crate::servers::folder::Folder;
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
        let manager =
            KeyManager::new(store.clone(), "acme".parse().unwrap()).with_clock(clock.clone());
        let manager = manager.with_environments(["live", "test"].map(|name| name.parse().unwrap()));
        fill(&store, &manager, &clock).await;
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
    let folder = Folder::new();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    store.close().await;
    KeyManager::new(store, "acme".parse().unwrap())
}

/// Accounts in every state; the others have never had a key.
async fn fill(store: &MemoryStore, manager: &KeyManager, clock: &ManualClock) {
    let now = SystemTime::now();
    let live = |name: &str| named(name).with_environment("live".parse().unwrap());
    let test = |name: &str| named(name).with_environment("test".parse().unwrap());
    let make = async |owner: &str, days_ago: u32, new: NewKey| {
        clock.set(now - DAY * days_ago);
        manager.create(&account(owner), new).await.unwrap().record().clone()
    };

    let busy = "admin@example.com";
    make(busy, 412, live("Production CRM")).await;
    make(busy, 300, live("Website booking form")).await;
    let old = make(busy, 190, live("Data warehouse export")).await;
    make(busy, 120, test("Staging").with_expires_at(now + DAY * 9)).await;
    make(busy, 60, test("Load test, spring").with_expires_at(now - DAY * 4)).await;
    make(busy, 33, live("Zapier").with_expires_at(now + DAY * 332)).await;
    let partner = named("Partner: Northwind Traders");
    make(busy, 2, partner.with_sources("203.0.113.0/24 2001:db8::/32".parse().unwrap())).await;
    clock.set(now - DAY);
    let _ = manager.rotate(&account(busy), &old.id, DAY * 7).await.unwrap();

    let ended = make(busy, 200, live("Old CRM connector")).await;
    clock.set(now - DAY * 12);
    manager.delete(&account(busy), &ended.id).await.unwrap();
    let keys = manager.list(&account(busy)).await.unwrap();
    for (number, key) in (1..).zip(&keys).filter(|(number, _)| number % 4 != 0) {
        store.mark_used(&uses(key, number, now)).await.unwrap();
    }
    let attempts = [9, 5, 4, 2, 1, 0].map(|ago: u32| {
        let mut attempt = Use::new(ended.fingerprint(), now - DAY * ago);
        (attempt.requests, attempt.refusals) = (0, u64::from(12 + ago * 5 % 7));
        attempt
    });
    store.mark_used(&attempts).await.unwrap();

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
    let gone = make(emptied, 3, live("Gone")).await;
    manager.delete(&account(emptied), &gone.id).await.unwrap();
    clock.set(now);
}

/// A month of work, quieter at weekends, with a refusal here and there.
fn uses(key: &KeyRecord, number: u64, now: SystemTime) -> Vec<Use> {
    let live = |ago: &u32| {
        let then = now - DAY * *ago;
        key.created_at <= then && !key.is_expired(then)
    };
    let used = |ago: u32| {
        let noise = (u64::from(ago) * 7_919 + number * 104_729) % 97;
        let quiet = if ago % 7 < 2 { 5 } else { 1 };
        let mut used =
            Use::new(key.fingerprint(), now - DAY * ago - Duration::from_mins(number * number * 7));
        used.requests = (noise + 60) * (number * 13) / quiet;
        used.refusals = if (u64::from(ago) + number) % 11 == 3 { noise * number / 2 } else { 0 };
        used.address = Some(IpAddr::from([203, 0, 113, u8::try_from(number).unwrap() * 7]));
        used
    };
    (0..30).rev().filter(live).map(used).collect()
}
