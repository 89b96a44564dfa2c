//! What a piece of work takes: memory, and time of the processor; and a server in a process of its own beside it.

pub mod alloc;
pub mod cpu;
pub mod process;
