//! A chain with the contracts and a node, servers on it, and users who sign.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, sol};
use clob::{config::Config, maker::Trader, service::Service, world::World};
use clob_core::{Action, Cancel, Limit, SIGNATURE, Withdraw};
use infinityvm_sdk::primitives::{Address, B256, U256, hex};
use serde_json::{Value, json};
use support::{
    anvil::Anvil,
    rpc::{Rpc, http_client},
};

sol! {
    interface Contract {
        function balanceOf(address user) external view returns (uint128 base, uint128 quote);
        function held() external view returns (uint128 base, uint128 quote);
        function owed(address user) external view returns (uint128 base, uint128 quote);
        function deposits() external view returns (uint64);
        function counted() external view returns (uint64);
        function deposit(address user, bool base, uint128 amount) external;
        function getLatestStateRoot() external view returns (bytes32);
    }

    interface Coin {
        function balanceOf(address owner) external view returns (uint256);
        function mint(address to, uint256 amount) external;
        function approve(address spender, uint256 amount) external returns (bool);
    }
}

/// What a deposit pays for gas at most, 100 gwei: blocks that are full of deposits raise the base fee, and anvil drops what
/// offers less.
const FEE: &str = "0x174876e800";

/// A chain whose blocks are soon final, and what stands on it.
pub struct Rig {
    pub world: World,
    pub rpc: Rpc,
    payer: Address,
    _anvil: Anvil,
}

impl Rig {
    pub async fn start() -> Self {
        let anvil = Anvil::builder().block_time(1).args(["--slots-in-an-epoch", "1"]).start();
        let world = World::start(Some(anvil.http_url())).await.expect("a world");
        let (rpc, payer) = (Rpc::new(anvil.http_url()), anvil.address(5));
        for token in world.tokens {
            let calls = [
                Coin::mintCall { to: payer, amount: U256::from(u128::MAX) }.abi_encode(),
                Coin::approveCall { spender: world.contract, amount: U256::MAX }.abi_encode(),
            ];
            for call in calls {
                let hash = rpc.send(payer, Some(token), &call).await.expect("sent");
                assert_eq!(rpc.receipt(hash).await["status"], "0x1");
            }
        }
        Self { world, rpc, payer, _anvil: anvil }
    }

    /// Deposits so much of a token for each of these.
    pub async fn deposit(&self, deposits: &[(Address, bool, u128)]) {
        let mut hashes = Vec::new();
        for (user, base, amount) in deposits.iter().copied() {
            let call = Contract::depositCall { user, base, amount }.abi_encode();
            let data = hex::encode_prefixed(&call);
            let to = self.world.contract;
            let transaction = json!({ "from": self.payer, "to": to, "data": data, "maxFeePerGas": FEE });
            let hash = self.rpc.call("eth_sendTransaction", json!([transaction])).await;
            hashes.push(hash.as_str().and_then(|hash| hash.parse().ok()).expect("a hash"));
        }
        for hash in hashes {
            assert_eq!(self.rpc.receipt(hash).await["status"], "0x1");
        }
    }

    /// A server in this process, and where it is.
    pub async fn serve(&self, config: Config) -> (Arc<Service>, Http) {
        let service = Service::start(config).await.expect("starts");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = clob::api::routes(Arc::clone(&service), axum::Router::new());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (service, Http::new(url))
    }

    /// A server in a process of its own, with more flags: at least where it keeps everything.
    pub fn spawn(&self, listen: &str, more: &[&str]) -> Server {
        let (contract, program) =
            (self.world.contract.to_string(), hex::encode_prefixed(self.world.program.as_bytes()));
        let node = self.world.node.grpc_url();
        let flags = ["--node", &node, "--rpc", &self.world.rpc, "--contract", &contract, "--program", &program];
        let mut command = Command::new(env!("CARGO_BIN_EXE_clob"));
        command.args(flags).args(["--listen", listen, "--confirmations", "2"]).args(more);
        Server::start(command.env("CLOB_KEY", hex::encode_prefixed([0x43; 32])))
    }

    pub fn user(&self, number: u8) -> User {
        self.user_with(B256::repeat_byte(number + 1))
    }

    pub fn user_with(&self, key: B256) -> User {
        let signer = PrivateKeySigner::from_bytes(&key).expect("a key");
        User(Trader::new(signer, 31_337, self.world.contract))
    }

    /// What the contract says that a user has.
    pub async fn on_chain(&self, user: Address) -> (u128, u128) {
        let found = self.rpc.view(self.world.contract, &Contract::balanceOfCall { user }).await.expect("balances");
        (found.base, found.quote)
    }

    /// What a user has outside.
    pub async fn outside(&self, user: Address) -> [u128; 2] {
        let mut has = [0; 2];
        for (token, has) in self.world.tokens.into_iter().zip(&mut has) {
            let found = self.rpc.view(token, &Coin::balanceOfCall { owner: user }).await.expect("a balance");
            *has = found.to::<u128>();
        }
        has
    }
}

/// A server's process; killed when it is dropped.
pub struct Server {
    process: Child,
    pub http: Http,
}

impl Server {
    pub fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("runs");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let url = loop {
            let line = lines.next().expect("a line").expect("text");
            if let Some(url) = line.strip_prefix("trades at ") {
                break url.trim_end_matches('/').to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, http: Http::new(url) }
    }

    /// Ctrl-C, after which it ends by itself.
    pub fn interrupt(mut self) {
        let sent = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert!(self.process.wait().expect("ended").success());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// An address on which nobody listens.
pub fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").to_string()
}

/// Somebody who asks a server.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    pub url: String,
}

impl Http {
    fn new(url: String) -> Self {
        Self { client: http_client(), url }
    }

    /// Status and body, or nothing if there was no reply.
    pub async fn try_post(&self, path: &str, key: Option<&str>, body: &str) -> Option<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let request = if let Some(key) = key { request.header("idempotency-key", key) } else { request };
        let reply = request.body(body.to_owned()).send().await.ok()?;
        let status = reply.status().as_u16();
        Some((status, serde_json::from_slice(&reply.bytes().await.ok()?).ok()?))
    }

    /// Status and body, for one that says to be of this kind.
    pub async fn post_as(&self, kind: &str, path: &str, body: &str) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", kind);
        let reply = request.body(body.to_owned()).send().await.expect("a reply");
        (reply.status().as_u16(), serde_json::from_slice(&reply.bytes().await.expect("a body")).expect("JSON"))
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, None, &body.to_string()).await.expect("a reply")
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let reply = self.client.get(format!("{}{path}", self.url)).send().await.expect("a reply");
        let status = reply.status().as_u16();
        let text = reply.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What must be there.
    pub async fn read(&self, path: &str) -> Value {
        let (status, value) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub async fn account(&self, user: Address) -> Value {
        self.read(&format!("/api/accounts/{user}")).await
    }

    /// Waits until a place is so far.
    pub async fn settled(&self, place: u64, until: &str) {
        loop {
            match self.get(&format!("/api/settled/{place}?until={until}")).await {
                (200, stages) => {
                    assert!(stages[until].as_u64().expect("a place") >= place, "{stages}");
                    return;
                }
                // It has waited for long.
                (503, _) => {}
                (status, body) => panic!("{status}: {body}"),
            }
        }
    }
}

/// Somebody who signs.
pub struct User(pub Trader);

impl User {
    pub fn address(&self) -> Address {
        self.0.address()
    }

    pub fn signature(&self, action: &Action) -> String {
        let signature: [u8; SIGNATURE] = self.0.sign(action).expect("signed");
        hex::encode_prefixed(signature)
    }

    /// The path and the body of an action, signed.
    pub fn asks(&self, action: &Action) -> (&'static str, Value) {
        let (path, mut body) = fields(action);
        body["signature"] = self.signature(action).into();
        (path, body)
    }
}

/// The path and the body of an action, without the signature.
pub fn fields(action: &Action) -> (&'static str, Value) {
    let (user, nonce, expiry) = action.terms();
    let mut body = json!({ "user": user, "nonce": nonce, "expiry": expiry });
    let path = match action {
        Action::Limit(Limit { buy, price, size, .. }) => {
            body["side"] = if *buy { "buy" } else { "sell" }.into();
            (body["price"], body["size"]) = (price.to_string().into(), size.to_string().into());
            "/api/orders"
        }
        Action::Cancel(Cancel { order, .. }) => {
            body["order"] = (*order).into();
            "/api/cancels"
        }
        Action::Withdraw(Withdraw { base, amount, .. }) => {
            body["token"] = if *base { "base" } else { "quote" }.into();
            body["amount"] = amount.to_string().into();
            "/api/withdrawals"
        }
    };
    (path, body)
}

pub fn number(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number in a text"))
}
