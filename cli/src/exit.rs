//! How the process ends: one number says whether to repeat, to send the same file again, or to give up.

use std::{io, process::ExitCode, time::Duration};

use infinityvm_sdk::{Client, Error, ErrorKind, Outcome, Result};
use tokio::time::timeout;

use crate::{output::Output, text};

/// How long calls under way are let go on at the end.
const GRACE: Duration = Duration::from_secs(5);

/// What a script goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed, and would fail again.
    Failed = 1,
    /// The arguments are wrong, or what they name is.
    Usage = 2,
    /// The job may run. Only the same bytes may be sent again.
    Unknown = 3,
    /// The time was over. What was waited for goes on.
    Deadline = 4,
    /// Nothing was sent, or nothing was taken: the same command may be given again.
    NotSent = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// How a command ends that failed with this error.
pub fn code(error: &Error) -> Exit {
    let passes = error.is_retryable() || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::CallTimeout);
    match (error.kind(), error.outcome()) {
        (ErrorKind::DeadlineExceeded, _) => Exit::Deadline,
        (_, Outcome::Unknown) => Exit::Unknown,
        (ErrorKind::InvalidInput | ErrorKind::InvalidConfig | ErrorKind::TooLarge, Outcome::NotSent) => Exit::Usage,
        (_, Outcome::NotSent | Outcome::Rejected) if passes => Exit::NotSent,
        // The job is at the node, and what came after that can be done again with the same file.
        (_, Outcome::Accepted) if passes => Exit::Unknown,
        _ => Exit::Failed,
    }
}

/// Runs what only reads, within `--timeout` if that was given. Whatever became of it, it may be done again.
pub async fn read_within<T>(limit: Option<Duration>, read: impl Future<Output = Result<T>>) -> Result<T> {
    let read = async {
        read.await.map_err(|error| match error.outcome() {
            Outcome::Unknown => error.with_outcome(Outcome::NotSent),
            _ => error,
        })
    };
    let Some(limit) = limit else { return read.await };
    timeout(limit, read).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::DeadlineExceeded, format!("there was no answer within {limit:?}"))
            .with_hint("give a longer --timeout, or none, which says sooner or later who does not answer"))
    })
}

/// Does something with a client, and lets its calls end, whatever comes of it: a node whose call is cut off may lose its
/// task for the consumer.
pub async fn closing<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let done = work.await;
    client.close(GRACE).await;
    done
}

/// Waits until the process is told to end.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
            }
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_ok() {
        return;
    }
    // Nothing is heard, and the system ends the process at once.
    std::future::pending().await
}

/// Ends the process for arguments that clap refuses, or answers with: help and the version.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Whoever reads may be gone, as `head` is.
        let printed = error.print().or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        });
        return if printed.is_ok() { Exit::Done } else { Exit::Failed }.into();
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let whole = error.render().to_string();
        let (what, rest) = whole.split_once("\n\n").unwrap_or((&whole, ""));
        let what = what.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
        let next = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        Output::new(true).error(&text::refused(what).with_hint(next));
    } else {
        // Where standard error is closed nobody reads it.
        _ = error.print();
    }
    Exit::Usage.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_what_to_do() {
        let error = |kind, outcome, retryable| Error::new(kind, "").with_outcome(outcome).with_retryable(retryable);
        for (kind, outcome, retryable, exit) in [
            (ErrorKind::InvalidInput, Outcome::NotSent, false, Exit::Usage),
            (ErrorKind::InvalidConfig, Outcome::NotSent, false, Exit::Usage),
            (ErrorKind::Unavailable, Outcome::NotSent, false, Exit::NotSent),
            (ErrorKind::LaneFull, Outcome::NotSent, true, Exit::NotSent),
            (ErrorKind::Rejected, Outcome::Rejected, true, Exit::NotSent),
            (ErrorKind::Rejected, Outcome::Rejected, false, Exit::Failed),
            (ErrorKind::Unavailable, Outcome::Unknown, true, Exit::Unknown),
            (ErrorKind::NonceTaken, Outcome::Unknown, false, Exit::Unknown),
            (ErrorKind::DeadlineExceeded, Outcome::Accepted, true, Exit::Deadline),
            (ErrorKind::JobFailed, Outcome::Accepted, false, Exit::Failed),
            (ErrorKind::Chain, Outcome::Accepted, true, Exit::Unknown),
            (ErrorKind::WrongRevision, Outcome::NotSent, false, Exit::Failed),
        ] {
            assert_eq!(code(&error(kind, outcome, retryable)), exit, "{kind:?} {outcome:?} {retryable}");
        }
    }
}
