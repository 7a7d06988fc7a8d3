//! A stretch of network between a client and a server, which can fail. Knows no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{free_port, local};

/// Listens on a port of its own and forwards both ways; its tasks belong to the test's runtime.
pub(crate) struct Wire {
    port: u16,
    line: Arc<Line>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Whole,
    /// Nothing listens and no connection is open.
    Cut,
    /// Connections are accepted and stay open, and nothing passes.
    Silent,
}

/// What the tasks of a wire share.
struct Line {
    server: SocketAddr,
    state: watch::Sender<State>,
    /// How many bytes still pass towards the server before the wire cuts itself.
    left: AtomicU64,
    /// How many bytes have passed towards the server.
    passed: AtomicU64,
    /// The listener and the open connections.
    open: watch::Sender<usize>,
}

impl Wire {
    /// A whole wire to a server.
    pub(crate) async fn to(port: u16) -> Self {
        let (state, open) = (watch::Sender::new(State::Whole), watch::Sender::new(0));
        let (left, passed) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let line = Arc::new(Line { server: local(port), state, left, passed, open });
        let port = free_port();
        tokio::spawn(listen(Arc::clone(&line), port));
        let wire = Self { port, line };
        wire.heal().await;
        wire
    }

    /// The port by which the server is reached.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that passed towards the server so far.
    pub(crate) fn passed(&self) -> u64 {
        self.line.passed.load(Ordering::SeqCst)
    }

    /// Closes all connections and refuses new ones.
    pub(crate) async fn cut(&self) {
        self.line.state.send_replace(State::Cut);
        self.line.open_are(|open| open == 0).await;
    }

    /// Leaves connections open, accepts new ones, and forwards nothing.
    pub(crate) fn blackhole(&self) {
        self.line.state.send_replace(State::Silent);
    }

    /// Cuts itself once this many more bytes have reached the server: in the middle of a statement,
    /// or before its answer.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.line.left.store(bytes, Ordering::SeqCst);
    }

    /// Forwards again. What a [`blackhole`](Self::blackhole) held back arrives now.
    pub(crate) async fn heal(&self) {
        self.line.left.store(u64::MAX, Ordering::SeqCst);
        // Whole only after every connection of before has seen the cut.
        if *self.line.state.borrow() == State::Cut {
            self.cut().await;
        }
        self.line.state.send_replace(State::Whole);
        self.line.open_are(|open| open > 0).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.line.state.send_replace(State::Cut);
    }
}

/// Counts one more thing as open while it lives.
struct Open(Arc<Line>);

impl Open {
    fn new(line: &Arc<Line>) -> Self {
        line.open.send_modify(|open| *open += 1);
        Self(Arc::clone(line))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

async fn listen(line: Arc<Line>, port: u16) {
    loop {
        line.becomes(|state| state != State::Cut).await;
        // Whoever looks for a free port holds it for a moment.
        let Ok(listener) = TcpListener::bind(local(port)).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let open = Open::new(&line);
        loop {
            tokio::select! {
                () = line.becomes(|state| state == State::Cut) => break,
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    tokio::spawn(forward(Open::new(&line), client));
                }
            }
        }
        drop(listener);
        drop(open);
    }
}

async fn forward(open: Open, client: TcpStream) {
    let line = &open.0;
    tokio::select! {
        () = line.becomes(|state| state == State::Cut) => {}
        () = line.connection(client) => {}
    }
}

impl Line {
    async fn becomes(&self, wanted: impl Fn(State) -> bool) {
        // The sender is in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|&state| wanted(state)).await;
    }

    /// Waits until so many things are open.
    async fn open_are(&self, wanted: impl Fn(usize) -> bool) {
        let mut open = self.open.subscribe();
        let reached = open.wait_for(|&open| wanted(open));
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        reached.expect("a wire opens and closes at once").unwrap();
    }

    async fn connection(&self, mut client: TcpStream) {
        let Some(held_back) = self.until_it_reaches(&mut client).await else { return };
        // A server that is down is a client that is turned away.
        let Ok(mut server) = TcpStream::connect(self.server).await else { return };
        if server.write_all(&held_back).await.is_err() {
            return;
        }
        self.passed.fetch_add(held_back.len() as u64, Ordering::SeqCst);
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tokio::select! {
            () = self.pump(from_client, to_server, true) => {}
            () = self.pump(from_server, to_client, false) => {}
        }
    }

    /// What a client has said until the wire lets it through; `None` when it went away before. (Of
    /// one that did, a network that loses packets brings nothing to the server afterwards.)
    async fn until_it_reaches(&self, client: &mut TcpStream) -> Option<Vec<u8>> {
        let mut said = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.becomes(|state| state != State::Silent) => return Some(said),
                read = client.read_buf(&mut said) => if !matches!(read, Ok(1..)) { return None },
            }
        }
    }

    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: bool) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
            self.becomes(|state| state != State::Silent).await;
            let (pass, cut) = if counts { self.allowance(read) } else { (read, false) };
            let written = to.write_all(&buffer[..pass]).await;
            if counts {
                self.passed.fetch_add(pass as u64, Ordering::SeqCst);
            }
            if cut {
                self.state.send_replace(State::Cut);
            }
            if written.is_err() || cut {
                return;
            }
        }
    }

    /// How many of so many bytes may pass, and whether the wire is then to be cut.
    fn allowance(&self, wanted: usize) -> (usize, bool) {
        let wanted = wanted as u64;
        let take = |left: u64| (left != u64::MAX).then(|| left.saturating_sub(wanted));
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(left) => {
                let pass = left.min(wanted);
                (usize::try_from(pass).unwrap(), left <= wanted)
            }
            Err(_) => (usize::try_from(wanted).unwrap(), false),
        }
    }
}
