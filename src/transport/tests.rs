use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PROXIES: &str = "10.0.0.0/8";

/// Connections by what the tables below call them. The evidence is written out here: the one
/// constructor of it is for `tls.rs`.
fn connections() -> Vec<(&'static str, Option<Connection>)> {
    let plain = |peer: &str| Some(Connection::plain(peer.parse().unwrap()));
    let tls = |peer: Option<&str>| {
        Some(Connection { peer: peer.map(|peer| peer.parse().unwrap()), is_tls: true })
    };
    vec![
        ("none", None),
        ("plain loopback", plain("127.0.0.1:4711")),
        ("plain loopback 2", plain("127.8.9.10:4711")),
        ("plain loopback v6", plain("[::1]:4711")),
        ("plain loopback mapped", plain("[::ffff:127.0.0.1]:4711")),
        ("plain remote", plain("203.0.113.9:4711")),
        ("plain remote v6", plain("[2001:db8::9]:4711")),
        ("plain proxy", plain("10.1.2.3:4711")),
        ("plain proxy mapped", plain("[::ffff:10.1.2.3]:4711")),
        ("tls remote", tls(Some("203.0.113.9:4711"))),
        ("tls loopback", tls(Some("127.0.0.1:4711"))),
        ("tls proxy", tls(Some("10.1.2.3:4711"))),
        ("tls proxy mapped", tls(Some("[::ffff:10.1.2.3]:4711"))),
        ("tls unknown peer", tls(None)),
    ]
}

const PLAIN_LOOPBACKS: [&str; 4] =
    ["plain loopback", "plain loopback 2", "plain loopback v6", "plain loopback mapped"];
const TLS: [&str; 5] =
    ["tls remote", "tls loopback", "tls proxy", "tls proxy mapped", "tls unknown peer"];
const TLS_NOT_BY_PROXY: [&str; 3] = ["tls remote", "tls loopback", "tls unknown peer"];
const PROXY: [&str; 4] = ["plain proxy", "plain proxy mapped", "tls proxy", "tls proxy mapped"];

/// Headers by what the tables below call them.
const HEADERS: [(&str, &[(&str, &str)]); 14] = [
    ("no headers", &[]),
    ("xfp https", &[("x-forwarded-proto", "https")]),
    ("xfp http", &[("x-forwarded-proto", "http")]),
    ("forwarded https", &[("forwarded", "for=_a;proto=https")]),
    ("forwarded http", &[("forwarded", "for=_a;proto=http")]),
    (
        "xfp https, forwarded http",
        &[("x-forwarded-proto", "https"), ("forwarded", "for=_a;proto=http")],
    ),
    (
        "xfp http, forwarded https",
        &[("x-forwarded-proto", "http"), ("forwarded", "for=_a;proto=https")],
    ),
    ("xff", &[("x-forwarded-for", "203.0.113.9")]),
    ("via", &[("via", "1.1 tunnel")]),
    ("empty xfp", &[("x-forwarded-proto", "")]),
    ("empty forwarded", &[("forwarded", "")]),
    // Headers that no rule believes.
    (
        "claims",
        &[
            ("x-forwarded-scheme", "https"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded-protocol", "https"),
            ("x-url-scheme", "https"),
            ("front-end-https", "on"),
            ("cloudfront-forwarded-proto", "https"),
            ("host", "127.0.0.1:443"),
            ("origin", "https://example.com"),
            ("upgrade-insecure-requests", "1"),
        ],
    ),
    ("proto list", &[("x-forwarded-proto", "https, http")]),
    ("two protos", &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")]),
];

/// Headers that show that something forwarded the request.
const MARKED: [&str; 12] = [
    "xfp https",
    "xfp http",
    "forwarded https",
    "forwarded http",
    "xfp https, forwarded http",
    "xfp http, forwarded https",
    "xff",
    "via",
    "empty xfp",
    "empty forwarded",
    "proto list",
    "two protos",
];

fn lines(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// Puts every connection with every set of headers to the rule, and holds its answers against the
/// ones that are expected.
#[track_caller]
fn assert_permits(transport: &Transport, is_permitted: impl Fn(&str, &str) -> bool) {
    for (connection_name, connection) in connections() {
        for (headers_name, headers) in HEADERS {
            let expected = if is_permitted(connection_name, headers_name) {
                Ok(())
            } else {
                Err(RejectionKind::NotHttps)
            };
            let said = transport.check(&lines(headers), connection).map_err(|no| no.kind());
            assert_eq!(said, expected, "{connection_name}, {headers_name}");
        }
    }
}

fn behind_x_forwarded_proto(networks: &[&str]) -> Transport {
    Transport::behind(TrustedProxies::x_forwarded_proto(networks).unwrap())
}

fn behind_forwarded(networks: &[&str]) -> Transport {
    Transport::behind(TrustedProxies::forwarded(networks).unwrap())
}

fn permits(transport: &Transport, peer: &str, headers: &[(&str, &str)]) -> bool {
    let connection = Connection::plain(SocketAddr::new(peer.parse().unwrap(), 4711));
    transport.check(&lines(headers), Some(connection)).is_ok()
}

fn trusts(networks: &[&str], peer: &str) -> bool {
    let headers = [("x-forwarded-proto", "https")];
    permits(&behind_x_forwarded_proto(networks), peer, &headers)
}

#[test]
fn the_tls_rule_permits_tls_and_nothing_else_whatever_the_headers_say() {
    assert_permits(&Transport::tls(), |connection, _| TLS.contains(&connection));
}

#[test]
fn tls_is_the_default() {
    let default = Transport::default();
    assert_eq!(default.name(), "tls");
    assert_permits(&default, |connection, _| TLS.contains(&connection));
}

#[test]
fn a_trusted_proxy_is_believed_in_x_forwarded_proto_alone() {
    assert_permits(&behind_x_forwarded_proto(&[PROXIES]), |connection, headers| {
        if PROXY.contains(&connection) {
            ["xfp https", "xfp https, forwarded http"].contains(&headers)
        } else {
            TLS_NOT_BY_PROXY.contains(&connection)
        }
    });
}

#[test]
fn a_trusted_proxy_is_believed_in_forwarded_alone_where_that_was_chosen() {
    assert_permits(&behind_forwarded(&[PROXIES]), |connection, headers| {
        if PROXY.contains(&connection) {
            ["forwarded https", "xfp http, forwarded https"].contains(&headers)
        } else {
            TLS_NOT_BY_PROXY.contains(&connection)
        }
    });
}

#[test]
fn an_empty_list_trusts_nobody() {
    for transport in [behind_x_forwarded_proto(&[]), behind_forwarded(&[])] {
        assert_permits(&transport, |connection, _| TLS.contains(&connection));
    }
}

#[test]
fn the_loopback_rule_permits_plain_loopback_where_nothing_was_forwarded_and_tls_always() {
    assert_permits(&Transport::insecure_on_loopback(), |connection, headers| {
        TLS.contains(&connection)
            || (PLAIN_LOOPBACKS.contains(&connection) && !MARKED.contains(&headers))
    });
}

#[test]
fn the_rule_that_assumes_https_permits_everything() {
    assert_permits(&Transport::dangerously_assume_https(), |_, _| true);
}

#[test]
fn whom_a_trusted_proxy_names_is_the_client_and_whom_a_stranger_names_is_not() {
    let proxies = TrustedProxies::x_forwarded_proto([PROXIES]).unwrap();
    let silent = Transport::behind(proxies.clone());
    let appending = Transport::behind(proxies.with_x_forwarded_for());
    let headers = lines(&[("x-forwarded-for", "203.0.113.9")]);
    for is_tls in [false, true] {
        let client = |transport: &Transport, peer: [u8; 4]| {
            let connection = Connection { peer: Some((peer, 4711).into()), is_tls };
            transport.client(&headers, Some(connection)).map(|address| address.to_string())
        };
        assert_eq!(client(&appending, [10, 1, 2, 3]).as_deref(), Some("203.0.113.9"));
        assert_eq!(client(&silent, [10, 1, 2, 3]), None, "it may be the client's own word");
        for transport in [&appending, &silent] {
            assert_eq!(client(transport, [192, 0, 2, 1]).as_deref(), Some("192.0.2.1"));
        }
    }
}

#[test]
fn tls_that_a_trusted_proxy_speaks_does_not_outweigh_its_header() {
    let connection = Connection { peer: Some("10.1.2.3:4711".parse().unwrap()), is_tls: true };
    let transport = behind_x_forwarded_proto(&[PROXIES]);
    let check = |headers: &[(&str, &str)]| {
        transport.check(&lines(headers), Some(connection)).map_err(|no| no.kind())
    };
    assert_eq!(check(&[("x-forwarded-proto", "http")]), Err(RejectionKind::NotHttps));
    assert_eq!(check(&[]), Err(RejectionKind::NotHttps));
    assert_eq!(check(&[("x-forwarded-proto", "https")]), Ok(()));
}

#[test]
fn x_forwarded_proto_says_exactly_https_or_it_says_nothing() {
    let transport = behind_x_forwarded_proto(&[PROXIES]);
    for value in [
        "",
        "http",
        "HTTPS",
        "Https",
        "https ",
        " https",
        "\thttps",
        "https,",
        ",https",
        "https, http",
        "http, https",
        "https,https",
        "https, https",
        "https;",
        "https:",
        "https://",
        "httpss",
        "xhttps",
        "\"https\"",
        "proto=https",
        "on",
        "1",
        "wss",
        "tls",
        "ħttps",
    ] {
        let headers = [("x-forwarded-proto", value)];
        assert!(!permits(&transport, "10.1.2.3", &headers), "{value:?}");
    }
    let headers = [("X-Forwarded-Proto", "https")];
    assert!(permits(&transport, "10.1.2.3", &headers));
}

#[test]
fn a_repeated_header_says_nothing() {
    for (transport, name, https) in [
        (behind_x_forwarded_proto(&[PROXIES]), "x-forwarded-proto", "https"),
        (behind_forwarded(&[PROXIES]), "forwarded", "proto=https"),
    ] {
        assert!(permits(&transport, "10.1.2.3", &[(name, https)]), "{name}");
        for other in [https, "http", "for=_a", ""] {
            for (first, second) in [(https, other), (other, https)] {
                let headers = [(name, first), (name, second)];
                assert!(!permits(&transport, "10.1.2.3", &headers), "{headers:?}");
            }
        }
    }
}

#[test]
fn the_word_of_anybody_but_a_trusted_proxy_counts_for_nothing() {
    for peer in [
        "9.255.255.255",
        "11.0.0.0",
        "203.0.113.9",
        "127.0.0.1",
        "::1",
        "::",
        "2001:db8::1",
        // Not mapped: other forms of the same four bytes.
        "::10.1.2.3",
        "64:ff9b::10.1.2.3",
        "::ffff:11.0.0.0",
    ] {
        assert!(!trusts(&[PROXIES], peer), "{peer}");
    }
}

#[test]
fn a_block_holds_its_first_and_its_last_address() {
    for peer in ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.0"] {
        assert!(trusts(&[PROXIES], peer), "{peer}");
    }
    assert!(trusts(&["2001:db8::/32"], "2001:db8:ffff::1"));
    assert!(!trusts(&["2001:db8::/32"], "2001:db9::1"));
}

#[test]
fn any_block_of_the_list_is_enough() {
    let list = ["192.0.2.0/24", "10.1.2.3", "2001:db8::/32"];
    for peer in ["192.0.2.77", "10.1.2.3", "2001:db8::1"] {
        assert!(trusts(&list, peer), "{peer}");
    }
    for peer in ["192.0.3.0", "10.1.2.4", "2001:db7::1"] {
        assert!(!trusts(&list, peer), "{peer}");
    }
}

#[test]
fn a_mapped_block_is_the_block_of_four_bytes() {
    for network in ["::ffff:10.0.0.0/104", "::ffff:a00:0/104"] {
        for peer in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(trusts(&[network], peer), "{network}, {peer}");
        }
        assert!(!trusts(&[network], "11.0.0.0"), "{network}");
        assert!(!trusts(&[network], "::10.1.2.3"), "{network}");
    }
}

#[test]
fn a_bare_address_is_that_host_alone() {
    assert!(trusts(&["10.1.2.3"], "10.1.2.3"));
    assert!(trusts(&["10.1.2.3"], "::ffff:10.1.2.3"));
    assert!(trusts(&["::ffff:10.1.2.3"], "10.1.2.3"));
    assert!(!trusts(&["10.1.2.3"], "10.1.2.2"));
    assert!(!trusts(&["::ffff:10.1.2.3"], "10.1.2.2"));
    assert!(trusts(&["2001:db8::1"], "2001:db8::1"));
    assert!(!trusts(&["2001:db8::1"], "2001:db8::"));
    assert!(trusts(&["10.1.2.3/32"], "10.1.2.3"));
    assert!(trusts(&["2001:db8::1/128"], "2001:db8::1"));
}

/// The two constructors, which must agree about networks.
fn errors(network: &str) -> [String; 2] {
    [TrustedProxies::x_forwarded_proto([network]), TrustedProxies::forwarded([network])]
        .map(|proxies| proxies.expect_err(network).to_string())
}

#[test]
fn everybody_is_not_a_proxy() {
    for network in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "::ffff:0:0/96"] {
        for error in errors(network) {
            assert!(error.contains("everybody"), "{error}");
        }
    }
}

#[test]
fn bits_beyond_the_prefix_are_refused() {
    for network in [
        "10.0.0.1/8",
        "10.1.2.3/31",
        "1.2.3.4/0",
        "2001:db8::1/32",
        "2001:db8::1/127",
        "::1/0",
        "::ffff:10.0.0.1/104",
        "::ffff:10.0.0.0/64",
    ] {
        for error in errors(network) {
            assert!(error.contains("bits beyond the prefix"), "{error}");
        }
    }
}

#[test]
fn what_is_neither_an_address_nor_a_block_is_refused() {
    for network in [
        "",
        " ",
        "/",
        "/8",
        "*",
        "any",
        "localhost",
        "proxy.internal",
        "10",
        "10.0.0",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8 ",
        " 10.0.0.0/8",
        "10.0.0.0 /8",
        "10.0.0.0/8/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0:80",
        "10.0.0.0/8,192.0.2.0/24",
        "10.0.0.256/32",
        "0x0a000000/8",
        "2001:db8::/129",
        "[2001:db8::1]",
        "2001:db8::1%eth0",
        "2001:db8:::/32",
        "١٠.0.0.0/8",
        "\0",
    ] {
        for error in errors(network) {
            assert!(error.contains("neither an address nor a CIDR block"), "{error}");
        }
    }
}

#[test]
fn one_bad_network_spoils_the_list() {
    assert!(TrustedProxies::x_forwarded_proto(["10.0.0.0/8", "0.0.0.0/0"]).is_err());
    assert!(TrustedProxies::forwarded(["0.0.0.0/0", "10.0.0.0/8"]).is_err());
}

#[test]
fn the_refusal_of_a_network_names_it_briefly_and_escapes_it() {
    let [error, _] = errors("10.0.0.1/8");
    assert!(error.starts_with("trusted proxy \"10.0.0.1/8\": "), "{error}");
    let [error, _] = errors(&"x".repeat(10_000));
    assert!(error.len() < 200, "{error}");
    let [error, _] = errors("\u{1b}[31m\n");
    assert!(!error.contains(['\u{1b}', '\n']), "{error:?}");
}

#[test]
fn only_the_two_rules_that_let_keys_travel_in_the_clear_are_called_insecure() {
    assert!(Transport::insecure_on_loopback().is_insecure());
    assert!(Transport::dangerously_assume_https().is_insecure());
    assert!(!Transport::tls().is_insecure());
    assert!(!behind_x_forwarded_proto(&[PROXIES]).is_insecure());
    assert!(!behind_forwarded(&[PROXIES]).is_insecure());
}

#[test]
fn advice_is_given_where_the_set_up_may_be_wrong_and_nowhere_else() {
    let behind = || behind_x_forwarded_proto(&[PROXIES]);
    let says = |scheme: &'static str| vec![("x-forwarded-proto", scheme)];
    let seasoned = Transport::tls();
    let tls = Connection { peer: Some("203.0.113.9:1".parse().unwrap()), is_tls: true };
    assert!(seasoned.check(&HeaderMap::new(), Some(tls)).is_ok());
    for (transport, peer, headers, expected) in [
        (Transport::tls(), None, vec![], Some(Advice::NoConnection)),
        (behind(), None, vec![], Some(Advice::NoConnection)),
        (Transport::dangerously_assume_https(), None, vec![], None),
        (Transport::tls(), Some("203.0.113.9:1"), vec![], Some(Advice::NoTls)),
        (seasoned, Some("203.0.113.9:1"), vec![], None),
        (behind(), Some("203.0.113.9:1"), says("https"), Some(Advice::UnknownProxy)),
        (behind(), Some("10.1.2.3:1"), vec![], Some(Advice::SilentProxy)),
        (behind(), Some("10.1.2.3:1"), says("https, http"), Some(Advice::SilentProxy)),
        (behind(), Some("10.1.2.3:1"), says("http"), None),
        (behind(), Some("10.1.2.3:1"), says("https"), None),
        (Transport::insecure_on_loopback(), Some("127.0.0.1:1"), vec![], None),
        (
            Transport::insecure_on_loopback(),
            Some("127.0.0.1:1"),
            says("http"),
            Some(Advice::Forwarded),
        ),
        (
            Transport::insecure_on_loopback(),
            Some("172.17.0.1:1"),
            vec![],
            Some(Advice::NotLoopback),
        ),
    ] {
        let connection = peer.map(|peer| Connection::plain(peer.parse().unwrap()));
        // Clones are of one service.
        let _ = transport.clone().check(&lines(&headers), connection);
        for advice in Advice::ALL {
            let is_expected = Some(advice) == expected;
            assert_eq!(
                transport.advised.has_said(advice),
                is_expected,
                "{transport:?} {headers:?}"
            );
        }
    }
}

#[test]
fn who_asks_for_a_client_that_trusted_proxies_do_not_name_is_told_so() {
    let proxies = || TrustedProxies::x_forwarded_proto([PROXIES]).unwrap();
    let rfc_7239 = TrustedProxies::forwarded([PROXIES]).unwrap();
    for (transport, peer, expected) in [
        (Transport::behind(proxies()), "10.1.2.3:4711", true),
        (Transport::behind(proxies()), "192.0.2.1:4711", false),
        (Transport::behind(proxies().with_x_forwarded_for()), "10.1.2.3:4711", false),
        (Transport::behind(rfc_7239), "10.1.2.3:4711", false),
        (Transport::dangerously_assume_https(), "10.1.2.3:4711", false),
    ] {
        let connection = Connection::plain(peer.parse().unwrap());
        let _ = transport.check(&HeaderMap::new(), Some(connection));
        assert!(!transport.advised.has_said(Advice::NoClient), "nobody has asked");
        let _ = transport.client(&HeaderMap::new(), Some(connection));
        let has_said = transport.advised.has_said(Advice::NoClient);
        assert_eq!(has_said, expected, "{transport:?} {peer}");
    }
}

#[test]
fn a_refusal_says_to_the_operator_what_was_missing() {
    let says = |transport: Transport, peer: Option<&str>, headers: &[(&str, &str)], what: &str| {
        let connection = peer.map(|peer| Connection::plain(peer.parse().unwrap()));
        let refused = transport.check(&lines(headers), connection).unwrap_err();
        let said = std::error::Error::source(&refused).unwrap().to_string();
        assert!(said.contains(what), "{said}");
    };
    let behind = || behind_x_forwarded_proto(&[PROXIES]);
    says(Transport::tls(), None, &[], "nothing says which connection");
    says(Transport::tls(), Some("203.0.113.9:4711"), &[], "not TLS that ends in this process");
    says(behind(), Some("203.0.113.9:4711"), &[], "203.0.113.9 is not among the trusted proxies");
    says(behind(), Some("10.1.2.3:4711"), &[], "10.1.2.3 does not say exactly `https`");
    let http = [("x-forwarded-proto", "http")];
    says(behind(), Some("10.1.2.3:4711"), &http, "10.1.2.3 says that its client used plain HTTP");
    let loopback = Transport::insecure_on_loopback;
    says(loopback(), Some("172.17.0.1:1"), &[], "172.17.0.1 is not this machine's loopback");
    let forwarded = [("via", "1.1 somebody")];
    says(loopback(), Some("127.0.0.1:1"), &forwarded, "forwarded");
}

#[test]
fn a_plain_connection_says_so_and_names_its_peer() {
    let peer = "[::ffff:127.0.0.1]:4711".parse().unwrap();
    let connection = Connection::plain(peer);
    assert!(!connection.is_tls());
    assert_eq!(connection.peer(), Some(peer));
}

#[cfg(feature = "tls")]
#[test]
fn the_evidence_says_tls_and_names_its_peer() {
    let peer = "203.0.113.9:4711".parse().unwrap();
    let connection = Connection::tls_ended_here(peer);
    assert!(connection.is_tls());
    assert_eq!(connection.peer(), Some(peer));
}

proptest! {
    #[test]
    fn no_header_of_any_value_makes_a_plain_stranger_https(
        name in 0_usize..4,
        value in vec(prop_oneof![0x20_u8..=0x7e, 0x80_u8..], 0..40),
    ) {
        let name = ["x-forwarded-proto", "forwarded", "via", "x-forwarded-for"][name];
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
        let stranger = Some(Connection::plain("203.0.113.9:4711".parse().unwrap()));
        for transport in [
            Transport::tls(),
            behind_x_forwarded_proto(&[PROXIES]),
            behind_forwarded(&[PROXIES]),
            Transport::insecure_on_loopback(),
        ] {
            prop_assert!(transport.check(&headers, stranger).is_err());
        }
    }

    #[test]
    fn a_block_of_any_length_holds_the_peers_that_share_its_bits(
        block: u32,
        peer: u32,
        length in 1_u32..=32,
        mapped_block: bool,
        mapped_peer: bool,
    ) {
        let mask = u32::MAX << (32 - length);
        // Half of the cases would be strangers anyway: let the others share the bits.
        let peer = if peer % 2 == 0 { (block & mask) | (peer & !mask) } else { peer };
        let first = std::net::Ipv4Addr::from(block & mask);
        let network = if mapped_block {
            format!("::ffff:{first}/{}", length + 96)
        } else {
            format!("{first}/{length}")
        };
        let address = std::net::Ipv4Addr::from(peer);
        let address = if mapped_peer { format!("::ffff:{address}") } else { address.to_string() };
        prop_assert_eq!(trusts(&[&network], &address), peer & mask == block & mask);
    }

    #[test]
    fn any_text_is_a_network_or_is_refused(text in "\\PC{0,40}|[0-9a-f:./]{0,40}") {
        let proxies = TrustedProxies::x_forwarded_proto([&text]);
        prop_assert!(proxies.is_err() || text.contains(['.', ':']));
    }
}
