//! A small disk that can be full, or read only.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder::Folder;
use super::{privileged, say_left_out};

/// A disk of its own, in memory; unmounted and gone when dropped.
pub(crate) struct Disk {
    folder: Folder,
}

impl Disk {
    /// An empty disk, or leaves the running test out where mounting is not allowed.
    pub(crate) fn of_megabytes(size: u32) -> Option<Self> {
        let options = format!("size={size}m,mode=0777");
        allowed(Self::mounted(&["-t", "tmpfs", "-o", &options, "tmpfs"]))
    }

    /// Another view of a folder, through which nothing can be written.
    pub(crate) fn read_only(of: &Path) -> Option<Self> {
        let disk = allowed(Self::mounted(&["--bind", of.to_str().unwrap()]))?;
        mount(&["-o", "remount,ro,bind"], disk.path()).unwrap();
        Some(disk)
    }

    fn mounted(arguments: &[&str]) -> Result<Self, String> {
        // Not `rm -rf`: what is seen through a mount that stays may be somebody else's.
        let umount = format!(r#"{} -l "$1"; rmdir "$1""#, privileged("umount").join(" "));
        let folder = Folder::with_end(&umount);
        mount(arguments, folder.path())?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Gives the room back that [`fill`](Self::fill) took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

/// What was mounted, or `None` when the running test is left out: also where all servers are required,
/// because no package gives the right to mount.
fn allowed(mounted: Result<Disk, String>) -> Option<Disk> {
    mounted.map_err(|reason| say_left_out(&reason)).ok()
}

fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
    let command = privileged("mount");
    let output = Command::new(command[0]).args(&command[1..]).args(arguments).arg(at).output();
    let output = output.map_err(|error| format!("no mount: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or(format!("cannot mount: {}", said.trim()))
}
