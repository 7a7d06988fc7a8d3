use super::*;

fn way(host: Option<&str>, is_verified: bool) -> Way<'_> {
    Way { store: "any", host, is_verified, advice: "" }
}

#[test]
fn a_way_to_another_machine_is_open_unless_it_is_verified() {
    let others =
        ["db", "db.example.com", "10.0.0.7", "192.168.1.1", "2001:db8::7", "[2001:db8::7]"];
    let alike =
        ["localhost.example.com", "mylocalhost", "127.0.0.1.example.com", "0.0.0.0", "::", ""];
    for host in others.iter().chain(&alike) {
        assert!(way(Some(host), false).is_open(), "{host}");
        assert!(!way(Some(host), true).is_open(), "{host}");
    }
}

#[test]
fn a_way_within_this_machine_is_not_open() {
    let own = ["localhost", "LOCALHOST", "localhost.", "db.localhost", "127.0.0.1", "127.9.9.9"];
    let own_v6 = ["::1", "[::1]", "::ffff:127.0.0.1"];
    for host in own.iter().chain(&own_v6) {
        assert!(!way(Some(host), false).is_open(), "{host}");
    }
    assert!(!way(None, false).is_open(), "a Unix socket");
}
