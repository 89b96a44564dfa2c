//! gRPC servers of the tests' own: one that answers headers with headers, and one that is written in frames.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

type Headers = Vec<(&'static str, String)>;

/// Answers each call with a status and headers alone, which it makes of the headers that came; nothing else for OK.
pub async fn headers_only(answer: impl Fn(&HeaderMap) -> (u16, Headers) + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (status, headers) = answer(request.headers());
                    let mut response = http::Response::builder().status(status).body(()).unwrap();
                    let is_ok = headers.is_empty();
                    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                    for (name, value) in headers {
                        response
                            .headers_mut()
                            .insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
                    }
                    let Ok(mut stream) = respond.send_response(response, !is_ok) else { return };
                    if is_ok {
                        stream.send_data(bytes::Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
                        stream
                            .send_trailers(HeaderMap::from_iter([(
                                HeaderName::from_static("grpc-status"),
                                HeaderValue::from_static("0"),
                            )]))
                            .unwrap();
                    }
                }
            });
        }
    });
    url
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A server of HTTP/2 that counts pings, as gRPC's C core does: beyond so many on a connection it closes that with
/// `too_many_pings`. Of a connection that it lets live it answers the call after so many pings.
pub struct Counting {
    pub addr: SocketAddr,
    /// When pings came, for each connection.
    pub pings: Arc<Mutex<Vec<Vec<Instant>>>>,
    task: JoinHandle<()>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counting {
    /// `cut` are the connections that are closed, after so many pings; the others answer after `patient` of them.
    pub async fn start(cut: usize, after: usize, patient: usize, content_type: &'static str) -> Self {
        Self::complaining(cut, after, patient, content_type, "too_many_pings").await
    }

    /// The same, with words of its own for the complaint.
    pub async fn complaining(
        cut: usize,
        after: usize,
        patient: usize,
        content_type: &'static str,
        words: &'static str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let pings = Arc::<Mutex<Vec<Vec<Instant>>>>::default();
        let log = Arc::clone(&pings);
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                // Whoever only looks what is spoken here does not count.
                let mut preface = [0; 24];
                if socket.read_exact(&mut preface).await.is_err() || !preface.starts_with(b"PRI") {
                    continue;
                }
                let log = Arc::clone(&log);
                tokio::spawn(async move { _ = serve(socket, &log, (cut, after, patient), content_type, words).await });
            }
        });
        Self { addr, pings, task }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as HPACK has it that indexes nothing.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

async fn serve(
    mut socket: TcpStream,
    log: &Mutex<Vec<Vec<Instant>>>,
    (cut, after, patient): (usize, usize, usize),
    content_type: &str,
    words: &str,
) -> std::io::Result<()> {
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut call = None;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload).await?;
        let (kind, flags, stream) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        match kind {
            SETTINGS if flags & ACK == 0 => socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            // The connection counts from its first call on.
            HEADERS => {
                let mut log = log.lock().unwrap();
                let number = call.map_or(log.len(), |(_, number)| number);
                let connections = log.len().max(number + 1);
                log.resize_with(connections, Vec::new);
                call = Some((stream, number));
            }
            PING if flags & ACK == 0 => {
                socket.write_all(&frame(PING, ACK, 0, &payload)).await?;
                let Some((stream, number)) = call else { continue };
                let seen = {
                    let mut log = log.lock().unwrap();
                    log[number].push(Instant::now());
                    log[number].len()
                };
                if number < cut && seen == after {
                    // Nothing above stream 0 was cared for; ENHANCE_YOUR_CALM.
                    let complaint = [&[0, 0, 0, 0, 0, 0, 0, 11][..], words.as_bytes()].concat();
                    socket.write_all(&frame(GOAWAY, 0, 0, &complaint)).await?;
                    return socket.shutdown().await;
                }
                if number >= cut && seen >= patient {
                    let head = [vec![0x88], header("content-type", content_type)].concat();
                    socket.write_all(&frame(HEADERS, END_HEADERS, stream, &head)).await?;
                    if content_type == "application/json" {
                        socket.write_all(&frame(DATA, END_STREAM, stream, b"{}")).await?;
                    } else {
                        socket.write_all(&frame(DATA, 0, stream, b"\0\0\0\0\0")).await?;
                        let trailers = header("grpc-status", "0");
                        socket.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)).await?;
                    }
                }
            }
            _ => {}
        }
    }
}
