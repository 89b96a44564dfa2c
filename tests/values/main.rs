//! Values without any node: the nodes' own bytes, keys and signatures, results that are believed or not, and answers in JSON.

#[cfg(feature = "alloy-signer")]
mod adapters;
mod json;
mod names;
mod signature_forms;
mod signing;
mod stored;
mod vectors;
mod verification;
