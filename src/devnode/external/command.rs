//! The node's side of the protocol: a process for each question.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use alloy_primitives::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::message::{ANSWER_LIMIT, CommandAnswer, CommandRequest, PREFIX, ProgramRun};
use crate::{
    devnode::program::{ProgramError, ProgramInput, ProgramOutput},
    error::{Error, ErrorKind, Result},
    text,
};

/// How long a command may take unless it is told otherwise. Deriving an id in a zkVM's way takes about 20 seconds.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// How much of what a command complains of is kept: the last bytes.
const COMPLAINT: usize = 512;

/// A program that is an executable; for [`DevNode::register_command`](crate::devnode::DevNode::register_command).
#[derive(Clone)]
pub struct ProgramCommand {
    program: OsString,
    args: Vec<OsString>,
    raw: bool,
    time_limit: Duration,
}

impl fmt::Debug for ProgramCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may be secret.
        f.debug_struct("ProgramCommand").field("program", &self.program).field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl ProgramCommand {
    /// A command by its file, which is looked for on the path if it is a name alone. No shell is asked.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().into(), args: Vec::new(), raw: false, time_limit: TIME_LIMIT }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with_args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets whether it reads the onchain input alone and writes the output alone, instead of the protocol. Off unless
    /// set.
    #[must_use]
    pub fn with_raw(mut self, raw: bool) -> Self {
        self.raw = raw;
        self
    }

    /// Sets how long it may take for one answer. 5 minutes unless set. It is killed then; processes that it has started
    /// itself are not.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Asks the command which id its program has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the command cannot be started, gives no answer or an empty id, or is raw: then
    /// it has no way to tell.
    pub async fn id(&self) -> Result<Bytes> {
        let failed = |why: String| {
            let text = format!("the program's command {:?} does not tell the program's id: {why}", self.program);
            Error::new(ErrorKind::InvalidConfig, text).with_hint("name the id yourself, or correct the command")
        };
        if self.raw {
            return Err(failed("a raw command has no way to".to_owned()));
        }
        match self.ask(&CommandRequest::Id).await {
            Ok(CommandAnswer::Id(id)) if !id.is_empty() => Ok(id),
            Ok(CommandAnswer::Id(_)) => Err(failed("it is empty".to_owned())),
            Ok(CommandAnswer::Failed(why) | CommandAnswer::Exit(why)) => Err(failed(why)),
            Ok(CommandAnswer::Output { .. }) => Err(failed("it answered with an output".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Runs the program without a node, with so many cycles at most.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), infinityvm_sdk::devnode::ProgramError> {
    /// use infinityvm_sdk::{Revision, devnode::{ProgramInput, external::ProgramCommand}};
    ///
    /// let command = ProgramCommand::new("ivm-sp1").with_args(["guest.elf"]);
    /// let input = ProgramInput::new(Revision::Relay, b"signed", b"bound by its hash", b"");
    /// println!("{} cycles", command.execute(input, 1_000_000).await?.cycles);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A program that exits with a code other than zero or comes to no exit, a command that gives no answer, and an
    /// output that took more cycles.
    pub async fn execute(&self, input: ProgramInput<'_>, max_cycles: u64) -> Result<ProgramOutput, ProgramError> {
        let [onchain, offchain, state] = [input.onchain, input.offchain, input.state].map(Bytes::copy_from_slice);
        let run = ProgramRun { revision: input.revision(), max_cycles, onchain, offchain, state };
        self.run(run).await?.within(max_cycles)
    }

    /// Runs the program.
    pub(in crate::devnode) async fn run(&self, run: ProgramRun) -> Result<ProgramOutput, ProgramError> {
        if self.raw {
            return self.run_raw(&run.onchain).await;
        }
        match self.ask(&CommandRequest::Run(run)).await? {
            CommandAnswer::Output { cycles, output } => Ok(ProgramOutput::new(output).with_cycles(cycles)),
            CommandAnswer::Exit(why) => Err(ProgramError::new(why)),
            CommandAnswer::Failed(why) => Err(ProgramError::halted(why)),
            CommandAnswer::Id(_) => Err(ProgramError::halted("the program's command answered with an id")),
        }
    }

    async fn run_raw(&self, onchain: &[u8]) -> Result<ProgramOutput, ProgramError> {
        let ended = self.exchange(onchain, ANSWER_LIMIT).await?;
        match ended.status.code() {
            Some(0) => Ok(ended.written.into()),
            Some(_) => Err(ProgramError::new(ended.why("failed"))),
            None => Err(ProgramError::halted(ended.why("was ended"))),
        }
    }

    async fn ask(&self, ask: &CommandRequest) -> Result<CommandAnswer, ProgramError> {
        let request = ask.encode().ok_or_else(|| ProgramError::halted("the inputs are too long for the protocol"))?;
        let ended = self.exchange(&request, PREFIX + ANSWER_LIMIT).await?;
        if ended.written.is_empty() {
            return Err(ProgramError::halted(ended.why("gave no answer")));
        }
        let no_answer = |why| ProgramError::halted(ended.why(&format!("gave no answer of the protocol ({why})")));
        CommandAnswer::decode(&ended.written).map_err(no_answer)
    }

    /// Starts the process, writes to it, and reads what it writes, until it ends.
    async fn exchange(&self, input: &[u8], limit: usize) -> Result<Ended, ProgramError> {
        let halted = |what: &str| ProgramError::halted(format!("the program's command {:?} {what}", self.program));
        let broken = |error: std::io::Error| halted(&format!("cannot be spoken with: {error}"));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Also where the node ends, or restarts, in the meantime.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| halted(&format!("cannot be started: {error}")))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(halted("has no pipes"));
        };
        let write = async {
            // A command need not read all that it is told; its answer decides.
            let _ = stdin.write_all(input).await;
            drop(stdin);
            Ok(())
        };
        let read = async {
            let mut written = Vec::new();
            let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            stdout.take(most).read_to_end(&mut written).await.map_err(broken)?;
            if written.len() > limit {
                return Err(halted(&format!("wrote more than {limit} bytes, and was killed")));
            }
            Ok(written)
        };
        let whole = async {
            let ((), written, complaint) = tokio::try_join!(write, read, async { Ok(tail(stderr).await) })?;
            let status = child.wait().await.map_err(broken)?;
            Ok(Ended { program: self.program.clone(), written, complaint, status })
        };
        let late = |_| Err(halted(&format!("gave no answer within {:?}, and was killed", self.time_limit)));
        timeout(self.time_limit, whole).await.unwrap_or_else(late)
    }
}

/// What a process left behind.
struct Ended {
    program: OsString,
    written: Vec<u8>,
    complaint: String,
    status: ExitStatus,
}

impl Ended {
    fn why(&self, what: &str) -> String {
        let Self { program, complaint, status, .. } = self;
        let complaint = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
        format!("the program's command {program:?} {what} ({status}){complaint}")
    }
}

/// The last of what is written to a stream, as one line.
async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut last, mut chunk) = (Vec::new(), [0; 4096]);
    // What cannot be read any more has ended, too.
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        last.extend_from_slice(&chunk[..count]);
        last.drain(..last.len().saturating_sub(COMPLAINT));
    }
    text::clean(&last, COMPLAINT).trim().to_owned()
}
