//! Posting a result oneself: on a chain in memory, and on a real one.

mod in_memory;
mod on_anvil;
