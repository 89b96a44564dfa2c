//! A scripted chain behind HTTP or a websocket.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::{SinkExt, StreamExt};
use infinityvm_sdk::{
    Error, ErrorKind,
    chain::{Answer, At, Call, ChainReader, Question, RpcReader},
    primitives::{Address, B256},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use crate::http1::{self, Reply, Server};

pub fn block(number: u64) -> Value {
    let (hash, parent) = (B256::with_last_byte(number as u8 + 1), B256::with_last_byte(number as u8));
    json!({ "number": format!("{number:#x}"), "hash": hash, "parentHash": parent, "timestamp": "0x64", "baseFeePerGas": "0x7" })
}

/// What a healthy chain at block 7 answers to one request.
pub fn healthy(request: &Value) -> Value {
    let result = match request["method"].as_str().expect("a method") {
        "eth_chainId" => json!("0x7a69"),
        "eth_getBlockByNumber" => block(match request["params"][0].as_str().expect("a tag") {
            "latest" => 7,
            number => u64::from_str_radix(&number[2..], 16).expect("hex"),
        }),
        "eth_getCode" => json!("0x6001"),
        "eth_call" => json!(B256::with_last_byte(9)),
        "eth_getLogs" => json!([]),
        "eth_subscribe" => json!("0xcafe"),
        _ => Value::Null,
    };
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

pub fn failure(request: &Value, error: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
}

/// Every request of a packet by itself.
pub fn each(packet: &Value, answer: impl Fn(&Value) -> Value) -> Value {
    match packet {
        Value::Array(requests) => requests.iter().map(answer).collect(),
        one => answer(one),
    }
}

/// A server that makes its answer of the packet it got.
pub async fn serving(answer: impl Fn(Value) -> Reply + Clone + Send + Sync + 'static) -> (Server, RpcReader) {
    let server = Server::start(move |seen| {
        let packet = serde_json::from_slice(&seen.body).expect("JSON");
        std::future::ready(answer(packet))
    })
    .await;
    let reader = RpcReader::http(server.url()).expect("a reader");
    (server, reader)
}

pub async fn answering(answer: impl Fn(&Value) -> Value + Clone + Send + Sync + 'static) -> (Server, RpcReader) {
    serving(move |packet| http1::json(200, answer(&packet).to_string())).await
}

/// Questions of every kind, all of which the healthy chain answers.
pub fn twelve() -> Vec<Question> {
    let at = At::Hash(B256::with_last_byte(8));
    let call = |byte| Call::new(Address::repeat_byte(byte), vec![byte]);
    vec![
        Question::ChainId,
        Question::Block(At::Latest),
        Question::Block(At::Number(0)),
        Question::Code(Address::repeat_byte(1), At::Latest),
        Question::Code(Address::repeat_byte(1), at),
        Question::Call(call(1), At::Latest),
        Question::Call(call(2), at),
        Question::Call(call(3), At::Number(5)),
        Question::Receipt(B256::repeat_byte(1)),
        Question::Transaction(B256::repeat_byte(1)),
        Question::Logs(infinityvm_sdk::chain::LogFilter::new(Address::ZERO, vec![vec![]], 1, 2)),
        Question::ChainId,
    ]
}

pub async fn chain_id(reader: &RpcReader) -> Result<Answer, Error> {
    reader.ask(&[Question::ChainId]).await?.remove(0)
}

/// The error that asking for two things fails with as a whole.
pub async fn refused(reader: &RpcReader) -> Error {
    let error = reader.ask(&[Question::ChainId, Question::Block(At::Latest)]).await.expect_err("cannot be asked");
    assert_eq!(error.kind(), ErrorKind::Chain, "{}", error.report());
    assert!(error.hint().is_some() && error.endpoint().is_some(), "{}", error.report());
    error
}

#[derive(Clone, Debug)]
pub enum Order {
    Say(String),
    Hang,
    Close,
}

/// A websocket that answers each message by itself, and says what it is told to.
pub struct Socket {
    pub addr: std::net::SocketAddr,
    pub seen: Arc<Mutex<Vec<Value>>>,
    pub connections: Arc<AtomicUsize>,
    orders: broadcast::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = self.orders.send(Order::Close);
    }
}

impl Socket {
    pub async fn start(answer: impl Fn(&Value) -> Option<String> + Clone + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), answer)
    }

    pub fn start_on(
        listener: TcpListener,
        answer: impl Fn(&Value) -> Option<String> + Clone + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("bound");
        let (seen, connections) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicUsize>::default());
        let (orders, _) = broadcast::channel(16);
        let (log, count, sender) = (Arc::clone(&seen), Arc::clone(&connections), orders.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (answer, log, count, mut orders) =
                    (answer.clone(), Arc::clone(&log), Arc::clone(&count), sender.subscribe());
                tokio::spawn(async move {
                    let Ok(mut socket) = accept_async(tcp).await else { return };
                    count.fetch_add(1, SeqCst);
                    loop {
                        tokio::select! {
                            message = socket.next() => {
                                let Some(Ok(message)) = message else { return };
                                if let Message::Text(text) = message {
                                    let request: Value = serde_json::from_str(&text).expect("JSON");
                                    log.lock().expect("seen").push(request.clone());
                                    if let Some(answer) = answer(&request) {
                                        let _ = socket.send(Message::text(answer)).await;
                                    }
                                }
                            }
                            order = orders.recv() => match order {
                                Ok(Order::Say(text)) => drop(socket.send(Message::text(text)).await),
                                Ok(Order::Hang) => std::future::pending().await,
                                Ok(Order::Close) | Err(_) => return,
                            }
                        }
                    }
                });
            }
        });
        Self { addr, seen, connections, orders, task }
    }

    pub async fn healthy() -> Self {
        Self::start(|request| Some(healthy(request).to_string())).await
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    pub fn push(&self, block: Value) {
        let params = json!({ "subscription": "0xcafe", "result": block });
        self.order(Order::Say(json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params }).to_string()));
    }

    pub fn methods(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("seen");
        seen.iter().map(|request| request["method"].as_str().expect("a method").to_owned()).collect()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}
