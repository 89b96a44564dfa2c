//! What tasks share: a lock that survives a panic. And which of two things happens first.

use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "client")]
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

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

/// The first of two to end; this one, if both have. They are pinned by the caller, whose own future would hold them
/// twice otherwise.
#[cfg(feature = "client")]
pub(crate) async fn first<A, B>(
    mut this: Pin<&mut impl Future<Output = A>>,
    mut other: Pin<&mut impl Future<Output = B>>,
) -> Result<A, B> {
    poll_fn(|cx| match this.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Ok(ended)),
        Poll::Pending => other.as_mut().poll(cx).map(Err),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "client")]
    #[tokio::test]
    async fn this_one_ends_first_if_both_have() {
        use std::{future::pending, pin::pin};
        assert_eq!(first(pin!(async { 1 }), pin!(async { 2 })).await, Ok(1));
        assert_eq!(first(pin!(pending::<u8>()), pin!(async { 2 })).await, Err(2));
        let later = async {
            tokio::task::yield_now().await;
            1
        };
        assert_eq!(first(pin!(later), pin!(pending::<u8>())).await, Ok(1));
    }

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
