//! A chain in memory with what stands before one: JSON-RPC, a pool, accounts with nonces, blocks, reorganisations. An edge,
//! a function of a test's, may stand before it all and answer what it likes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use alloy_consensus::{Transaction as _, TxEnvelope, TypedTransaction};
use alloy_json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_network::eip2718::Decodable2718;
use alloy_provider::RootProvider;
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use infinityvm_sdk::{
    Revision,
    chain::{Answer, At, Call, LogFilter, Question, RpcReader},
    primitives::{Address, B256, Bytes, keccak256},
};
use serde_json::{Value, json, value::to_raw_value};
use support::ledger_chain::{CHAIN_ID, JOB_MANAGER, World};
use tower_service::Service;

/// In wei.
pub const BASE_FEE: u128 = 1_000_000_000;
pub const TIP: u128 = 100_000_000;

/// What a request ends with.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Result(Value),
    Error(i64, String, Option<Value>),
    /// The connection breaks.
    Broken,
}

pub fn error(code: i64, message: &str) -> Outcome {
    Outcome::Error(code, message.to_owned(), None)
}

/// A transaction in the pool.
#[derive(Clone)]
struct Pooled {
    hash: B256,
    to: Option<Address>,
    data: Bytes,
    blobs: Vec<B256>,
    most: u128,
    tip: u128,
}

/// The chain after a block.
#[derive(Clone)]
struct Height {
    world: World,
    nonces: HashMap<Address, u64>,
    hash: B256,
    /// What was in the block.
    mined: Vec<(Address, u64, Pooled)>,
}

struct State {
    revision: Revision,
    heights: Vec<Height>,
    pool: BTreeMap<(Address, u64), Pooled>,
    base_fee: u128,
    gas_limit: u64,
    /// What a result takes.
    gas: u64,
    /// Blobs are taken with proofs of their cells only.
    cells: bool,
    forks: u64,
    replaced: Vec<((Address, u64), Pooled)>,
    /// The calls that have ever succeeded.
    landed: HashSet<B256>,
    /// What was sent, as often as it was: the hash, the sender, its nonce, and both fees.
    sent: Vec<Sent>,
    methods: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub hash: B256,
    pub from: Address,
    pub nonce: u64,
    pub most: u128,
    pub tip: u128,
}

type Edge = dyn Fn(&str, &Value, &PoolChain) -> (Duration, Outcome) + Send + Sync;

struct Inner {
    state: Mutex<State>,
    edge: Mutex<Arc<Edge>>,
}

#[derive(Clone)]
pub struct PoolChain(Arc<Inner>);

impl fmt::Debug for PoolChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolChain")
    }
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default().trim_start_matches("0x");
    u64::from_str_radix(text, 16).unwrap_or_default()
}

fn quantity(value: impl fmt::LowerHex) -> Value {
    json!(format!("{value:#x}"))
}

fn read<T: std::str::FromStr>(value: &Value) -> T
where
    T::Err: fmt::Debug,
{
    value.as_str().expect("text").parse().expect("hex")
}

impl PoolChain {
    pub fn new(revision: Revision, world: World) -> Self {
        let genesis = Height { world, nonces: HashMap::new(), hash: keccak256("0"), mined: Vec::new() };
        let state = State {
            revision,
            heights: vec![genesis],
            pool: BTreeMap::new(),
            base_fee: BASE_FEE,
            gas_limit: 30_000_000,
            gas: 150_000,
            cells: false,
            forks: 0,
            replaced: Vec::new(),
            landed: HashSet::new(),
            sent: Vec::new(),
            methods: Vec::new(),
        };
        let edge: Arc<Edge> = Arc::new(|method, params, chain| (Duration::ZERO, chain.forward(method, params)));
        Self(Arc::new(Inner { state: Mutex::new(state), edge: Mutex::new(edge) }))
    }

    /// Puts an edge before the chain.
    pub fn edge(&self, edge: impl Fn(&str, &Value, &Self) -> Outcome + Send + Sync + 'static) {
        self.slow_edge(move |method, params, chain| (Duration::ZERO, edge(method, params, chain)));
    }

    /// One that takes its time for an answer.
    pub fn slow_edge(&self, edge: impl Fn(&str, &Value, &Self) -> (Duration, Outcome) + Send + Sync + 'static) {
        *self.0.edge.lock().unwrap() = Arc::new(edge);
    }

    pub fn reader(&self) -> RpcReader {
        self.over(None)
    }

    /// By another RPC of the same chain, with an edge of its own.
    pub fn reader_by(
        &self,
        edge: impl Fn(&str, &Value, &Self) -> (Duration, Outcome) + Send + Sync + 'static,
    ) -> RpcReader {
        self.over(Some(Arc::new(edge)))
    }

    fn over(&self, edge: Option<Arc<Edge>>) -> RpcReader {
        let provider: RootProvider = RootProvider::new(RpcClient::new(Wire { chain: self.clone(), edge }, true));
        RpcReader::from_provider(provider)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// What the contracts hold, to be changed by the test.
    pub fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.state().heights.last_mut().expect("a block").world)
    }

    pub fn set_base_fee(&self, wei: u128) {
        self.state().base_fee = wei;
    }

    pub fn set_gas(&self, needed: u64, block: u64) {
        let mut state = self.state();
        (state.gas, state.gas_limit) = (needed, block);
    }

    pub fn set_cells(&self, cells: bool) {
        self.state().cells = cells;
    }

    /// Transactions that were sent, each as often as it was.
    pub fn sent(&self) -> Vec<Sent> {
        self.state().sent.clone()
    }

    pub fn methods(&self) -> Vec<String> {
        self.state().methods.clone()
    }

    pub fn pooled(&self) -> usize {
        self.state().pool.len()
    }

    /// Drops what the pool has.
    pub fn drop_pool(&self) {
        self.state().pool.clear();
    }

    /// A block, with what the pool has and what pays for it.
    pub fn mine(&self) {
        self.state().mine();
    }

    /// Replaces the last blocks. What was in them is in the pool again, or is lost.
    pub fn reorganise(&self, depth: usize, lost: bool) {
        self.state().reorganise(depth, lost);
    }

    /// A stranger's transaction of an account, into the pool, whatever is there.
    pub fn put_strangers(&self, from: Address, nonce: u64) {
        let mut state = self.state();
        let hash = keccak256([from.as_slice(), &nonce.to_be_bytes()].concat());
        let (to, data) = (Some(Address::repeat_byte(0x99)), Bytes::new());
        let stranger = Pooled { hash, to, data, blobs: Vec::new(), most: u128::MAX / 4, tip: u128::MAX / 4 };
        state.pool.insert((from, nonce), stranger);
    }

    /// Whether a call has ever landed, whoever brought it; and whether one of this account's may: it is in the pool, or in a
    /// block.
    pub fn knows(&self, data: &[u8], account: Address) -> (bool, bool) {
        let state = self.state();
        let ever = state.landed.contains(&keccak256(data));
        let pooled = state.pool.iter().any(|((from, _), it)| *from == account && *it.data == *data);
        drop(state);
        (ever, pooled || self.mined(data, account).contains(&true))
    }

    /// The transactions of an account with this call that are in blocks: whether each succeeded.
    pub fn mined(&self, data: &[u8], account: Address) -> Vec<bool> {
        let state = self.state();
        let receipts = &state.latest().world.receipts;
        let mined = state.heights.iter().flat_map(|height| &height.mined);
        let own = mined.filter(|(from, _, it)| *from == account && *it.data == *data);
        own.map(|(.., it)| receipts.get(&it.hash).is_some_and(|receipt| receipt.succeeded)).collect()
    }

    /// Of every block from the beginning: how many transactions to the JobManager have succeeded, and failed.
    pub fn results(&self) -> (usize, usize) {
        let state = self.state();
        let world = &state.heights.last().expect("a block").world;
        let done = world.receipts.values().filter(|receipt| receipt.succeeded && !receipt.logs.is_empty()).count();
        (done, world.receipts.values().filter(|receipt| !receipt.succeeded).count())
    }

    /// Puts a transaction that was replaced into the pool in place of the one that replaced it.
    pub fn put_back(&self, hash: B256) -> bool {
        let mut state = self.state();
        let Some((key, it)) = state.replaced.iter().find(|(_, it)| it.hash == hash).cloned() else { return false };
        state.pool.insert(key, it);
        true
    }

    /// The first account nonce that no block and no pool has, if one behind it waits in the pool.
    pub fn gap(&self, of: Address) -> Option<u64> {
        let state = self.state();
        let gap = (state.nonce(of)..).find(|nonce| !state.pool.contains_key(&(of, *nonce)))?;
        state.pool.keys().any(|(from, nonce)| *from == of && *nonce > gap).then_some(gap)
    }

    /// The answer of the chain itself.
    pub fn forward(&self, method: &str, params: &Value) -> Outcome {
        let mut state = self.state();
        state.methods.push(method.to_owned());
        state.answer(method, params)
    }

    /// The answer of the chain as it was so many blocks ago: a server that lags.
    pub fn forward_lagging(&self, method: &str, params: &Value, blocks: usize) -> Outcome {
        let mut state = self.state();
        let keep = state.heights.len().saturating_sub(blocks).max(1);
        let later = state.heights.split_off(keep);
        let pool = std::mem::take(&mut state.pool);
        let answer = state.answer(method, params);
        state.pool = pool;
        state.heights.extend(later);
        answer
    }

    /// A trial on what the pool holds, as some make it whatever block they are asked for.
    pub fn on_pending(&self, method: &str, params: &Value) -> Outcome {
        let mut state = self.state();
        let (heights, pool, landed) = (state.heights.clone(), state.pool.clone(), state.landed.clone());
        state.mine();
        let answer = state.answer(method, params);
        (state.heights, state.pool, state.landed) = (heights, pool, landed);
        answer
    }
}

impl State {
    fn number(&self) -> u64 {
        self.heights.len() as u64 - 1
    }

    fn latest(&self) -> &Height {
        self.heights.last().expect("a block")
    }

    fn nonce(&self, of: Address) -> u64 {
        self.latest().nonces.get(&of).copied().unwrap_or_default()
    }

    fn mine(&mut self) {
        let mut next = self.latest().clone();
        next.mined = Vec::new();
        // Best tip first, and of an account in the order of its nonces.
        loop {
            let mut best: Option<((Address, u64), u128)> = None;
            for ((from, nonce), it) in &self.pool {
                let next_nonce = next.nonces.get(from).copied().unwrap_or_default();
                let payable = it.most >= self.base_fee && *nonce == next_nonce;
                if payable && best.is_none_or(|(_, tip)| it.tip > tip) {
                    best = Some(((*from, *nonce), it.tip));
                }
            }
            let Some((key, _)) = best else { break };
            let it = self.pool.remove(&key).expect("it is there");
            next.nonces.insert(key.0, key.1 + 1);
            // All of the block's are of this block.
            next.world.number = self.number();
            if it.to == Some(JOB_MANAGER) && next.world.include(self.revision, it.hash, &it.data, &it.blobs) {
                self.landed.insert(keccak256(&it.data));
            }
            next.mined.push((key.0, key.1, it));
        }
        next.world.number = self.number() + 1;
        next.hash = keccak256([next.world.number.to_be_bytes(), self.forks.to_be_bytes()].concat());
        // What can land no more is dropped.
        self.pool.retain(|(from, nonce), _| *nonce >= next.nonces.get(from).copied().unwrap_or_default());
        self.heights.push(next);
    }

    fn reorganise(&mut self, depth: usize, lost: bool) {
        self.forks += 1;
        for _ in 0..depth.min(self.heights.len() - 1) {
            let gone = self.heights.pop().expect("a block");
            if !lost {
                for (from, nonce, it) in gone.mined {
                    self.pool.entry((from, nonce)).or_insert(it);
                }
            }
        }
        let kept = self.latest().clone();
        for at in 0..depth {
            let mut empty = Height { mined: Vec::new(), ..kept.clone() };
            empty.world.number = kept.world.number + at as u64 + 1;
            empty.hash = keccak256([empty.world.number.to_be_bytes(), self.forks.to_be_bytes()].concat());
            self.heights.push(empty);
        }
    }

    fn at(&self, block: &Value) -> Option<usize> {
        match block {
            Value::Null => Some(self.heights.len() - 1),
            Value::Object(object) => self.by_hash(read(&object["blockHash"])),
            Value::String(tag) if tag == "latest" || tag == "pending" => Some(self.heights.len() - 1),
            height => usize::try_from(number(height)).ok().filter(|height| *height < self.heights.len()),
        }
    }

    fn by_hash(&self, hash: B256) -> Option<usize> {
        self.heights.iter().position(|height| height.hash == hash)
    }

    fn block(&self, at: Option<usize>) -> Value {
        let Some(at) = at else { return Value::Null };
        let parent = at.checked_sub(1).map_or(B256::ZERO, |parent| self.heights[parent].hash);
        json!({
            "number": quantity(at), "hash": self.heights[at].hash, "parentHash": parent,
            "timestamp": quantity(at * 12), "baseFeePerGas": quantity(self.base_fee), "gasLimit": quantity(self.gas_limit),
        })
    }

    fn ask(&self, at: usize, question: &Question) -> Answer {
        self.heights[at].world.answer(self.revision, question)
    }

    fn call(&self, object: &Value, at: usize) -> Answer {
        let mut call = Call::new(read(&object["to"]), read::<Bytes>(&object["data"]));
        call.blob_hashes = serde_json::from_value(object["blobVersionedHashes"].clone()).unwrap_or_default();
        self.ask(at, &Question::Call(call, At::Latest))
    }

    fn find(&self, hash: B256) -> Option<(&Pooled, Option<usize>)> {
        let mined = self.heights.iter().enumerate().rev().find_map(|(at, height)| {
            height.mined.iter().find(|(.., it)| it.hash == hash).map(|(.., it)| (it, Some(at)))
        });
        mined.or_else(|| self.pool.values().find(|it| it.hash == hash).map(|it| (it, None)))
    }

    fn answer(&mut self, method: &str, params: &Value) -> Outcome {
        let latest = self.heights.len() - 1;
        let param = |at: usize| &params[at];
        Outcome::Result(match method {
            "eth_chainId" => quantity(CHAIN_ID),
            "eth_getBlockByNumber" => self.block(self.at(param(0))),
            "eth_getBlockByHash" => self.block(self.by_hash(read(param(0)))),
            "eth_getCode" => json!("0x01"),
            "eth_maxPriorityFeePerGas" => quantity(TIP),
            "eth_blobBaseFee" => quantity(1),
            "eth_feeHistory" => {
                let rewards = [7_u64, 3, 5, 0, 9].map(|reward| vec![quantity(reward)]);
                json!({ "oldestBlock": "0x0", "reward": rewards, "baseFeePerBlobGas": ["0x1", "0x2"] })
            }
            "eth_getTransactionCount" => {
                let of: Address = read(param(0));
                let mined = self.nonce(of);
                let pending = (mined..).find(|nonce| !self.pool.contains_key(&(of, *nonce))).expect("some");
                quantity(if param(1) == "pending" { pending } else { mined })
            }
            "eth_call" | "eth_estimateGas" => {
                let Some(at) = self.at(param(1)) else { return error(-32000, "header not found") };
                let allowed = match &param(0)["gas"] {
                    Value::Null => self.gas_limit,
                    gas => number(gas),
                };
                match self.call(param(0), at) {
                    Answer::Returned(_) if method == "eth_estimateGas" && self.gas > allowed => {
                        return error(-32000, &format!("gas required exceeds allowance ({allowed})"));
                    }
                    Answer::Returned(_) if method == "eth_estimateGas" => quantity(self.gas),
                    Answer::Returned(data) => json!(data),
                    Answer::Reverted(data) => {
                        return Outcome::Error(3, "execution reverted".to_owned(), Some(json!(data)));
                    }
                    other => panic!("{other:?}"),
                }
            }
            "eth_getTransactionByHash" => match self.find(read(param(0))) {
                None => Value::Null,
                Some((it, at)) => json!({
                    "hash": it.hash, "to": it.to, "input": it.data, "blockNumber": at.map(quantity),
                    "blockHash": at.map(|at| self.heights[at].hash),
                }),
            },
            "eth_getTransactionReceipt" => {
                let hash: B256 = read(param(0));
                let at = self.find(hash).and_then(|(_, at)| at);
                match (at, self.latest().world.receipts.get(&hash)) {
                    (Some(at), Some(receipt)) => json!({
                        "transactionHash": hash, "blockNumber": quantity(at), "blockHash": self.heights[at].hash,
                        "status": quantity(u8::from(receipt.succeeded)), "logs": self.logs(&receipt.logs),
                    }),
                    _ => Value::Null,
                }
            }
            "eth_getLogs" => {
                let filter = param(0);
                let topics: Vec<Vec<B256>> = filter["topics"]
                    .as_array()
                    .expect("topics")
                    .iter()
                    .map(|topic| serde_json::from_value(topic.clone()).unwrap_or_default())
                    .collect();
                let (from, to) = (number(&filter["fromBlock"]), number(&filter["toBlock"]));
                let filter = LogFilter::new(read(&filter["address"]), topics, from, to);
                let Answer::Logs(logs) = self.ask(latest, &Question::Logs(filter)) else { panic!("no logs") };
                self.logs(&logs)
            }
            "eth_sendRawTransaction" => return self.send(&read::<Bytes>(param(0))),
            other => return error(-32601, &format!("the method {other} does not exist/is not available")),
        })
    }

    fn logs(&self, logs: &[infinityvm_sdk::chain::Log]) -> Value {
        logs.iter()
            .map(|log| {
                let hash = self.heights.get(log.block_number as usize).map(|height| height.hash);
                json!({
                    "address": log.address, "topics": log.topics, "data": log.data, "logIndex": "0x0",
                    "blockNumber": quantity(log.block_number), "blockHash": hash, "transactionHash": log.tx_hash,
                })
            })
            .collect()
    }

    fn send(&mut self, raw: &[u8]) -> Outcome {
        let tx = TxEnvelope::decode_2718(&mut &*raw).expect("a transaction");
        let hash = *tx.tx_hash();
        let from = tx.signature().recover_address_from_prehash(&tx.signature_hash()).expect("signed");
        if self.cells && tx.as_eip4844().is_some_and(|it| it.tx().sidecar().is_some_and(|it| it.is_eip4844())) {
            return error(-32000, "wrong sidecar for this fork");
        }
        let typed = TypedTransaction::from(tx);
        let it = Pooled {
            hash,
            to: typed.to(),
            data: typed.input().clone(),
            blobs: typed.blob_versioned_hashes().map(<[B256]>::to_vec).unwrap_or_default(),
            most: typed.max_fee_per_gas(),
            tip: typed.max_priority_fee_per_gas().unwrap_or_default(),
        };
        let nonce = typed.nonce();
        self.sent.push(Sent { hash, from, nonce, most: it.most, tip: it.tip });
        if nonce < self.nonce(from) {
            return error(-32000, &format!("nonce too low: next nonce {}, tx nonce {nonce}", self.nonce(from)));
        }
        match self.pool.get(&(from, nonce)) {
            Some(known) if known.hash == hash => return error(-32000, "already known"),
            Some(known) if !it.blobs.is_empty() && (it.most < known.most * 2 || it.tip < known.tip * 2) => {
                return error(-32000, "replacement transaction underpriced");
            }
            Some(known) if it.most < known.most / 10 * 11 || it.tip < known.tip / 10 * 11 => {
                return error(-32000, "replacement transaction underpriced");
            }
            _ => {}
        }
        if let Some(before) = self.pool.insert((from, nonce), it) {
            self.replaced.push(((from, nonce), before));
        }
        Outcome::Result(json!(hash))
    }
}

/// What a transaction that is sent says of itself.
pub struct Raw {
    pub hash: B256,
    pub from: Address,
    pub nonce: u64,
    pub to: Option<Address>,
    pub data: Bytes,
}

impl Raw {
    /// Of the parameters of `eth_sendRawTransaction`.
    pub fn of(params: &Value) -> Self {
        let raw: Bytes = read(&params[0]);
        let tx = TxEnvelope::decode_2718(&mut &raw[..]).expect("a transaction");
        let from = tx.signature().recover_address_from_prehash(&tx.signature_hash()).expect("signed");
        Self { hash: *tx.tx_hash(), from, nonce: tx.nonce(), to: tx.to(), data: tx.input().clone() }
    }
}

/// The transport: an edge, and the chain behind it.
#[derive(Clone)]
struct Wire {
    chain: PoolChain,
    /// Of its own, in place of the chain's.
    edge: Option<Arc<Edge>>,
}

impl Wire {
    fn exchange(&self, request: &SerializedRequest) -> (Duration, Result<Response, TransportError>) {
        let params: Value = request.params().map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("JSON"));
        let edge = self.edge.clone().unwrap_or_else(|| Arc::clone(&self.chain.0.edge.lock().unwrap()));
        let (pause, outcome) = edge(request.method(), &params, &self.chain);
        let payload = match outcome {
            Outcome::Result(value) => ResponsePayload::Success(to_raw_value(&value).expect("JSON")),
            Outcome::Error(code, message, data) => ResponsePayload::Failure(ErrorPayload {
                code,
                message: message.into(),
                data: data.map(|data| to_raw_value(&data).expect("JSON")),
            }),
            Outcome::Broken => return (pause, Err(TransportErrorKind::custom_str("connection reset"))),
        };
        (pause, Ok(Response { id: request.id().clone(), payload }))
    }
}

impl Service<RequestPacket> for Wire {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut longest = Duration::ZERO;
            let mut answer = |request: &SerializedRequest| {
                let (pause, answer) = wire.exchange(request);
                longest = longest.max(pause);
                answer
            };
            let packet = match &packet {
                RequestPacket::Single(request) => answer(request).map(ResponsePacket::Single),
                RequestPacket::Batch(requests) => {
                    requests.iter().map(answer).collect::<Result<Vec<_>, _>>().map(ResponsePacket::Batch)
                }
            };
            tokio::time::sleep(longest).await;
            packet
        })
    }
}
