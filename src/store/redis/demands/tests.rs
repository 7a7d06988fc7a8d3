use super::Demands;
use crate::store::StoreError;

const GOOD: &str = "redis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";

#[test]
fn a_server_that_would_lose_keys_is_refused_by_what_it_says() {
    judge(GOOD, false).unwrap();
    judge(&GOOD.replace("7.0.15", "8.2.0-rc1"), false).unwrap();
    for (good, bad, hint) in [
        ("redis_version:7.0.15", "redis_version:6.2.1", "version 7 or later"),
        ("redis_version:7.0.15", "redis_version:x", "version 7 or later"),
        ("redis_version:7.0.15", "version:7.0.15", "version 7 or later"),
        ("aof_enabled:1", "aof_enabled:0", "appendonly yes"),
        ("aof_enabled:1", "aof_enabled:11", "appendonly yes"),
        ("aof_enabled:1", "", "appendonly yes"),
        ("noeviction", "allkeys-lru", "maxmemory-policy noeviction"),
        ("maxmemory_policy:noeviction", "", "maxmemory-policy noeviction"),
    ] {
        let refused = judge(&GOOD.replace(good, bad), false).unwrap_err();
        assert!(matches!(refused, StoreError::Unsafe { store: "redis", .. }), "{bad}");
        assert!(refused.to_string().contains(hint), "{bad}: {refused}");
        let accepted = judge(&GOOD.replace(good, bad), true);
        assert_eq!(accepted.is_ok(), !hint.contains("version"), "{bad}");
    }
}

fn judge(info: &str, accepts_data_loss: bool) -> Result<(), StoreError> {
    Demands { accepts_data_loss }.judge(info)
}
