//! What each Tokio runtime has of its own.

use std::collections::HashMap;

use tokio::{
    runtime::{Handle, Id},
    task::AbortHandle,
};

use crate::sync::Lock;

/// A value for each runtime, such as connections: the tasks behind them end with their runtime, and stand still as long
/// as nobody drives it. So a call uses those of the runtime that it runs on, and no others.
pub(crate) struct PerRuntime<T>(Lock<HashMap<Id, Owned<T>>>);

struct Owned<T> {
    value: T,
    alive: Canary,
}

/// A task that does nothing, and ends with its runtime. The id alone does not do: that of a runtime that has ended may
/// come again.
struct Canary(AbortHandle);

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Lock::default())
    }
}

impl<T: Clone> PerRuntime<T> {
    /// The value of this runtime, made if there is none yet; nothing where there is no runtime.
    pub(crate) fn here<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Option<Result<T, E>> {
        let runtime = Handle::try_current().ok()?;
        let mut values = self.0.lock();
        if let Some(owned) = values.get(&runtime.id()).filter(|owned| !owned.alive.0.is_finished()) {
            return Some(Ok(owned.value.clone()));
        }
        let ended: Vec<_> = values.extract_if(|_, owned| owned.alive.0.is_finished()).collect();
        let made = make().inspect(|value| {
            let alive = Canary(runtime.spawn(std::future::pending::<()>()).abort_handle());
            values.insert(runtime.id(), Owned { value: value.clone(), alive });
        });
        // Dropped outside of the lock: what they hold is not known here.
        drop(values);
        drop(ended);
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn each_runtime_has_its_own_value_until_it_ends() {
        let values = PerRuntime::<Arc<u8>>::default();
        let here = |number| values.here(|| Ok::<_, Infallible>(Arc::new(number))).map(|value| value.unwrap());
        assert!(here(0).is_none());
        let [one, two] = [1, 2].map(|_| Builder::new_current_thread().build().unwrap());
        let first = one.block_on(async { here(1).unwrap() });
        assert_eq!(*one.block_on(async { here(9).unwrap() }), 1);
        assert_eq!(*two.block_on(async { here(2).unwrap() }), 2, "also while the other one stands still");
        assert_eq!(Arc::strong_count(&first), 2);
        drop(one);
        let three = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert_eq!(*three.block_on(async { here(3).unwrap() }), 3);
        assert_eq!(Arc::strong_count(&first), 1, "what belonged to a runtime that has ended is gone");
        assert_eq!(*two.block_on(async { here(9).unwrap() }), 2);
    }

    #[test]
    fn what_cannot_be_made_is_tried_again() {
        let values = PerRuntime::<u8>::default();
        Builder::new_current_thread().build().unwrap().block_on(async {
            assert_eq!(values.here(|| Err("no")), Some(Err("no")));
            assert_eq!(values.here(|| Ok::<_, &str>(1)), Some(Ok(1)));
        });
    }
}
