//! A process between the node and its anvil, so that anvil ends with the node however that ends: it has anvil as its own
//! child, and a pipe from the node, which the operating system closes.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    process::Stdio,
    time::Duration,
};

use clap::Args;
use infinityvm_sdk::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use crate::text::refused;

/// What the node writes to have anvil write its chain down, and end.
pub const END: u8 = b'.';
/// What begins the line that says why anvil does not start.
pub const FAILED: &str = "cannot be started: ";
/// How long anvil may take to end.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct GuardArgs {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl GuardArgs {
    pub async fn run(self) -> Result<()> {
        let (program, args) = self.command.split_first().ok_or_else(|| refused("no command was given"))?;
        // Ctrl-C reaches anvil, too, which then ends by itself.
        let heard = |kind| signal(kind).map_err(|error| refused("signals cannot be heard").with_source(error));
        let (_interrupt, mut terminate) = (heard(SignalKind::interrupt())?, heard(SignalKind::terminate())?);
        let spawned = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                println!("{FAILED}{error}");
                return Ok(());
            }
        };
        let (tell, told) = oneshot::channel();
        // A read of standard input cannot be given up; the thread goes with the process.
        std::thread::spawn(move || {
            let mut byte = [0];
            let read = io::stdin().read(&mut byte);
            _ = tell.send(read.is_ok_and(|count| count == 1) && byte == [END]);
        });
        let gently = tokio::select! {
            _ = child.wait() => return Ok(()),
            gently = told => gently.unwrap_or(false),
            _ = terminate.recv() => true,
        };
        if gently {
            end(&mut child).await;
        }
        // Without a word the node was killed. So is anvil: both go on from what was last written down.
        _ = child.kill().await;
        Ok(())
    }
}

/// Has it end by itself.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|pid| kill_process(*pid, Signal::TERM).is_ok()) {
        _ = pid;
        _ = timeout(PATIENCE, child.wait()).await;
    }
}
