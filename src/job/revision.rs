//! The protocol revisions and what only one of them has.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, named, written_as};

/// A revision of the node's protocol.
///
/// Both revisions share one protobuf package name but not one message layout, and reading one as the other often
/// succeeds with wrong fields. So the revision is stated by the user or by the node itself, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Revision {
    /// The mission's document: a job carries `state`, and its hash is signed.
    State,
    /// Every released node, v0.1.0 to v0.2.11: no state, but a [`RelayStrategy`].
    Relay,
}

impl Revision {
    /// Every revision.
    pub const ALL: [Self; 2] = [Self::State, Self::Relay];

    /// The revision's lower-case name, `state` or `relay`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Revision {
    type Err = Error;

    /// Reads `state` or `relay`, in any case.
    fn from_str(name: &str) -> Result<Self, Error> {
        named("protocol revision", name, Self::ALL.map(|revision| (revision.name(), revision)))
    }
}

/// In which order a node of the Relay revision relays the results of one consumer.
///
/// The strategy is sent beside the signed bytes and **not signed**: it is only as safe as the transport. Use one
/// strategy per consumer: unordered jobs do not advance the counter that ordered ones wait for. Written `unordered` or
/// `ordered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RelayStrategy {
    /// As soon as each is done.
    #[default]
    Unordered,
    /// By nonce, without gaps: a missing or failed nonce holds back every later one. A request made on chain takes a
    /// nonce, too. A node that works for the consumer at that time does not notice, and waits for a job under that
    /// nonce until it is restarted.
    Ordered,
}

impl RelayStrategy {
    /// The number in protobuf and JSON.
    #[must_use]
    pub fn as_i32(self) -> i32 {
        match self {
            Self::Unordered => 0,
            Self::Ordered => 1,
        }
    }
}

written_as!(RelayStrategy, "relay strategy", Unordered: "unordered", Ordered: "ordered");

/// The virtual machine a program is built for. The numbers differ by revision; the Relay revision has only
/// [`Sp1`](Self::Sp1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VmType {
    /// RISC Zero (State revision only).
    Risc0,
    /// Succinct's SP1.
    Sp1,
}
