//! A proxy before a chain's RPC, which loses an answer once, or gives one of its own once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What becomes of the first request that holds a text.
enum Prank {
    /// It is passed on, and the answer is lost.
    Lose,
    /// It is answered with this, `result` or `error`, and not passed on.
    Answer(Value),
}

struct Script {
    text: String,
    prank: Prank,
    played: AtomicUsize,
}

pub struct Proxy {
    port: u16,
    script: Arc<Script>,
}

impl Proxy {
    pub async fn losing(chain: u16, text: impl Into<String>) -> Self {
        Self::start(chain, text.into(), Prank::Lose).await
    }

    /// `answer` is an object with `result` or `error`.
    pub async fn answering(chain: u16, text: impl Into<String>, answer: Value) -> Self {
        Self::start(chain, text.into(), Prank::Answer(answer)).await
    }

    async fn start(chain: u16, text: String, prank: Prank) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let script = Arc::new(Script { text, prank, played: AtomicUsize::new(0) });
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, chain, Arc::clone(&shared)));
            }
        });
        Self { port, script }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often it has done so: once, or not yet.
    pub fn played(&self) -> usize {
        self.script.played.load(SeqCst)
    }
}

async fn carry(mut client: TcpStream, chain: u16, script: Arc<Script>) {
    let mut server = TcpStream::connect(("127.0.0.1", chain)).await.expect("the chain");
    let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                // Small requests come in one piece over loopback.
                let text = String::from_utf8_lossy(&up[..read]);
                let first = || script.played.fetch_update(SeqCst, SeqCst, |played| (played == 0).then_some(1)).is_ok();
                if text.contains(&script.text) && first() {
                    match &script.prank {
                        Prank::Lose => losing = true,
                        Prank::Answer(answer) => {
                            if client.write_all(&response(&text, answer)).await.is_err() { return }
                            continue;
                        }
                    }
                }
                if server.write_all(&up[..read]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                // The chain has answered, so it has the transaction; both connections close.
                if losing || client.write_all(&down[..read]).await.is_err() { return }
            }
        }
    }
}

/// The answer under the request's id.
fn response(request: &str, answer: &Value) -> Vec<u8> {
    let body = request.split_once("\r\n\r\n").expect("a body").1;
    let asked: Value = serde_json::from_str(body).expect("one piece of JSON");
    let mut answer = answer.clone();
    (answer["jsonrpc"], answer["id"]) = (json!("2.0"), asked["id"].clone());
    let body = answer.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head, body].concat().into_bytes()
}
