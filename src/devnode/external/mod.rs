//! Programs that are commands: any executable can be a program of the dev node, in any language, by one protocol over
//! its standard input and output.
//!
//! The node starts the command anew for each question, writes one request to its standard input and closes it. The
//! command writes one answer to its standard output and ends. What it writes to standard error is kept for the reason
//! of a failure. A command that crashes, hangs, writes something else or writes too much fails its job with
//! `execution_error`, in either revision, and [`Stats::last_execution_error`](super::Stats::last_execution_error) says
//! why.
//!
//! ```no_run
//! use infinityvm_sdk::{devnode::{DevNode, external::ProgramCommand}, job::Revision};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = DevNode::builder(Revision::Relay).start().await?;
//! // A command that speaks the protocol also says which id its program has.
//! let id = node.register_command(ProgramCommand::new("./executor").with_args(["program.elf"])).await?;
//! // A raw command reads the onchain input and writes the output, and nothing else.
//! node.register_command_as(vec![7; 32], ProgramCommand::new("./square-root.sh").with_raw(true));
//! # drop(id);
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol, version 1
//!
//! A message is its length, as a `u32`, and that many bytes: the version (one byte, `1`), the kind (one byte), and the
//! fields of the kind. All numbers are big-endian. A field of *bytes* is its length, as a `u32`, and the bytes
//! themselves. *Text* is such a field in UTF-8.
//!
//! | request | kind | fields |
//! |---|---|---|
//! | which program is it? | 1 | |
//! | run | 2 | revision (one byte: 0 State, 1 Relay), max cycles (`u64`), onchain and offchain input, state (bytes) |
//!
//! | answer | kind | fields |
//! |---|---|---|
//! | the program's id | 1 | id (bytes) |
//! | an output | 2 | cycles it took (`u64`), output (bytes) |
//! | an exit with a code other than zero | 3 | reason (text) |
//! | no output: the cycle limit, a trap, or a failure of the executor itself | 4 | reason (text) |
//!
//! An absent input or state is zero bytes long. An answer has at most 16 MiB. Kind 4 answers either request. Kind 3
//! fails a job in the Relay revision, and is a result of 0 bytes in the State revision, as on real nodes. A command
//! that gets a version that it does not know answers with kind 4 in its own version. The exit status of a command that
//! speaks the protocol means nothing, if its answer is whole.
//!
//! Requests of a later version of this crate may have another version byte. Fields are never added to version 1.
//!
//! # Raw commands
//!
//! [`ProgramCommand::with_raw`]: the command reads the onchain input from its standard input, and what it writes to its
//! standard output is the output, which took one cycle. A job's offchain input and state do not reach it. Exit status 0
//! is success, another one is a program's exit with a code other than zero, and a signal fails the job.

mod command;
mod message;
mod serve;

pub(super) use self::message::ProgramRun;
pub use self::{command::ProgramCommand, serve::serve_program};
