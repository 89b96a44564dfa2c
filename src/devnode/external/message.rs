//! The messages between the node and a command, as bytes. No I/O.

use alloy_primitives::Bytes;

use crate::job::Revision;

/// The version of the protocol, in each message.
pub(super) const VERSION: u8 = 1;
/// The most bytes of an answer, without its length.
pub(super) const ANSWER_LIMIT: usize = 16 << 20;
/// The bytes of a message's length.
pub(super) const PREFIX: usize = 4;

const ID: u8 = 1;
const RUN: u8 = 2;
const OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const FAILED: u8 = 4;

/// What the node asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandRequest {
    Id,
    Run(ProgramRun),
}

/// What a program is run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::devnode) struct ProgramRun {
    pub revision: Revision,
    pub max_cycles: u64,
    pub onchain: Bytes,
    pub offchain: Bytes,
    pub state: Bytes,
}

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandAnswer {
    Id(Bytes),
    Output { cycles: u64, output: Bytes },
    Exit(String),
    Failed(String),
}

impl CommandRequest {
    /// The whole message, with its length. `None` if it is too long for one.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        match self {
            Self::Id => message(ID, &[]),
            Self::Run(run) => {
                let revision = match run.revision {
                    Revision::State => 0,
                    Revision::Relay => 1,
                };
                let mut fields = vec![revision];
                fields.extend(run.max_cycles.to_be_bytes());
                for input in [&run.onchain, &run.offchain, &run.state] {
                    put(&mut fields, input)?;
                }
                message(RUN, &fields)
            }
        }
    }

    /// Reads a whole message.
    pub(super) fn decode(message: &[u8]) -> Result<Self, String> {
        let (kind, mut fields) = open(message)?;
        let ask = match kind {
            ID => Self::Id,
            RUN => {
                let revision = match fields.byte()? {
                    0 => Revision::State,
                    1 => Revision::Relay,
                    other => return Err(format!("it names revision {other}, and there are 0 and 1")),
                };
                let max_cycles = fields.u64()?;
                let (onchain, offchain, state) = (fields.bytes()?, fields.bytes()?, fields.bytes()?);
                Self::Run(ProgramRun { revision, max_cycles, onchain, offchain, state })
            }
            other => return Err(format!("no request has the kind {other}")),
        };
        fields.end().map(|()| ask)
    }
}

impl CommandAnswer {
    /// The whole message, with its length. `None` if it is too long for one.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let (mut fields, kind, bytes) = match self {
            Self::Id(id) => (Vec::new(), ID, &id[..]),
            Self::Output { cycles, output } => (cycles.to_be_bytes().to_vec(), OUTPUT, &output[..]),
            Self::Exit(reason) => (Vec::new(), EXIT, reason.as_bytes()),
            Self::Failed(reason) => (Vec::new(), FAILED, reason.as_bytes()),
        };
        put(&mut fields, bytes)?;
        message(kind, &fields).filter(|whole| whole.len() <= PREFIX + ANSWER_LIMIT)
    }

    /// Reads a whole message.
    pub(super) fn decode(message: &[u8]) -> Result<Self, String> {
        let (kind, mut fields) = open(message)?;
        let said = match kind {
            ID => Self::Id(fields.bytes()?),
            OUTPUT => Self::Output { cycles: fields.u64()?, output: fields.bytes()? },
            EXIT => Self::Exit(fields.text()?),
            FAILED => Self::Failed(fields.text()?),
            other => return Err(format!("no answer has the kind {other}")),
        };
        fields.end().map(|()| said)
    }
}

fn put(fields: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    fields.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    fields.extend_from_slice(bytes);
    Some(())
}

fn message(kind: u8, fields: &[u8]) -> Option<Vec<u8>> {
    let mut message = u32::try_from(fields.len().checked_add(2)?).ok()?.to_be_bytes().to_vec();
    message.extend([VERSION, kind]);
    message.extend_from_slice(fields);
    Some(message)
}

/// The kind of a message, and its fields.
fn open(message: &[u8]) -> Result<(u8, Fields<'_>), String> {
    let mut rest = Fields(message);
    let length = rest.u32()?;
    if rest.0.len() != length {
        return Err(format!("it announces {length} bytes, and {} follow", rest.0.len()));
    }
    match rest.byte()? {
        VERSION => Ok((rest.byte()?, rest)),
        other => Err(format!("it has version {other} of the protocol, and version {VERSION} is known here")),
    }
}

/// Fields that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends within a field")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|byte| byte[0])
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut number = [0; N];
        number.copy_from_slice(self.take(N)?);
        Ok(number)
    }

    fn u32(&mut self) -> Result<usize, String> {
        usize::try_from(u32::from_be_bytes(self.number()?)).map_err(|error| error.to_string())
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.number().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<Bytes, String> {
        let length = self.u32()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn text(&mut self) -> Result<String, String> {
        self.bytes().map(|bytes| crate::text::clean(&bytes, 512))
    }

    fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes follow its last field", self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> CommandRequest {
        let bytes = Bytes::from_static;
        let (onchain, offchain, state) = (bytes(b"in"), bytes(b""), bytes(b"s"));
        CommandRequest::Run(ProgramRun { revision: Revision::Relay, max_cycles: 258, onchain, offchain, state })
    }

    #[test]
    fn messages_are_these_bytes() {
        assert_eq!(CommandRequest::Id.encode().unwrap(), [0, 0, 0, 2, 1, 1]);
        let expected = [
            [0, 0, 0, 26, 1, 2, 1].as_slice(),
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 2, b'i', b'n'],
            &[0, 0, 0, 0],
            &[0, 0, 0, 1, b's'],
        ];
        assert_eq!(run().encode().unwrap(), expected.concat());
        for (said, kind, fields) in [
            (CommandAnswer::Id(Bytes::from_static(&[9])), 1, [0, 0, 0, 1, 9].as_slice()),
            (CommandAnswer::Output { cycles: 3, output: Bytes::new() }, 2, &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]),
            (CommandAnswer::Exit("e".to_owned()), 3, &[0, 0, 0, 1, b'e']),
            (CommandAnswer::Failed(String::new()), 4, &[0, 0, 0, 0]),
        ] {
            let length = u8::try_from(fields.len() + 2).unwrap();
            let message = [[0, 0, 0, length, 1, kind].as_slice(), fields].concat();
            assert_eq!(said.encode().unwrap(), message);
            assert_eq!(CommandAnswer::decode(&message), Ok(said));
        }
        for ask in [CommandRequest::Id, run()] {
            assert_eq!(CommandRequest::decode(&ask.encode().unwrap()), Ok(ask));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = run().encode().unwrap();
        for length in 0..whole.len() {
            assert!(
                CommandRequest::decode(&whole[..length]).is_err() && CommandAnswer::decode(&whole[..length]).is_err()
            );
            // With a length that fits, it is the fields that do not.
            let mut cut = whole[..length].to_vec();
            if let Some(body) = length.checked_sub(PREFIX) {
                cut[..PREFIX].copy_from_slice(&u32::try_from(body).unwrap().to_be_bytes());
                assert!(CommandRequest::decode(&cut).is_err(), "{length}");
            }
        }
        for (message, text) in [
            ([whole, vec![0]].concat(), "announces 26 bytes, and 27 follow"),
            (vec![0, 0, 0, 2, 2, 1], "version 2"),
            (vec![0, 0, 0, 3, 1, 1, 0], "1 bytes follow its last field"),
            (vec![0, 0, 0, 2, 1, 9], "kind 9"),
            (vec![0, 0, 0, 3, 1, 2, 2], "revision 2"),
        ] {
            assert!(CommandRequest::decode(&message).unwrap_err().contains(text), "{text}");
        }
        assert!(CommandAnswer::Id(vec![0; ANSWER_LIMIT].into()).encode().is_none());
    }
}
