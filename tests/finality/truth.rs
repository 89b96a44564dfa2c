//! What is true of the chain, by a reading of the test's own; and a reader for the client that notes which truth it has read last.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy_sol_types::SolEvent;
use async_trait::async_trait;
use infinityvm_sdk::{
    Finality, Result,
    chain::{Answer, Block, ChainReader, Question, RpcReader},
    primitives::{Address, B256, Bytes, hex},
};
use serde_json::{Value, json};
use tokio::{sync::RwLock, time::sleep};

use crate::{contracts::JobManager, rpc::Rpc};

/// A job that was completed in a block.
#[derive(Clone, Debug)]
pub struct Landed {
    pub tx: B256,
    pub job: B256,
    pub output: Bytes,
}

/// One state of the chain: its blocks by number.
pub type Version = Vec<B256>;

/// All states that the chain was in.
pub struct Truth {
    rpc: Rpc,
    job_manager: Address,
    pub versions: Vec<Version>,
    blocks: HashMap<B256, Vec<Landed>>,
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("hex").trim_start_matches("0x"), 16).expect("a number")
}

fn hash(value: &Value) -> B256 {
    value.as_str().and_then(|hash| hash.parse().ok()).expect("a hash")
}

impl Truth {
    pub fn new(rpc: Rpc, job_manager: Address) -> Self {
        Self { rpc, job_manager, versions: Vec::new(), blocks: HashMap::new() }
    }

    /// Reads the chain as it is now. Nobody may change it meanwhile.
    pub async fn read(&mut self) {
        let head = number(&self.rpc.call("eth_blockNumber", json!([])).await);
        let mut version: Version = Vec::new();
        let last = self.versions.last().cloned().unwrap_or_default();
        // From the head down to what is known.
        let mut above = Vec::new();
        let mut at = head;
        loop {
            let block = self.rpc.call("eth_getBlockByNumber", json!([format!("0x{at:x}"), false])).await;
            let this = hash(&block["hash"]);
            if last.get(usize::try_from(at).unwrap()) == Some(&this) {
                version.extend_from_slice(&last[..=usize::try_from(at).unwrap()]);
                break;
            }
            above.push(this);
            if at == 0 {
                break;
            }
            at -= 1;
        }
        version.extend(above.into_iter().rev());
        for (number, block) in version.iter().enumerate() {
            if !self.blocks.contains_key(block) {
                let receipts = self.rpc.call("eth_getBlockReceipts", json!([format!("0x{number:x}")])).await;
                let landed =
                    receipts.as_array().expect("receipts").iter().flat_map(|receipt| self.landed(receipt, *block));
                let landed = landed.collect();
                self.blocks.insert(*block, landed);
            }
        }
        self.versions.push(version);
    }

    fn landed(&self, receipt: &Value, block: B256) -> Vec<Landed> {
        assert_eq!(hash(&receipt["blockHash"]), block);
        if receipt["status"] != "0x1" {
            return Vec::new();
        }
        let logs = receipt["logs"].as_array().expect("logs").iter();
        let ours = logs.filter(|log| log["address"].as_str().and_then(|it| it.parse().ok()) == Some(self.job_manager));
        ours.filter_map(|log| {
            let topics = log["topics"].as_array().expect("topics").iter().map(hash);
            let data = hex::decode(log["data"].as_str().expect("data")).expect("hex");
            let event = JobManager::JobCompleted::decode_raw_log_validate(topics, &data).ok()?;
            Some(Landed { tx: hash(&receipt["transactionHash"]), job: event.jobID, output: event.result })
        })
        .collect()
    }

    /// Where a job is completed in a version, and how deep.
    pub fn find(&self, version: usize, job: B256) -> Option<(Landed, Finality)> {
        let version = &self.versions[version];
        version.iter().enumerate().find_map(|(number, block)| {
            let landed = self.blocks[block].iter().find(|landed| landed.job == job)?;
            let place = Finality::new(number as u64, *block, landed.tx, (version.len() - number) as u64);
            Some((landed.clone(), place))
        })
    }
}

/// Reads the chain for the client, while it is not changed; and notes which version the last answers are of.
#[derive(Clone, Debug)]
pub struct Witness {
    pub reader: RpcReader,
    /// Held by whoever changes the chain.
    pub turn: Arc<RwLock<()>>,
    /// The version that is in force, and the one that was read last.
    pub now: Arc<AtomicUsize>,
    pub read: Arc<AtomicUsize>,
    pub asked: Arc<AtomicUsize>,
}

#[async_trait]
impl ChainReader for Witness {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        // Whoever is told something by the last answers comes to look at it before there are others.
        sleep(Duration::from_millis(15)).await;
        let _turn = self.turn.read().await;
        let answers = self.reader.ask(questions).await;
        self.read.store(self.now.load(Ordering::SeqCst), Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        answers
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.reader.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        self.reader.endpoint()
    }
}
