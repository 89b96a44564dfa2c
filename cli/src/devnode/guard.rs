//! A process between the node and its anvil, so that anvil ends with the node however that ends: it has anvil as its own
//! child, and a pipe from the node, which the operating system closes.

use std::{
    env,
    ffi::OsString,
    io::{self, Read as _},
    process::{ExitCode, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// The argument before the command of a guard. No person gives it, so it is in no help.
const ARGUMENT: &str = "devnode-guard";

/// What the node writes to have anvil write its chain down, and end.
pub const END: u8 = b'.';
/// What begins the line that says why anvil does not start.
pub const FAILED: &str = "cannot be started: ";
/// How long anvil may take to end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments with which this program starts itself as the guard of a command.
pub fn arguments() -> [&'static str; 1] {
    [ARGUMENT]
}

/// The command that this process is to guard, if it was started for that.
pub fn asked_for() -> Option<Vec<OsString>> {
    let mut arguments = env::args_os().skip(1);
    (arguments.next()? == ARGUMENT).then(|| arguments.collect())
}

/// Runs the command, and ends it with the node.
pub async fn run(command: Vec<OsString>) -> ExitCode {
    // Ctrl-C reaches the node and its guard. What anvil does about it the node says.
    let (Some((program, args)), Ok(_interrupt), Ok(mut terminate)) =
        (command.split_first(), signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return ExitCode::FAILURE;
    };
    // A group of its own, as anvil may be a script that starts the real one.
    let spawned = Command::new(program).args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("{FAILED}{error}");
            return ExitCode::SUCCESS;
        }
    };
    let group = child.id().and_then(pid_of);
    let (tell, told) = oneshot::channel();
    // A read of standard input cannot be given up; the thread goes with the process.
    std::thread::spawn(move || {
        let mut byte = [0];
        let read = io::stdin().read(&mut byte);
        _ = tell.send(read.is_ok_and(|count| count == 1) && byte == [END]);
    });
    let gently = tokio::select! {
        _ = child.wait() => return ExitCode::SUCCESS,
        gently = told => gently.unwrap_or(false),
        _ = terminate.recv() => true,
    };
    if gently {
        end(&mut child).await;
    }
    // Without a word the node was killed. So is anvil: both go on from what was last written down.
    if let Some(group) = group {
        _ = kill_process_group(group, Signal::KILL);
    }
    _ = child.kill().await;
    ExitCode::SUCCESS
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Has it end by itself.
async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(pid_of).filter(|pid| kill_process(*pid, Signal::TERM).is_ok()) {
        _ = pid;
        _ = timeout(PATIENCE, child.wait()).await;
    }
}
