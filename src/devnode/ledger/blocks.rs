//! The blocks of the simulated chain, each with one transaction at most.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

use crate::chain::{At, Block, Log, LogFilter, Receipt, Transaction};

/// Seconds between two blocks.
const BLOCK_TIME: u64 = 12;
const GENESIS_TIME: u64 = 1_700_000_000;

/// A transaction, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tx {
    pub hash: B256,
    pub to: Address,
    pub input: Bytes,
    pub succeeded: bool,
    pub logs: Vec<Event>,
}

/// What the JobManager logged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub topics: Vec<B256>,
    pub data: Bytes,
}

#[derive(Debug)]
struct Mined {
    block: Block,
    tx: Option<Tx>,
}

impl Mined {
    fn logs<'a>(&'a self, tx: &'a Tx) -> impl Iterator<Item = Log> + 'a {
        let Block { number, hash, .. } = self.block;
        tx.logs.iter().zip(0..).map(move |(log, index)| {
            Log::new(tx.to, log.topics.clone(), log.data.clone(), number, hash, tx.hash).with_index(index)
        })
    }
}

/// A block as it is written down; its place says its number.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedBlock {
    hash: B256,
    parent: B256,
    timestamp: u64,
    tx: Option<Tx>,
}

/// The canonical chain. What a reorganisation drops is gone.
#[derive(Debug)]
pub(super) struct SimBlocks {
    genesis: Block,
    /// From number 1 on.
    mined: Vec<Mined>,
    /// The numbers of blocks by their hashes, and by their transactions'.
    by_hash: HashMap<B256, u64>,
    by_tx: HashMap<B256, u64>,
    /// How often the chain was reorganised, so that a block is never made again.
    forks: u64,
    /// How many blocks the finalized one is behind the latest.
    finality: u64,
}

impl SimBlocks {
    pub(super) fn new(chain_id: u64) -> Self {
        let hash = keccak256([b"the dev node's chain".as_slice(), &chain_id.to_be_bytes()].concat());
        let genesis = Block::new(0, hash, B256::ZERO, GENESIS_TIME);
        Self { genesis, mined: Vec::new(), by_hash: [(hash, 0)].into(), by_tx: HashMap::new(), forks: 0, finality: 0 }
    }

    /// How often it was reorganised, and the blocks from number 1 on.
    pub(super) fn save(&self) -> (u64, Vec<SavedBlock>) {
        let save = |Mined { block, tx }: &Mined| {
            let Block { hash, parent, timestamp, .. } = *block;
            SavedBlock { hash, parent, timestamp, tx: tx.clone() }
        };
        (self.forks, self.mined.iter().map(save).collect())
    }

    pub(super) fn load(chain_id: u64, forks: u64, saved: Vec<SavedBlock>) -> Self {
        let mut blocks = Self { forks, ..Self::new(chain_id) };
        for SavedBlock { hash, parent, timestamp, tx } in saved {
            blocks.put(Block::new(blocks.next(), hash, parent, timestamp), tx);
        }
        blocks
    }

    pub(super) fn head(&self) -> Block {
        self.mined.last().map_or(self.genesis, |mined| mined.block)
    }

    pub(super) fn set_finality(&mut self, blocks: u64) {
        self.finality = blocks;
    }

    /// The number of the block that is mined next.
    pub(super) fn next(&self) -> u64 {
        self.head().number + 1
    }

    pub(super) fn mine(&mut self, tx: Option<Tx>) {
        let (head, number) = (self.head(), self.next());
        let content = tx.as_ref().map_or(B256::ZERO, |tx| tx.hash);
        let hash = keccak256(
            [head.hash.as_slice(), &number.to_be_bytes(), &self.forks.to_be_bytes(), content.as_slice()].concat(),
        );
        self.put(Block::new(number, hash, head.hash, head.timestamp + BLOCK_TIME), tx);
    }

    fn put(&mut self, block: Block, tx: Option<Tx>) {
        self.by_hash.insert(block.hash, block.number);
        if let Some(tx) = &tx {
            self.by_tx.insert(tx.hash, block.number);
        }
        self.mined.push(Mined { block, tx });
    }

    /// Drops the last blocks, and mines as many without transactions. Returns the number of the last one that stayed.
    pub(super) fn reorganise(&mut self, depth: u64) -> u64 {
        let depth = depth.min(self.head().number);
        let kept = self.head().number - depth;
        self.mined.retain(|mined| mined.block.number <= kept);
        self.by_hash.retain(|_, number| *number <= kept);
        self.by_tx.retain(|_, number| *number <= kept);
        self.forks += 1;
        (0..depth).for_each(|_| self.mine(None));
        kept
    }

    fn mined(&self, number: u64) -> Option<&Mined> {
        self.mined.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    pub(super) fn block(&self, at: At) -> Option<Block> {
        match at {
            At::Latest => Some(self.head()),
            At::Finalized => self.block(At::Number(self.head().number.saturating_sub(self.finality))),
            At::Number(0) => Some(self.genesis),
            At::Number(number) => self.mined(number).map(|mined| mined.block),
            At::Hash(hash) => self.by_hash.get(&hash).and_then(|number| self.block(At::Number(*number))),
        }
    }

    fn with_tx(&self, hash: B256) -> Option<(&Mined, &Tx)> {
        let mined = self.mined(*self.by_tx.get(&hash)?)?;
        mined.tx.as_ref().map(|tx| (mined, tx))
    }

    pub(super) fn receipt(&self, hash: B256) -> Option<Receipt> {
        let (mined, tx) = self.with_tx(hash)?;
        let logs = mined.logs(tx).collect();
        Some(Receipt::new(hash, mined.block.number, mined.block.hash, tx.succeeded, logs))
    }

    pub(super) fn transaction(&self, hash: B256) -> Option<Transaction> {
        self.with_tx(hash).map(|(_, tx)| Transaction::new(hash, Some(tx.to), tx.input.clone()))
    }

    pub(super) fn logs(&self, filter: &LogFilter) -> Vec<Log> {
        let first = usize::try_from(filter.from_block.saturating_sub(1)).unwrap_or(usize::MAX);
        let in_range = self.mined.iter().skip(first).take_while(|mined| mined.block.number <= filter.to_block);
        let wanted = |log: &Log| {
            let matches = |(at, any): (usize, &Vec<B256>)| {
                any.is_empty() || log.topics.get(at).is_some_and(|it| any.contains(it))
            };
            log.address == filter.address && filter.topics.iter().enumerate().all(matches)
        };
        let logs = in_range.filter_map(|mined| mined.tx.as_ref().map(|tx| mined.logs(tx))).flatten();
        logs.filter(wanted).collect()
    }
}
