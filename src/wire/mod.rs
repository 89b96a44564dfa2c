//! Temporary: only the generated messages.
pub(crate) mod generated;
