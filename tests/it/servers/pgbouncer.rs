//! A PgBouncer in front of a PostgreSQL server: a connection belongs to a client for the length of
//! one transaction, so that nothing of a session may be relied on.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use super::folder::Folder;
use super::postgres::{Postgres, User};
use super::process::Process;
use super::{free_port, local, present, program};

/// A pooler of the server's databases.
pub(crate) struct PgBouncer {
    // In this order: the process ends before its folder goes.
    _process: Process,
    port: u16,
    _folder: Folder,
}

impl PgBouncer {
    /// A pooler, or leaves the running test out. The server must not ask for a password.
    pub(crate) fn start(server: &Postgres) -> Option<Self> {
        present(Self::with(server))
    }

    fn with(server: &Postgres) -> Result<Self, String> {
        let program = program("pgbouncer", &[]).ok_or("no PgBouncer found: install pgbouncer")?;
        let folder = Folder::new();
        let port = free_port();
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = 10\n\
             max_client_conn = 500\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.port()
        );
        fs::write(&settings, text).unwrap();
        let user = User::of_servers();
        user.give(folder.path());
        let mut command = Command::new(program);
        user.runs(command.arg(&settings));
        let mut process = Process::start(&mut command, &folder.path().join("log"), "KILL");
        process.until(|_| TcpStream::connect(local(port)).is_ok())?;
        Ok(Self { _process: process, port, _folder: folder })
    }

    /// Where a database is, by way of the pooler.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}
