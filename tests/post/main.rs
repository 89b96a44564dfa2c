//! Posting a result oneself: on a chain in memory, and on a real one.

mod chaos;
mod edges;
mod edges_on_anvil;
#[cfg(feature = "chain")]
mod forms;
mod in_memory;
#[cfg(feature = "chain")]
mod kept;
mod limits;
mod on_anvil;
mod orders;
#[cfg(feature = "chain")]
mod pool;
mod refused_reads;
mod several;
mod uncared;
