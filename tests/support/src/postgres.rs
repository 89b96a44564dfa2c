//! A PostgreSQL of one's own: one server for each test process, and a new database for each test. It goes with the process,
//! however that ends.
//!
//! ```ignore
//! let url = support::postgres::database();
//! ```

use std::{
    env, fs,
    io::Write,
    os::unix::{fs::chown, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Debian's `nobody`: a server does not run as root.
const NOBODY: u32 = 65534;
/// How long a server may take to answer.
const START: Duration = Duration::from_secs(60);

/// A server in a folder of its own, reached by a socket in there.
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// Ends the server, and removes its folder, once its input is closed: with this process at the latest.
    shell: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        _ = self.shell.wait();
    }
}

/// Whether there is a server to start.
pub fn is_installed() -> bool {
    find_programs().is_some()
}

fn programs() -> PathBuf {
    find_programs()
        .expect("PostgreSQL is not installed: apt-get install postgresql, or set POSTGRES_BIN to its bin folder")
}

/// The folder of the server's programs, the newest that there is.
fn find_programs() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("POSTGRES_BIN") {
        return Some(folder.into());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop()
}

/// A program, as somebody who is not root.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin").current_dir("/").stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").expect("the process's own folder").uid() == 0
}

fn succeeded(what: &str, output: Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {said}", output.status);
}

impl Server {
    /// Makes a cluster and starts its server, with more lines for its configuration. Nothing of it is synced to disk: what
    /// is tested here ends processes, and leaves the machine running.
    pub fn start(configuration: &str) -> Self {
        let (programs, folder) = (programs(), new_folder("ivm-postgres"));
        let mut initdb = as_nobody(&programs.join("initdb"));
        initdb.arg("--pgdata").arg(folder.join("data")).args(["--username=postgres", "--auth=trust", "--no-sync"]);
        succeeded("initdb", initdb.args(["--encoding=UTF8", "--locale=C"]).output().expect("initdb runs"));
        let mut lines = fs::OpenOptions::new();
        let mut lines = lines.append(true).open(folder.join("data/postgresql.conf")).expect("the configuration");
        let own = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nmax_connections = 200\n\
             log_min_messages = fatal\n",
            folder.display()
        );
        lines.write_all((own + configuration).as_bytes()).expect("the configuration is written");
        let server = Self { shell: run(&programs, &folder), programs, folder };
        server.await_answer();
        server
    }

    /// A replica of this server, which receives what is committed a little later.
    pub fn replica(&self) -> Self {
        let (programs, folder) = (programs(), new_folder("ivm-postgres"));
        let mut backup = as_nobody(&programs.join("pg_basebackup"));
        backup.arg("--host").arg(&self.folder).arg("--pgdata").arg(folder.join("data")).arg("--username=postgres");
        backup.args(["--wal-method=stream", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        succeeded("pg_basebackup", backup.output().expect("pg_basebackup runs"));
        let lines = fs::OpenOptions::new().append(true).open(folder.join("data/postgresql.conf"));
        let own = format!("unix_socket_directories = '{}'\n", folder.display());
        lines.expect("the configuration").write_all(own.as_bytes()).expect("the configuration is written");
        let server = Self { shell: run(&programs, &folder), programs, folder };
        server.await_answer();
        server
    }

    /// Waits until this replica has all that the server has committed; from then on it receives nothing more.
    pub fn catch_up_and_lag(&self, server: &Self) {
        let committed = server.asked("postgres", "SELECT pg_current_wal_lsn()");
        let has_it = format!("SELECT pg_last_wal_replay_lsn() >= '{committed}'");
        let began = Instant::now();
        while self.asked("postgres", &has_it) != "t" {
            assert!(began.elapsed() < START, "the replica does not receive");
            thread::sleep(Duration::from_millis(20));
        }
        for text in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
            self.run_sql("postgres", text);
        }
        while self.asked("postgres", "SELECT COUNT(*) FROM pg_stat_wal_receiver") != "0" {
            assert!(began.elapsed() < START, "the replica goes on receiving");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has this replica take the server's place.
    pub fn promote(&self) {
        let mut promote = as_nobody(&self.programs.join("pg_ctl"));
        promote.arg("--pgdata").arg(self.folder.join("data")).args(["--wait", "promote"]);
        succeeded("promote", promote.output().expect("pg_ctl runs"));
    }

    /// The first column of the one row that a statement returns.
    pub fn asked(&self, database: &str, text: &str) -> String {
        let mut psql = self.psql(database, text);
        let output = psql.args(["--tuples-only", "--no-align"]).output().expect("psql runs");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        succeeded(text, output);
        said
    }

    fn psql(&self, database: &str, text: &str) -> Command {
        let mut psql = as_nobody(&self.programs.join("psql"));
        psql.arg("--host").arg(&self.folder).args(["--username=postgres", "--no-psqlrc", "--quiet"]);
        psql.args(["--set=ON_ERROR_STOP=1", "--dbname", database, "--command", text]);
        psql
    }

    fn await_answer(&self) {
        let began = Instant::now();
        let mut ready = as_nobody(&self.programs.join("pg_isready"));
        ready.arg("--host").arg(&self.folder).stdout(Stdio::null());
        while !ready.status().expect("pg_isready runs").success() {
            assert!(began.elapsed() < START, "the server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a database; its URL.
    pub fn database(&self) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", DATABASES.fetch_add(1, Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"));
        through(&self.folder, &name)
    }

    /// Runs statements in a database, as its administrator.
    pub fn run_sql(&self, database: &str, text: &str) {
        succeeded(text, self.psql(database, text).output().expect("psql runs"));
    }

    /// Ends the server as a crash would, and starts it anew.
    pub fn crash_and_restart(&self) {
        let mut stop = as_nobody(&self.programs.join("pg_ctl"));
        stop.arg("--pgdata").arg(self.folder.join("data")).args(["--mode=immediate", "restart"]);
        stop.arg("--log").arg(self.folder.join("log")).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(stop.status().expect("pg_ctl runs").success(), "the server was not restarted");
        self.await_answer();
    }

    /// The folder with its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A pgbouncer before a server, in transaction mode: each transaction of a client may be on another of its connections.
pub struct Pooler {
    folder: PathBuf,
    shell: Child,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        _ = self.shell.wait();
    }
}

impl Pooler {
    /// Before this server, with so few connections to it that clients have to take turns.
    pub fn before(server: &Server) -> Self {
        Self::with(server, 3)
    }

    /// Before this server, with so many connections to each of its databases.
    pub fn with(server: &Server, connections: usize) -> Self {
        const SCRIPT: &str =
            "pgbouncer -q \"$0/pgbouncer.ini\" 2>\"$0/errors\" & read -r _; kill -INT $!; wait; rm -rf \"$0\"";
        let folder = new_folder("ivm-pgbouncer");
        let configuration = format!(
            "[databases]\n* = host={} port=5432 user=postgres\n[pgbouncer]\nlisten_port = 5432\nunix_socket_dir = {1}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {2}\nmax_client_conn = 200\nlogfile = {1}/log\n",
            server.folder.display(),
            folder.display(),
            connections
        );
        fs::write(folder.join("pgbouncer.ini"), configuration).expect("the configuration is written");
        let shell = until_this_process_ends(SCRIPT, &[&folder]);
        let pooler = Self { shell, folder };
        let began = Instant::now();
        while UnixStream::connect(pooler.folder.join(".s.PGSQL.5432")).is_err() {
            let errors = || fs::read_to_string(pooler.folder.join("errors")).unwrap_or_default();
            assert!(began.elapsed() < START, "pgbouncer does not answer, is it installed? {}", errors());
            thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// The folder with its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of the server's database behind the pooler.
    pub fn url(&self, database: &str) -> String {
        through(&self.folder, database)
    }
}

/// The URL of a database, reached by the socket in another folder.
pub fn through(folder: &Path, url: &str) -> String {
    let database = url.rsplit('/').next().expect("the name of a database");
    format!("postgres://postgres@{}/{database}", folder.display().to_string().replace('/', "%2F"))
}

/// A new folder that is not root's.
pub(crate) fn new_folder(name: &str) -> PathBuf {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Relaxed);
    let folder = env::temp_dir().join(format!("{name}-{}-{number}", std::process::id()));
    fs::create_dir(&folder).expect("a new folder");
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("the folder is nobody's");
    }
    folder
}

/// A shell that runs a script, which reads its input until this process ends, however that happens, or closes it.
fn until_this_process_ends(script: &str, arguments: &[&Path]) -> Child {
    let mut shell = as_nobody(Path::new("/bin/sh"));
    shell.args(["-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.process_group(0).spawn().expect("a shell runs")
}

/// A shell starts the server, and ends it once its own input is closed: that happens however this process ends.
fn run(programs: &Path, folder: &Path) -> Child {
    const SCRIPT: &str = "\"$0/pg_ctl\" --pgdata \"$1/data\" --log \"$1/log\" --no-wait start >/dev/null 2>&1; read -r _; \
                          \"$0/pg_ctl\" --pgdata \"$1/data\" --mode=immediate stop >/dev/null 2>&1; rm -rf \"$1\"";
    until_this_process_ends(SCRIPT, &[programs, folder])
}

/// The process's server.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(""))
}

/// A new database of the process's server; its URL.
pub fn database() -> String {
    server().database()
}
