//! A whole service's life, against a second description of the rules: keys are made, rotated, regenerated,
//! renamed and deleted, time passes, and requests come. Whoever is let in, and why anybody is not, must be
//! what the description says; and no account ever has more keys than it may.

#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use arbitrary::Arbitrary;
use http::{Method, Request};
use libfuzzer_sys::fuzz_target;
use tower_api_key::testing::TestKeys;
use tower_api_key::{
    AccountId, ApiKeyLayer, Connection, KeyId, KeyManager, ManageError, NewKey, RejectionKind,
    Scope, Scopes, Transport, TrustedProxies,
};
use tower_api_key_fuzz::{Outcome, call, is_checked, is_visible, now};

const LIMIT: usize = 3;
const SCOPES: [&str; 2] = ["read", "write"];
const ENVIRONMENTS: [&str; 2] = ["live", "test"];

#[derive(Arbitrary, Debug)]
enum Step {
    Create {
        account: u8,
        environment: Option<bool>,
        scopes: u8,
        office: bool,
        expires_in: Option<u16>,
    },
    Delete {
        key: u8,
        stranger: bool,
    },
    DeleteAll {
        account: u8,
    },
    Regenerate {
        key: u8,
        stranger: bool,
    },
    Rotate {
        key: u8,
        grace: u16,
    },
    FinishRotation {
        key: u8,
    },
    Rename {
        key: u8,
        stranger: bool,
    },
    Wait {
        seconds: u16,
    },
    Call(Call),
}

#[derive(Arbitrary, Debug)]
struct Call {
    method: u8,
    key: Sent,
    twice: bool,
    as_bearer: bool,
    rule: Rule,
    peer: Option<Peer>,
    said: Said,
    bearer: bool,
    environment: Option<bool>,
    scope: Option<bool>,
}

#[derive(Arbitrary, Debug)]
enum Sent {
    Nothing,
    Made(u8),
    Changed { key: u8, at: u8, by: u8 },
    Text(Vec<u8>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Rule {
    Tls,
    Behind,
    Loopback,
    Assume,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Peer {
    Loopback,
    Proxy,
    Office,
    Elsewhere,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Said {
    Nothing,
    Https,
    HttpsFromOffice,
    Http,
    Twice,
}

/// A key, as the description knows it. Nothing is ever taken out, so places are names.
struct Known {
    account: usize,
    id: KeyId,
    text: String,
    environment: Option<bool>,
    scopes: u8,
    office: bool,
    expires_at: Option<SystemTime>,
    lifetime: Option<Duration>,
    ended: Option<RejectionKind>,
    successor: Option<usize>,
}

struct World {
    keys: TestKeys,
    manager: KeyManager,
    accounts: [AccountId; 2],
    known: Vec<Known>,
}

fuzz_target!(|steps: Vec<Step>| {
    let keys = TestKeys::new();
    let manager = keys.manager().clone().with_limit(LIMIT);
    let accounts = ["a@example.com", "b@example.com"].map(|name| name.parse().expect("an account"));
    let mut world = World { keys, manager, accounts, known: Vec::new() };
    for step in steps.into_iter().take(48) {
        world.take(step);
    }
    world.lists_what_is_known();
});

impl World {
    fn now(&self) -> SystemTime {
        self.keys.now()
    }

    fn is_live(&self, key: &Known) -> bool {
        key.ended.is_none() && key.expires_at.is_none_or(|end| self.now() < end)
    }

    fn live(&self, account: usize) -> usize {
        self.known.iter().filter(|key| key.account == account && self.is_live(key)).count()
    }

    fn pick(&self, key: u8) -> Option<usize> {
        (!self.known.is_empty()).then(|| usize::from(key) % self.known.len())
    }

    /// The place of a record: that of its newest secret.
    fn pick_record(&self, key: u8) -> Option<usize> {
        let id = &self.known[self.pick(key)?].id;
        self.known.iter().rposition(|known| known.id == *id)
    }

    /// Who acts on a key: its owner, or somebody else.
    fn actor(&self, key: usize, stranger: bool) -> &AccountId {
        &self.accounts[self.known[key].account ^ usize::from(stranger)]
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait { seconds } => {
                self.keys.clock().advance(Duration::from_secs(seconds.into()))
            }
            Step::Create { account, environment, scopes, office, expires_in } => {
                self.create(usize::from(account) % 2, environment, scopes % 4, office, expires_in);
            }
            Step::Call(call) => self.call(&call),
            Step::DeleteAll { account } => {
                let account = usize::from(account) % 2;
                let all = now(self.manager.delete_all(&self.accounts[account])).expect("a store");
                let mine = self
                    .known
                    .iter_mut()
                    .filter(|key| key.account == account && key.ended.is_none());
                assert_eq!(
                    all,
                    mine.map(|key| key.ended = Some(RejectionKind::DeletedKey)).count()
                );
            }
            Step::Delete { key, stranger } => {
                let Some(key) = self.pick_record(key) else { return };
                let done = now(self.manager.delete(self.actor(key, stranger), &self.known[key].id));
                if !stranger && self.is_kept(key) {
                    done.expect("it was there");
                    self.known[key].ended = Some(RejectionKind::DeletedKey);
                } else {
                    assert!(matches!(done, Err(ManageError::NotFound)));
                }
            }
            Step::Rename { key, stranger } => {
                let Some(key) = self.pick_record(key) else { return };
                let name = "another".parse().expect("a name");
                let done =
                    now(self.manager.rename(self.actor(key, stranger), &self.known[key].id, name));
                assert_eq!(done.is_ok(), !stranger && self.is_kept(key));
            }
            Step::Regenerate { key, stranger } => self.regenerate(key, stranger),
            Step::Rotate { key, grace } => self.rotate(key, Duration::from_secs(grace.into())),
            Step::FinishRotation { key } => {
                let Some(key) = self.pick_record(key) else { return };
                let done =
                    now(self.manager.finish_rotation(self.actor(key, false), &self.known[key].id));
                if !self.is_kept(key) {
                    assert!(matches!(done, Err(ManageError::NotFound)));
                } else if self.known[key].successor.is_none() {
                    assert!(matches!(done, Err(ManageError::NotRotated)));
                } else {
                    done.expect("it was rotated");
                    self.known[key].ended = Some(RejectionKind::DeletedKey);
                }
            }
        }
        for account in 0..2 {
            assert!(self.live(account) <= LIMIT, "the cap is exact");
        }
    }

    /// Whether the record is in the store: under this id, with any secret.
    fn is_kept(&self, key: usize) -> bool {
        self.known[key].ended.is_none()
    }

    fn create(
        &mut self,
        account: usize,
        environment: Option<bool>,
        scopes: u8,
        office: bool,
        expires_in: Option<u16>,
    ) {
        let mut new = NewKey::new("made".parse().expect("a name"));
        if let Some(which) = environment {
            new = new.with_environment(ENVIRONMENTS[usize::from(which)].parse().expect("a word"));
        }
        let given = SCOPES.iter().enumerate().filter(|(at, _)| scopes >> at & 1 == 1);
        let given = given.map(|(_, scope)| scope.parse().expect("a scope"));
        new = new.with_scopes(Scopes::new(given).expect("few"));
        if office {
            new = new.with_sources("192.0.2.0/24".parse().expect("a block"));
        }
        let lifetime = expires_in.map(|seconds| Duration::from_secs(seconds.into()));
        let expires_at = lifetime.map(|lifetime| self.now() + lifetime);
        if let Some(end) = expires_at {
            new = new.with_expires_at(end);
        }
        match now(self.manager.create(&self.accounts[account], new)) {
            Ok(issued) => {
                assert!(lifetime != Some(Duration::ZERO), "it would be dead at once");
                assert!(self.live(account) < LIMIT, "there was room");
                let id = issued.record().id.clone();
                let text = issued.reveal().as_str().to_owned();
                let (ended, successor) = (None, None);
                self.known.push(Known {
                    account,
                    id,
                    text,
                    environment,
                    scopes,
                    office,
                    expires_at,
                    lifetime,
                    ended,
                    successor,
                });
            }
            Err(ManageError::InvalidExpiry) => assert_eq!(lifetime, Some(Duration::ZERO)),
            Err(ManageError::LimitReached { limit: LIMIT }) => {
                assert_eq!(self.live(account), LIMIT)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Why a key cannot be given another secret, if it cannot.
    fn stands_in_the_way(&self, key: usize, stranger: bool) -> Option<fn(&ManageError) -> bool> {
        let known = &self.known[key];
        if stranger || !self.is_kept(key) {
            Some(|error| matches!(error, ManageError::NotFound))
        } else if !self.is_live(known) {
            Some(|error| matches!(error, ManageError::Expired))
        } else if known.successor.is_some() {
            Some(|error| matches!(error, ManageError::AlreadyRotated))
        } else {
            None
        }
    }

    fn regenerate(&mut self, key: u8, stranger: bool) {
        let Some(key) = self.pick_record(key) else { return };
        let expected = self.stands_in_the_way(key, stranger);
        let done = now(self.manager.regenerate(self.actor(key, stranger), &self.known[key].id));
        match (done, expected) {
            (Err(error), Some(expected)) => assert!(expected(&error), "{error}"),
            (Ok(issued), None) => {
                let old = &mut self.known[key];
                old.ended = Some(RejectionKind::RegeneratedKey);
                let id = issued.record().id.clone();
                assert_eq!(id, old.id, "the id stays");
                let new = Known {
                    id,
                    text: issued.reveal().as_str().to_owned(),
                    ended: None,
                    ..old.copy()
                };
                self.known.push(new);
            }
            (Ok(_), Some(_)) => panic!("regenerated what could not be"),
            (Err(error), None) => panic!("{error}"),
        }
    }

    fn rotate(&mut self, key: u8, grace: Duration) {
        let Some(key) = self.pick_record(key) else { return };
        let account = self.known[key].account;
        let is_full = !grace.is_zero() && self.live(account) >= LIMIT;
        let expected = self.stands_in_the_way(key, false).or_else(|| {
            is_full
                .then_some(|error: &ManageError| matches!(error, ManageError::LimitReached { .. }))
        });
        let done = now(self.manager.rotate(self.actor(key, false), &self.known[key].id, grace));
        match (done, expected) {
            (Err(error), Some(expected)) => assert!(expected(&error), "{error}"),
            (Ok(issued), None) => {
                let (now, place) = (self.now(), self.known.len());
                let old = &mut self.known[key];
                let new = Known {
                    id: issued.record().id.clone(),
                    text: issued.reveal().as_str().to_owned(),
                    expires_at: old.lifetime.map(|lifetime| now + lifetime),
                    ..old.copy()
                };
                if grace.is_zero() {
                    old.ended = Some(RejectionKind::RotatedKey);
                } else {
                    old.successor = Some(place);
                    let end = now + grace;
                    old.expires_at = Some(old.expires_at.map_or(end, |earlier| earlier.min(end)));
                }
                self.known.push(new);
            }
            (Ok(_), Some(_)) => panic!("rotated what could not be"),
            (Err(error), None) => panic!("{error}"),
        }
    }

    fn call(&self, call_: &Call) {
        let text: Option<Vec<u8>> = match &call_.key {
            Sent::Nothing => None,
            Sent::Text(text) => Some(text.clone()),
            Sent::Made(key) => self.pick(*key).map(|key| self.known[key].text.clone().into_bytes()),
            Sent::Changed { key, at, by } => self.pick(*key).map(|key| {
                let mut text = self.known[key].text.clone().into_bytes();
                let at = usize::from(*at) % text.len();
                text[at] ^= by;
                text
            }),
        };
        let bearer = |text: &[u8]| [b"Bearer ", text].concat();
        let name = if call_.as_bearer { "authorization" } else { "api-key" };
        let mut request = Request::builder()
            .method(
                Method::from_bytes(&[b"GET", b"PUT", b"FOO"][usize::from(call_.method) % 3][..])
                    .expect("a method"),
            )
            .uri("https://example.com/?api-key=none");
        let mut is_sent = false;
        for _ in 0..=usize::from(call_.twice) {
            let Some(text) = &text else { break };
            let line = if call_.as_bearer { bearer(text) } else { text.clone() };
            let Ok(value) = http::HeaderValue::from_bytes(&line) else { return };
            request = request.header(name, value);
            is_sent = true;
        }
        for said in call_.said.lines() {
            request = request.header("forwarded", *said);
        }
        if let Some(peer) = call_.peer {
            request = request.extension(Connection::plain(peer.address()));
        }
        let is_heard = is_sent && (!call_.as_bearer || call_.bearer);
        let expected = self.expected(call_, text.as_deref().filter(|_| is_heard));
        let outcome = call(&self.layer(call_), request.body(()).expect("a request"));
        match (outcome, expected) {
            (Outcome::Admitted(identity, _), Ok(key)) => {
                assert_eq!(identity.account(), &self.accounts[key.account]);
                assert_eq!(identity.key_id(), &key.id);
            }
            (Outcome::Refused(kind), Err(expected)) => assert_eq!(kind, expected, "{call_:?}"),
            (Outcome::Admitted(..), Err(expected)) => {
                panic!("let in, though {expected}: {call_:?}")
            }
            (Outcome::Refused(kind), Ok(_)) => panic!("refused ({kind}), though valid: {call_:?}"),
        }
    }

    fn layer(&self, call: &Call) -> ApiKeyLayer {
        let proxies = || TrustedProxies::forwarded(["10.0.0.0/8"]).expect("proxies");
        let mut layer = self.keys.layer().with_transport(match call.rule {
            Rule::Tls => Transport::tls(),
            Rule::Behind => Transport::behind(proxies()),
            Rule::Loopback => Transport::insecure_on_loopback(),
            Rule::Assume => Transport::dangerously_assume_https(),
        });
        if call.bearer {
            layer = layer.with_bearer();
        }
        if let Some(which) = call.environment {
            layer =
                layer.with_environment(ENVIRONMENTS[usize::from(which)].parse().expect("a word"));
        }
        if let Some(which) = call.scope {
            let scope: Scope = SCOPES[usize::from(which)].parse().expect("a scope");
            layer = layer.with_required_scope(scope);
        }
        layer
    }

    /// Whose key it is, or why the request is refused.
    fn expected(&self, call: &Call, text: Option<&[u8]>) -> Result<&Known, RejectionKind> {
        let is_https = match (call.rule, call.peer) {
            (Rule::Assume, _) => true,
            (Rule::Behind, Some(Peer::Proxy)) => {
                matches!(call.said, Said::Https | Said::HttpsFromOffice)
            }
            (Rule::Loopback, Some(Peer::Loopback)) => matches!(call.said, Said::Nothing),
            _ => false,
        };
        if !is_https {
            return Err(RejectionKind::NotHttps);
        }
        let text = text.ok_or(RejectionKind::MissingKey)?;
        if call.twice {
            return Err(RejectionKind::AmbiguousKey);
        }
        if text.is_empty() {
            return Err(RejectionKind::MissingKey);
        }
        // Spaces before it belong to the header, where it is a bearer's.
        let text = if call.as_bearer {
            &text[text.iter().take_while(|&&byte| byte == b' ').count()..]
        } else {
            text
        };
        if text.is_empty() {
            return Err(RejectionKind::MissingKey);
        }
        if !is_visible(text) {
            return Err(RejectionKind::MalformedKey);
        }
        if !is_checked(text) {
            return Err(RejectionKind::WrongChecksum);
        }
        let known = self.known.iter().find(|key| key.text.as_bytes() == text);
        let key = known.ok_or(RejectionKind::UnknownKey)?;
        if let Some(ended) = key.ended {
            return Err(ended);
        }
        if !self.is_live(key) {
            return Err(RejectionKind::ExpiredKey);
        }
        if key.environment.is_some() && key.environment != call.environment {
            return Err(RejectionKind::WrongEnvironment);
        }
        let is_from_office = match (call.rule, call.peer) {
            (Rule::Behind, Some(Peer::Proxy)) => matches!(call.said, Said::HttpsFromOffice),
            // Only loopback comes that far otherwise, and of the rest nothing is known.
            _ => false,
        };
        if key.office && !is_from_office {
            return Err(RejectionKind::WrongSource);
        }
        if call.scope.is_some_and(|which| key.scopes >> usize::from(which) & 1 == 0) {
            return Err(RejectionKind::MissingScope);
        }
        Ok(key)
    }

    /// What a manager lists is what is known, and nothing of it is a secret.
    fn lists_what_is_known(&self) {
        for account in 0..2 {
            let listed = now(self.manager.list(&self.accounts[account])).expect("a store");
            let kept =
                self.known.iter().filter(|key| key.account == account && key.ended.is_none());
            let mut kept: Vec<&KeyId> = kept.map(|key| &key.id).collect();
            let mut ids: Vec<&KeyId> = listed.iter().map(|record| &record.id).collect();
            kept.sort();
            ids.sort();
            assert_eq!(ids, kept);
            let shown = format!("{listed:?}");
            assert!(self.known.iter().all(|key| !shown.contains(&key.text)));
        }
    }
}

impl Known {
    /// What a new secret inherits.
    fn copy(&self) -> Self {
        Self { id: self.id.clone(), text: String::new(), ended: None, successor: None, ..*self }
    }
}

impl Peer {
    fn address(self) -> SocketAddr {
        let text = match self {
            Self::Loopback => "127.0.0.1:1",
            Self::Proxy => "[::ffff:10.1.2.3]:1",
            Self::Office => "192.0.2.7:1",
            Self::Elsewhere => "203.0.113.7:1",
        };
        text.parse().expect("an address")
    }
}

impl Said {
    fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Https => &["proto=https"],
            Self::HttpsFromOffice => &[r#"for="192.0.2.9:80";proto=https"#],
            Self::Http => &["proto=http"],
            Self::Twice => &["proto=https", "proto=https"],
        }
    }
}
