//! `--program`: which program runs under which id.

use std::time::Duration;

use infinityvm_sdk::{
    Result,
    devnode::{DevNode, external::ProgramCommand},
    primitives::{Bytes, hex},
};

use super::example::Example;

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
                let command = how.command(words);
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
    /// `example:NAME`, or a command and its arguments, with spaces between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("example:") {
            let example = Example::ALL.into_iter().find(|example| example.name() == name);
            return example.map(Self::Example).ok_or_else(|| {
                let names: Vec<_> = Example::ALL.into_iter().map(Example::name).collect();
                format!("there is no example {name:?}; there are {}", names.join(" and "))
            });
        }
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() { Err("there is no command".to_owned()) } else { Ok(Self::Command(words)) }
    }
}

impl How {
    fn command(self, words: &[String]) -> ProgramCommand {
        let (program, args) = words.split_first().map_or(("", [].as_slice()), |(program, args)| (program, args));
        let command = ProgramCommand::new(program).with_args(args).with_raw(self.raw);
        match self.time_limit {
            Some(limit) => command.with_time_limit(limit),
            None => command,
        }
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
            ("example:sum", None, Runs::Example(Example::Sum)),
            ("0x0a=example:square-root", Some(&[10]), Runs::Example(Example::SquareRoot)),
        ] {
            assert_eq!(ProgramArg::parse(text), Ok(ProgramArg { id: id.map(Bytes::copy_from_slice), what }), "{text}");
        }
        for text in ["", "  ", "0x=a", "0xg0=a", "0x0a=", "example:nothing"] {
            assert!(ProgramArg::parse(text).is_err(), "{text}");
        }
    }
}
