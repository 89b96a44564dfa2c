//! Posting a result oneself: on a chain in memory, and on a real one.

mod chaos;
mod edges;
mod edges_on_anvil;
mod in_memory;
mod on_anvil;
#[cfg(feature = "chain")]
mod pool;
mod uncared;
