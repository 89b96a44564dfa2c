//! An anvil of the node's own.

use std::{env, path::Path, process::Stdio};

use infinityvm_sdk::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::guard::{self, END, FAILED, PATIENCE};

/// Its rules, which take blob transactions in their old and in their new form.
const HARDFORK: [&str; 2] = ["--hardfork", "prague"];

/// A running anvil. It ends with this process, however that ends: see [`guard`](super::guard).
pub struct Anvil {
    guard: Child,
    told: ChildStdin,
    pub url: String,
}

fn failed(what: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
        .with_hint("install foundry, or name the program: --anvil PATH; give its own options by --anvil-arg")
}

impl Anvil {
    /// Starts it, and returns once it listens. It keeps its chain in the file, if there is one.
    pub async fn start(program: &Path, port: u16, state: Option<&Path>, args: &[String]) -> Result<Self> {
        let name = program.display();
        let ourselves =
            env::current_exe().map_err(|error| failed("ivm does not find itself".to_owned()).with_source(error))?;
        let mut command = Command::new(ourselves);
        command
            .args(guard::arguments())
            .arg(program)
            .args(["--port", &port.to_string(), "--color", "never"])
            .args(args);
        if !args.iter().any(|arg| arg.starts_with("--hardfork")) {
            command.args(HARDFORK);
        }
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut guard = spawned.map_err(|error| failed(format!("{name} {FAILED}{error}")))?;
        let (Some(told), Some(stdout)) = (guard.stdin.take(), guard.stdout.take()) else {
            return Err(failed(format!("{name} has no pipes")));
        };
        let mut lines = BufReader::new(stdout).lines();
        // Why is on standard error by then.
        let silent = || {
            Err(failed(format!("{name} does not listen on port {port}")).with_hint(
                "see what it says itself; take another port with --anvil-port, or give the path of anvil: --anvil PATH",
            ))
        };
        let listening = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(address) = line.strip_prefix("Listening on ") {
                    return Ok(format!("http://{}", address.trim()));
                }
                if line.starts_with(FAILED) {
                    return Err(failed(format!("{name} {line}")));
                }
            }
            silent()
        };
        let url = timeout(PATIENCE, listening).await.unwrap_or_else(|_| silent())?;
        // Else it would stand still once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { guard, told, url })
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) -> Error {
        _ = self.guard.wait().await;
        Error::new(ErrorKind::Chain, "anvil has ended")
            .with_hint("what it says on standard error tells why; start the node again")
    }

    /// Has it write its chain down, and end.
    pub async fn end(mut self) {
        _ = self.told.write_all(&[END]).await;
        // The guard loses patience first.
        _ = timeout(PATIENCE * 2, self.guard.wait()).await;
    }
}
