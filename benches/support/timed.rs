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

/// How long calls of GetResult and of GetPendingJobs took.
#[derive(Clone, Debug, Default)]
pub struct Times(Arc<Mutex<[Vec<Duration>; 2]>>);

impl Times {
    /// Those until now, in order.
    pub fn take(&self) -> [Vec<Duration>; 2] {
        let mut times = mem::take(&mut *self.0.lock().expect("no panics"));
        times.iter_mut().for_each(|times| times.sort());
        times
    }

    pub fn clear(&self) {
        self.0.lock().expect("no panics").iter_mut().for_each(Vec::clear);
    }

    /// So that measuring takes no memory later.
    pub fn reserve(&self, calls: usize) {
        self.0.lock().expect("no panics").iter_mut().for_each(|times| times.reserve(calls));
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
        self.times.0.lock().expect("no panics")[kind].push(begun.elapsed());
        answer
    }

    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        self.transport.reflect(protocol, request).await
    }
}
