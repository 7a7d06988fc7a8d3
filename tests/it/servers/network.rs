//! A network of its own for some process, of which a part can fail: what the process asks gets nowhere,
//! while whoever asks the process is still answered.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, TcpStream};

use super::{local, privileged, say_left_out, we_are_root};

/// A network namespace with two cables to this machine: one for those who ask its processes, one for
/// what those ask. Gone when dropped.
pub(crate) struct Network {
    name: String,
    number: u32,
}

impl Network {
    /// A whole network, or leaves the running test out where the machine does not allow one.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !we_are_root() {
            say_left_out(
                "no network of its own: its processes would be root's, and not ours to end",
            );
            return None;
        }
        let number = (std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed)) % 256;
        let network = Self { name: format!("api-key-{number}"), number };
        network.build().map_err(|reason| say_left_out(&reason)).ok().map(|()| network)
    }

    fn build(&self) -> Result<(), String> {
        let name = &self.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for (cable, range) in [("a", 18), ("b", 19)] {
            let (here, there) = (self.end(cable), format!("there-{cable}"));
            ip(&format!("link add {here} type veth peer name {there} netns {name}"))?;
            ip(&format!("addr add 198.{range}.{}.1/30 dev {here}", self.number))?;
            ip(&format!("-n {name} addr add 198.{range}.{}.2/30 dev {there}", self.number))?;
            ip(&format!("link set {here} up"))?;
            ip(&format!("-n {name} link set {there} up"))?;
        }
        Ok(())
    }

    /// This machine's end of a cable. Fifteen characters are the most.
    fn end(&self, cable: &str) -> String {
        format!("api-key-{}-{cable}", self.number)
    }

    /// A command that runs in it.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        let mut words = privileged("ip").into_iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Where its processes listen for those who ask from outside.
    pub(crate) fn address(&self) -> String {
        format!("198.18.{}.2:0", self.number)
    }

    /// Where those come from.
    pub(crate) fn clients(&self) -> String {
        format!("198.18.{}.1/32", self.number)
    }

    /// Lets its processes reach a server of this machine; where it then is for them. For as long as the
    /// runtime of the test.
    pub(crate) async fn reaches(&self, port: u16) -> String {
        let listener = TcpListener::bind((format!("198.19.{}.1", self.number), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(local(port)).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        address.to_string()
    }

    /// From now on nothing passes between its processes and what they ask, and nobody is told.
    pub(crate) fn cut(&self) {
        ip(&format!("link set {} down", self.end("b"))).unwrap();
    }

    pub(crate) fn heal(&self) {
        ip(&format!("link set {} up", self.end("b"))).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cables go with their other ends.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let mut words = privileged("ip").into_iter();
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("no network of its own: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let failed = || format!("no network of its own: ip {arguments}: {}", said.trim());
    output.status.success().then_some(()).ok_or_else(failed)
}
