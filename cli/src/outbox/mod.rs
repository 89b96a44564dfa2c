//! `ivm outbox`: how a service's outbox stands, and what a person does about it.

mod act;
mod look;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use infinityvm_sdk::{
    Error, ErrorKind, Result,
    outbox::{StoreView, sqlite::SqliteStore},
};

use crate::{
    cli::Globals,
    output::Output,
    text::{refused, unreadable},
};

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Print how every lane stands; the service may run meanwhile
    Status(look::StatusArgs),
    /// Print jobs that are under way, or those of some tickets; the service may run meanwhile
    List(look::ListArgs),
    /// Go on with a held job as it is. The service must be stopped, as for everything below
    Retry(act::TicketArgs),
    /// Put another job in the place of a held one that failed, under its nonce (Relay revision)
    Replace(act::ReplaceArgs),
    /// Put a held job under the lane's next nonce
    Renumber(act::TicketArgs),
    /// Give a held or queued job up
    Abandon(act::AbandonArgs),
    /// Have a lane give out no further nonces
    Pause(act::LaneArgs),
    /// Go on with a lane that was halted
    Resume(act::LaneArgs),
}

/// Where the outbox is.
#[derive(Args, Clone, Debug)]
pub struct StoreOptions {
    /// The outbox's store: sqlite:PATH, or the path of the file
    #[arg(long, value_name = "URL", env = "IVM_STORE", hide_env_values = true)]
    store: String,
}

impl OutboxCommand {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        match self {
            Self::Status(args) => args.run(output).await,
            Self::List(args) => args.run(output).await,
            Self::Retry(args) => args.retry(globals, output).await,
            Self::Replace(args) => args.run(globals, output).await,
            Self::Renumber(args) => args.renumber(globals, output).await,
            Self::Abandon(args) => args.run(globals, output).await,
            Self::Pause(args) => args.pause(globals, output).await,
            Self::Resume(args) => args.resume(globals, output).await,
        }
    }
}

impl StoreOptions {
    /// The store, which must be there: none is made.
    async fn open(&self) -> Result<SqliteStore> {
        let path = self.path()?;
        if !path.is_file() {
            return Err(refused(format!("there is no store at {}", path.display()))
                .with_hint("give --store the file of the service's outbox; this command makes none"));
        }
        let mut head = Vec::new();
        let read = fs::File::open(&path).and_then(|file| file.take(16).read_to_end(&mut head));
        read.map_err(|error| unreadable(&path.display().to_string(), error))?;
        if head != b"SQLite format 3\0" {
            return Err(refused(format!("{} is no SQLite database", path.display()))
                .with_hint("give --store the file of the service's outbox"));
        }
        SqliteStore::open(path).await
    }

    async fn view(&self) -> Result<StoreView> {
        self.open().await.map(StoreView::of)
    }

    fn path(&self) -> Result<PathBuf> {
        let path = match self.store.split_once(':') {
            Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
            Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{scheme}: is no kind of store that this knows"),
                )
                .with_hint("give sqlite:PATH, or the path of the file"));
            }
            _ => self.store.as_str(),
        };
        Ok(Path::new(path).to_owned())
    }
}
