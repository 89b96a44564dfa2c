//! Every command by its real binary: what it prints, as text and as JSON, and its exit code.

mod chain;
mod guide;
mod jobs;
mod misuse;
mod offline;
mod outbox;
mod rig;
mod scene;
mod schema;
mod secrets;
mod shape;
#[cfg(target_os = "linux")]
mod streams;
mod words;
