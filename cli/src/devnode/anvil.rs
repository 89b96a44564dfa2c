//! An anvil of the node's own.

use std::{path::Path, process::Stdio, time::Duration};

use infinityvm_sdk::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long it may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Its rules, which take blob transactions in their old and in their new form.
const HARDFORK: [&str; 2] = ["--hardfork", "prague"];

/// A running anvil. It is killed with its process's end, if it has not ended before.
pub struct Anvil {
    child: Child,
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
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--color", "never"]).args(args);
        if !args.iter().any(|arg| arg.starts_with("--hardfork")) {
            command.args(HARDFORK);
        }
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("{name} cannot be started")).with_source(error))?;
        let Some(stdout) = child.stdout.take() else { return Err(failed(format!("{name} has no output"))) };
        let mut lines = BufReader::new(stdout).lines();
        let listening = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(address) = line.strip_prefix("Listening on ") {
                    return Some(format!("http://{}", address.trim()));
                }
            }
            None
        };
        let url = timeout(PATIENCE, listening).await.ok().flatten();
        let url = url.ok_or_else(|| failed(format!("{name} does not listen; is port {port} taken?")))?;
        // Else it would stand still once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, url })
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) -> Error {
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        Error::new(ErrorKind::Chain, format!("anvil has ended ({status})"))
    }

    /// Has it write its chain down, and end.
    pub async fn end(mut self) {
        let Some(pid) = self.child.id() else { return };
        // There is no other way to send a signal without unsafe code.
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid.to_string()]).status().await;
        if asked.is_ok_and(|status| status.success()) && timeout(PATIENCE, self.child.wait()).await.is_ok() {
            return;
        }
        _ = self.child.kill().await;
    }
}
