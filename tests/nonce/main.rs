//! Nonces: the sources a client may have, and the one that reads the chain.

mod chain_nonces;
mod sources;
