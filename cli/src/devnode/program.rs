//! `--program`: which program runs under which id.

use std::{ffi::OsString, time::Duration};

use infinityvm_sdk::{
    Result, Revision,
    devnode::{DevNode, external::ProgramCommand},
    primitives::{Bytes, hex},
};

use super::example::Example;
use crate::executor;

/// `[ID=]COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramArg {
    pub id: Option<Bytes>,
    pub what: Runs,
}

/// What runs for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    Example(Example),
    /// The words of a command.
    Command(Vec<String>),
}

/// How commands are run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub revision: Revision,
    pub raw: bool,
    pub time_limit: Option<Duration>,
}

impl ProgramArg {
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((id, rest)) = text.split_once('=').filter(|(id, _)| id.starts_with("0x")) else {
            return Runs::parse(text).map(|what| Self { id: None, what });
        };
        let id = hex::decode(id).map_err(|error| format!("the id is no hex: {error}"))?;
        if id.is_empty() {
            return Err("the id is empty".to_owned());
        }
        Runs::parse(rest).map(|what| Self { id: Some(id.into()), what })
    }

    /// Makes it known to the node, and returns its id and its name.
    pub async fn register(&self, node: &DevNode, how: How) -> Result<(Bytes, String)> {
        match &self.what {
            Runs::Example(example) => {
                let id = self.id.clone().unwrap_or_else(|| example.id());
                example.register(node, id.clone());
                Ok((id, example.name().to_owned()))
            }
            Runs::Command(words) => {
                let command = how.command(words)?;
                let id = match &self.id {
                    Some(id) => {
                        node.register_command_as(id.clone(), command);
                        id.clone()
                    }
                    None => node.register_command(command).await?,
                };
                Ok((id, words.join(" ")))
            }
        }
    }
}

impl Runs {
    /// `example:NAME`, or a command and its arguments, with spaces between them and quotes as a shell has them.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("example:") {
            let example = Example::ALL.into_iter().find(|example| example.name() == name);
            return example.map(Self::Example).ok_or_else(|| {
                let names: Vec<_> = Example::ALL.into_iter().map(Example::name).collect();
                format!("there is no example {name:?}; there are {}", names.join(" and "))
            });
        }
        let words = shlex::split(text).ok_or("a quote is not closed, or nothing follows a backslash")?;
        if words.is_empty() { Err("there is no command".to_owned()) } else { Ok(Self::Command(words)) }
    }
}

impl How {
    fn command(self, words: &[String]) -> Result<ProgramCommand> {
        let mut words = words.iter().map(Into::into).collect::<Vec<OsString>>();
        if !self.raw {
            words = executor::command(words, self.revision)?;
        }
        let program = words.first().cloned().unwrap_or_default();
        executor::require(&program)?;
        let command = ProgramCommand::new(program).with_args(words.iter().skip(1)).with_raw(self.raw);
        Ok(match self.time_limit {
            Some(limit) => command.with_time_limit(limit),
            None => command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_hex_before_the_first_equals_sign() {
        let command = |words: &[&str]| Runs::Command(words.iter().map(|word| (*word).to_owned()).collect());
        for (text, id, what) in [
            ("0x0a=./root.sh --fast", Some(&[10_u8][..]), command(&["./root.sh", "--fast"])),
            ("./root.sh a=b", None, command(&["./root.sh", "a=b"])),
            ("0x0a=env A=b root", Some(&[10]), command(&["env", "A=b", "root"])),
            (r#"'a root' "of $9" c\ d ''"#, None, command(&["a root", "of $9", "c d", ""])),
            ("example:sum", None, Runs::Example(Example::Sum)),
            ("0x0a=example:square-root", Some(&[10]), Runs::Example(Example::SquareRoot)),
        ] {
            assert_eq!(ProgramArg::parse(text), Ok(ProgramArg { id: id.map(Bytes::copy_from_slice), what }), "{text}");
        }
        for text in ["", "  ", "0x=a", "0xg0=a", "0x0a=", "example:nothing", "root 'of", "root \\"] {
            assert!(ProgramArg::parse(text).is_err(), "{text}");
        }
    }
}
