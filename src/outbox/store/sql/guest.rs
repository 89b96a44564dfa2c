//! Callers' own transactions: what is done on a connection that is not the store's.

use super::{apply, session::SqlSession, values::failed};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::{Enqueued, NewJob, damaged},
};

/// A connection of the service's own, on which jobs are enqueued and events acknowledged: those of sqlx to the
/// databases that the outbox has a store on, from a pool or in a transaction, too. Sealed.
pub trait OutboxConnection: Guest {}

/// What such a connection is to this crate. Not to be called from outside.
#[doc(hidden)]
#[allow(private_interfaces, unnameable_types, reason = "sealed: nobody outside can name it, implement it or call it")]
pub trait Guest: Send {
    fn session(&mut self) -> &mut dyn SqlSession;
}

/// Connections as they are, and what derefs to them: in a transaction, and from a pool.
macro_rules! guests {
    ($connection:ty, $($held:ty),* $(,)?) => {
        #[allow(private_interfaces, reason = "the trait is sealed")]
        impl $crate::outbox::store::sql::Guest for $connection {
            fn session(&mut self) -> &mut dyn $crate::outbox::store::sql::SqlSession {
                self
            }
        }
        impl $crate::outbox::store::sql::OutboxConnection for $connection {}
        $(#[allow(private_interfaces, reason = "the trait is sealed")]
        impl $crate::outbox::store::sql::Guest for $held {
            fn session(&mut self) -> &mut dyn $crate::outbox::store::sql::SqlSession {
                &mut **self
            }
        }
        impl $crate::outbox::store::sql::OutboxConnection for $held {})*
    };
}
pub(in crate::outbox::store) use guests;

/// Stores a job in the transaction that is open on this connection, or at once if none is. `hints`: whether its commit
/// is to be a hint to those who listen.
pub(crate) async fn enqueue_in(
    conn: &mut dyn SqlSession,
    identity: &[u8],
    place: &str,
    lane: i64,
    job: &NewJob,
    hints: bool,
) -> Result<Enqueued> {
    let checked = conn.dialect().enqueue_checked.filter(|_| job.key.is_none());
    let mut stored = match checked {
        Some(text) => match apply::enqueue_checked(conn, text, identity, lane, job).await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                // It says why, if the connection is not one to enqueue on.
                check(conn, identity, place).await?;
                Err(error)
            }
        },
        None => {
            check(conn, identity, place).await?;
            apply::enqueue(conn, lane, job).await
        }
    };
    if hints
        && let Ok(Some(Enqueued::New(_))) = stored
        && let Err(error) = conn.hint_queued(lane).await
    {
        // PostgreSQL goes on with no transaction in which something failed.
        stored = Err(error);
    }
    match stored {
        Ok(Some(enqueued)) => Ok(enqueued),
        Ok(None) => Err(damaged("there is no such lane").with_endpoint(place)),
        Err(error) => Err(failed("the job was not stored", place)(error)),
    }
}

/// Acknowledges an event in the transaction that is open on this connection.
pub(crate) async fn acknowledge_in(
    conn: &mut dyn SqlSession,
    identity: &[u8],
    place: &str,
    (lane, name, event): (i64, &str, i64),
) -> Result<bool> {
    check(conn, identity, place).await?;
    apply::acknowledge(conn, lane, name, event).await.map_err(failed("the event was not acknowledged", place))
}

/// Refuses a connection to another store, and one whose commit a power cut may take back.
async fn check(conn: &mut dyn SqlSession, identity: &[u8], place: &str) -> Result<()> {
    let found = conn.lasting_store(place).await;
    let found = found.map_err(failed("the connection is to no store of the outbox", place))??;
    if found == identity {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidConfig, "the connection is to another store than the outbox's")
        .with_endpoint(place)
        .with_hint("give it a connection to the database that the outbox was opened with"))
}
