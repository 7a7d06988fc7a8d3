//! Redis: which servers are refused, what is survived, what the data look like.

use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future;
use tokio::sync::Notify;
use tower_api_key::store::contract::the_roll_is_kept_between_stores;
use tower_api_key::{
    AccountId, Changes, Day, Entry, KeyId, KeyRecord, KeyRegistry as _, KeyStore as _, NewSecret,
    RedisOptions, RedisStore, SharedRegistry, StoreError, Use, Version, Written,
};

use crate::servers::{Redis, free_port};
use crate::support::{Log, account, digest, record, soon, time};

impl Redis {
    /// With patience for a busy machine.
    fn options(&self) -> RedisOptions {
        RedisOptions::new(self.url(0)).with_time_limit(Duration::from_secs(20))
    }

    async fn connect(&self) -> RedisStore {
        self.options().connect().await.unwrap()
    }

    /// What `redis-cli` prints for a command.
    fn cli(&self, arguments: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        let output = cli.args(["-p", &self.port().to_string(), "--raw"]).args(arguments).output();
        String::from_utf8_lossy(&output.expect("redis-cli").stdout).trim_end().to_owned()
    }

    /// Every key with all that it holds.
    fn dump(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for key in self.cli(&["KEYS", "*"]).lines() {
            let read: &[&str] = match self.cli(&["TYPE", key]).as_str() {
                "hash" => &["HGETALL", key],
                "stream" => &["XRANGE", key, "-", "+"],
                "string" => &["GET", key],
                "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
                other => panic!("a key of type {other}"),
            };
            all.extend(self.cli(read).into_bytes());
            all.push(b'\n');
        }
        all
    }

    /// What is called, and how often, while something is done.
    async fn calls_of(&self, done: impl Future<Output = ()>) -> Vec<String> {
        self.cli(&["CONFIG", "RESETSTAT"]);
        done.await;
        let stats = self.cli(&["INFO", "commandstats"]);
        let calls = stats.lines().filter_map(|line| line.split_once(",usec="));
        let mut calls: Vec<_> = calls.map(|(calls, _)| calls.to_owned()).collect();
        // Those of the question.
        calls.retain(|call| !call.contains("config") && !call.contains("info"));
        calls.sort();
        calls
    }

    /// The connections, by their numbers, on which a command was the last.
    fn connections_after(&self, command: &str) -> Vec<String> {
        let clients = self.cli(&["CLIENT", "LIST"]);
        let after = clients.lines().filter(|line| line.contains(&format!(" cmd={command} ")));
        after.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    }

    /// All lines of all data, for comparison: the order of a hash's fields may change by itself.
    fn lines(&self) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.dump()).into_owned();
        let mut lines: Vec<_> = all.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

async fn insert(store: &RedisStore, record: KeyRecord) -> Arc<KeyRecord> {
    let record = Arc::new(record);
    assert_eq!(store.insert(Arc::clone(&record), 10_000).await.unwrap(), Written::Done(()));
    record
}

/// A record that expires at a time, if at any.
fn until(owner: &AccountId, at: u64, ends: Option<u64>) -> KeyRecord {
    let mut record = record(owner, time(at));
    record.expires_at = ends.map(time);
    record
}

async fn is_live(store: &RedisStore, record: &KeyRecord) -> bool {
    matches!(store.find(record.fingerprint()).await.unwrap(), Some(Entry::Live(_)))
}

async fn is_ended(store: &RedisStore, record: &KeyRecord) -> bool {
    matches!(store.find(record.fingerprint()).await.unwrap(), Some(Entry::Ended(_)))
}

/// How long it takes until a lookup and a write work again.
async fn works_again(store: &RedisStore, key: &KeyRecord) -> Duration {
    let since = Instant::now();
    let name = || "Back".parse().unwrap();
    while store.find(key.fingerprint()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while store.rename(&key.account, &key.id, name()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    since.elapsed()
}

// Which servers and which data are refused.

#[tokio::test]
async fn a_server_that_would_lose_keys_is_refused_unless_that_is_accepted() {
    for (arguments, set) in [
        (["--appendonly", "no"], "`appendonly yes`"),
        (["--maxmemory-policy", "allkeys-lru"], "`maxmemory-policy noeviction`"),
        (["--maxmemory-policy", "volatile-ttl"], "`maxmemory-policy noeviction`"),
    ] {
        let Some(server) = Redis::start(&arguments) else { return };
        let refused = server.options().connect().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unsafe { store: "redis", .. }), "{refused:?}");
        assert!(refused.to_string().contains(set), "{refused}");
        assert_eq!(server.cli(&["DBSIZE"]), "0", "it is left alone");
        let (log, _guard) = Log::capture();
        let store = server.options().dangerously_accept_data_loss().connect().await.unwrap();
        assert_eq!(log.lines("may lose keys").len(), 1);
        insert(&store, record(&account("a"), time(0))).await;
    }
}

#[tokio::test]
async fn a_server_that_would_lose_keys_is_told_of_at_every_connection() {
    const UNSAFE: &str = "the server that was connected to may lose keys";
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    let (log, _guard) = Log::capture();
    let again = async || {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        works_again(&store, &key).await;
    };
    again().await;
    assert!(log.lines("ERROR").is_empty(), "{}", log.text());
    server.cli(&["CONFIG", "SET", "appendonly", "no"]);
    // Lookups and management have a connection each.
    for (connections, policy) in [(2, "noeviction"), (4, "allkeys-lru")] {
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
        again().await;
        assert!(is_live(&store, &key).await, "it goes on");
        insert(&store, record(&account("a"), time(0))).await;
        let told = log.lines(UNSAFE);
        assert_eq!(told.len(), connections, "{told:?}");
        assert!(told.iter().all(|line| line.contains("ERROR")));
        let last = told.last().unwrap();
        assert!(last.contains("`appendonly yes`"), "{last}");
        assert_eq!(last.contains("`maxmemory-policy noeviction`"), policy != "noeviction");
    }
}

#[tokio::test]
async fn a_loss_that_was_accepted_is_told_of_once() {
    let Some(server) = Redis::start(&["--appendonly", "no"]) else { return };
    let (log, _guard) = Log::capture();
    let store = server.options().dangerously_accept_data_loss().connect().await.unwrap();
    let key = insert(&store, record(&account("a"), time(0))).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    works_again(&store, &key).await;
    assert_eq!(log.lines("may lose keys").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_power_cut_s_seconds_are_warned_of() {
    let Some(server) = Redis::start(&["--appendfsync", "everysec"]) else { return };
    let (log, _guard) = Log::capture();
    server.connect().await;
    assert_eq!(log.lines("a power cut may take back up to two seconds of writes").len(), 1);
    server.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    server.connect().await;
    assert_eq!(log.lines("a power cut may take back").len(), 1);
}

#[tokio::test]
async fn a_replica_is_refused_and_one_that_becomes_one_is_left() {
    let Some(primary) = Redis::start(&[]) else { return };
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    server.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let refused = store.delete(&key.account, &key.id, time(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    assert!(store.find(key.fingerprint()).await.is_err(), "a replica may be behind");
    let refused = server.options().connect().await.unwrap_err();
    let StoreError::Unavailable { source, .. } = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("replica"), "{source}");
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    works_again(&store, &key).await;
}

#[tokio::test]
async fn a_newer_layout_is_refused_and_left_alone() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    server.cli(&["SET", "{tower-api-key}:layout", "7"]);
    let before = server.lines();
    let refused = server.options().connect().await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 7, known: 1, .. }), "{refused:?}");
    // A store that was open when a newer version came writes no more.
    let owner = &key.account;
    let new = Arc::new(record(owner, time(1)));
    let refused = [
        store.insert(Arc::clone(&new), 9).await.map(drop),
        store.insert_first(Arc::clone(&new)).await.map(drop),
        store.rename(owner, &key.id, "x".parse().unwrap()).await.map(drop),
        store.rotate(owner, &key.id, new, None, 9).await.map(drop),
        store.delete(owner, &key.id, time(1)).await.map(drop),
        store.delete_all(owner, time(1)).await.map(drop),
        store.mark_used(&[Use::new(key.fingerprint(), time(1))]).await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Newer { found: 7, .. })), "{refused:?}");
    }
    assert_eq!(server.lines(), before);
}

#[tokio::test]
async fn another_application_s_data_is_refused_and_left_alone() {
    for command in [
        ["SET", "{tower-api-key}:layout", "theirs"],
        ["SET", "{tower-api-key}:layout", "0"],
        ["SET", "{tower-api-key}:layout", ""],
        ["RPUSH", "{tower-api-key}:layout", "1"],
        ["SET", "{tower-api-key}:secrets", "x"],
        ["SET", "{tower-api-key}:changes", "x"],
    ] {
        let Some(server) = Redis::start(&[]) else { return };
        server.cli(&command);
        let refused = server.options().connect().await.unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }), "{command:?}: {refused:?}");
        assert_eq!(server.cli(&["DBSIZE"]), "1");
    }
}

#[tokio::test]
async fn namespaces_know_nothing_of_each_other() {
    let Some(server) = Redis::start(&[]) else { return };
    let named = |name: &str| server.options().with_namespace(name).unwrap().connect();
    let (ours, theirs) = (named("a").await.unwrap(), named("a:account").await.unwrap());
    let key = insert(&ours, record(&account("a"), time(0))).await;
    assert!(theirs.find(key.fingerprint()).await.unwrap().is_none());
    assert!(theirs.list(&key.account).await.unwrap().is_empty());
    assert_eq!(theirs.delete_all(&key.account, time(1)).await.unwrap(), 0);
    let twin = Arc::new((*key).clone());
    assert_eq!(theirs.insert_first(twin).await.unwrap(), Written::Done(()));
    assert_eq!(theirs.delete_all(&key.account, time(1)).await.unwrap(), 1);
    assert!(is_live(&ours, &key).await);
    for name in server.cli(&["KEYS", "*"]).lines() {
        assert!(name.starts_with("{a}:") || name.starts_with("{a:account}:"), "{name}");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_takes_every_write() {
    let Some(server) = Redis::start(&["--cluster-enabled", "yes"]) else { return };
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while !server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    life_of_a_key(&server.connect().await).await;
}

/// Everything that can be done with a key.
async fn life_of_a_key(store: &RedisStore) {
    let owner = account("an {owner} of keys");
    let first = Arc::new(record(&owner, time(0)));
    assert_eq!(store.insert_first(Arc::clone(&first)).await.unwrap(), Written::Done(()));
    let second = insert(store, record(&owner, time(1))).await;
    let renamed = store.rename(&owner, &first.id, "New".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::Done(_)));
    let secret = NewSecret::new(digest(&format!("{:?}", second.id)), "…x".parse().unwrap());
    let replaced = store.replace(&owner, &first.id, secret, time(2)).await.unwrap();
    let Written::Done(replaced) = replaced else { panic!("{replaced:?}") };
    store.mark_used(&[Use::new(replaced.fingerprint(), time(3))]).await.unwrap();
    let got = store.get(&owner, &first.id).await.unwrap().unwrap();
    assert_eq!((got.name.as_str(), got.last_used_at), ("New", Some(time(3))));
    store.mark_used(&[Use::new(second.fingerprint(), time(100_000))]).await.unwrap();
    assert_eq!(store.usage(&owner, Day::of(time(3))).await.unwrap().len(), 2);
    for (old, grace_ends) in [(&first, Some(time(50))), (&second, None)] {
        let new = Arc::new(record(&owner, time(4)));
        let rotated = store.rotate(&owner, &old.id, new, grace_ends, 25).await.unwrap();
        assert_eq!(rotated, Written::Done(()));
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 3);
    assert_eq!(store.delete(&owner, &first.id, time(5)).await.unwrap(), Written::Done(()));
    assert_eq!(store.delete_all(&owner, time(6)).await.unwrap(), 2);
    assert!(matches!(
        store.changes(Version::default()).await.unwrap(),
        Changes::Known { changes, .. } if changes.len() == 12
    ));
}

/// A server with a user who has the documented rights and no others.
fn with_documented_rights() -> Option<Redis> {
    let server = Redis::start(&[])?;
    let commands = "eval evalsha info ping hget get set type exists hset hdel hexists hgetall hlen hmget hscan hstrlen unlink hrandfield zadd zcard zcount zrangebyscore zrem zscore xadd xtrim xrange xrevrange publish subscribe";
    let commands: Vec<_> = commands.split(' ').map(|command| format!("+{command}")).collect();
    let mut rights = vec!["ACL", "SETUSER", "keys", "on", ">hunter2", "~{tower-api-key}:*"];
    rights.push("&{tower-api-key}:changes");
    rights.extend(commands.iter().map(String::as_str));
    assert_eq!(server.cli(&rights), "OK");
    Some(server)
}

fn url_of_the_user(server: &Redis, password: &str) -> String {
    format!("redis://keys:{password}@127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn a_user_with_the_documented_rights_and_no_others_is_enough() {
    let Some(server) = with_documented_rights() else { return };
    let url = |password: &str| url_of_the_user(&server, password);
    life_of_a_key(&RedisStore::connect(url("hunter2")).await.unwrap()).await;
    let refused = RedisStore::connect(url("hunter3")).await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter3"), "{refused:?}");
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_replicas() {
    let Some(server) = with_documented_rights() else { return };
    let store = RedisStore::connect(url_of_the_user(&server, "hunter2")).await.unwrap();
    let shared: Arc<dyn SharedRegistry> = Arc::new(store.clone());
    soon(the_roll_is_kept_between_stores(&[shared])).await;
    let is_told = Notify::new();
    let wake = || is_told.notify_one();
    let told = async {
        // Once when it has begun to listen, and once for the write.
        is_told.notified().await;
        assert!(store.delete_all(&account("replicas"), time(1)).await.unwrap() > 0);
        is_told.notified().await;
    };
    soon(future::select(pin!(store.watch(&wake)), pin!(told))).await;
}

// What is survived.

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_and_is_used_again_at_once() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let kept = insert(&store, record(&account("a"), time(0))).await;
    let deleted = insert(&store, record(&account("a"), time(0))).await;
    assert_eq!(
        store.delete(&deleted.account, &deleted.id, time(1)).await.unwrap(),
        Written::Done(())
    );
    for _ in 0..3 {
        server.kill();
        let refused = store.find(kept.fingerprint()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
        assert!(store.list(&kept.account).await.is_err());
        server.restart();
        let took = soon(works_again(&store, &kept)).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(is_ended(&store, &deleted).await);
    }
    // Where nobody asked meanwhile, nobody notices.
    server.kill();
    server.restart();
    assert!(is_live(&store, &kept).await);
    let Changes::Known { latest, .. } = store.changes(Version::default()).await.unwrap() else {
        panic!("forgotten");
    };
    assert_eq!(latest, Version::new(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_times_out_and_is_used_again_at_once() {
    let Some(server) = Redis::start(&[]) else { return };
    let key = insert(&server.connect().await, record(&account("a"), time(0))).await;
    let limit = Duration::from_millis(300);
    let store = server.options().with_time_limit(limit).connect().await.unwrap();
    for rounds in [1, 5] {
        server.pause();
        for _ in 0..rounds {
            let began = Instant::now();
            let calls = (0..100).map(|_| store.find(key.fingerprint()));
            for answer in futures_util::future::join_all(calls).await {
                assert!(matches!(answer, Err(StoreError::Timeout { .. })), "{answer:?}");
            }
            assert!(store.list(&key.account).await.is_err());
            assert!(began.elapsed() < limit * 10, "{:?}", began.elapsed());
        }
        server.resume();
        let took = soon(works_again(&store, &key)).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

/// Between the store and the server. While it swallows, nothing passes; connections of that time and
/// before stay open and pass nothing ever after, as behind a network that has forgotten them.
struct Proxy {
    port: u16,
    swallows: Arc<AtomicBool>,
}

impl Proxy {
    async fn before(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowing = Arc::clone(&swallows);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let swallowing = Arc::clone(&swallowing);
                tokio::spawn(async move {
                    let mut server =
                        tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let swallowed = async {
                        while !swallowing.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    };
                    let copied = tokio::io::copy_bidirectional(&mut client, &mut server);
                    tokio::select! {
                        _ = copied => {}
                        () = swallowed => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, swallows }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_network_has_forgotten_is_given_up() {
    let Some(server) = Redis::start(&[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = RedisStore::connect(format!("redis://127.0.0.1:{}", proxy.port)).await.unwrap();
    let key = insert(&store, record(&account("a"), time(0))).await;
    for lost in [0, 3] {
        proxy.swallows.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..lost {
            let answer = store.find(key.fingerprint()).await;
            assert!(answer.is_err(), "{answer:?}");
        }
        proxy.swallows.store(false, Ordering::SeqCst);
        // The lookup and the write each wait once for a connection that is dead.
        let took = soon(works_again(&store, &key)).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        for _ in 0..20 {
            assert!(is_live(&store, &key).await, "nothing stays stuck");
            store.list(&key.account).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let port = free_port();
    let refused = RedisStore::connect(format!("redis://:hunter2@127.0.0.1:{port}")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    for _ in 0..3 {
        life_of_a_key_in_part(&store).await;
        assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
    }
}

async fn life_of_a_key_in_part(store: &RedisStore) {
    let key = insert(store, record(&account("a"), time(0))).await;
    assert_eq!(store.delete(&key.account, &key.id, time(1)).await.unwrap(), Written::Done(()));
    assert!(is_ended(store, &key).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_between_several_stores() {
    let Some(server) = Redis::start(&[]) else { return };
    let mut stores = Vec::new();
    for _ in 0..4 {
        let limit = Duration::from_secs(20);
        stores.push(server.options().with_time_limit(limit).connect().await.unwrap());
    }
    let owner = account("a");
    let calls: Vec<_> = (0..64)
        .map(|number| {
            let (store, made) = (stores[number % 4].clone(), Arc::new(record(&owner, time(0))));
            tokio::spawn(async move { store.insert(made, 25).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        done += usize::from(call.await.unwrap() == Written::Done(()));
    }
    assert_eq!(done, 25);
    assert_eq!(stores[0].list(&owner).await.unwrap().len(), 25);
}

#[tokio::test]
async fn when_memory_is_full_keys_can_be_ended_and_none_be_made() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(insert(&store, record(&owner, time(number))).await);
    }
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let before = server.lines();
    let new = || Arc::new(record(&owner, time(9)));
    assert!(store.insert(new(), 25).await.is_err());
    assert!(store.insert_first(new()).await.is_err());
    assert!(store.rotate(&owner, &keys[0].id, new(), Some(time(99)), 25).await.is_err());
    assert_eq!(server.lines(), before, "what failed left nothing");

    let store = server.connect().await;
    assert_eq!(store.delete(&owner, &keys[0].id, time(9)).await.unwrap(), Written::Done(()));
    let secret = NewSecret::new(digest("full"), "…x".parse().unwrap());
    let replaced = store.replace(&owner, &keys[1].id, secret, time(9)).await.unwrap();
    assert!(matches!(replaced, Written::Done(_)), "{replaced:?}");
    let rotated = store.rotate(&owner, &keys[2].id, new(), None, 25).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    assert_eq!(store.list(&owner).await.unwrap().len(), 4);
    assert!(matches!(store.changes(Version::new(5)).await.unwrap(), Changes::Known { .. }));
    assert_eq!(store.delete_all(&owner, time(10)).await.unwrap(), 4);
    for key in &keys {
        assert!(is_ended(&store, key).await);
    }
}

#[tokio::test]
async fn what_has_expired_costs_a_new_key_nothing() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let until = |at, ends| until(&owner, at, Some(ends));
    // So that what is compared later meets what is there: an account, a set of expiries, scripts.
    let old = insert(&store, until(0, 1000)).await;
    let spare = insert(&store, until(0, 1)).await;
    let calls = async |at| {
        let (first, second) = (until(at, 1000), Arc::new(until(at, 1000)));
        let first = Arc::new(first);
        let calls = server.calls_of(async {
            assert_eq!(store.insert(Arc::clone(&first), 3).await.unwrap(), Written::Done(()));
            let rotated = store.rotate(&owner, &first.id, Arc::clone(&second), None, 2).await;
            assert_eq!(rotated.unwrap(), Written::Done(()));
            let rotated = store.delete(&owner, &second.id, time(at)).await.unwrap();
            assert_eq!(rotated, Written::Done(()));
        });
        calls.await
    };
    calls(10).await;
    let before = calls(11).await;
    for _ in 0..300 {
        insert(&store, until(5, 6)).await;
    }
    assert_eq!(calls(12).await, before);
    for all in ["hgetall", "hkeys", "hscan", "hvals", "zrange"] {
        assert!(!before.iter().any(|call| call.contains(all)), "{before:?}");
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 302);
    assert_eq!(store.delete_all(&owner, time(13)).await.unwrap(), 302);
    assert!(is_ended(&store, &old).await && is_ended(&store, &spare).await);
    assert_eq!(server.cli(&["KEYS", "*expir*"]), "", "nobody's expiries are kept");
}

#[tokio::test]
async fn the_cap_counts_what_has_not_expired_through_every_write() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let until = |ends| Arc::new(until(&owner, 0, ends));
    // As many as there are, by the answer to one more of so many.
    let active = async |at: u64| {
        for limit in 0.. {
            let probe = Arc::new(record(&owner, time(at)));
            if store.insert(Arc::clone(&probe), limit).await.unwrap() == Written::Done(()) {
                let deleted = store.delete(&owner, &probe.id, time(at)).await.unwrap();
                assert_eq!(deleted, Written::Done(()));
                return limit - 1;
            }
        }
        unreachable!("an account without an end")
    };
    let at = async |times: [u64; 4]| {
        let mut counted = Vec::new();
        for time in times {
            counted.push(active(time).await);
        }
        counted
    };
    let times = [0, 10, 20, 30];
    let [forever, ten, twenty] = [until(None), until(Some(10)), until(Some(20))];
    assert_eq!(store.insert_first(Arc::clone(&ten)).await.unwrap(), Written::Done(()));
    for record in [&forever, &twenty] {
        assert_eq!(store.insert(Arc::clone(record), 9).await.unwrap(), Written::Done(()));
    }
    assert_eq!(at(times).await, [3, 2, 1, 1], "a key expires at its time, not after it");
    let renamed = store.rename(&owner, &ten.id, "New".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::Done(_)));
    let secret = NewSecret::new(digest("another"), "…x".parse().unwrap());
    let replaced = store.replace(&owner, &twenty.id, secret, time(1)).await.unwrap();
    assert!(matches!(replaced, Written::Done(_)));
    store.mark_used(&[Use::new(ten.fingerprint(), time(3))]).await.unwrap();
    assert_eq!(at(times).await, [3, 2, 1, 1]);
    // A grace shortens a life and never lengthens one.
    let successors = [until(None), until(Some(30)), until(Some(20))];
    for (old, successor) in [&forever, &ten, &twenty].into_iter().zip(&successors) {
        let successor = Arc::clone(successor);
        let rotated = store.rotate(&owner, &old.id, successor, Some(time(15)), 9).await;
        assert_eq!(rotated.unwrap(), Written::Done(()));
    }
    assert_eq!(at(times).await, [6, 5, 2, 1]);
    let rotated = store.rotate(&owner, &successors[0].id, until(Some(10)), None, 9).await;
    assert_eq!(rotated.unwrap(), Written::Done(()));
    assert_eq!(at(times).await, [6, 4, 1, 0]);
    assert_eq!(store.delete(&owner, &ten.id, time(9)).await.unwrap(), Written::Done(()));
    assert_eq!(at(times).await, [5, 4, 1, 0]);
    assert_eq!(store.delete_all(&owner, time(9)).await.unwrap(), 5);
    assert_eq!(at(times).await, [0, 0, 0, 0]);
    // An id may come again without the expiry that it had.
    let mut again = record(&owner, time(0));
    again.id = ten.id.clone();
    assert_eq!(store.insert(Arc::new(again), 9).await.unwrap(), Written::Done(()));
    assert_eq!(at(times).await, [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_grace_that_is_over_when_it_begins_makes_room_as_no_grace_does() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    for grace_ends in [9, 10, 11] {
        let owner = account(&format!("grace-{grace_ends}"));
        let old = insert(&store, record(&owner, time(0))).await;
        let successor = Arc::new(record(&owner, time(10)));
        let rotated =
            store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(grace_ends)), 1).await;
        let both_live = grace_ends > 10;
        let right = if both_live { Written::Refused } else { Written::Done(()) };
        assert_eq!(rotated.unwrap(), right, "{grace_ends}");
        let listed = store.list(&owner).await.unwrap();
        assert_eq!(listed.len(), if both_live { 1 } else { 2 });
        let ends = (!both_live).then(|| time(grace_ends));
        assert_eq!(listed[0].expires_at, ends, "the old one is the first");
    }
    // One that had expired before makes no room.
    let owner = account("b");
    let expired = insert(&store, until(&owner, 0, Some(5))).await;
    insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &expired.id, successor, Some(time(9)), 1).await;
    assert_eq!(rotated.unwrap(), Written::Refused);
}

#[tokio::test]
async fn what_changed_is_asked_beside_the_lookups_and_not_behind_management() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    assert!(is_live(&store, &key).await);
    let lookups = server.connections_after("hget");
    assert_eq!(lookups.len(), 1);
    // The first sends the script.
    for _ in 0..2 {
        store.changes(Version::default()).await.unwrap();
    }
    assert!(server.connections_after("evalsha").contains(&lookups[0]));
}

// What the data look like.

#[tokio::test]
async fn a_damaged_record_is_passed_over_loudly_still_counts_and_can_be_deleted() {
    let edits: &[(&str, &str)] = &[
        ("digest ", "digest 00"),
        ("digest ", "digest x"),
        ("digest ", "dijest "),
        ("name A name\n", ""),
        ("name A name", "name "),
        ("name A name", "name a\tb"),
        ("name A name", "name x\nname y"),
        ("account a\n", "account b\n"),
        ("account a\n", "account \n"),
        ("id key_", "id ../key_"),
        ("id key_", "id other_key_"),
        ("created_at ", "created_at -"),
        ("created_at ", "created_at +"),
        ("created_at ", "created_at 99999999999999999999"),
        ("created_at ", "expires_at soon\ncreated_at "),
        ("created_at ", "ended_at 5\nended_by deleted\ncreated_at "),
        ("created_at ", "environment NOT ONE\ncreated_at "),
        ("created_at ", "replaced_by ../etc\ncreated_at "),
        ("created_at ", "sources here\ncreated_at "),
        ("created_at ", "sources 0.0.0.0/0\ncreated_at "),
        ("created_at ", "last_used_from here\ncreated_at "),
        ("created_at ", "last_used_agent 00\ncreated_at "),
        ("scopes ", "scopes a  b"),
        ("scopes ", "scopes"),
        ("scopes ", "\nscopes "),
        ("scopes \n", ""),
        ("hint \n", ""),
        ("digest ", "\u{7f}"),
    ];
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    for (number, (old, new)) in edits.iter().enumerate() {
        let owner = account("a");
        let (key, good) = (
            insert(&store, record(&owner, time(0))).await,
            insert(&store, record(&owner, time(0))).await,
        );
        let fingerprint = key.fingerprint().to_string();
        let text = server.cli(&["HGET", "{tower-api-key}:secrets", &fingerprint]) + "\n";
        let damaged = text.replacen(old, new, 1);
        assert_ne!(text, damaged, "{old}");
        server.cli(&["HSET", "{tower-api-key}:secrets", &fingerprint, &damaged]);

        let (log, _guard) = Log::capture();
        // Another account's name is not damage of the record, but of what lists it.
        if !new.starts_with("account b") && !new.starts_with("id other") {
            assert!(store.find(key.fingerprint()).await.unwrap().is_none(), "{number} {damaged}");
        }
        assert!(store.get(&owner, &key.id).await.unwrap().is_none(), "{number} {damaged}");
        assert!(!log.lines("a damaged record was passed over").is_empty(), "{damaged}");
        assert!(!log.text().contains(&hex(&key.digest.as_bytes()[8..])), "no digest in the log");
        let listed = store.list(&owner).await.unwrap();
        assert_eq!(listed.len(), 1, "{damaged}");
        assert_eq!(listed[0].id, good.id);
        let renamed = store.rename(&owner, &key.id, "x".parse().unwrap()).await.unwrap();
        assert!(matches!(renamed, Written::NotFound), "{damaged}");
        let new = Arc::new(record(&owner, time(1)));
        assert_eq!(store.insert(Arc::clone(&new), 2).await.unwrap(), Written::Refused);
        let rotated = store.rotate(&owner, &key.id, new, None, 9).await.unwrap();
        assert_eq!(rotated, Written::NotFound, "{damaged}");

        if number % 2 == 0 {
            let deleted = store.delete(&owner, &key.id, time(9)).await.unwrap();
            assert_eq!(deleted, Written::Done(()));
        }
        assert_eq!(store.delete_all(&owner, time(9)).await.unwrap(), 1 + number % 2);
        assert!(!is_live(&store, &key).await, "{damaged}");
        assert!(is_ended(&store, &good).await);
    }
}

#[tokio::test]
async fn a_record_under_another_s_fingerprint_is_damaged() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let (one, other) = (
        insert(&store, record(&account("a"), time(0))).await,
        insert(&store, record(&account("a"), time(0))).await,
    );
    let fingerprints = [one.fingerprint().to_string(), other.fingerprint().to_string()];
    let text = server.cli(&["HGET", "{tower-api-key}:secrets", &fingerprints[0]]) + "\n";
    server.cli(&["HSET", "{tower-api-key}:secrets", &fingerprints[1], &text]);
    assert!(store.find(other.fingerprint()).await.unwrap().is_none());
    assert!(store.get(&other.account, &other.id).await.unwrap().is_none());
    assert!(is_live(&store, &one).await);
}

#[tokio::test]
async fn a_record_that_is_gone_counts_and_can_be_deleted() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    server.cli(&["HDEL", "{tower-api-key}:secrets", &key.fingerprint().to_string()]);
    assert!(store.get(&key.account, &key.id).await.unwrap().is_none());
    let new = Arc::new(record(&key.account, time(1)));
    assert_eq!(store.insert(new, 1).await.unwrap(), Written::Refused);
    assert_eq!(store.delete(&key.account, &key.id, time(1)).await.unwrap(), Written::Done(()));
}

#[tokio::test]
async fn expiries_that_are_wrong_make_no_room() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    insert(&store, until(&owner, 0, Some(5))).await;
    server.cli(&["DEL", "{tower-api-key}:expiries:a"]);
    let new = Arc::new(record(&owner, time(9)));
    assert_eq!(store.insert(Arc::clone(&new), 1).await.unwrap(), Written::Refused);
    assert_eq!(store.delete_all(&owner, time(9)).await.unwrap(), 1);
    // Left over from a key of the same id.
    server.cli(&["ZADD", "{tower-api-key}:expiries:a", "0", new.id.as_str()]);
    assert_eq!(store.insert(new, 1).await.unwrap(), Written::Done(()));
    let another = Arc::new(record(&owner, time(9)));
    assert_eq!(store.insert(another, 1).await.unwrap(), Written::Refused);
}

#[tokio::test]
async fn many_keys_are_listed_and_ended_at_once() {
    let Some(server) = Redis::start(&[]) else { return };
    let limit = Duration::from_secs(20);
    let store = server.options().with_time_limit(limit).connect().await.unwrap();
    let owner = account("a");
    let mut keys = Vec::new();
    for number in 0..1203 {
        let ends = (number % 2 == 0).then_some(5);
        keys.push(insert(&store, until(&owner, number, ends)).await);
    }
    // Damaged or gone, they are among the others.
    server.cli(&["HDEL", "{tower-api-key}:secrets", &keys[700].fingerprint().to_string()]);
    let listed = store.list(&owner).await.unwrap();
    let ids = |keys: &[Arc<KeyRecord>]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&[&keys[..700], &keys[701..]].concat()));
    let Changes::Known { latest, .. } = store.changes(Version::default()).await.unwrap() else {
        panic!("forgotten");
    };
    assert_eq!(store.delete_all(&owner, time(2000)).await.unwrap(), keys.len());
    let Changes::Known { latest: ended, changes } = store.changes(latest).await.unwrap() else {
        panic!("forgotten");
    };
    assert_eq!(ended.get(), latest.get() + 1);
    let mut touched: Vec<_> = changes.iter().map(|change| change.fingerprint.to_string()).collect();
    let mut right: Vec<_> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
    touched.sort();
    right.sort();
    assert_eq!(touched, right);
    assert!(store.list(&owner).await.unwrap().is_empty());
    for key in &keys {
        // Nobody knows any more what the name of the one was that is gone: it is no tombstone, and dead.
        assert!(is_ended(&store, key).await || key.id == keys[700].id);
        assert!(!is_live(&store, key).await);
    }
    assert_eq!(server.cli(&["HKEYS", "{tower-api-key}:account:a"]), ":ever");
}

#[tokio::test]
async fn very_many_expired_keys_are_ended_in_steps_before_the_others() {
    let Some(server) = Redis::start(&[]) else { return };
    let limit = Duration::from_secs(20);
    let store = server.options().with_time_limit(limit).connect().await.unwrap();
    let owner = account("a");
    let mut keys = Vec::new();
    for number in 0..2503 {
        keys.push(insert(&store, until(&owner, number, (number > 2).then_some(5000))).await);
    }
    // Noted beside nothing, and in the way of the first step.
    let gone: Vec<_> = (0..700).flat_map(|id| ["0".to_owned(), format!("gone-{id}")]).collect();
    let mut noted = vec!["ZADD", "{tower-api-key}:expiries:a"];
    noted.extend(gone.iter().map(String::as_str));
    assert_eq!(server.cli(&noted), "700");
    let latest = store.changes(Version::default()).await.unwrap().latest();
    let ended = async |at| {
        let mut ended = 0;
        let calls = async { ended = store.delete_all(&owner, time(at)).await.unwrap() };
        let calls = server.calls_of(calls).await;
        (ended, calls.into_iter().filter(|call| call.contains("eval")).collect::<Vec<_>>())
    };
    // With the first, the script is sent.
    assert_eq!(store.delete_all(&account("b"), time(0)).await.unwrap(), 0);
    assert_eq!(ended(5000).await, (2503, vec!["cmdstat_evalsha:calls=4".to_owned()]));
    let Changes::Known { latest: last, changes } = store.changes(latest).await.unwrap() else {
        panic!("forgotten");
    };
    assert_eq!((last.get() - latest.get(), changes.len()), (4, 2503));
    // Those that worked went together, and last.
    for key in &keys[..3] {
        let change = changes.iter().find(|change| change.fingerprint == key.fingerprint());
        assert_eq!(change.unwrap().version, last);
    }
    for key in &keys {
        assert!(is_ended(&store, key).await);
    }
    assert_eq!(server.cli(&["KEYS", "*expir*"]), "");
    assert_eq!(ended(5001).await, (0, vec!["cmdstat_evalsha:calls=1".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_many_pages_is_of_one_moment() {
    let Some(server) = Redis::start(&[]) else { return };
    let limit = Duration::from_secs(20);
    let store = server.options().with_time_limit(limit).connect().await.unwrap();
    let owner = account("a");
    for _ in 0..3000 {
        insert(&store, record(&owner, time(0))).await;
    }
    let old = insert(&store, record(&owner, time(1))).await;
    let done = Arc::new(AtomicBool::new(false));
    let rotating = {
        let (store, owner, done) = (store.clone(), owner.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut old = old;
            for burst in 0..40 {
                for _ in 0..3 {
                    let new = Arc::new(record(&owner, time(2)));
                    let rotated = store.rotate(&owner, &old.id, Arc::clone(&new), None, 9999).await;
                    assert_eq!(rotated.unwrap(), Written::Done(()));
                    old = new;
                    tokio::time::sleep(Duration::from_millis(burst)).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    while !done.load(Ordering::SeqCst) {
        // One key is rotated without a grace: it is there once, whichever it is.
        assert_eq!(soon(store.list(&owner)).await.unwrap().len(), 3001);
    }
    rotating.await.unwrap();
}

#[tokio::test]
async fn what_a_later_version_adds_to_a_record_stays() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let key = insert(&store, record(&account("a"), time(0))).await;
    let fingerprint = key.fingerprint().to_string();
    let text = server.cli(&["HGET", "{tower-api-key}:secrets", &fingerprint]);
    let more = format!("{text}\ncolour 100% blue\n");
    server.cli(&["HSET", "{tower-api-key}:secrets", &fingerprint, &more]);
    let renamed = store.rename(&key.account, &key.id, "%1 %0".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::Done(renamed) if renamed.name.as_str() == "%1 %0"));
    let text = server.cli(&["HGET", "{tower-api-key}:secrets", &fingerprint]);
    assert!(text.contains("colour 100% blue"), "{text}");
}

#[tokio::test]
async fn a_write_over_what_is_damaged_is_whole_or_not_at_all() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let key = insert(&store, until(&owner, 0, Some(99))).await;
    for name in ["layout", "secrets", "changes", "account:a", "expiries:a"] {
        let name = format!("{{tower-api-key}}:{name}");
        server.cli(&["RENAME", &name, "aside"]);
        server.cli(&["RPUSH", &name, "not", "ours"]);
        let before = server.cli(&["DBSIZE"]);
        let new = Arc::new(record(&owner, time(1)));
        assert!(store.insert(Arc::clone(&new), 9).await.is_err(), "{name}");
        assert!(store.delete_all(&owner, time(1)).await.is_err(), "{name}");
        assert!(store.delete(&owner, &key.id, time(1)).await.is_err(), "{name}");
        assert!(store.rotate(&owner, &key.id, new, None, 9).await.is_err(), "{name}");
        let secret = NewSecret::new(digest("other"), "…x".parse().unwrap());
        assert!(store.replace(&owner, &key.id, secret, time(1)).await.is_err(), "{name}");
        assert_eq!(server.cli(&["DBSIZE"]), before);
        assert_eq!(server.cli(&["LLEN", &name]), "2");
        server.cli(&["RENAME", "aside", &name]);
        assert_eq!(server.cli(&["XLEN", "{tower-api-key}:changes"]), "1", "{name}");
        assert_eq!(server.cli(&["HLEN", "{tower-api-key}:secrets"]), "1", "{name}");
        assert!(is_live(&store, &key).await);
    }
}

#[tokio::test]
async fn a_note_of_use_that_comes_late_brings_nothing_back() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let (used, deleted) = (
        insert(&store, record(&account("a"), time(0))).await,
        insert(&store, record(&account("a"), time(0))).await,
    );
    assert_eq!(
        store.delete(&deleted.account, &deleted.id, time(1)).await.unwrap(),
        Written::Done(())
    );
    let nobody_s = digest("nobody's").fingerprint();
    let before =
        server.cli(&["HGET", "{tower-api-key}:secrets", &deleted.fingerprint().to_string()]);
    for (at, then) in [(5, 5), (4, 5), (6, 6)] {
        let secrets = [nobody_s, deleted.fingerprint(), used.fingerprint()];
        store.mark_used(&secrets.map(|secret| Use::new(secret, time(at)))).await.unwrap();
        let got = store.get(&used.account, &used.id).await.unwrap().unwrap();
        assert_eq!(got.last_used_at, Some(time(then)));
    }
    assert!(store.find(nobody_s).await.unwrap().is_none());
    let after =
        server.cli(&["HGET", "{tower-api-key}:secrets", &deleted.fingerprint().to_string()]);
    assert_eq!(after, before);
    let many = vec![Use::new(used.fingerprint(), time(7)); 2000];
    store.mark_used(&many).await.unwrap();
    assert!(matches!(
        store.changes(Version::new(3)).await.unwrap(),
        Changes::Known { latest, changes } if latest == Version::new(3) && changes.is_empty()
    ));
}

const USAGE: &str = "{tower-api-key}:usage:a";

async fn used_on(store: &RedisStore, key: &KeyRecord, day: u32) {
    let at = Day::from_number(day).start();
    store.mark_used(&[Use::new(key.fingerprint(), at)]).await.unwrap();
}

#[tokio::test]
async fn damaged_counts_are_passed_over_loudly() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let good = insert(&store, record(&owner, time(0))).await;
    used_on(&store, &good, 20_000).await;
    for damage in [
        "",
        "secret {}",
        "secret {}\n20000 1\n",
        "secret {}\n20000 -1 0\n",
        "secret {}\n20000 1 1e3\n",
        "secret {}\n4294967296 1 1\n",
        "secret {}\nx\n",
        "secret 0102030405060708\n20000 1 1\n",
    ] {
        let (log, _guard) = Log::capture();
        let damaged = record(&owner, time(0));
        let text = damage.replace("{}", &good.fingerprint().to_string());
        server.cli(&["HSET", USAGE, damaged.id.as_str(), &text]);
        let usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
        assert_eq!(usage.len(), 1, "{damage}");
        assert_eq!(usage[0].key, good.id, "{damage}");
        // A line less than there should be is none to anybody.
        let is_told = !log.lines("a damaged record was passed over").is_empty();
        assert_eq!(is_told, damage.contains('\n'), "{damage}");
        server.cli(&["HDEL", USAGE, damaged.id.as_str()]);
    }
    // What is damaged is written anew by the next note of the key.
    server.cli(&["HSET", USAGE, good.id.as_str(), "nothing\nof ours"]);
    used_on(&store, &good, 20_000).await;
    let usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
    assert_eq!(usage[0].days[0].requests, 1);
}

#[tokio::test]
async fn what_is_counted_of_keys_that_are_used_no_more_is_forgotten_in_time() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    for number in 0..20 {
        let key = insert(&store, record(&owner, time(0))).await;
        used_on(&store, &key, 20_000).await;
        if number % 2 == 0 {
            let deleted = store.delete(&owner, &key.id, time(1)).await.unwrap();
            assert_eq!(deleted, Written::Done(()));
        }
    }
    let used = insert(&store, record(&owner, time(0))).await;
    used_on(&store, &used, 20_090).await;
    assert_eq!(server.cli(&["HLEN", USAGE]), "21", "a day too early");
    // Which are looked at is chance: that any is left after so many days has a chance of 1 in 10^15.
    for day in 0..200 {
        used_on(&store, &used, 20_091 + day).await;
    }
    assert_eq!(server.cli(&["HLEN", USAGE]), "1");
    let usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
    let days: Vec<_> = usage[0].days.iter().map(|it| it.day.number()).collect();
    assert!(days.into_iter().eq(20_200..=20_290));
}

/// What was regenerated by a version that did not say with which secret its key goes on.
#[tokio::test]
async fn a_key_whose_last_end_is_not_known_ended_when_the_used_secret_did() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let secret = NewSecret::new(digest("another"), "…x".parse().unwrap());
    let replaced = store.replace(&owner, &key.id, secret, time(1)).await.unwrap();
    assert!(matches!(replaced, Written::Done(_)));
    assert_eq!(store.delete(&owner, &key.id, time(2)).await.unwrap(), Written::Done(()));
    used_on(&store, &key, 20_000).await;
    let ended_at = async || {
        let usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
        usage[0].ended_at
    };
    assert_eq!(ended_at().await, Some(time(2)));
    let fingerprint = key.fingerprint().to_string();
    let left = server.cli(&["HGET", "{tower-api-key}:secrets", &fingerprint]) + "\n";
    let (before, _) = left.split_once("replaced_with").unwrap();
    server.cli(&["HSET", "{tower-api-key}:secrets", &fingerprint, before]);
    assert_eq!(ended_at().await, Some(time(1)));
    // Nor is a circle, which no version makes, gone round for ever.
    let circle = format!("{before}replaced_with {fingerprint}\n");
    server.cli(&["HSET", "{tower-api-key}:secrets", &fingerprint, &circle]);
    assert_eq!(ended_at().await, Some(time(1)));
}

#[tokio::test]
async fn usage_of_very_many_keys_is_asked_for_page_by_page() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.options().with_time_limit(Duration::from_secs(20)).connect().await.unwrap();
    let owner = account("a");
    let mut uses = Vec::new();
    for number in 0..1200 {
        let key = Arc::new(record(&owner, time(number)));
        assert_eq!(store.insert(Arc::clone(&key), 2000).await.unwrap(), Written::Done(()));
        uses.push(Use::new(key.fingerprint(), time(0)));
    }
    store.mark_used(&uses).await.unwrap();
    let calls = server.calls_of(async {
        assert_eq!(store.usage(&owner, Day::of(time(0))).await.unwrap().len(), 1200);
    });
    let calls = calls.await;
    let pages = calls.iter().find_map(|call| call.strip_prefix("cmdstat_hscan:calls="));
    let pages: usize = pages.unwrap().parse().unwrap();
    assert!(pages >= 10, "{pages}");
}

/// A key that is regenerated so many times, and then deleted, after it was used.
async fn regenerated_and_deleted(store: &RedisStore, owner: &AccountId, times: u64) -> KeyId {
    let key = insert(store, record(owner, time(0))).await;
    used_on(store, &key, 20_000).await;
    for number in 1..=times {
        let secret = NewSecret::new(digest(&format!("{}-{number}", key.id)), key.hint.clone());
        let replaced = store.replace(owner, &key.id, secret, time(number)).await.unwrap();
        assert!(matches!(replaced, Written::Done(_)));
    }
    assert_eq!(store.delete(owner, &key.id, time(1000)).await.unwrap(), Written::Done(()));
    key.id.clone()
}

#[tokio::test]
async fn the_way_to_the_last_secrets_of_very_many_is_cut_short_for_the_longest() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.options().with_time_limit(Duration::from_secs(20)).connect().await.unwrap();
    let owner = account("a");
    let mut short = Vec::new();
    for _ in 0..40 {
        regenerated_and_deleted(&store, &owner, 40).await;
        short.push(regenerated_and_deleted(&store, &owner, 2).await);
    }
    let mut usage = Vec::new();
    let calls = server.calls_of(async {
        usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
    });
    let calls = calls.await;
    let looks = calls.iter().find_map(|call| call.strip_prefix("cmdstat_hget:calls="));
    let looks: usize = looks.unwrap().parse().unwrap();
    assert!(looks <= 1000 + 2 * 80, "{looks} of 1840, while nobody else is answered");
    assert_eq!(usage.len(), 80);
    for used in &usage {
        assert_eq!(used.days[0].requests, 1, "what was counted is given whole");
        let is_short = short.contains(&used.key);
        assert_eq!(used.ended_at == Some(time(1000)), is_short, "{:?}", used.ended_at);
        assert!(
            used.ended_at >= Some(time(10)),
            "all are followed for as far: {:?}",
            used.ended_at
        );
    }
}

#[tokio::test]
async fn a_deleted_digest_leaves_the_data() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let mut ended = Vec::new();
    for _ in 0..5 {
        ended.push(insert(&store, record(&owner, time(0))).await);
    }
    let holds = |record: &KeyRecord| {
        // Without the fingerprint, which the tombstone keeps.
        let digest = &record.digest.as_bytes()[8..];
        let all = server.dump();
        let found = |part: &[u8]| all.windows(part.len()).any(|window| window == part);
        found(hex(digest).as_bytes()) || found(digest)
    };
    assert!(ended.iter().all(|record| holds(record)), "this test sees what is there");
    let secret = NewSecret::new(digest("other"), "…x".parse().unwrap());
    let replaced = store.replace(&owner, &ended[0].id, secret, time(1)).await.unwrap();
    let Written::Done(replaced) = replaced else { panic!("{replaced:?}") };
    assert!(holds(&replaced));
    let new = Arc::new(record(&owner, time(1)));
    let rotated = store.rotate(&owner, &ended[1].id, new, None, 25).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    assert_eq!(store.delete(&owner, &ended[2].id, time(1)).await.unwrap(), Written::Done(()));
    assert!(!ended[..3].iter().any(|record| holds(record)));
    assert_eq!(store.delete_all(&owner, time(1)).await.unwrap(), 4);
    assert!(!ended.iter().any(|record| holds(record)) && !holds(&replaced));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test]
async fn versions_count_writes_and_old_changes_are_forgotten() {
    let Some(server) = Redis::start(&[]) else { return };
    let store = server.connect().await;
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let new = Arc::new(record(&owner, time(1)));
    let rotated = store.rotate(&owner, &key.id, Arc::clone(&new), Some(time(9)), 25).await;
    assert_eq!(rotated.unwrap(), Written::Done(()));
    let refused = store.insert(Arc::new(record(&owner, time(1))), 0).await.unwrap();
    assert_eq!(refused, Written::Refused);
    let Changes::Known { latest, changes } = store.changes(Version::default()).await.unwrap()
    else {
        panic!("forgotten");
    };
    let changes: Vec<_> =
        changes.iter().map(|change| (change.version.get(), change.fingerprint)).collect();
    let touched = [(1, key.fingerprint()), (2, key.fingerprint()), (2, new.fingerprint())];
    assert_eq!((latest, changes.as_slice()), (Version::new(2), touched.as_slice()));

    // As after many more writes.
    let fingerprint = key.fingerprint().to_string();
    for version in ["10001-1", "10002-1", "20000-1"] {
        server.cli(&["XADD", "{tower-api-key}:changes", version, "secret", &fingerprint]);
    }
    assert_eq!(store.delete(&owner, &key.id, time(2)).await.unwrap(), Written::Done(()));
    let kept = server.cli(&["XRANGE", "{tower-api-key}:changes", "-", "+"]);
    let kept: Vec<_> = kept.lines().step_by(3).collect();
    assert_eq!(kept, ["10002-1", "20000-1", "20001-1"]);
    for (since, known) in
        [(0, false), (10_000, false), (10_001, true), (20_001, true), (20_002, false)]
    {
        let changes = store.changes(Version::new(since)).await.unwrap();
        assert_eq!(matches!(changes, Changes::Known { .. }), known, "{since}: {changes:?}");
    }
    let from_elsewhere = store.changes(Version::new(u64::MAX)).await.unwrap();
    assert!(matches!(from_elsewhere, Changes::Forgotten { .. }));
    // Where a change is damaged, nobody knows what else is.
    server.cli(&["XADD", "{tower-api-key}:changes", "20002-1", "secret", "x"]);
    let damaged = store.changes(Version::new(20_001)).await.unwrap();
    assert!(matches!(damaged, Changes::Forgotten { latest } if latest == Version::new(20_002)));
}

// TLS.

fn certificate(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

#[tokio::test]
async fn over_tls_only_the_given_certificate_is_trusted() {
    let made = certificate("localhost");
    let pem = made.cert.pem();
    let Some(server) = Redis::start_tls(&pem, &made.signing_key.serialize_pem()) else { return };
    let limit = Duration::from_secs(5);
    let options = |host: &str| {
        RedisOptions::new(format!("rediss://{host}:{}", server.port())).with_time_limit(limit)
    };
    let store = options("localhost").with_root_certificate(pem.clone()).connect().await.unwrap();
    life_of_a_key(&store).await;
    let another = certificate("localhost").cert.pem();
    let refused = [
        options("localhost").with_root_certificate(another).connect().await,
        options("localhost").connect().await,
        options("127.0.0.1").with_root_certificate(pem).connect().await,
        server.options().with_time_limit(limit).connect().await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_way_in_the_clear_to_another_machine_is_warned_of_without_the_password() {
    let (log, _guard) = Log::capture();
    let limit = Duration::from_millis(20);
    for (url, warnings) in [
        ("redis://me:hunter2@192.0.2.1", 1),
        ("redis://me:hunter2@127.0.0.1:1", 1),
        ("redis://me:hunter2@192.0.2.1", 2),
    ] {
        assert!(RedisOptions::new(url).with_time_limit(limit).connect().await.is_err());
        let said = log.lines("the store is on another machine");
        assert_eq!(said.len(), warnings, "{url}: {}", log.text());
        assert!(said[0].contains("WARN") && said[0].contains("192.0.2.1"), "{said:?}");
    }
    assert!(!log.text().contains("hunter2"), "{}", log.text());
}
