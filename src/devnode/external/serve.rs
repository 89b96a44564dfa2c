//! The command's side of the protocol, for programs in Rust.

use std::io::{self, Read, Write};

use alloy_primitives::Bytes;

use super::message::{CommandAnswer, CommandRequest, ProgramRun};
use crate::devnode::program::{ProgramEnd, ProgramError, ProgramInput, ProgramOutput};

/// Answers the one request that a command gets: reads it from `input` to its end, and writes the answer to `output`.
/// `id` tells the program's id, and `run` runs it, within so many cycles. Neither is called if the other is asked for.
/// For `main` of a command that a [`ProgramCommand`](super::ProgramCommand) names:
///
/// ```
/// use infinityvm_sdk::devnode::{ProgramError, external::serve_program};
///
/// # fn main() -> std::io::Result<()> {
/// # let (stdin, mut stdout) = ([0, 0, 0, 2, 1, 1].as_slice(), Vec::new()); // in main: std::io::stdin(), stdout()
/// serve_program(
///     stdin,
///     &mut stdout,
///     || Ok(vec![7; 32].into()),
///     |input, _max_cycles| match input.onchain {
///         [] => Err(ProgramError::new("no input")),
///         bytes => Ok(bytes.iter().rev().copied().collect::<Vec<u8>>().into()),
///     },
/// )
/// # }
/// ```
///
/// # Errors
/// If `input` cannot be read or `output` cannot be written. A request that makes no sense gets an answer that says so.
pub fn serve_program(
    mut input: impl Read,
    mut output: impl Write,
    id: impl FnOnce() -> Result<Bytes, ProgramError>,
    run: impl FnOnce(ProgramInput<'_>, u64) -> Result<ProgramOutput, ProgramError>,
) -> io::Result<()> {
    let mut request = Vec::new();
    input.read_to_end(&mut request)?;
    let said = match CommandRequest::decode(&request) {
        Err(why) => CommandAnswer::Failed(format!("the request makes no sense: {why}")),
        Ok(CommandRequest::Id) => id().map_or_else(failed, CommandAnswer::Id),
        Ok(CommandRequest::Run(ProgramRun { revision, max_cycles, onchain, offchain, state })) => {
            let input = ProgramInput { onchain: &onchain, offchain: &offchain, state: &state, revision };
            let output = |output: ProgramOutput| CommandAnswer::Output { cycles: output.cycles, output: output.bytes };
            run(input, max_cycles).map_or_else(failed, output)
        }
    };
    let too_long = || CommandAnswer::Failed("the answer is too long for the protocol".to_owned());
    let answer = said.encode().or_else(|| too_long().encode()).unwrap_or_default();
    output.write_all(&answer)?;
    output.flush()
}

fn failed(error: ProgramError) -> CommandAnswer {
    match error.end() {
        ProgramEnd::Exit => CommandAnswer::Exit(error.to_string()),
        ProgramEnd::Halted => CommandAnswer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{devnode::external::message::ANSWER_LIMIT, job::Revision};

    fn answer(request: &[u8]) -> CommandAnswer {
        let mut answer = Vec::new();
        let run = |input: ProgramInput<'_>, max_cycles| match input.onchain {
            b"exit" => Err(ProgramError::new("told to")),
            b"halt" => Err(ProgramError::halted("too far")),
            b"long" => Ok(vec![0; ANSWER_LIMIT].into()),
            onchain => Ok(ProgramOutput::new([onchain, input.offchain, input.state].concat()).with_cycles(max_cycles)),
        };
        serve_program(request, &mut answer, || Ok(Bytes::from_static(&[9])), run).unwrap();
        CommandAnswer::decode(&answer).unwrap()
    }

    fn run(onchain: &'static [u8]) -> CommandAnswer {
        let bytes = Bytes::from_static;
        let (offchain, state) = (bytes(b"-off"), bytes(b"-state"));
        let run = ProgramRun { revision: Revision::State, max_cycles: 5, onchain: bytes(onchain), offchain, state };
        answer(&CommandRequest::Run(run).encode().unwrap())
    }

    #[test]
    fn a_request_gets_its_answer() {
        assert_eq!(answer(&CommandRequest::Id.encode().unwrap()), CommandAnswer::Id(Bytes::from_static(&[9])));
        assert_eq!(run(b"on"), CommandAnswer::Output { cycles: 5, output: Bytes::from_static(b"on-off-state") });
        assert_eq!(run(b"exit"), CommandAnswer::Exit("told to".to_owned()));
        assert_eq!(run(b"halt"), CommandAnswer::Failed("too far".to_owned()));
        assert!(matches!(run(b"long"), CommandAnswer::Failed(why) if why.contains("too long")));
        assert!(matches!(answer(b""), CommandAnswer::Failed(why) if why.contains("ends within a field")));
    }
}
