//! Folders and processes that are cleared away also when the tests die. Knows no server.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A shell that waits for a line from this process, or for its death, and then runs a script.
///
/// A value in a `static` is never dropped, and a killed process drops nothing; its end of the pipe
/// is closed all the same. To clear away this way always, also on drop, keeps it in one place.
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// The script finds the line in `$line`, and its arguments in `$1` and on.
    pub(crate) fn new<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("read -r line; {script}")).arg("watchdog").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // In a group of its own, so that Ctrl-C leaves it alive to do its work.
        Self { shell: command.process_group(0).spawn().unwrap() }
    }

    /// Runs the script with this line, and waits for its end.
    pub(crate) fn run(mut self, line: &str) {
        let mut pipe = self.shell.stdin.take().unwrap();
        writeln!(pipe, "{line}").unwrap();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Writes whatever reads as a key in folder `$1` to file `$2`.
pub(crate) const SEARCH: &str = r#"
LC_ALL=C grep -raoE '[a-z][a-z0-9]+_([a-z0-9]+_)?[0-9A-Za-z]{49}' -- "$1" >>"$2" 2>/dev/null
"#;

/// Says where searches leave what they find, where that is not among the other things of the tests.
pub(crate) const SEARCHES: &str = "TOWER_API_KEY_TEST_SEARCHES";

fn searches() -> PathBuf {
    std::env::var_os(SEARCHES).map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// A new empty folder, removed with all that is in it.
pub(crate) struct Folder {
    path: PathBuf,
    _watchdog: Watchdog,
}

impl Folder {
    pub(crate) fn new() -> Self {
        // Once more, for what dies at the same moment and still writes.
        Self::with_end(r#"rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }"#)
    }

    /// A folder that is searched for keys at its end, before this script is run; its path is `$1`. The search
    /// is the shell's work too, so that nothing gets around it. `tests/run.sh` looks whether it found any, once
    /// nothing is left in the folder `searching`: a shell may outlive the tests. It does not wait for the script, since
    /// a slow disk takes minutes to remove the databases of a thousand tests.
    pub(crate) fn with_end(script: &str) -> Self {
        let path = tempfile::Builder::new().prefix("tower-api-key-").tempdir().unwrap().keep();
        let searches = searches();
        let searching = searches.join("searching");
        fs::create_dir_all(&searching).unwrap();
        let mark = searching.join(path.file_name().unwrap());
        fs::write(&mark, "").unwrap();
        let script = format!("{SEARCH}\nrm -- \"$3\"\n{script}");
        let arguments = [&path, &searches.join("keys-found"), &mark];
        Self { _watchdog: Watchdog::new(&script, &arguments), path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
