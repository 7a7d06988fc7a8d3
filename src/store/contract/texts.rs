//! Promises about texts and times: whatever the types admit comes back as it was.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::given::{
    Store, account, assert_done, assert_shown, ended, insert, live, record, said, secret, shown,
    time,
};
use crate::record::{AccountId, EndCause, Hint, KeyId, KeyName, KeyRecord, Scope, Scopes, Sources};
use crate::store::{Use, Written};

/// Legible texts that other programs take for something else.
const ODD: &[&str] = &[
    "'); DELETE FROM secrets; --",
    "\"quoted\" 'and' `more`",
    "%",
    "_",
    "*",
    "?",
    "\\",
    "\\0 \\n \\' \\x00 \\u0000",
    "$1 :name @name {} {0} %s",
    "a:b|c,d;e/f",
    "{hash}[tag]",
    "<script>alert(1)</script> &amp;",
    "NULL",
    "null",
    "0",
    "-1e999",
    "true",
    " leading and trailing ",
    "two  spaces",
    "\u{a0}no-break\u{a0}",
    "é",
    "e\u{301}",
    "Z\u{351}\u{36b}\u{343}\u{36a}algo",
    "مفتاح الإنتاج",
    "עברית and English",
    "生产密钥",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "💥",
    "\u{10ffff}\u{fffe}x",
    "\u{fffd}",
    "ﬁ ß İ ı ſ K",
];

/// Names, accounts and hints come back as they were, whatever they look like; what could not be
/// kept everywhere, such as a NUL, is no text of these types to begin with.
pub async fn odd_texts_come_back_as_they_were(store: Store) {
    for odd in ODD {
        let made = KeyRecord {
            name: odd.parse().unwrap(),
            hint: odd.parse().unwrap(),
            ..record(&account(odd), time(0))
        };
        let made = insert(&store, made).await;
        assert_shown(&store, &made).await;
        let name: KeyName = format!("{odd}{odd}").parse().unwrap();
        let renamed = store.rename(&made.account, &made.id, name.clone()).await;
        assert_eq!(said(renamed), Written::Done(()), "{odd}");
        assert_eq!(shown(&store, &made).await.name, name);
        assert_done(store.delete(&made.account, &made.id, time(1)).await, "delete");
        let tombstone = ended(&store, made.fingerprint()).await;
        assert_eq!((&tombstone.name, &tombstone.account), (&name, &made.account));
    }
    for refused in
        ["a\0b", "a\nb", "a\rb", "a\tb", "\u{1b}[31m", "a\u{7f}", "a\u{9b}b", "\u{202e}a"]
    {
        assert!(refused.parse::<KeyName>().is_err(), "a name {refused:?}");
        assert!(refused.parse::<AccountId>().is_err(), "an account {refused:?}");
        assert!(refused.parse::<Hint>().is_err(), "a hint {refused:?}");
        assert!(refused.parse::<Scopes>().is_err(), "scopes {refused:?}");
        assert!(refused.parse::<KeyId>().is_err(), "an id {refused:?}");
    }
}

/// The longest texts of every type come back whole.
pub async fn the_longest_texts_come_back_whole(store: Store) {
    // Every character of a scope but the first is any that a scope may have.
    let any: String = ('!'..='~').filter(|c| !matches!(c, '"' | '\\')).collect();
    let scope = |number: usize| -> Scope {
        let first = char::from(b'0' + u8::try_from(number).unwrap());
        let rest = any.chars().cycle().skip(number).take(63);
        std::iter::once(first)
            .chain(rest)
            .collect::<String>()
            .replace(['"', '\\'], "x")
            .parse()
            .unwrap()
    };
    // All of them with every digit that an address can have, and a length.
    let block =
        |number| format!("2001:1db8:1111:1111:1111:1111:1111:{:x}/127", 0x1000 + 2 * number);
    let blocks: Vec<_> = (0..Sources::MOST).map(block).collect();
    let longest = KeyRecord {
        id: "aZ09_-".repeat(11)[..64].parse().unwrap(),
        name: "🔑".repeat(100).parse().unwrap(),
        environment: Some("z9".repeat(8).parse().unwrap()),
        scopes: Scopes::new((0..64).map(scope)).unwrap(),
        sources: blocks.join(" ").parse().unwrap(),
        hint: "🔑".repeat(64).parse().unwrap(),
        ..record(&account(&"🏢".repeat(255)), time(0))
    };
    assert_eq!(longest.scopes.to_string().len(), 64 * 65 - 1, "as long as they can be");
    let longest = insert(&store, longest).await;
    assert_shown(&store, &longest).await;
    let (owner, id) = (&longest.account, &longest.id);
    let mut new = secret();
    new.hint = "🗝".repeat(64).parse().unwrap();
    let replaced = store.replace(owner, id, new.clone(), time(2)).await;
    assert_done(replaced, "replace");
    assert_eq!(live(&store, new.digest.fingerprint()).await.hint, new.hint);
    let tombstone = ended(&store, longest.fingerprint()).await;
    let right = longest.tombstone(EndCause::Regenerated, time(2));
    assert_eq!(format!("{tombstone:?}"), format!("{right:?}"));
    let successor = KeyRecord { id: "Z".repeat(64).parse().unwrap(), ..record(owner, time(3)) };
    let successor = Arc::new(successor);
    let rotated = store.rotate(owner, id, Arc::clone(&successor), Some(time(9)), 25).await;
    assert_done(rotated, "rotate");
    assert_eq!(shown(&store, &longest).await.replaced_by.as_ref(), Some(&successor.id));
}

/// Accounts and ids are told apart by every character: by case, by spaces, by how an accent is
/// written; and none is a pattern.
pub async fn texts_that_look_alike_are_not_the_same(store: Store) {
    let alike =
        ["a", "A", "ａ", "a ", " a", "á", "a\u{301}", "%", "_", "*", "?", "[a]", "a\u{200d}"];
    let mut keys = Vec::new();
    for owner in alike {
        let first = Arc::new(record(&account(owner), time(0)));
        let made = store.insert_first(Arc::clone(&first)).await;
        assert_eq!(said(made), Written::Done(()), "{owner:?} is an account of its own");
        keys.push(first);
    }
    for key in &keys {
        assert_eq!(store.list(&key.account).await.unwrap().len(), 1, "{:?}", key.account);
        assert_shown(&store, key).await;
    }
    let owner = account("ids");
    for id in ["key", "Key", "KEY", "key_", "key-"] {
        let named = KeyRecord { id: id.parse().unwrap(), ..record(&owner, time(0)) };
        insert(&store, named).await;
    }
    let id = "kEy".parse().unwrap();
    assert!(store.get(&owner, &id).await.unwrap().is_none(), "an id in another case");
    assert_eq!(said(store.delete(&owner, &id, time(1)).await), Written::NotFound);
    let id = "Key".parse().unwrap();
    assert_done(store.delete(&owner, &id, time(1)).await, "delete");
    assert_eq!(store.list(&owner).await.unwrap().len(), 4, "keys whose id is another");
    for key in &keys {
        assert_eq!(store.delete_all(&key.account, time(1)).await.unwrap(), 1, "{:?}", key.account);
    }
}

/// Times come back to the millisecond, from 1970 to the last of the year 9999.
pub async fn times_come_back_to_the_millisecond(store: Store) {
    let owner = account("a");
    let last = SystemTime::UNIX_EPOCH + Duration::from_millis(253_402_300_799_999);
    for at in [SystemTime::UNIX_EPOCH, time(0) + Duration::from_millis(7), last] {
        let mut made = record(&owner, at);
        made.expires_at = Some(last);
        let made = insert(&store, made).await;
        assert_shown(&store, &made).await;
        store.mark_used(&[Use::new(made.fingerprint(), at)]).await.unwrap();
        assert_eq!(shown(&store, &made).await.last_used_at, Some(at), "the last use");
        assert_done(store.delete(&owner, &made.id, at).await, "delete");
        let ended_at = ended(&store, made.fingerprint()).await.ended_at;
        assert_eq!(ended_at, at, "the end");
    }
}
