//! The dev node's simulated chain: as a client has it, and beside a real chain.

mod against_anvil;
mod clients;
