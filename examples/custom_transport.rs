//! A transport of your own, put through the suite that the crate's own transports pass.
//!
//! This one counts what goes through it and leaves the rest to another; yours may speak to a gateway, a queue, a test double.
//! Run it with `cargo run --example custom_transport`.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Revision,
    conformance::Suite,
    rpc::{CallError, Capabilities, Encoding, Method, Reflection, RequestBody},
    transport::{GrpcTransport, Transport},
};

#[derive(Debug)]
struct Counting<T> {
    inner: T,
    bytes: Arc<Mutex<BTreeMap<&'static str, (usize, usize)>>>,
}

#[async_trait]
impl<T: Transport> Transport for Counting<T> {
    fn encoding(&self) -> Encoding {
        self.inner.encoding()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn endpoint(&self) -> &str {
        self.inner.endpoint()
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        let sent = body.len();
        let answer = self.inner.call(method, body).await;
        let mut bytes = self.bytes.lock().expect("not poisoned");
        let (out, back) = bytes.entry(method.name()).or_default();
        *out += sent;
        *back += answer.as_ref().map_or(0, Bytes::len);
        answer
    }

    // Without this the client could not ask the node for its revision.
    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        self.inner.reflect(protocol, request).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bytes = Arc::default();
    let counters = Arc::clone(&bytes);
    let suite = Suite::new(move |node| {
        let inner = GrpcTransport::builder(node.grpc_url()).build()?;
        Ok(Arc::new(Counting { inner, bytes: Arc::clone(&counters) }))
    });
    for revision in Revision::ALL {
        let report = suite.run(revision).await;
        println!("{report}");
        if !report.passed() {
            return Err("the transport does not conform".into());
        }
    }
    for (method, (out, back)) in &*bytes.lock().expect("not poisoned") {
        println!("{method}: {out} bytes out, {back} bytes back");
    }
    Ok(())
}
