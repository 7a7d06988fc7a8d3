//! The protocol, explored: every order in which a replica, two writers, the store and time can act,
//! with messages that are late or lost, a crash, a pause at any place, and a read that is under way.
//! The writers are the code itself; the replica is what `cached/replica.rs` does, in steps.
//!
//! `TOWER_API_KEY_MODEL_LONGER=3 cargo test --release --lib fleet` lets everything go on for three ticks
//! more than is done here.

use std::collections::HashSet;

use super::*;

/// One step of the clock; a lease is two, less a margin.
const TICK: Duration = Duration::from_millis(500);

/// What keeps the protocol right. With any one of these removed, the search must find a deleted key
/// that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// A replica answers from memory only under a lease.
    Lease,
    /// The lease counts from before the store was asked, not from when the answer came.
    FromBeforeAsking,
    /// A replica trusts its lease for less time than a writer waits.
    Margin,
    /// What changed is dropped before the store is told so.
    DropThenTell,
    /// A read that was under way when its key was dropped is not kept.
    Fence,
    /// A replica that fell too far behind drops everything.
    DropAllWhenForgotten,
    /// Nobody joins a read that began before, without a lease.
    NoJoiningWithoutLease,
    /// Only who is on the roll gets a lease.
    Roll,
    /// A replica under suspicion gets no lease.
    Suspicion,
    /// Who was refused one enrols by another name.
    NewName,
    /// Who goes off the roll has given up its lease before.
    GiveUpFirst,
    /// A write waits a whole lease for those who are silent.
    WaitForTheSilent,
    /// It waits from when what it wrote was there for all to see.
    WaitFromTheCommit,
    /// Who is struck off has been under suspicion for a whole lease.
    LongSuspicion,
}

/// Each with a search that finds what it is for.
const GUARDS: [(Guard, Bounds); 14] = [
    (Guard::Lease, OLD),
    (Guard::FromBeforeAsking, OLD),
    (Guard::Margin, OLD),
    (Guard::DropThenTell, OLD),
    (Guard::Fence, READS),
    (Guard::DropAllWhenForgotten, OLD),
    (Guard::NoJoiningWithoutLease, READS),
    (Guard::Roll, NEW),
    (Guard::Suspicion, SUSPECTED),
    (Guard::NewName, SUSPECTED),
    (Guard::GiveUpFirst, SUSPECTED),
    (Guard::WaitForTheSilent, OLD),
    (Guard::WaitFromTheCommit, OLD),
    (Guard::LongSuspicion, OLD),
];

/// How much of everything there is in one search.
#[derive(Clone, Copy)]
struct Bounds {
    start: Start,
    ticks: u8,
    renewals: u8,
    reads: u8,
    crashes: u8,
}

const KEYS: usize = 2;

/// How it begins.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// The replica has just got its lease, and has both keys in memory.
    Enrolled,
    /// The same, and then a writer suspected it, and died.
    Suspected,
    /// The replica has yet to enrol, and has nothing.
    New,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    store: Store,
    replica: Memory,
    writers: [Writer; KEYS],
    renewals: u8,
    reads: u8,
    crashes: u8,
}

/// Takes one more thing that can happen to a world.
type Also<'a> = dyn FnMut(&mut dyn FnMut(&mut World)) + 'a;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Store {
    version: u8,
    /// At which version each key was deleted.
    deleted: [Option<u8>; KEYS],
    row: Option<Row>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Memory {
    name: u8,
    /// The keys that are in memory as live.
    holds: [bool; KEYS],
    applied: u8,
    /// When the last answer that counts was asked for.
    asked: Option<u8>,
    renewal: Option<Renewal>,
    read: Option<Read>,
    next: Next,
}

/// What a replica does next about the roll.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Next {
    Renew,
    Withdraw,
    Enrol,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Renewal {
    /// On its way, with what it says was applied.
    Asked { at: u8, applied: u8 },
    /// On its way back, with the store's version unless it was refused.
    Answered { at: u8, version: Option<u8> },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Read {
    key: usize,
    /// What the store said, once it has.
    is_live: Option<bool>,
    /// Whether it is still on the board.
    is_on_board: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// On its way to the store since then.
    Sent(u8),
    /// Durable. Waits since then; what it saw of the roll at first, and when.
    Waits {
        since: u8,
        began: Option<Began>,
    },
    Returned,
}

/// [`Settling`], small: there is one suspect at most.
type Began = (u8, Option<Row>, u8);

/// The replica's row: its name, what it has applied, whether it is a suspect.
type Row = (u8, u8, bool);

fn id(name: u8) -> ReplicaId {
    ReplicaId::from_bytes([name; 16])
}

fn enrolled((name, applied, is_suspected): Row) -> Enrolled {
    Enrolled { id: id(name), applied: Version::new(u64::from(applied)), is_suspected }
}

fn ticks(number: u8) -> Duration {
    TICK * u32::from(number)
}

impl World {
    fn new(start: Start, without: Option<Guard>) -> Self {
        let is_new = start == Start::New;
        let row = (!is_new).then_some((0, 0, start == Start::Suspected));
        Self {
            now: 0,
            store: Store { version: 0, deleted: [None; KEYS], row },
            replica: Memory {
                name: 0,
                holds: [!is_new; KEYS],
                applied: 0,
                asked: (!is_new).then_some(0),
                renewal: None,
                read: None,
                next: if is_new { first(without) } else { Next::Renew },
            },
            writers: [Writer::Idle, Writer::Idle],
            renewals: 0,
            reads: 0,
            crashes: 0,
        }
    }

    fn has_lease(&self, without: Option<Guard>) -> bool {
        // One that is asked for its time late, by what the margin is for.
        let trust = if without == Some(Guard::Margin) { LEASE + TICK } else { TRUST };
        self.replica.asked.is_some_and(|asked| ticks(self.now - asked) < trust)
    }

    /// A key that a request which begins now is let through with, although its deletion has returned.
    fn violation(&self, without: Option<Guard>) -> Option<usize> {
        let has_lease = self.has_lease(without);
        (0..KEYS).find(|&key| {
            let from_memory =
                (has_lease || without == Some(Guard::Lease)) && self.replica.holds[key];
            let joins = has_lease || without == Some(Guard::NoJoiningWithoutLease);
            let from_another_s_read = joins
                && self.replica.read.as_ref().is_some_and(|read| {
                    read.key == key && read.is_on_board && read.is_live == Some(true)
                });
            self.writers[key] == Writer::Returned && (from_memory || from_another_s_read)
        })
    }

    /// Drops what was written after `since`, as far as the store still knows it: one version back.
    fn forget(&mut self, since: u8, version: u8, without: Option<Guard>) {
        let all = since + 1 < version && without != Some(Guard::DropAllWhenForgotten);
        for key in 0..KEYS {
            let known = version.saturating_sub(1).max(since);
            let changed = self.store.deleted[key].is_some_and(|at| at > known && at <= version);
            if all || changed {
                self.replica.holds[key] = false;
                if let Some(read) = self.replica.read.as_mut().filter(|read| read.key == key)
                    && without != Some(Guard::Fence)
                {
                    read.is_on_board = false;
                }
            }
        }
    }

    fn next(&self, bounds: Bounds, without: Option<Guard>) -> Vec<Self> {
        let mut next = Vec::new();
        let mut also = |change: &mut dyn FnMut(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            next.push(world);
        };
        if self.now < bounds.ticks {
            also(&mut |world| world.now += 1);
        }
        self.replica_acts(bounds, without, &mut also);
        for writer in 0..KEYS {
            self.writer_acts(writer, without, &mut also);
        }
        next
    }

    fn replica_acts(&self, bounds: Bounds, without: Option<Guard>, also: &mut Also<'_>) {
        match self.replica.renewal {
            None if self.replica.next == Next::Withdraw => also(&mut |world| {
                world.store.row = None;
                world.replica.next = Next::Enrol;
            }),
            None if self.replica.next == Next::Enrol => also(&mut |world| {
                world.replica.applied = 0;
                world.store.row = Some((world.replica.name, 0, false));
                world.replica.next = Next::Renew;
            }),
            None if self.renewals < bounds.renewals => also(&mut |world| {
                let (at, applied) = (world.now, world.replica.applied);
                world.replica.renewal = Some(Renewal::Asked { at, applied });
                world.renewals += 1;
            }),
            None => {}
            Some(Renewal::Asked { at, applied }) => {
                also(&mut |world| world.replica.renewal = None);
                also(&mut |world| {
                    let version = world.store.renew(world.replica.name, applied, without);
                    world.replica.renewal = Some(Renewal::Answered { at, version });
                });
            }
            Some(Renewal::Answered { at, version }) => {
                also(&mut |world| world.replica.renewal = None);
                also(&mut |world| {
                    world.replica.renewal = None;
                    let Some(version) = version else {
                        world.is_refused(without);
                        return;
                    };
                    world.forget(world.replica.applied, version, without);
                    world.replica.applied = version;
                    let from_now = without == Some(Guard::FromBeforeAsking);
                    let asked = if from_now { world.now } else { at };
                    world.replica.asked = world.replica.asked.max(Some(asked));
                });
            }
        }
        match &self.replica.read {
            None if self.reads < bounds.reads => {
                for key in 0..KEYS {
                    also(&mut |world| {
                        world.replica.read = Some(Read { key, is_live: None, is_on_board: true });
                        world.reads += 1;
                    });
                }
            }
            None => {}
            Some(Read { key, is_live: None, .. }) => also(&mut |world| {
                let is_live = world.store.deleted[*key].is_none();
                let read = world.replica.read.as_mut().unwrap();
                read.is_live = Some(is_live);
            }),
            Some(Read { key, is_live: Some(is_live), is_on_board }) => also(&mut |world| {
                if *is_on_board {
                    world.replica.holds[*key] = *is_live;
                }
                world.replica.read = None;
            }),
        }
        if self.crashes < bounds.crashes {
            also(&mut |world| {
                world.crashes += 1;
                world.replica = Memory {
                    name: world.replica.name + 1,
                    holds: [false; KEYS],
                    applied: 0,
                    asked: None,
                    renewal: None,
                    read: None,
                    next: first(without),
                };
            });
        }
    }

    fn is_refused(&mut self, without: Option<Guard>) {
        self.replica.next = if without == Some(Guard::NewName) {
            Next::Enrol
        } else {
            self.replica.name += 1;
            Next::Withdraw
        };
        if without != Some(Guard::GiveUpFirst) {
            self.replica.asked = None;
        }
    }

    fn writer_acts(&self, number: usize, without: Option<Guard>, also: &mut Also<'_>) {
        match &self.writers[number] {
            Writer::Idle => also(&mut |world| world.writers[number] = Writer::Sent(world.now)),
            Writer::Sent(sent) => also(&mut |world| {
                world.store.version += 1;
                world.store.deleted[number] = Some(world.store.version);
                let early = without == Some(Guard::WaitFromTheCommit);
                let since = if early { *sent } else { world.now };
                world.writers[number] = Writer::Waits { since, began: None };
            }),
            Writer::Waits { since, began } => {
                also(&mut |world| world.look(number, *since, *began, without));
                // The store cannot be asked, and the time is over.
                if ticks(self.now - since) >= LEASE {
                    also(&mut |world| world.writers[number] = Writer::Returned);
                }
            }
            Writer::Returned => {}
        }
    }

    /// A writer looks at the roll, and does what the code says.
    fn look(&mut self, number: usize, since: u8, began: Option<Began>, without: Option<Guard>) {
        let (first, roll) = (self.store.row, self.store.roll());
        let elapsed = ticks(self.now - since);
        let settling = match began {
            None => Settling::begin(&roll, elapsed),
            Some((version, first, seen)) => Settling {
                version: Version::new(u64::from(version)),
                first: first.map(enrolled).into_iter().collect(),
                seen: ticks(seen),
            },
        };
        let mut step = settling.step(&roll, elapsed);
        if without == Some(Guard::WaitForTheSilent) && matches!(step, Step::Suspect(..)) {
            step = Step::Over(Vec::new());
        }
        if without == Some(Guard::LongSuspicion)
            && let Step::Over(gone) = &mut step
        {
            *gone = roll.replicas.iter().filter(|one| one.is_suspected).map(|one| one.id).collect();
        }
        match step {
            Step::Over(gone) => {
                self.store.row = self.store.row.filter(|(one, ..)| !gone.contains(&id(*one)));
                self.writers[number] = Writer::Returned;
                return;
            }
            Step::Suspect(silent) => {
                if let Some((one, _, is_suspected)) = &mut self.store.row {
                    *is_suspected |= silent.contains(&id(*one));
                }
            }
            Step::Wait => {}
        }
        if began.is_none() {
            let version = u8::try_from(settling.version.get()).unwrap();
            let began = Some((version, first, self.now - since));
            self.writers[number] = Writer::Waits { since, began };
        }
    }
}

impl Store {
    fn renew(&mut self, replica: u8, applied: u8, without: Option<Guard>) -> Option<u8> {
        let version = self.version;
        let Some((one, noted, is_suspected)) = &mut self.row else {
            return (without == Some(Guard::Roll)).then_some(version);
        };
        let is_refused = *is_suspected && without != Some(Guard::Suspicion);
        if *one != replica || is_refused {
            return (without == Some(Guard::Roll)).then_some(version);
        }
        *noted = if without == Some(Guard::DropThenTell) { version } else { applied };
        Some(version)
    }

    fn roll(&self) -> Roll {
        let replicas = self.row.map(enrolled).into_iter().collect();
        Roll { version: Version::new(u64::from(self.version)), replicas }
    }
}

/// What a replica does first.
fn first(without: Option<Guard>) -> Next {
    if without == Some(Guard::Roll) { Next::Renew } else { Next::Enrol }
}

/// Looks at everything that can happen; how many worlds there are, and whether one of them lets a
/// deleted key in.
fn explore(bounds: Bounds, without: Option<Guard>) -> (usize, Option<usize>) {
    let start = World::new(bounds.start, without);
    let mut seen = HashSet::from([start.clone()]);
    let mut left = vec![start];
    while let Some(world) = left.pop() {
        if let Some(key) = world.violation(without) {
            return (seen.len(), Some(key));
        }
        for next in world.next(bounds, without) {
            if seen.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    (seen.len(), None)
}

/// Each is explored in full.
const OLD: Bounds = Bounds { start: Start::Enrolled, ticks: 4, renewals: 2, reads: 0, crashes: 0 };
const READS: Bounds =
    Bounds { start: Start::Enrolled, ticks: 2, renewals: 2, reads: 1, crashes: 0 };
const CRASHES: Bounds =
    Bounds { start: Start::Enrolled, ticks: 3, renewals: 2, reads: 0, crashes: 1 };
const SUSPECTED: Bounds =
    Bounds { start: Start::Suspected, ticks: 4, renewals: 2, reads: 0, crashes: 0 };
const NEW: Bounds = Bounds { start: Start::New, ticks: 2, renewals: 2, reads: 1, crashes: 0 };

#[test]
fn no_deleted_key_is_ever_let_in() {
    let longer =
        std::env::var("TOWER_API_KEY_MODEL_LONGER").map_or(0, |ticks| ticks.parse().unwrap());
    std::thread::scope(|scope| {
        for mut bounds in [OLD, READS, CRASHES, SUSPECTED, NEW] {
            bounds.ticks += longer;
            scope.spawn(move || {
                let (worlds, violation) = explore(bounds, None);
                println!("{worlds} worlds in {} ticks", bounds.ticks);
                assert_eq!(violation, None);
            });
        }
    });
}

#[test]
fn without_any_one_guard_a_deleted_key_is_let_in() {
    for (guard, bounds) in GUARDS {
        let (worlds, violation) = explore(bounds, Some(guard));
        println!("{guard:?}: found after {worlds} worlds");
        assert!(violation.is_some(), "without {guard:?}");
    }
}
