//! A client of the feed, which keeps a book of its own and finds out if it has missed something.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use infinityvm_sdk::primitives::Address;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::rig::{Http, number};

pub struct Watcher {
    socket: WebSocketStream<TcpStream>,
    /// Sizes by side and price.
    pub book: BTreeMap<(bool, u128), u128>,
    pub seq: u64,
    pub account: Value,
    pub stages: Value,
    pub trades: Vec<Value>,
    pub own: Vec<Value>,
}

impl Watcher {
    /// Connects, and has the snapshots.
    pub async fn connect(http: &Http, user: Option<Address>) -> Self {
        let host = http.url.trim_start_matches("http://");
        let stream = TcpStream::connect(host).await.expect("connects");
        let whose = user.map_or_else(String::new, |user| format!("?user={user}"));
        let (socket, _) = client_async(format!("ws://{host}/api/feed{whose}"), stream).await.expect("a websocket");
        let (book, seq) = (BTreeMap::new(), 0);
        let mut watcher =
            Self { socket, book, seq, account: Value::Null, stages: Value::Null, trades: Vec::new(), own: Vec::new() };
        for kind in ["book", "trades", "stages"].into_iter().chain(user.map(|_| "account")) {
            assert_eq!(watcher.next().await, kind);
        }
        watcher
    }

    /// Takes the next message, and returns its type.
    pub async fn next(&mut self) -> String {
        let text = loop {
            match self.socket.next().await.expect("a message").expect("whole") {
                Message::Text(text) => break text,
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let kind = message["type"].as_str().expect("a type").to_owned();
        match kind.as_str() {
            "book" => {
                self.book.clear();
                for (bid, side) in [(true, "bids"), (false, "asks")] {
                    for level in message[side].as_array().expect("levels") {
                        self.book.insert((bid, number(&level[0])), number(&level[1]));
                    }
                }
                self.seq = message["seq"].as_u64().expect("a place");
            }
            "trades" => self.trades = message["trades"].as_array().expect("trades").clone(),
            "account" => self.account = message,
            "stages" => self.stages = message,
            "update" => {
                assert_eq!(message["prev"], self.seq, "nothing was missed");
                self.seq = message["seq"].as_u64().expect("a place");
                for level in message["levels"].as_array().expect("levels") {
                    let (at, size) = ((level[0] == "buy", number(&level[1])), number(&level[2]));
                    if size == 0 {
                        self.book.remove(&at)
                    } else {
                        self.book.insert(at, size)
                    };
                }
                self.trades.extend(message["trades"].as_array().expect("trades").iter().cloned());
                let side = |bid| self.book.keys().filter(move |level| level.0 == bid).map(|level| level.1);
                if let (Some(bid), Some(ask)) = (side(true).max(), side(false).min()) {
                    assert!(bid < ask, "the book is crossed at place {}: {bid} against {ask}", self.seq);
                }
            }
            "own" => {
                for name in ["nonce", "base", "quote", "seq"] {
                    self.account[name] = message[name].clone();
                }
                self.own.push(message);
            }
            other => panic!("{other}"),
        }
        kind
    }

    /// Takes messages until it is so.
    pub async fn until(&mut self, is: impl Fn(&Self) -> bool) {
        while !is(self) {
            self.next().await;
        }
    }

    /// The book as the server tells it to whoever asks.
    pub async fn compare(&self, http: &Http) {
        let book = http.read("/api/book").await;
        assert_eq!(book["seq"], self.seq);
        let mut told = BTreeMap::new();
        for (bid, side) in [(true, "bids"), (false, "asks")] {
            let levels = book[side].as_array().expect("levels");
            let prices: Vec<u128> = levels.iter().map(|level| number(&level[0])).collect();
            assert!(prices.is_sorted_by(|one, next| if bid { one > next } else { one < next }), "{prices:?}");
            told.extend(levels.iter().map(|level| ((bid, number(&level[0])), number(&level[1]))));
        }
        assert_eq!(told, self.book);
    }
}
