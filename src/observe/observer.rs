//! Whoever wants to know what a client does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use super::{event::ClientEvent, notice::notice};

/// Whoever wants to know what a client does; given to
/// [`ClientBuilder::observer`](crate::client::ClientBuilder::observer).
///
/// # What it may do
///
/// It is called in the client's own tasks and in those of its callers, never while the client holds a lock. So it may
/// call the client, and it should return at once:
/// - **One that blocks** delays the task that tells it, and with that the job or the wait that the event is about; on a
///   runtime with one thread, all of them. Hand what takes long to a channel.
/// - **One that panics** is caught where panics unwind: the event is lost to this observer, the client goes on, the
///   other observers are told, and an event of level `ERROR` goes to `tracing`. Where panics abort, the process ends.
/// - What it decides changes nothing: an observer returns nothing.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
/// use infinityvm_sdk::observe::{ClientEvent, Observer};
///
/// #[derive(Clone, Default)]
/// struct Repetitions(Arc<AtomicU64>);
///
/// impl Observer for Repetitions {
///     fn observe(&self, event: ClientEvent<'_>) {
///         if let ClientEvent::CallRepeated { .. } = event {
///             self.0.fetch_add(1, Relaxed);
///         }
///     }
/// }
///
/// let repetitions = Repetitions::default();
/// let builder = infinityvm_sdk::Client::builder().observer(repetitions.clone());
/// # drop(builder);
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn observe(&self, event: ClientEvent<'_>);
}

/// Everybody a client tells. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Observers(Arc<[Box<dyn Observer>]>);

/// Observers that are told as long as their client lives.
pub(crate) struct WeakObservers(Weak<[Box<dyn Observer>]>);

impl Default for Observers {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Observers {
    pub(crate) fn new(observers: Vec<Box<dyn Observer>>) -> Self {
        Self(observers.into())
    }

    /// Tells all of them and, if it is worth a line of a log, the subscriber of traces. Not to be called under a lock.
    pub(crate) fn tell(&self, event: ClientEvent<'_>) {
        notice(&event);
        self.hear(event);
    }

    /// Tells the observers alone.
    pub(super) fn hear(&self, event: ClientEvent<'_>) {
        for observer in &*self.0 {
            if catch_unwind(AssertUnwindSafe(|| observer.observe(event))).is_err() {
                super::notice::observer_panicked();
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn downgrade(&self) -> WeakObservers {
        WeakObservers(Arc::downgrade(&self.0))
    }
}

/// Tells the observers of several clients that share something, and the subscriber of traces once.
pub(crate) fn tell_all(observers: &[Observers], event: ClientEvent<'_>) {
    notice(&event);
    observers.iter().for_each(|observers| observers.hear(event));
}

impl WeakObservers {
    pub(crate) fn upgrade(&self) -> Option<Observers> {
        self.0.upgrade().map(Observers)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    struct Counts(Arc<AtomicU32>);

    impl Observer for Counts {
        fn observe(&self, _event: ClientEvent<'_>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    struct Panics;

    impl Observer for Panics {
        fn observe(&self, _event: ClientEvent<'_>) {
            panic!("an observer's own fault");
        }
    }

    #[test]
    fn one_that_panics_keeps_nothing_from_the_others() {
        let count = Arc::new(AtomicU32::new(0));
        let [one, two] = [(); 2].map(|()| Box::new(Counts(Arc::clone(&count))) as Box<dyn Observer>);
        let observers = Observers::new(vec![one, Box::new(Panics), two]);
        observers.tell(ClientEvent::WaitingChanged { change: 1 });
        observers.tell(ClientEvent::WaitingChanged { change: -1 });
        assert_eq!(count.load(Relaxed), 4);
        assert!(!observers.is_empty() && Observers::default().is_empty());
    }
}
