//! A PostgreSQL server. Started as `postgres` itself: `pg_ctl` would let go of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use super::folder::Folder;
use super::process::Process;
use super::{free_port, left_out, present, program, we_are_root};

/// The password of every server that asks for one.
const PASSWORD: &str = "a pass/word";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "a%20pass%2Fword";

/// The end of a server that does not wait for its clients, and takes its shared memory away.
const IMMEDIATE: &str = "QUIT";

/// A server; every test may have databases of its own in it, or a server of its own.
pub(crate) struct Postgres {
    // In this order: the process ends before its folder goes.
    process: Mutex<Option<Process>>,
    program: PathBuf,
    data: PathBuf,
    port: u16,
    options: Options,
    folder: Folder,
}

/// How a server differs from the one that most tests need.
#[derive(Clone, Default)]
pub(crate) struct Options {
    durable: bool,
    tls: bool,
    password: bool,
    settings: Vec<String>,
    place: Option<PathBuf>,
}

impl Options {
    /// What is committed survives `kill`: `fsync` is on, which costs every commit some milliseconds.
    /// (A kill of processes alone loses nothing that was written; a test must not rely on it.)
    pub(crate) fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Accepts connections over TLS only, by a certificate that [`Postgres::certificate`] is.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Asks for a password (SCRAM).
    pub(crate) fn password(mut self) -> Self {
        self.password = true;
        self
    }

    /// A setting of `postgresql.conf`.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Where the data goes.
    pub(crate) fn on(mut self, place: &Path) -> Self {
        self.place = Some(place.to_owned());
        self
    }

    /// Starts the server, or leaves the running test out.
    pub(crate) fn start(self) -> Option<Postgres> {
        present(Postgres::with(&self))
    }
}

impl Postgres {
    /// A server of its own, whose commits are not synced; or leaves the running test out.
    pub(crate) fn start() -> Option<Self> {
        Self::options().start()
    }

    pub(crate) fn options() -> Options {
        Options::default()
    }

    /// The one server of this process, for tests that leave it alive.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::with(&Options::default())).as_ref();
        shared.map_err(|reason| left_out(reason)).ok()
    }

    fn with(options: &Options) -> Result<Self, String> {
        let template = template()?;
        let mut tries = 0..3;
        loop {
            let server = Self::prepare(template, options.clone());
            match server.run() {
                Ok(()) => return Ok(server),
                // Another process may have taken the port at the same moment.
                Err(said) => assert!(tries.next().is_some(), "{said}"),
            }
        }
    }

    fn prepare(template: &Template, options: Options) -> Self {
        let folder = Folder::new();
        let data = options.place.as_deref().unwrap_or(folder.path()).join("data");
        template.user.give(folder.path());
        copy(template.folder.path(), &data);
        let host = if options.tls { "hostssl" } else { "host" };
        let method = if options.password { "scram-sha-256" } else { "trust" };
        let rule = format!("{host} all all 127.0.0.1/32 {method}\n");
        fs::write(data.join("pg_hba.conf"), rule).unwrap();
        if options.tls {
            certify(&data, &template.user);
        }
        let process = Mutex::new(None);
        let port = free_port();
        Self { process, program: template.bin.join("postgres"), data, port, options, folder }
    }

    fn run(&self) -> Result<(), String> {
        let on = |flag: bool| if flag { "on" } else { "off" };
        let mut command = Command::new(&self.program);
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        for setting in [
            format!("fsync={}", on(self.options.durable)),
            format!("full_page_writes={}", on(self.options.durable)),
            format!("ssl={}", on(self.options.tls)),
            "max_connections=200".to_owned(),
            "shared_buffers=16MB".to_owned(),
            "unix_socket_directories=".to_owned(),
            // One call after a crash in place of one for each file.
            "recovery_init_sync_method=syncfs".to_owned(),
            // In the data folder, and gone with it.
            "dynamic_shared_memory_type=mmap".to_owned(),
        ] {
            command.args(["-c", &setting]);
        }
        for setting in &self.options.settings {
            command.args(["-c", setting]);
        }
        User::of_servers().runs(&mut command);
        let mut process = Process::start(&mut command, &self.log(), IMMEDIATE);
        let state = self.data.join("postmaster.pid");
        process.until(|id| {
            // Its lines: the process, …, and as the eighth how far it is.
            let text = fs::read_to_string(&state).unwrap_or_default();
            let mut lines = text.lines();
            lines.next() == Some(&id.to_string())
                && matches!(lines.nth(6).map(str::trim_end), Some("ready" | "standby"))
        })?;
        *self.process.lock().unwrap() = Some(process);
        Ok(())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the server said so far.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The certificate that signs itself, in PEM.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.data.join("server.crt")
    }

    /// Where a database is; with the password and the kind of TLS that the server needs.
    pub(crate) fn url(&self, database: &str) -> String {
        self.url_by(self.port, database)
    }

    /// The same by way of another port.
    pub(crate) fn url_by(&self, port: u16, database: &str) -> String {
        let password =
            if self.options.password { format!(":{PASSWORD_IN_URL}") } else { String::new() };
        let tls = if self.options.tls {
            format!("?sslmode=verify-full&sslrootcert={}", self.certificate().display())
        } else {
            "?sslmode=disable".to_owned()
        };
        format!("postgres://postgres{password}@127.0.0.1:{port}/{database}{tls}")
    }

    /// The URL of a new, empty database.
    pub(crate) async fn fresh_database(&self) -> String {
        self.url(&self.new_database().await)
    }

    /// The name of a new, empty database.
    pub(crate) async fn new_database(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("fresh_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        name
    }

    /// Runs statements in a database, as its superuser.
    pub(crate) async fn execute(&self, database: &str, statements: &str) {
        use sqlx::Connection as _;
        let mut connection = sqlx::PgConnection::connect(&self.url(database)).await.unwrap();
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// What a statement with one whole number as its answer says.
    pub(crate) async fn number(
        &self,
        database: &str,
        statement: &'static str,
    ) -> Result<i64, sqlx::Error> {
        number(&self.url(database), statement).await
    }

    /// SIGKILL for all of its processes; returns when they are gone.
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap().take();
        process.expect("it runs").kill();
    }

    /// Starts again after [`kill`](Self::kill), on the same port and data; returns when it is ready.
    pub(crate) fn restart(&self) {
        drop(self.process.lock().unwrap().take());
        self.run().unwrap();
    }

    /// Comes back as a standby that follows nobody: it answers, and is in recovery for good.
    pub(crate) fn become_standby(&self) {
        self.kill();
        fs::write(self.data.join("standby.signal"), "").unwrap();
        self.restart();
    }

    /// Stops all of its processes without ending them: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").pause();
    }

    pub(crate) fn resume(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").resume();
    }
}

/// What a statement with one whole number as its answer says.
pub(crate) async fn number(url: &str, statement: &'static str) -> Result<i64, sqlx::Error> {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let number = sqlx::query_scalar(statement).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(number)
}

/// A data folder fresh from `initdb`, made once and copied from then on.
struct Template {
    bin: PathBuf,
    user: User,
    folder: Folder,
}

fn template() -> Result<&'static Template, String> {
    static TEMPLATE: OnceLock<Result<Template, String>> = OnceLock::new();
    TEMPLATE.get_or_init(Template::make).as_ref().map_err(Clone::clone)
}

impl Template {
    fn make() -> Result<Self, String> {
        let bin = bin().ok_or("no PostgreSQL server found: install postgresql")?;
        let user = User::of_servers();
        let folder = Folder::new();
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        user.give(folder.path());
        user.give(&password);
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.arg("-D").arg(folder.path().join("data")).arg("--pwfile").arg(&password);
        // Short pieces of log, so that a copy, and a small disk, has less to hold.
        initdb.args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]);
        user.runs(&mut initdb);
        let output = initdb.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { bin, user, folder })
    }
}

/// Where `postgres` and `initdb` are: distributions leave them off the path.
fn bin() -> Option<PathBuf> {
    let named = Command::new("pg_config").arg("--bindir").output().ok();
    let named = named.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut others: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    others.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    others.reverse();
    others.splice(0..0, named);
    let postgres = program("postgres", &others)?;
    // A link on the path may stand alone.
    let bin = fs::canonicalize(postgres).unwrap().parent().unwrap().to_owned();
    bin.join("initdb").is_file().then_some(bin)
}

/// Whom a server runs as: PostgreSQL and its poolers refuse to be root.
#[derive(Clone, Copy)]
pub(crate) struct User {
    ids: Option<(u32, u32)>,
}

impl User {
    /// Ourselves; `postgres`, or else `nobody`, when we are root.
    pub(crate) fn of_servers() -> Self {
        let ids = we_are_root().then(|| ids("postgres").or_else(|| ids("nobody")).unwrap());
        Self { ids }
    }

    pub(crate) fn runs(self, command: &mut Command) {
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
    }

    pub(crate) fn give(self, path: &Path) {
        if let Some((user, group)) = self.ids {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

fn ids(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.into_iter().find(|fields| fields[0] == name)?;
    Some((user[2].parse().ok()?, user[3].parse().ok()?))
}

fn copy(template: &Path, data: &Path) {
    let status = Command::new("cp").arg("-a").arg(template.join("data")).arg(data).status();
    assert!(status.unwrap().success(), "no room for a copy?");
}

fn certify(data: &Path, user: &User) {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    for (file, pem) in
        [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())]
    {
        let path = data.join(file);
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        user.give(&path);
    }
}
