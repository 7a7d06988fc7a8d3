//! A leakage test in the manner of dudect: two classes of secrets, which of them comes next is drawn, each
//! verification is timed, and Welch's t says whether the classes can be told apart.
//!
//! | target | always the same secret | a secret drawn each time |
//! | --- | --- | --- |
//! | compare | a stored digest that differs in its last bit | a stored digest of random bytes |
//! | verify | one key, and a stored digest that differs in its last bit | random keys, random digests |
//! | accept | one key, accepted | random keys, accepted |
//! | control | as in compare, and compared once more, by a loop that stops at the first difference | |
//!
//! All go through [`KeyVerifier::verify`] as it is, with a store that answers what the class wants; the control
//! shows that so small a difference is seen beside all that. Each verification has memory of its own for its text
//! and its record, whatever its class.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use tower_api_key::{
    Entry, Fingerprint, KeyDigest, KeyRecord, KeyStore, KeyText, KeyVerifier, Lookup,
};

use crate::call::now;
use crate::chance::Chance;
use crate::ticks::{nanoseconds_per_tick, ticks};
use crate::welch::{self, Welch};

/// Beyond this, a target leaks.
const LEAK: f64 = 4.5;
/// What the control must come to, or the run was too short or too noisy to say anything.
const SEEN: f64 = 100.0;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many verifications are prepared at a time.
const BATCH: usize = 1_024;

/// Prints a table; `false` if something leaks, or the control does not.
pub fn run(samples: usize) -> bool {
    welch::check();
    let tick = nanoseconds_per_tick();
    println!("{samples} samples of each target");
    println!("{:<10} {:>10} {:>12} {:>10}", "", "|t| of all", "greatest |t|", "apart, ns");
    let mut is_sound = true;
    for target in [Target::Compare, Target::Verify, Target::Accept, Target::Control] {
        let welch = measure(target, samples);
        let (all, greatest, apart) = welch.result();
        let (is_right, aim) = match target {
            Target::Control => (greatest > SEEN, format!("> {SEEN}")),
            _ => (greatest < LEAK, format!("< {LEAK}")),
        };
        let verdict = if is_right { "" } else { "  NOT SO" };
        let apart = apart * tick;
        println!(
            "{:<10} {all:>10.2} {greatest:>12.2} {apart:>10.3}  {aim}{verdict}",
            target.name()
        );
        is_sound &= is_right;
    }
    is_sound
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Compare,
    Verify,
    Accept,
    Control,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Verify => "verify",
            Self::Accept => "accept",
            Self::Control => "control",
        }
    }
}

fn measure(target: Target, samples: usize) -> Welch {
    let mut chance = Chance::new();
    let mut batch = Batch::new();
    // The first batch warms up; the second is what crops are taken from.
    batch.run(target, &mut chance);
    batch.run(target, &mut chance);
    let mut welch = Welch::cropping_by(batch.times.clone());
    for _ in 0..samples.div_ceil(BATCH) {
        batch.run(target, &mut chance);
        for (class, time) in batch.classes.iter().zip(&batch.times) {
            welch.add(*class, *time);
        }
    }
    welch
}

/// Verifications that are prepared, done, and then looked at.
struct Batch {
    /// `true` is the class whose secrets are drawn.
    classes: Vec<bool>,
    texts: Vec<String>,
    times: Vec<u64>,
    answers: Arc<Answers>,
    verifier: KeyVerifier,
}

impl Batch {
    fn new() -> Self {
        let answers = Arc::new(Answers::new());
        let store = AnswersInTurn(Arc::clone(&answers));
        Self {
            classes: vec![false; BATCH],
            texts: vec![text_of([0; 43]); BATCH],
            times: vec![0; BATCH],
            answers,
            verifier: KeyVerifier::new(store),
        }
    }

    fn run(&mut self, target: Target, chance: &mut Chance) {
        self.prepare(target, chance);
        for (place, (text, time)) in self.texts.iter().zip(&mut self.times).enumerate() {
            self.answers.next.store(place, Ordering::Relaxed);
            *time = match target {
                Target::Control => control(&self.verifier, text, &self.answers.digest(place)),
                _ => verify(&self.verifier, text, target == Target::Accept),
            };
        }
    }

    fn prepare(&mut self, target: Target, chance: &mut Chance) {
        let mut records = self.answers.records.write().unwrap();
        for ((class, text), record) in
            self.classes.iter_mut().zip(&mut self.texts).zip(records.iter_mut())
        {
            *class = chance.coin();
            // Drawn for both classes, used for one.
            let (secret, random) = (chance.bytes::<43>(), chance.bytes::<32>());
            let is_of_chance = *class && matches!(target, Target::Verify | Target::Accept);
            *text = text_of(if is_of_chance { secret } else { [0; 43] });
            let mut digest = *digest(text).as_bytes();
            match target {
                Target::Accept => {}
                _ if *class => digest = random,
                _ => digest[31] ^= 1,
            }
            Arc::get_mut(record).unwrap().digest = KeyDigest::from_bytes(digest);
        }
    }
}

/// How long a verification takes, in ticks.
fn verify(verifier: &KeyVerifier, text: &str, is_valid: bool) -> u64 {
    let before = ticks();
    let answer = black_box(now(verifier.verify(black_box(text))));
    let time = ticks() - before;
    assert_eq!(answer.is_ok(), is_valid);
    time
}

/// How long a verification takes that is followed by the leak that everybody knows.
fn control(verifier: &KeyVerifier, text: &str, stored: &KeyDigest) -> u64 {
    let presented = digest(text);
    let before = ticks();
    let answer = black_box(now(verifier.verify(black_box(text))));
    let is_equal = stops_at_the_first_difference(black_box(&presented), black_box(stored));
    let time = ticks() - before;
    assert!(answer.is_err() && !is_equal);
    time
}

/// A key as this crate makes them, with its checksum.
fn text_of(secret: [u8; 43]) -> String {
    let secret = secret.map(|byte| char::from(BASE62[usize::from(byte % 62)]));
    let body: String = "acme_live_".chars().chain(secret).collect();
    let sum = crc32fast::hash(body.as_bytes());
    let digit = |power| char::from(BASE62[(sum / 62_u32.pow(power) % 62) as usize]);
    let sum: String = (0..6).rev().map(digit).collect();
    body + &sum
}

fn digest(text: &str) -> KeyDigest {
    KeyDigest::of(KeyText::parse(text.as_bytes()).unwrap())
}

/// What the store is to say, in turn.
struct Answers {
    records: RwLock<Vec<Arc<KeyRecord>>>,
    next: AtomicUsize,
}

impl Answers {
    fn new() -> Self {
        let record = || {
            let (id, account, name) = ("key_1", "admin@example.com", "Production CRM");
            let (id, account, name) = (id.parse(), account.parse(), name.parse());
            let digest = KeyDigest::from_bytes([0; 32]);
            let made_at = SystemTime::UNIX_EPOCH;
            KeyRecord::new(id.unwrap(), account.unwrap(), name.unwrap(), digest, made_at)
        };
        let records = (0..BATCH).map(|_| Arc::new(record())).collect();
        Self { records: RwLock::new(records), next: AtomicUsize::new(0) }
    }

    fn digest(&self, place: usize) -> KeyDigest {
        self.records.read().unwrap()[place].digest.clone()
    }
}

fn stops_at_the_first_difference(ours: &KeyDigest, theirs: &KeyDigest) -> bool {
    for (ours, theirs) in ours.as_bytes().iter().zip(theirs.as_bytes()) {
        if black_box(ours) != black_box(theirs) {
            return false;
        }
    }
    true
}

/// Finds the next answer, whatever it is asked for.
struct AnswersInTurn(Arc<Answers>);

impl KeyStore for AnswersInTurn {
    fn find(&self, _: Fingerprint) -> Lookup {
        let records = self.0.records.read().unwrap();
        let record = &records[self.0.next.load(Ordering::Relaxed)];
        Lookup::ready(Ok(Some(Entry::Live(Arc::clone(record)))))
    }
}
