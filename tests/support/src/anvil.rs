//! An anvil of one's own: a chain in a process, which goes when it is dropped.
//!
//! ```ignore
//! let anvil = Anvil::start();
//! let other = Anvil::builder().block_time(1).arg("--no-request-size-limit").start();
//! ```

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use infinityvm_sdk::{
    LocalSigner,
    primitives::{Address, B256},
};

/// The program itself, as `tests/tools.sh` installs it, or as the environment names it in capitals. npm's own `anvil` is a
/// script around it: killing that would leave the chain running.
pub fn program(name: &str) -> PathBuf {
    if let Some(path) = env::var_os(name.to_uppercase()) {
        return path.into();
    }
    let scope = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/node_modules/@foundry-rs");
    let packages = fs::read_dir(&scope).into_iter().flatten().flatten();
    let mut paths = packages
        .filter(|package| package.file_name().to_string_lossy().starts_with(&format!("{name}-")))
        .map(|package| package.path().join("bin").join(name));
    paths.find(|path| path.exists()).unwrap_or_else(|| {
        panic!(
            "{name} is not installed: run tests/tools.sh, or set {} to the path of one (no wrapper script)",
            name.to_uppercase()
        )
    })
}

/// What an anvil is started with.
#[derive(Clone, Debug)]
pub struct AnvilBuilder {
    program: Option<PathBuf>,
    hardfork: String,
    args: Vec<String>,
}

impl AnvilBuilder {
    /// The rules of the chain; `prague` unless set. Blob transactions are taken in their old and their new form.
    pub fn hardfork(mut self, name: &str) -> Self {
        self.hardfork = name.to_owned();
        self
    }

    /// Mines a block every so many seconds, and not at once after each transaction.
    pub fn block_time(self, seconds: u64) -> Self {
        self.args(["--block-time".to_owned(), seconds.to_string()])
    }

    /// Any other option.
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Another program than [`program`] finds.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Starts it on a free port of its own choice, and returns once it listens.
    pub fn start(self) -> Anvil {
        let program = self.program.unwrap_or_else(|| program("anvil"));
        let mut child = Command::new(&program)
            .args(["--port", "0", "--color", "never", "--hardfork", &self.hardfork])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut keys = Vec::new();
        let port = loop {
            let Some(Ok(line)) = lines.next() else {
                let status = child.wait();
                panic!("{} went before it listened: {status:?}", program.display());
            };
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
            }
            // "(0) 0x…": the accounts first, then their keys.
            let key = line.split_once(") ").and_then(|(_, text)| text.trim().parse::<B256>().ok());
            keys.extend(key.filter(|_| line.starts_with('(')));
        };
        // Else it would stand still once the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Anvil { child, port, keys }
    }
}

/// A running anvil.
pub struct Anvil {
    child: Child,
    port: u16,
    keys: Vec<B256>,
}

impl Anvil {
    /// One that mines each transaction at once.
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn builder() -> AnvilBuilder {
        AnvilBuilder { program: None, hardfork: "prague".to_owned(), args: Vec::new() }
    }

    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The keys of the funded accounts: ten, the same ones in every anvil. It signs for these accounts itself, too.
    pub fn keys(&self) -> &[B256] {
        &self.keys
    }

    pub fn signer(&self, account: usize) -> LocalSigner {
        LocalSigner::from_bytes(self.keys[account].0).expect("a key")
    }

    pub fn address(&self, account: usize) -> Address {
        self.signer(account).address()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
