//! An HTTP/1.1 server that reads requests and answers with exactly the bytes it is told to.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What happens after a request was read.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes; the connection stays open.
    Keep(Vec<u8>),
    /// These bytes, and the end.
    Close(Vec<u8>),
    /// These bytes as often as told, from one small buffer, and the end.
    Flood(Vec<u8>, &'static [u8], usize),
}

/// A whole answer with its length.
pub fn answer(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let typed = if content_type.is_empty() { String::new() } else { format!("content-type: {content_type}\r\n") };
    let head = format!("HTTP/1.1 {status} Some\r\n{typed}content-length: {}\r\n\r\n", body.len());
    Reply::Keep([head.as_bytes(), body].concat())
}

pub fn json(status: u16, body: impl AsRef<[u8]>) -> Reply {
    answer(status, "application/json", body)
}

/// A server on a port of its own; it and its connections end when it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers every request alike.
    pub async fn replying(reply: Reply) -> Self {
        Self::start(move |_| std::future::ready(reply.clone())).await
    }

    pub async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Seen) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None, handler)
    }

    pub fn start_on<F, R>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: F) -> Self
    where
        F: Fn(Seen) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (counter, log) = (Arc::clone(&connections), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                counter.fetch_add(1, SeqCst);
                let (tls, handler, log) = (tls.clone(), handler.clone(), Arc::clone(&log));
                tasks.spawn(async move {
                    match tls {
                        None => serve(socket, handler, &log).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, handler, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, connections, seen, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Ends the server with all its connections, and waits for it.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.addr
    }
}

async fn serve<S, F, R>(mut socket: S, handler: F, log: &Mutex<Vec<Seen>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Seen) -> R,
    R: Future<Output = Reply>,
{
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut socket, &mut buffer).await {
        log.lock().unwrap().push(request.clone());
        let (bytes, close) = match handler(request).await {
            Reply::Keep(bytes) => (bytes, false),
            Reply::Close(bytes) => (bytes, true),
            Reply::Flood(head, piece, times) => {
                if socket.write_all(&head).await.is_ok() {
                    for _ in 0..times {
                        if socket.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                }
                (Vec::new(), true)
            }
        };
        if socket.write_all(&bytes).await.is_err() || socket.flush().await.is_err() {
            return;
        }
        if close {
            let _ = socket.shutdown().await;
            return;
        }
    }
}

/// One request; `None` where the connection ends before it does.
async fn receive<S: AsyncRead + Unpin>(socket: &mut S, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_len].to_vec()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<_> = lines.filter_map(split).collect();
    let len = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, len)| len.parse().unwrap());
    while buffer.len() < head_len + len {
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let rest = buffer.split_off(head_len + len);
    let body = std::mem::replace(buffer, rest).split_off(head_len);
    Some(Seen { line, headers, body })
}
