//! A transport that measures how long the calls take that a client makes anyway.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    rpc::{CallError, Capabilities, Encoding, Method, Reflection, RequestBody},
    transport::Transport,
};

/// A call: when it began, and how long it took.
pub type Call = (Instant, Duration);

/// Calls of GetResult and of GetPendingJobs.
#[derive(Clone, Debug, Default)]
pub struct Times(Arc<Mutex<[Vec<Call>; 2]>>);

impl Times {
    /// Those until now, in the order in which they began.
    pub fn take(&self) -> [Vec<Call>; 2] {
        let mut times = mem::take(&mut *self.0.lock().expect("no panics"));
        times.iter_mut().for_each(|times| times.sort());
        times
    }

    /// Forgets those until now, and takes the memory for so many now and not later.
    pub fn begin(&self, calls: usize) {
        *self.0.lock().expect("no panics") = [calls; 2].map(Vec::with_capacity);
    }
}

#[derive(Debug)]
pub struct Timed<T> {
    transport: T,
    times: Times,
}

impl<T> Timed<T> {
    pub fn new(transport: T) -> (Self, Times) {
        let times = Times::default();
        (Self { transport, times: times.clone() }, times)
    }
}

#[async_trait]
impl<T: Transport> Transport for Timed<T> {
    fn encoding(&self) -> Encoding {
        self.transport.encoding()
    }

    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    fn endpoint(&self) -> &str {
        self.transport.endpoint()
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        let kind = match method {
            Method::GetResult => 0,
            Method::GetPendingJobs => 1,
            _ => return self.transport.call(method, body).await,
        };
        let begun = Instant::now();
        let answer = self.transport.call(method, body).await;
        self.times.0.lock().expect("no panics")[kind].push((begun, begun.elapsed()));
        answer
    }

    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        self.transport.reflect(protocol, request).await
    }
}
