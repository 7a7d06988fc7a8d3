//! A server's process and its children: killed, paused, resumed. Knows no protocol.

use std::fs::{File, read_to_string};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::folder::Watchdog;

/// Sends signal `$1` to process `$2` and its children. They are looked up because a group would not
/// hold them: each of PostgreSQL's makes one of its own. Their parent is stopped first, so that it
/// has no more of them meanwhile.
const SIGNAL: &str = r#"
signal() {
    kill -STOP "$2"
    family=$2
    for stat in /proc/[0-9]*/stat; do
        read -r id name state parent rest 2>/dev/null <"$stat" || continue
        [ "$parent" != "$2" ] || family="$family $id"
    done
    # A child may have ended meanwhile.
    kill "-$1" $family || kill -0 "$2"
}
"#;

/// Ends process `$1`: `kill` at once with all its children, anything else by signal `$2` first, with
/// five seconds' time. Returns when all are gone: until then they hold the data.
const END: &str = r#"
gone() { ! read -r id name state rest 2>/dev/null <"/proc/$1/stat" || [ "$state" = Z ]; }
if [ "$line" != kill ]; then
    signal CONT "$1"
    kill "-$2" "$1"
    for i in 1 2 3 4 5 6 7 8 9 10; do gone "$1" || sleep 0.05; done
    for i in 1 2 3 4 5 6 7 8 9; do gone "$1" || sleep 0.5; done
fi
signal KILL "$1"
for one in $family; do until gone "$one"; do sleep 0.01; done; done
"#;

/// Longest time for a server to come up; recovery after a crash included.
const START: Duration = Duration::from_mins(1);

/// A process that ends when it is dropped, or when the tests do.
pub(crate) struct Process {
    child: Child,
    watchdog: Option<Watchdog>,
    log: PathBuf,
}

impl Process {
    /// `farewell` is the signal at which it clears up after itself and ends without waiting.
    pub(crate) fn start(command: &mut Command, log: &Path, farewell: &str) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        // Ctrl-C is for the tests; the watchdog sees to the servers then.
        let child = command.process_group(0).spawn().unwrap();
        let arguments = [child.id().to_string(), farewell.to_owned()];
        let watchdog = Watchdog::new(&format!("{SIGNAL}{END}"), &arguments);
        Self { child, watchdog: Some(watchdog), log: log.to_owned() }
    }

    /// Waits until it is ready; an error with its last words when it ends instead.
    pub(crate) fn until(&mut self, is_ready: impl Fn(u32) -> bool) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if is_ready(self.child.id()) {
                return Ok(());
            }
            let ended = self.child.try_wait().unwrap().is_some();
            if ended || start.elapsed() > START {
                let log = read_to_string(&self.log).unwrap_or_default();
                return Err(format!("the server did not come up (ended: {ended}): {log}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, for the children too. All are gone when it returns.
    pub(crate) fn kill(mut self) {
        self.watchdog.take().unwrap().run("kill");
    }

    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let script = format!(r#"{SIGNAL}signal "$@""#);
        let id = self.child.id().to_string();
        let status = Command::new("sh").args(["-c", &script, "signal", name, &id]).status();
        assert!(status.unwrap().success(), "{name}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.watchdog.take());
        let _ = self.child.wait();
    }
}
