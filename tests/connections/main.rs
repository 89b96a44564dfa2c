//! Connections as the world treats them, over gRPC, REST and the chain's RPC: runtimes that end, servers that ask for a
//! pause, the wrong scheme or port, credentials that change, servers that count pings, and proxies.

mod credentials;
mod frames;
mod pauses;
mod pings;
mod protocols;
mod proxies;
mod rig;
mod runtimes;
