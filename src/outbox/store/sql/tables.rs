//! The tables, made and brought to this release's version.

use super::{
    session::{Fetched, SqlSession, get, query},
    values::failed,
};
use crate::error::{Error, ErrorKind, Result};

/// What is done about tables that are missing, or of an older release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// They are brought to this release's version.
    Made,
    /// They are left as they are, and refused: another process, of another release perhaps, has them.
    Expected,
}

/// Sees that the tables are of this release's version, and returns the store's identity.
pub(crate) async fn migrate(conn: &mut dyn SqlSession, place: &str, tables: Tables) -> Result<Vec<u8>> {
    let unreadable = || failed::<sqlx::Error>("the store cannot be read", place);
    let dialect = conn.dialect();
    // Two processes may open a new store at once.
    conn.run(dialect.begin_migration).await.map_err(unreadable())?;
    match migrate_within(conn, tables).await {
        Ok(Ok(identity)) => {
            conn.run("COMMIT").await.map_err(unreadable())?;
            Ok(identity)
        }
        Ok(Err(version)) => {
            _ = conn.run("ROLLBACK").await;
            let known = dialect.version;
            let versions = format!("the store has version {version}, and this release of infinityvm-sdk knows {known}");
            let (kind, what, hint) = match version {
                0 => (
                    ErrorKind::InvalidConfig,
                    "no outbox has a store there".to_owned(),
                    "name the file or the database of the service's outbox; nothing was made",
                ),
                version if version < known => (
                    ErrorKind::Store,
                    versions,
                    "use the release that made it, or start the service with this one; nothing was changed",
                ),
                _ => (ErrorKind::Store, versions, "use the release that made it, or a newer one; nothing was changed"),
            };
            Err(Error::new(kind, what).with_endpoint(place).with_hint(hint))
        }
        Err(error) => {
            _ = conn.run("ROLLBACK").await;
            Err(unreadable()(error))
        }
    }
}

async fn migrate_within(conn: &mut dyn SqlSession, tables: Tables) -> Fetched<Result<Vec<u8>, i64>> {
    let dialect = conn.dialect();
    let version = match query(dialect.is_made).fetch_optional(&mut *conn).await? {
        Some(_) => get(&query("SELECT version FROM ivm_store").fetch_one(&mut *conn).await?, "version")?,
        None => 0,
    };
    let Some(missing) = usize::try_from(version).ok().and_then(|version| dialect.migrations.get(version..)) else {
        return Ok(Err(version));
    };
    if tables == Tables::Expected && !missing.is_empty() {
        return Ok(Err(version));
    }
    for text in missing {
        conn.run(text).await?;
    }
    if version == 0 {
        let mut identity = vec![0; 16];
        getrandom::fill(&mut identity).map_err(|error| sqlx::Error::Io(std::io::Error::other(error.to_string())))?;
        let text = "INSERT INTO ivm_store (one, version, identity, starts) VALUES (1, $1, $2, 0)";
        query(text).bind(dialect.version).bind(identity).execute(&mut *conn).await?;
    } else if !missing.is_empty() {
        query("UPDATE ivm_store SET version = $1").bind(dialect.version).execute(&mut *conn).await?;
    }
    let row = query("SELECT identity FROM ivm_store").fetch_one(conn).await?;
    Ok(Ok(get::<alloy_primitives::Bytes>(&row, "identity")?.to_vec()))
}
