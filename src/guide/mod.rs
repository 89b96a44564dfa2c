//! The guide has a page for each task. The tests run its examples on the development node.
//!
//! | You want to … | Page |
//! |---|---|
//! | submit a job and wait for its result | [`submit_and_wait`] |
//! | keep a result, and verify it again | [`submit_and_wait`](submit_and_wait#keep-a-result) |
//! | upload a program to the node | [`programs`] |
//! | run a stateful app; keep the results of jobs in order | [`ordered_and_stateful`] |
//! | know before a job is sent whether it will land | [`will_it_land`] |
//! | know that a result is on chain, whatever the node says | [`did_it_land`] |
//! | find out why a job does not move; replace one that failed | [`stuck_jobs`] |
//! | post a result that the node does not relay | [`posting_results`] |
//! | sign with a keystore, a key service or a wallet | [`signers`] |
//! | choose where nonces come from; run several processes | [`nonces`] |
//! | lose no job in a crash, and run none twice | [`surviving_a_crash`] |
//! | answer users at once, and prove the answers in batches | [`app_servers`] |
//! | read such a server from end to end: an order book | [`order_book`] |
//! | end a process | [`surviving_a_crash`](surviving_a_crash#ending-a-process) |
//! | set TLS, proxies, headers and limits; choose a transport | [`transports`] |
//! | sign in WebAssembly | [`wasm`] |
//! | see what happens: traces and metrics | [`seeing_what_happens`] |
//! | test your app | [`testing`] |
//! | run the development node as a program, with a chain | [`dev_node_program`] |
//! | run a program's real ELF there | [`executors`] |
//! | test contracts with forge | [`foundry`] |
//! | work without writing Rust: the command line `ivm` | [`command_line`] |
//! | handle errors; set deadlines and retries | [`errors`] |
//! | see which faults of nodes the client makes up for | [`careless_nodes`] |
//!
//! Most examples hide the lines that start a development node, connect a client and build a job. An example that needs
//! an outside service is compiled but not run, and its first comment says so.

#[doc = include_str!("submit_and_wait.md")]
pub mod submit_and_wait {}

#[doc = include_str!("programs.md")]
pub mod programs {}

#[doc = include_str!("ordered_and_stateful.md")]
pub mod ordered_and_stateful {}

#[doc = include_str!("will_it_land.md")]
pub mod will_it_land {}

#[doc = include_str!("did_it_land.md")]
pub mod did_it_land {}

#[doc = include_str!("stuck_jobs.md")]
pub mod stuck_jobs {}

#[doc = include_str!("posting_results.md")]
pub mod posting_results {}

#[doc = include_str!("signers.md")]
pub mod signers {}

#[doc = include_str!("nonces.md")]
pub mod nonces {}

#[doc = include_str!("surviving_a_crash.md")]
pub mod surviving_a_crash {}

#[doc = include_str!("app_servers.md")]
pub mod app_servers {}

#[doc = include_str!("order_book.md")]
pub mod order_book {}

#[doc = include_str!("transports.md")]
pub mod transports {}

#[doc = include_str!("wasm.md")]
pub mod wasm {}

#[doc = include_str!("seeing_what_happens.md")]
pub mod seeing_what_happens {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("dev_node_program.md")]
pub mod dev_node_program {}

#[doc = include_str!("executors.md")]
pub mod executors {}

#[doc = include_str!("foundry.md")]
pub mod foundry {}

#[doc = include_str!("command_line.md")]
pub mod command_line {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("careless_nodes.md")]
pub mod careless_nodes {}
