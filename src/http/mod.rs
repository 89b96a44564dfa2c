//! What the transports and the chain's RPC share where they speak HTTP: addresses, headers, TLS, connections, bodies of
//! bounded length.

use std::error::Error as StdError;

pub(crate) mod address;
#[cfg(any(feature = "rest", feature = "chain"))]
pub(crate) mod body;
#[cfg(any(feature = "rest", feature = "chain"))]
pub(crate) mod client;
#[cfg(any(feature = "grpc", feature = "chain"))]
pub(crate) mod connect;
pub(crate) mod keep_alive;
#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
pub(crate) mod probe;
pub(crate) mod provider;
pub(crate) mod retry_after;
pub(crate) mod settings;
pub mod tls;

/// The longest block of headers that is taken over HTTP/2, in bytes as RFC 9113 counts them. Of longer trailers the
/// excess is dropped.
pub(crate) const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Whether one of the causes is such, the error itself included. Also what an I/O error is about, which it does not
/// call its cause.
#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
pub(crate) fn any_cause(
    error: &(dyn StdError + 'static),
    is_such: &mut dyn FnMut(&(dyn StdError + 'static)) -> bool,
) -> bool {
    if is_such(error) {
        return true;
    }
    let about = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    about.is_some_and(|about| any_cause(about, is_such))
        || error.source().is_some_and(|source| any_cause(source, is_such))
}

/// The first error of this type in the chain of causes.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    match error.downcast_ref() {
        Some(found) => Some(found),
        None => find(error.source()?),
    }
}
