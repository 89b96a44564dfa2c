//! What can be made to go wrong, in words: the same ones for `--fault`, for `ivm devnode fault` and on the socket.

use std::fmt;

use clap::{Parser, Subcommand, ValueEnum};
use infinityvm_sdk::{
    JobId, Result,
    devnode::{DevNode, Lie, Loss},
    primitives::{Address, Bytes},
    rpc::{Method, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::text::refused;

/// A fault, or what looks at or ends one.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultCommand {
    /// Process the next calls of a method, and lose their replies
    DropReplies {
        method: MethodArg,
        #[arg(long, default_value_t = 1)]
        count: usize,
        /// The stream is reset, the connection breaks, or no answer ever comes
        #[arg(long, value_enum, default_value = "reset")]
        how: LossArg,
    },
    /// Refuse the next calls of a method with a gRPC status
    Refuse {
        method: MethodArg,
        #[arg(long, default_value_t = 1)]
        count: usize,
        /// The status's number: 14 is UNAVAILABLE, 13 INTERNAL
        #[arg(long, default_value_t = 14)]
        code: u32,
        #[arg(long, default_value = "told to refuse")]
        message: String,
    },
    /// Answer UNIMPLEMENTED to a method from now on
    Unimplemented { method: MethodArg },
    /// Hold the next call of a method before it is processed, until `clear`
    HoldRequest { method: MethodArg },
    /// Process the next call of a method, and hold its reply until `clear`
    HoldReply { method: MethodArg },
    /// Hold executions until `clear`, so that jobs stay PENDING
    HoldExecutions,
    /// Let two submissions under one nonce race, until `clear`
    HoldIntake,
    /// Keep rows that fail with `low nonce` PENDING until `clear`
    HoldLowNonceRecords,
    /// Break every open connection
    CloseConnections,
    /// Tell a falsehood in answers of GetResult
    Lie {
        #[arg(value_enum)]
        lie: LieArg,
        /// In how many answers; in all until `clear`, unless set
        #[arg(long)]
        count: Option<usize>,
    },
    /// Answer the next calls of GetResult with what the database holds now
    Lag { count: usize },
    /// Relay nothing, or go on
    StallRelays {
        #[arg(value_enum, default_value = "on")]
        switch: Switch,
    },
    /// Relay the next results, and lose the records of it
    LoseRelayedRecords { count: usize },
    /// Give up relaying a job
    GiveUpRelay { job: JobId },
    /// Fill the gap that a relay which reverted has left in the account of a State node
    FillRelayerGap,
    /// Restart the node: what it has only in memory is lost
    Restart,
    /// Take the chain's RPC down for the node, or bring it up
    Chain {
        #[arg(value_enum)]
        reachable: Reachable,
    },
    /// Mine blocks on the simulated chain
    Mine {
        #[arg(default_value_t = 1)]
        blocks: u64,
    },
    /// Drop the last blocks of the simulated chain, with what is in them
    Reorganise { depth: u64 },
    /// Appoint another operator on the simulated chain
    SetOperator { operator: Address },
    /// End every fault and let go what is held
    Clear,
    /// Print counts, and why a job does not move
    Status {
        /// A job to say more of
        job: Option<JobId>,
    },
    /// Write the state file now
    Save,
}

#[derive(Parser)]
#[command(name = "fault", no_binary_name = true)]
struct Words {
    #[command(subcommand)]
    fault: FaultCommand,
}

impl FaultCommand {
    /// Reads what `--fault` gives: the words of `ivm devnode fault`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = |error: clap::Error| {
            let text = error.to_string();
            // What it is a value of says the same at its end.
            let text = text.trim().trim_end_matches("For more information, try '--help'.");
            text.trim_start_matches("error: ").trim().to_owned()
        };
        Words::try_parse_from(text.split_whitespace()).map(|words| words.fault).map_err(whole)
    }

    /// Whether only the simulated chain can do it.
    pub fn is_of_simulated_chain(&self) -> bool {
        matches!(self, Self::Mine { .. } | Self::Reorganise { .. } | Self::SetOperator { .. })
    }

    /// Does it. What has an answer gives it.
    pub fn apply(&self, node: &DevNode) -> Result<Value> {
        let (faults, chain) = (node.faults(), node.chain());
        match self {
            Self::DropReplies { method, count, how } => faults.drop_replies(method.0, *count, how.loss()),
            Self::Refuse { method, count, code, message } => {
                faults.refuse(method.0, *count, StatusCode(*code), message.clone());
            }
            Self::Unimplemented { method } => faults.unimplemented(method.0),
            // `clear` opens every gate.
            Self::HoldRequest { method } => drop(faults.hold_request(method.0)),
            Self::HoldReply { method } => drop(faults.hold_reply(method.0)),
            Self::HoldExecutions => drop(faults.hold_executions()),
            Self::HoldIntake => drop(faults.hold_intake()),
            Self::HoldLowNonceRecords => drop(faults.hold_low_nonce_records()),
            Self::CloseConnections => faults.close_connections(),
            Self::Lie { lie, count: None } => faults.lie(lie.lie()),
            Self::Lie { lie, count: Some(count) } => faults.lie_once(*count, lie.lie()),
            Self::Lag { count } => faults.lag(*count),
            Self::StallRelays { switch } => faults.stall_relays(matches!(switch, Switch::On)),
            Self::LoseRelayedRecords { count } => faults.lose_relayed_records(*count),
            Self::GiveUpRelay { job } => {
                if !faults.give_up_relay((*job).into()) {
                    return Err(refused(format!("job {job} does not wait for its relay")));
                }
            }
            Self::FillRelayerGap => faults.fill_relayer_gap(),
            Self::Restart => node.restart(),
            Self::Chain { reachable } => chain.set_reachable(matches!(reachable, Reachable::Up)),
            Self::Mine { blocks } => return Ok(json!({ "head": chain.mine(*blocks).number })),
            Self::Reorganise { depth } => return Ok(json!({ "head": chain.reorganise(*depth).number })),
            Self::SetOperator { operator } => chain.set_operator(*operator),
            Self::Clear => faults.clear(),
            Self::Status { job } => return Ok(status(node, *job)),
            // The state file is not the node's.
            Self::Save => {}
        }
        Ok(json!({}))
    }
}

fn status(node: &DevNode, job: Option<JobId>) -> Value {
    let stats = node.stats();
    let calls: serde_json::Map<_, _> =
        Method::ALL.into_iter().map(|method| (method.name().to_owned(), stats.calls(method).into())).collect();
    let mut said = json!({
        "revision": node.revision(),
        "calls": calls,
        "hanging_calls": stats.hanging_calls(),
        "relayer_gap": stats.relayer_gap(),
    });
    if let Some(job) = job {
        let id = job.into();
        said["job"] = json!({
            "id": job,
            "submissions": stats.submissions(id),
            "executions": stats.executions(id),
            "relay_attempts": stats.relay_attempts(id),
            "execution_error": stats.last_execution_error(id),
            "relay_error": stats.last_relay_error(id),
        });
    }
    said
}

/// An answer, for people.
pub fn text(said: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", said, &mut lines);
    if lines.is_empty() { "done".to_owned() } else { lines.join("\n") }
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name} {field}") };
                flatten(&name, value, lines);
            }
        }
        Value::String(text) => lines.push(format!("{name}: {text}")),
        other => lines.push(format!("{name}: {other}")),
    }
}

/// A method by its name, in any case.
#[derive(Clone, Copy, Debug)]
pub struct MethodArg(Method);

impl std::str::FromStr for MethodArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
        let known = Method::ALL.into_iter().find(|method| plain(method.name()) == plain(name));
        known.map(Self).ok_or_else(|| {
            let names: Vec<_> = Method::ALL.into_iter().map(Method::name).collect();
            format!("there is no such method; there are {}", names.join(", "))
        })
    }
}

impl fmt::Display for MethodArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Serialize for MethodArg {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MethodArg {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossArg {
    Reset,
    Close,
    Never,
}

impl LossArg {
    fn loss(self) -> Loss {
        match self {
            Self::Reset => Loss::ResetStream,
            Self::Close => Loss::CloseConnection,
            Self::Never => Loss::Never,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LieArg {
    SignedOutput,
    UnsignedOutput,
    Operator,
    JobId,
    MaxCycles,
    ProgramId,
    OnchainInputHash,
    OffchainInputHash,
    StateHash,
    Truncated,
    Echo,
    RecordId,
}

impl LieArg {
    fn lie(self) -> Lie {
        let output = Bytes::from_static(&[0x66; 64]);
        match self {
            Self::SignedOutput => Lie::SignedOutput(output),
            Self::UnsignedOutput => Lie::UnsignedOutput(output),
            Self::Operator => Lie::Operator,
            Self::JobId => Lie::JobId,
            Self::MaxCycles => Lie::MaxCycles,
            Self::ProgramId => Lie::ProgramId,
            Self::OnchainInputHash => Lie::OnchainInputHash,
            Self::OffchainInputHash => Lie::OffchainInputHash,
            Self::StateHash => Lie::StateHash,
            Self::Truncated => Lie::Truncated,
            Self::Echo => Lie::Echo,
            Self::RecordId => Lie::RecordId,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachable {
    Up,
    Down,
}
