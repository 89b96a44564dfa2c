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
pub(crate) mod settings;
pub mod tls;

/// The longest block of headers that is taken over HTTP/2, in bytes as RFC 9113 counts them. Of longer trailers the
/// excess is dropped.
pub(crate) const MAX_HEADER_LIST: u32 = 16 * 1024;

/// The first error of this type in the chain of causes.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    match error.downcast_ref() {
        Some(found) => Some(found),
        None => find(error.source()?),
    }
}
