//! What passes from the service to the node, noted on the wire: a proxy that knows enough of HTTP/2, gRPC and JSON to see
//! which bytes were submitted. It shares no code with the SDK.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Every submission of a consumer by nonce: the requests, and the signatures with which each was sent.
pub type Sent = BTreeMap<u64, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>;

/// A consumer and a nonce, which name a job.
pub type Named = (String, u64);

/// One submission.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Which life of which service it is from.
    pub life: usize,
    /// Which of the job's payloads.
    pub payload: u64,
    pub began: Instant,
    /// When it was answered, or its connection broke.
    pub ended: Option<Instant>,
}

/// The text that a request asks to run for. One dynamic tuple: the offset word; nonce, cycles, consumer, the places of
/// program id and input, and more; the place counts from the second word on.
pub fn onchain_input(request: &[u8]) -> String {
    let number = |at: usize| u64::from_be_bytes(request[at + 24..at + 32].try_into().unwrap()) as usize;
    let at = 32 + number(32 + 4 * 32);
    String::from_utf8(request[at + 32..at + 32 + number(at)].to_vec()).unwrap()
}

#[derive(Default)]
struct Notes {
    sent: BTreeMap<String, Sent>,
    sendings: BTreeMap<Named, Vec<Sending>>,
}

/// Where a submission is noted.
type Noted = (Named, usize);

#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Notes>>);

impl Recorder {
    /// Listens for one life of a service, and passes everything on to this address.
    pub async fn before(&self, node: SocketAddr, life: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(recorder.clone().pass(client, node, life));
            }
        });
        address
    }

    pub fn sent(&self, consumer: &str) -> Sent {
        self.0.lock().unwrap().sent.get(consumer).cloned().unwrap_or_default()
    }

    pub fn sendings(&self) -> BTreeMap<Named, Vec<Sending>> {
        self.0.lock().unwrap().sendings.clone()
    }

    async fn pass(self, client: TcpStream, node: SocketAddr, life: usize) {
        // A connection refused by the node is one that the proxy breaks.
        let Ok(node) = TcpStream::connect(node).await else { return };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_node, mut to_node) = node.into_split();
        // By stream; over HTTP/1.1, where there are none, whatever is under way.
        let under_way = Arc::<Mutex<HashMap<u32, Noted>>>::default();
        let (answered, ends) = (Arc::clone(&under_way), self.clone());
        let back = tokio::spawn(async move {
            let (mut answers, mut buffer) = (Answers::default(), vec![0; 64 * 1024]);
            while let Ok(count @ 1..) = from_node.read(&mut buffer).await {
                for stream in answers.take(&buffer[..count]) {
                    let ended = answered.lock().unwrap().remove(&stream);
                    ended.into_iter().for_each(|noted| ends.end(&noted));
                }
                if to_client.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
            _ = to_client.shutdown().await;
        });
        let mut wire = Wire::default();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from_client.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            // Noted before it can arrive.
            for (stream, request, signature) in wire.take(&buffer[..count]) {
                let noted = self.note(request, signature, life);
                under_way.lock().unwrap().insert(stream, noted);
            }
            if to_node.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        _ = to_node.shutdown().await;
        back.abort();
        under_way.lock().unwrap().drain().for_each(|(_, noted)| self.end(&noted));
    }

    fn note(&self, request: Vec<u8>, signature: Vec<u8>, life: usize) -> Noted {
        // One dynamic tuple: the offset word, then nonce, cycles and consumer.
        let nonce = u64::from_be_bytes(request[56..64].try_into().unwrap());
        let consumer: String = request[108..128].iter().map(|byte| format!("{byte:02x}")).collect();
        let consumer = format!("0x{consumer}");
        let notes = &mut *self.0.lock().unwrap();
        let mut payload = DefaultHasher::new();
        request.hash(&mut payload);
        let sent = notes.sent.entry(consumer.clone()).or_default();
        sent.entry(nonce).or_default().entry(request).or_default().insert(signature);
        let name = (consumer, nonce);
        let sendings = notes.sendings.entry(name.clone()).or_default();
        sendings.push(Sending { life, payload: payload.finish(), began: Instant::now(), ended: None });
        (name, sendings.len() - 1)
    }

    fn end(&self, (name, at): &Noted) {
        let notes = &mut *self.0.lock().unwrap();
        if let Some(sending) = notes.sendings.get_mut(name).and_then(|sendings| sendings.get_mut(*at)) {
            sending.ended.get_or_insert_with(Instant::now);
        }
    }
}

/// What a node sends, as far as it says which streams have ended.
#[derive(Default)]
struct Answers {
    header: Vec<u8>,
    /// Bytes of the present frame that are still to come.
    left: usize,
    /// Not HTTP/2.
    texts: Option<bool>,
}

impl Answers {
    fn take(&mut self, mut bytes: &[u8]) -> Vec<u32> {
        let texts = *self.texts.get_or_insert(bytes.starts_with(b"HTTP/"));
        if texts {
            return vec![0];
        }
        let mut ended = Vec::new();
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            if self.left > 0 {
                break;
            }
            let needed = (9 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..needed]);
            bytes = &bytes[needed..];
            if let [a, b, c, kind, flags, stream @ ..] = &self.header[..]
                && let Ok(stream) = <[u8; 4]>::try_from(stream)
            {
                self.left = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                // DATA or HEADERS that end the stream, or RST_STREAM.
                if *kind <= 1 && flags & 1 == 1 || *kind == 3 {
                    ended.push(u32::from_be_bytes(stream));
                }
                self.header.clear();
            }
        }
        ended
    }
}

/// One connection's bytes, as far as they are not understood yet.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    begun: bool,
    http2: bool,
    streams: HashMap<u32, Vec<u8>>,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Wire {
    /// Submissions, each with its stream.
    fn take(&mut self, bytes: &[u8]) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        self.bytes.extend_from_slice(bytes);
        if !self.begun {
            if self.bytes.len() < PREFACE.len() {
                return Vec::new();
            }
            self.begun = true;
            self.http2 = self.bytes.starts_with(PREFACE);
            if self.http2 {
                self.bytes.drain(..PREFACE.len());
            }
        }
        if self.http2 { self.frames() } else { self.texts() }
    }

    fn frames(&mut self) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        while self.bytes.len() >= 9 {
            let length = u32::from_be_bytes([0, self.bytes[0], self.bytes[1], self.bytes[2]]) as usize;
            if self.bytes.len() < 9 + length {
                break;
            }
            let frame: Vec<u8> = self.bytes.drain(..9 + length).collect();
            // Only DATA counts, which this client never pads.
            if frame[3] != 0 {
                continue;
            }
            let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
            let message = self.streams.entry(stream).or_default();
            message.extend_from_slice(&frame[9..]);
            if message.len() >= 5 {
                let whole = 5 + u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize;
                if message.len() >= whole {
                    let message = self.streams.remove(&stream).unwrap();
                    let submission = submission(&message[5..whole]);
                    found.extend(submission.map(|(request, signature)| (stream, request, signature)));
                }
            }
        }
        found
    }

    fn texts(&mut self) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&self.bytes);
            let array = |name: &str| {
                let begin = text.find(&format!("\"{name}\":["))? + name.len() + 4;
                let end = begin + text[begin..].find(']')?;
                let numbers = text[begin..end].split(',').map(|number| number.trim().parse::<u8>());
                Some((numbers.collect::<Result<Vec<_>, _>>().ok()?, end))
            };
            let (Some((request, first)), Some((signature, second))) = (array("request"), array("signature")) else {
                break;
            };
            let past = first.max(second);
            self.bytes.drain(..past);
            found.push((0, request, signature));
        }
        found
    }
}

/// Fields 1 and 2 of a protobuf message, if they are the request and the signature of a submission.
fn submission(message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (request, rest) = bytes_field(message, 0x0a)?;
    let (signature, _) = bytes_field(rest, 0x12)?;
    (request.len() > 256 && request[31] == 0x20).then(|| (request.to_vec(), signature.to_vec()))
}

fn bytes_field(message: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let mut rest = message.strip_prefix(&[tag])?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let (byte, more) = rest.split_first()?;
        rest = more;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    rest.split_at_checked(length)
}
