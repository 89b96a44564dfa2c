//! What was learnt of an RPC while it was read: whether it takes hashes of blocks, and how many blocks of logs. The
//! size of batches is learnt in `rpc/round.rs`.

use std::fmt;

use super::{fallback::LeftRpc, limit::Limit};
use crate::sync::Lock;

/// How often in a row no state may be had by a block's hash, while no hash ever worked, until numbers are tried.
const PATIENCE: u32 = 2;

/// What was learnt of a chain's RPC while it was read, as [`Chain::rpc_traits`](super::Chain::rpc_traits) tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcTraits {
    /// The most questions that it takes in one request (a JSON-RPC batch), if that is fewer than it was asked. It is 1
    /// where the RPC takes no batches.
    pub max_batch: Option<u64>,
    /// Whether it reads the state of a block that is named by its hash (EIP-1898). If not, blocks are named by their
    /// numbers, and compared before and after. Nothing until it was asked.
    pub block_hashes: Option<bool>,
    /// The most blocks that a question for logs may span, if that is fewer than
    /// [`Chain::with_log_range`](super::Chain::with_log_range) allows.
    pub log_range: Option<u64>,
    /// The most questions in a second that it takes, if it was found to limit them: at least 5. What is more waits for
    /// its turn.
    pub max_rate: Option<u64>,
}

/// How one of a chain's RPCs stands, as [`Chain::rpcs`](super::Chain::rpcs) tells it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RpcState {
    /// Where it is, without credentials.
    pub endpoint: String,
    /// Whether it is the one that is read.
    pub in_use: bool,
    /// Why it is not used for a while. Nothing of an RPC that is in use, or would be if the ones before it failed.
    pub left: Option<LeftRpc>,
    /// The number of the latest block that it has shown; nothing of an only RPC.
    pub head: Option<u64>,
    /// What was learnt of it.
    pub traits: RpcTraits,
}

/// What is learnt, while it is. All clones of a chain share it.
pub(super) struct Learnt {
    hashes: Lock<Hashes>,
    logs: Lock<Limit>,
}

/// Whether the RPC takes blocks by their hash.
#[derive(Clone, Copy, Debug)]
enum Hashes {
    /// So often in a row it had no state for one.
    Unknown {
        missed: u32,
    },
    /// Whether numbers were found to answer no more.
    Taken {
        compared: bool,
    },
    Refused,
}

impl Learnt {
    pub(super) fn new(log_range: u64) -> Self {
        Self { hashes: Lock::from(Hashes::Unknown { missed: 0 }), logs: Lock::from(Limit::new(log_range)) }
    }

    pub(super) fn traits(&self, max_batch: Option<u64>, max_rate: Option<u64>) -> RpcTraits {
        let block_hashes = match *self.hashes.lock() {
            Hashes::Unknown { .. } => None,
            Hashes::Taken { .. } => Some(true),
            Hashes::Refused => Some(false),
        };
        let logs = self.logs.lock();
        RpcTraits { max_batch, block_hashes, log_range: logs.is_learnt().then(|| logs.known()), max_rate }
    }

    /// Whether blocks are named by their numbers.
    pub(super) fn by_number(&self) -> bool {
        matches!(*self.hashes.lock(), Hashes::Refused)
    }

    pub(super) fn takes_hashes(&self) {
        let mut hashes = self.hashes.lock();
        if !matches!(*hashes, Hashes::Taken { .. }) {
            *hashes = Hashes::Taken { compared: false };
        }
    }

    /// Whether numbers are known to answer no more than hashes.
    pub(super) fn has_compared(&self) -> bool {
        matches!(*self.hashes.lock(), Hashes::Taken { compared: true })
    }

    pub(super) fn numbers_do_no_more(&self) {
        *self.hashes.lock() = Hashes::Taken { compared: true };
    }

    pub(super) fn refuses_hashes(&self) {
        *self.hashes.lock() = Hashes::Refused;
    }

    /// The RPC had no state for a hash, for now. Whether it may be that it never has.
    pub(super) fn misses_hash(&self) -> bool {
        match &mut *self.hashes.lock() {
            Hashes::Unknown { missed } => {
                *missed += 1;
                *missed >= PATIENCE
            }
            // A server of it that is behind the others.
            Hashes::Taken { .. } | Hashes::Refused => false,
        }
    }

    /// How many blocks the next question for logs is to span.
    pub(super) fn log_range(&self) -> u64 {
        self.logs.lock().size_for(u64::MAX)
    }

    pub(super) fn known_log_range(&self) -> u64 {
        self.logs.lock().known()
    }

    pub(super) fn logs_taken(&self, blocks: u64) {
        self.logs.lock().took(blocks);
    }

    pub(super) fn logs_refused(&self, blocks: u64) {
        self.logs.lock().refused(blocks);
    }

    /// It may have been for their number, or for how much was asked in a time.
    pub(super) fn logs_failed(&self, blocks: u64) {
        self.logs.lock().failed(blocks);
    }
}

impl fmt::Debug for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.traits(None, None).fmt(f)
    }
}
