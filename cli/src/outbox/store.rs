//! Where an outbox is: a SQLite file, or a PostgreSQL database.

use std::{
    env,
    error::Error as _,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use infinityvm_sdk::{
    Client, Error, ErrorKind, Result,
    outbox::{Outbox, OutboxBuilder, StoreView, postgres::PostgresStore, sqlite::SqliteStore},
};

use crate::{
    output::Output,
    text::{refused, unreadable},
};

/// The environment's name for the store.
const VARIABLE: &str = "IVM_STORE";

/// Where the outbox is.
#[derive(Args, Clone, Debug)]
pub struct StoreOptions {
    /// The outbox's store: sqlite:PATH or the path of the file; postgres://USER@HOST/DATABASE; or @FILE with the URL
    #[arg(long, value_name = "URL", env = VARIABLE, hide_env_values = true)]
    store: String,
}

/// A store that was there already: none is made, and none is brought to another version.
#[derive(Clone)]
pub enum Store {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Store {
    /// Looks at it.
    pub fn view(&self) -> StoreView {
        match self {
            Self::Sqlite(store) => StoreView::of(store.clone()),
            Self::Postgres(store) => StoreView::of(store.clone()),
        }
    }

    /// Begins an outbox over it.
    pub fn outbox(self, client: Client) -> OutboxBuilder {
        match self {
            Self::Sqlite(store) => Outbox::builder(client, store),
            Self::Postgres(store) => Outbox::builder(client, store),
        }
    }
}

impl StoreOptions {
    pub async fn open(&self, output: &Output) -> Result<Store> {
        let url = self.url()?;
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // What the environment says is in no list of processes.
            if self.store == url && env::var(VARIABLE).as_deref() != Ok(url.as_str()) && has_password(&url) {
                output.warn("--store shows the database's password to everybody on this machine, and to the shell's history; use IVM_STORE, @FILE, PGPASSWORD or ~/.pgpass");
            }
            return match PostgresStore::connect_existing(&url).await {
                Err(error) if error.hint().is_none() => {
                    Err(error.with_hint("check the address, the user and the password, and that the database runs"))
                }
                opened => opened.map(Store::Postgres),
            };
        }
        if url.is_empty() {
            return Err(refused("--store is empty").with_hint("give the file or the database of the service's outbox"));
        }
        let path = path_of(&url)?;
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
        SqliteStore::open_existing(path).await.map(Store::Sqlite).map_err(of_file)
    }

    pub async fn view(&self, output: &Output) -> Result<StoreView> {
        self.open(output).await.map(|store| store.view())
    }

    fn url(&self) -> Result<String> {
        let Some(file) = self.store.strip_prefix('@') else { return Ok(self.store.clone()) };
        let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
        Ok(text.trim().to_owned())
    }
}

/// What is wrong with a file that SQLite does not open. One that is damaged stays so.
fn of_file(error: Error) -> Error {
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    let is_damaged = ["(code: 11)", "(code: 26)"].iter().any(|code| why.contains(code));
    match error.hint() {
        _ if is_damaged => error
            .with_retryable(false)
            .with_hint("the file is damaged, or is no database: name the right one, or restore it"),
        None => error.with_hint("check that the file is the store of an outbox, and that you may read it"),
        Some(_) => error,
    }
}

fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let in_authority = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    in_authority
        || url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("password=")))
}

fn path_of(url: &str) -> Result<PathBuf> {
    let path = match url.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            let what = format!("{scheme}: is no kind of store that this knows");
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("give sqlite:PATH, the path of the file, or postgres://USER@HOST/DATABASE"));
        }
        _ => url,
    };
    Ok(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_seen() {
        for (url, has) in [
            ("postgres://me:secret@host/db", true),
            ("postgres://me@host:5432/db", false),
            ("postgres://host:5432/db?user=me&password=secret", true),
            ("postgres://host/db@x:y?sslmode=disable", false),
            ("postgres:///db?host=/run/postgresql", false),
        ] {
            assert_eq!(has_password(url), has, "{url}");
        }
    }
}
