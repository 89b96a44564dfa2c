//! Limits of a rate and of a size, which RPCs refuse in the same words: 429, and no pause. What was refused by itself was
//! too large; of what was refused beside others, time tells.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_provider::RootProvider;
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use infinityvm_sdk::chain::{ChainReader, Question, RpcReader};
use serde_json::{Value, json, value::to_raw_value};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use crate::rig::{healthy, twelve};

/// An RPC in memory that takes so many questions in one packet, and in a second.
#[derive(Clone)]
struct Limited {
    at_once: usize,
    in_a_second: usize,
    state: Arc<Mutex<LimitedState>>,
}

#[derive(Default)]
struct LimitedState {
    taken: VecDeque<Instant>,
    packets: usize,
    refused: usize,
}

impl Limited {
    fn new(at_once: usize, in_a_second: usize) -> (Self, RpcReader) {
        let limited = Self { at_once, in_a_second, state: Arc::default() };
        let provider: RootProvider = RootProvider::new(RpcClient::new(limited.clone(), true));
        (limited, RpcReader::from_provider(provider))
    }

    fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().expect("state");
        (state.packets, state.refused)
    }

    fn answer(&self, packet: &RequestPacket) -> Result<ResponsePacket, TransportError> {
        let (questions, now) = (packet.len(), Instant::now());
        let mut state = self.state.lock().expect("state");
        state.packets += 1;
        state.taken.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        if questions > self.at_once || state.taken.len() + questions > self.in_a_second {
            state.refused += 1;
            return Err(TransportErrorKind::http_error(429, "Too Many Requests".to_owned()));
        }
        state.taken.extend((0..questions).map(|_| now));
        let answer = |request: &SerializedRequest| {
            let params: Value =
                request.params().map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("JSON"));
            let told = healthy(&json!({ "id": 0, "method": request.method(), "params": params }));
            let raw = to_raw_value(&told["result"]).expect("JSON");
            Response { id: request.id().clone(), payload: ResponsePayload::Success(raw) }
        };
        Ok(match packet {
            RequestPacket::Single(request) => ResponsePacket::Single(answer(request)),
            RequestPacket::Batch(requests) => ResponsePacket::Batch(requests.iter().map(answer).collect()),
        })
    }
}

impl Service<RequestPacket> for Limited {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let limited = self.clone();
        Box::pin(async move {
            sleep(Duration::from_millis(10)).await;
            limited.answer(&packet)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_not_taken_for_a_size() {
    let (limited, reader) = Limited::new(100, 20);
    for round in 0..20 {
        // Two at once are too much in a second. What is answered of the second one differs.
        reader.ask(&twelve()).await.expect("the first of a second");
        _ = reader.ask(&twelve()).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(reader.max_batch(), None, "{round}");
    }
    let (packets, refused) = limited.counts();
    assert!(refused > 0 && packets < 20 * 20, "{refused} of {packets}");
    assert!(reader.max_rate().is_some(), "the rate is what is learnt");
    // A whole batch, again.
    let before = limited.counts().0;
    reader.ask(&twelve()).await.expect("in its turn");
    assert!(limited.counts().0 - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_size_is_learnt_also_where_something_is_always_asked() {
    for at_once in [1, 3, 5] {
        let (limited, reader) = Limited::new(at_once, usize::MAX);
        reader.ask(&[Question::ChainId]).await.expect("one");
        for round in 0..60 {
            sleep(Duration::from_millis(300)).await;
            let answers = reader.ask(&twelve()).await.expect("asked");
            assert!(answers.iter().all(Result::is_ok), "{at_once} {round}: {answers:?}");
        }
        let learnt = reader.max_batch();
        assert!(learnt.is_some_and(|learnt| learnt as usize <= at_once), "{at_once}: {learnt:?}");
        let before = limited.counts();
        for _ in 0..200 {
            reader.ask(&twelve()).await.expect("asked");
        }
        let (packets, refused) = (limited.counts().0 - before.0, limited.counts().1 - before.1);
        assert!(refused * 100 <= packets + 100, "{at_once}: {refused} of {packets}");
        assert_eq!(reader.max_batch(), Some(at_once as u64));
    }
}
