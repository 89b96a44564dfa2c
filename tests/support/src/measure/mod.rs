//! What a piece of work takes: memory, and time of the processor; and a server in a process of its own beside it. And what
//! benchmarks say alike.

pub mod alloc;
pub mod cpu;
pub mod process;

use std::fmt::Display;

/// With two threads.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Figures, latencies before all, are worth what the machine had left.
pub fn say_load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before: {}", load.split(' ').next().unwrap_or_default());
}

/// What was promised, whether it holds, and by which figure.
pub fn say(what: &str, holds: bool, figure: impl Display) {
    println!("{} {what}: {figure}", if holds { "holds " } else { "MISSED" });
}

/// The one in the middle; of an even number, the upper one.
///
/// # Panics
/// If there are none, or if one is not a number.
pub fn median<T: PartialOrd + Copy>(mut figures: Vec<T>) -> T {
    figures.sort_by(|one, other| one.partial_cmp(other).expect("a number"));
    figures[figures.len() / 2]
}
