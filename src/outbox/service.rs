//! The outbox, as a service holds it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use alloy_primitives::Address;
use tokio::{sync::watch, task::JoinSet};

use super::{lane::LaneHandle, store::Storage};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// A durable queue of jobs, and the worker that brings them to their results: see the [module](super).
///
/// Cheap to clone. The worker ends when the last clone is dropped, or with [`drain`](Self::drain); whatever is left is
/// gone on with at the next start.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    client: Client,
    storage: Arc<dyn Storage>,
    /// Whether it has the store's worker.
    works: bool,
    lanes: BTreeMap<Address, Arc<LaneHandle>>,
    stop: watch::Sender<bool>,
    /// The lanes' workers; they end with this.
    tasks: Lock<JoinSet<()>>,
    /// Readers that somebody has.
    held: Lock<BTreeSet<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.works {
            self.storage.end();
        }
    }
}

impl Outbox {
    pub(super) fn of(
        client: Client,
        storage: Arc<dyn Storage>,
        works: bool,
        lanes: BTreeMap<Address, Arc<LaneHandle>>,
        (stop, tasks): (watch::Sender<bool>, JoinSet<()>),
    ) -> Self {
        let (tasks, held) = (Lock::from(tasks), Lock::default());
        Self(Arc::new(Inner { client, storage, works, lanes, stop, tasks, held }))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.0.storage
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<LaneHandle>> {
        self.0.lanes.values()
    }

    pub(super) fn lane(&self, consumer: Address) -> Result<&Arc<LaneHandle>> {
        self.0.lanes.get(&consumer).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("the outbox has no lane for the consumer {consumer}"))
                .with_hint("add one with OutboxBuilder::lane")
        })
    }

    /// Whether nobody had this reader in this process; then the caller has it.
    pub(super) fn hold_reader(&self, name: &str) -> bool {
        self.0.held.lock().insert(name.to_owned())
    }

    pub(super) fn let_reader_go(&self, name: &str) {
        self.0.held.lock().remove(name);
    }

    /// Tells the workers to take on nothing more, and waits until they have ended.
    pub(super) async fn stop(&self) {
        self.0.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("store", &self.0.storage.place())
            .field("consumers", &self.0.lanes.keys())
            .finish_non_exhaustive()
    }
}
