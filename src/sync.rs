//! What tasks share: a lock that survives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panic of its holder does not close for all others. So whoever holds it leaves what is behind it whole
/// at every step, or changes it in one.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self(Mutex::new(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_its_holder_leaves_it_open() {
        let lock = Lock::from(1);
        let held = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let mut value = lock.lock();
                *value = 2;
                panic!("while it is held");
            });
            holder.join()
        });
        assert!(held.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
