//! A plain HTTP client, and the REST calls by it. Small and of the tests' own, so that what is sent, and when a connection
//! ends, is what the test says.

use std::io;

use alloy_primitives::{B256, hex};
use infinityvm_sdk::{Revision, devnode::DevNode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::rig::{Rec, Refused};

pub const SUBMIT_JOB: &str = "/v1/coprocessor_node/submit_job";
pub const GET_RESULT: &str = "/v1/coprocessor_node/get_result";
pub const SUBMIT_PROGRAM: &str = "/v1/coprocessor_node/submit_program";

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Of names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// One connection of HTTP/1.1.
pub struct Http(TcpStream);

impl Http {
    pub async fn connect(node: &DevNode) -> io::Result<Self> {
        TcpStream::connect(address(&node.rest_url())).await.map(Self)
    }

    /// Sends a request and reads its answer; an error if the connection ends without one.
    pub async fn send(&mut self, request: &str, content_type: Option<&str>, body: &[u8]) -> io::Result<Answer> {
        self.write(request, content_type, body).await?;
        self.read().await
    }

    pub async fn write(&mut self, request: &str, content_type: Option<&str>, body: &[u8]) -> io::Result<()> {
        let content_type = content_type.map(|value| format!("content-type: {value}\r\n")).unwrap_or_default();
        let head = format!("{request} HTTP/1.1\r\nhost: node\r\n{content_type}content-length: {}\r\n\r\n", body.len());
        self.0.write_all(&[head.as_bytes(), body].concat()).await
    }

    /// Says that nothing more will be sent: to a server the same as going away, but the answer could still be read.
    pub async fn end(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }

    pub async fn read(&mut self) -> io::Result<Answer> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            self.more(&mut read).await?;
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: read.split_off(end + 4) };
        let length = answer.header("content-length").unwrap().parse().unwrap();
        while answer.body.len() < length {
            self.more(&mut answer.body).await?;
        }
        assert_eq!(answer.body.len(), length, "more than one answer");
        Ok(answer)
    }

    async fn more(&mut self, read: &mut Vec<u8>) -> io::Result<()> {
        match self.0.read_buf(read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub async fn post(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        self.send(&format!("POST {path}"), Some("application/json"), body.as_bytes()).await
    }
}

/// Bytes as a JSON array of numbers. By hand: megabytes of them as values take seconds.
fn numbers(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 4 * bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        text.push(if index == 0 { '[' } else { ',' });
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if *byte >= least {
                text.push(char::from(b'0' + byte / unit % 10));
            }
        }
    }
    text.push_str(if bytes.is_empty() { "[]" } else { "]" });
    text
}

/// A submission as JSON.
pub fn submission(
    revision: Revision,
    request: &[u8],
    signature: &[u8],
    offchain_input: &[u8],
    state: &[u8],
    relay_strategy: i32,
) -> String {
    let last = match revision {
        Revision::State => format!(r#""state":{}"#, numbers(state)),
        _ => format!(r#""relayStrategy":{relay_strategy}"#),
    };
    format!(
        r#"{{"request":{},"signature":{},"offchainInput":{},{last}}}"#,
        numbers(request),
        numbers(signature),
        numbers(offchain_input)
    )
}

/// The calls, each on a connection of its own, which ends when its caller goes away.
#[derive(Clone)]
pub struct RestClient {
    revision: Revision,
    url: String,
}

/// What a test sees of a connection that broke before the answer.
pub fn no_answer() -> Refused {
    (Code::Unavailable, "no answer".to_owned())
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert!(!text.starts_with("0x") && !text.contains(char::is_uppercase), "{text}");
    hex::decode(text).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

impl RestClient {
    pub fn new(node: &DevNode) -> Self {
        Self { revision: node.revision(), url: node.rest_url() }
    }

    async fn call(&self, path: &str, body: &str) -> Result<Value, Refused> {
        let exchange = async {
            let mut connection = Http(TcpStream::connect(address(&self.url)).await?);
            connection.post(path, body).await
        };
        let answer = exchange.await.map_err(|_| no_answer())?;
        let body = answer.json();
        if answer.status == 200 {
            return Ok(body);
        }
        let code = i32::try_from(body["grpc_code"].as_i64().unwrap()).unwrap();
        Err((Code::from_i32(code), body["message"].as_str().unwrap().to_owned()))
    }

    pub async fn submit(
        &self,
        request: Vec<u8>,
        signature: Vec<u8>,
        offchain_input: Vec<u8>,
        state: Vec<u8>,
        relay_strategy: i32,
    ) -> Result<B256, Refused> {
        let body = submission(self.revision, &request, &signature, &offchain_input, &state, relay_strategy);
        let id: Vec<u8> = serde_json::from_value(self.call(SUBMIT_JOB, &body).await?["jobId"].take()).unwrap();
        Ok(B256::from_slice(&id))
    }

    pub async fn get(&self, job_id: Vec<u8>) -> Result<Rec, Refused> {
        let r = &self.call(GET_RESULT, &json!({ "jobId": job_id }).to_string()).await?["jobResult"];
        let status = &r["status"];
        assert!(status.get("failureReason").is_some(), "null, not absent");
        Ok(Rec {
            id: unhex(&r["id"]),
            nonce: number(&r["nonce"]),
            max_cycles: number(&r["maxCycles"]),
            consumer: unhex(&r["consumerAddress"]),
            program_id: unhex(&r["programId"]),
            onchain: unhex(&r["onchainInput"]),
            offchain_hash: unhex(&r["offchainInputHash"]),
            state_hash: r.get("stateHash").map(unhex),
            signature: unhex(&r["requestSignature"]),
            result: unhex(&r["resultWithMetadata"]),
            operator_signature: unhex(&r["zkvmOperatorSignature"]),
            status: i32::try_from(number(&status["status"])).unwrap(),
            failure: status["failureReason"].as_str().map(str::to_owned),
            retries: u32::try_from(number(&status["retries"])).unwrap(),
            tx: unhex(&r["relayTxHash"]),
        })
    }

    pub async fn submit_program(&self, elf: &[u8], id: &[u8], vm_type: i32) -> Result<Vec<u8>, Refused> {
        let mut body = json!({ "programElf": hex::encode(elf), "vmType": vm_type });
        if self.revision == Revision::Relay {
            body["programId"] = hex::encode(id).into();
        }
        Ok(unhex(&self.call(SUBMIT_PROGRAM, &body.to_string()).await?["programId"]))
    }
}
