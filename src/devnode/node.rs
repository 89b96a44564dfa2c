//! What every part of the node shares, and the rules of changing it.

use std::{
    panic,
    sync::{Arc, MutexGuard, Weak},
};

use tokio::sync::watch;

use super::{connection::Connection, crypto::SimKey, real::Real, store::World};
use crate::{job::Revision, sync::Lock};

/// The life of a node that is no more.
pub(super) const ENDED: u64 = u64::MAX;

pub(super) struct NodeCore {
    pub revision: Revision,
    pub da_limit: usize,
    pub operator: SimKey,
    /// The key of nobody, for lies.
    pub stranger: SimKey,
    /// The chain to relay to, if it is not the simulated one.
    pub real: Option<Real>,
    world: Lock<World>,
    pub changed: watch::Sender<u64>,
    pub life: watch::Sender<u64>,
    connections: Lock<Vec<Weak<Connection>>>,
}

impl NodeCore {
    pub(super) fn new(
        da_limit: usize,
        operator: SimKey,
        stranger: SimKey,
        real: Option<Real>,
        world: World,
    ) -> Arc<Self> {
        Arc::new(Self {
            revision: world.revision,
            da_limit,
            operator,
            stranger,
            real,
            world: world.into(),
            changed: watch::Sender::new(0),
            life: watch::Sender::new(0),
            connections: Lock::default(),
        })
    }

    /// For reading, or for changes that concern nobody else.
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// For changes: relays what can be relayed now, and wakes whoever waits for a change.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let value = change(&mut world);
        world.pump();
        drop(world);
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        value
    }

    /// Ends the present life of the node: connections break, memory and running work are gone.
    pub(super) fn restart(&self) {
        let life = self.update(|world| {
            world.forget();
            world.life
        });
        self.life.send_replace(life);
        self.close_connections();
    }

    pub(super) fn end(&self) {
        self.life.send_replace(ENDED);
        self.close_connections();
    }

    pub(super) fn opened(&self, connection: &Arc<Connection>) {
        let mut connections = self.connections.lock();
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(connection));
        drop(connections);
        // Accepted by another thread while the node was dropped.
        if *self.life.borrow() == ENDED {
            connection.close();
        }
    }

    pub(super) fn close_connections(&self) {
        let connections = std::mem::take(&mut *self.connections.lock());
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.close());
    }
}

/// Ends the task that handles a call, as a panic in a node does: the stream is reset, the connection and the node live
/// on. Unwinding is the only way to have the HTTP/2 stack reset a stream with the very code that a real node's client
/// sees; it passes no panic hook, and the stream's own task contains it.
pub(super) fn die() -> ! {
    panic::resume_unwind(Box::new("the dev node lets this call die"))
}
