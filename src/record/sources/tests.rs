use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn sources(text: &str) -> Sources {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn no_block_is_anywhere() {
    assert!(sources("").is_anywhere());
    assert!(sources("").allow(address("198.51.100.1")));
    assert!(!sources("10.0.0.0/8").is_anywhere());
}

#[test]
fn a_block_holds_what_is_in_it_and_nothing_beside_it() {
    let office = sources("203.0.113.0/24 2001:db8::/48 198.51.100.7");
    for inside in ["203.0.113.0", "203.0.113.255", "2001:db8::1", "198.51.100.7"] {
        assert!(office.allow(address(inside)), "{inside}");
    }
    for outside in ["203.0.112.255", "203.0.114.0", "2001:db8:1::", "198.51.100.8", "::1"] {
        assert!(!office.allow(address(outside)), "{outside}");
    }
}

#[test]
fn an_ipv4_address_is_itself_in_ipv6_words() {
    assert!(sources("10.0.0.0/8").allow(address("::ffff:10.1.2.3")));
    assert!(sources("::ffff:10.0.0.0/104").allow(address("10.1.2.3")));
    assert!(!sources("10.0.0.0/8").allow(address("::10.1.2.3")));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for text in [
        " ",
        "10.0.0.0/8 ",
        "10.0.0.0/8  10.1.0.0/16",
        "10.0.0.1/8",
        "0.0.0.0/0",
        "::/0",
        "010.0.0.0/8",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "localhost",
        "10.0.0.0/8,11.0.0.0/8",
        "10.0.0.0/",
        "/8",
    ] {
        assert!(text.parse::<Sources>().is_err(), "{text:?}");
    }
    let many = |count: u32| {
        let blocks: Vec<_> = (0..count).map(|n| format!("10.0.0.{n}")).collect();
        blocks.join(" ").parse::<Sources>()
    };
    assert!(many(64).is_ok());
    assert!(many(65).is_err());
    assert!("1".repeat(100_000).parse::<Sources>().is_err());
}

#[test]
fn a_text_that_no_list_is_as_long_as_is_refused_unread() {
    let longest = Sources::MOST * Sources::LONGEST;
    let said = |length| "1".repeat(length).parse::<Sources>().unwrap_err();
    assert_eq!(said(longest + 1), InvalidText::too_long("source addresses", 64 * 44));
    assert_eq!(said(100_000), said(longest + 1));
    assert_ne!(said(longest), said(longest + 1));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(v4 in vec((any::<u32>(), 1_u8..=32), 0..20), v6 in vec((any::<u128>(), 1_u8..=128), 0..20)) {
        let v4 = v4.into_iter().map(|(bits, length)| IpNet::new(IpAddr::V4(bits.into()), length).unwrap());
        let v6 = v6.into_iter().map(|(bits, length)| IpNet::new(IpAddr::V6(bits.into()), length).unwrap());
        let blocks: Vec<_> = v4.chain(v6).map(|block| block.trunc().to_string()).collect();
        let sources: Sources = blocks.join(" ").parse().unwrap();
        let written = sources.to_string();
        prop_assert_eq!(written.parse::<Sources>().unwrap(), sources);
        prop_assert!(written.len() <= Sources::MOST * Sources::LONGEST);
    }
}
