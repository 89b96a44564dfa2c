//! Posting a result oneself: on a chain in memory, and on a real one.

mod chaos;
mod edges;
mod in_memory;
mod on_anvil;
#[cfg(feature = "chain")]
mod pool;
