//! Round trips: questions out in one packet, and each answer to its question.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use alloy_json_rpc::{Id, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_rpc_client::RpcClientInner;
use alloy_transport::{TransportError, TransportResult};
use futures_util::{
    future::join_all,
    stream::{self, StreamExt},
};
use tower_service::Service;

use super::{convert, fault};
use crate::{
    chain::reader::{Answer, Question},
    error::{Error, Result},
};

/// How many single requests are under way at once, where an RPC takes no batches.
const SINGLES: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct RpcLimits {
    /// Of one round trip.
    pub(super) timeout: Duration,
    /// Questions in a packet.
    pub(super) max_batch: usize,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_batch: 100 }
    }
}

/// One way to an RPC, whatever carries the packets.
pub(super) struct Asker {
    client: Arc<RpcClientInner>,
    limits: RpcLimits,
    /// It refused a batch and answered the same questions one by one.
    one_by_one: AtomicBool,
}

impl Asker {
    pub(super) fn new(client: Arc<RpcClientInner>, limits: RpcLimits) -> Self {
        Self { client, limits, one_by_one: AtomicBool::new(false) }
    }

    pub(super) fn limits(&self) -> RpcLimits {
        self.limits
    }

    /// For what is no question.
    pub(super) fn client(&self) -> &RpcClientInner {
        &self.client
    }

    /// Answers in the order of the questions. Fails if nothing could be asked.
    pub(super) async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let parts: Vec<_> = questions.chunks(self.limits.max_batch).collect();
        let lens = parts.iter().map(|part| part.len());
        let asked: Vec<_> = parts.iter().map(|part| self.part(part)).collect();
        let rounds: Vec<_> = lens.zip(join_all(asked).await).collect();
        if rounds.iter().all(|(_, round)| round.is_err()) {
            return rounds.into_iter().next().map_or_else(|| Ok(Vec::new()), |(_, round)| round);
        }
        let mut answers = Vec::with_capacity(questions.len());
        for (len, round) in rounds {
            match round {
                Ok(part) => answers.extend(part),
                Err(error) => answers.extend(std::iter::repeat_with(|| Err(error.clone())).take(len)),
            }
        }
        Ok(answers)
    }

    async fn part(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        if let [question] = questions {
            return Ok(vec![self.single(question).await?]);
        }
        if self.one_by_one.load(Relaxed) {
            return self.singles(questions).await;
        }
        let requests = questions.iter().map(|question| self.request(question)).collect::<Result<Vec<_>>>()?;
        let ids: Vec<_> = requests.iter().map(|request| request.id().clone()).collect();
        let refused = match self.exchange(RequestPacket::Batch(requests)).await {
            Ok(ResponsePacket::Batch(answers)) => match lone_refusal(&answers) {
                None => return Ok(matched(questions, &ids, answers)),
                Some(refusal) => fault::said(refusal),
            },
            Ok(ResponsePacket::Single(answer)) => match &answer.payload {
                // Of one by one it would have even less.
                ResponsePayload::Failure(error) if fault::is_limit(error) => return Err(fault::said(error)),
                ResponsePayload::Failure(error) => fault::said(error),
                ResponsePayload::Success(_) => {
                    return Err(fault::nonsense("the RPC gave one answer to several questions"));
                }
            },
            Err(Failed::Other(error)) if fault::refuses_batches(&error) => fault::of(error),
            Err(failed) => return Err(failed.into()),
        };
        // Perhaps it is the batch that it does not take. One question tells.
        let first = match self.single(&questions[0]).await {
            Ok(first) => first,
            Err(_) => return Err(refused),
        };
        if first.is_ok() {
            self.one_by_one.store(true, Relaxed);
        }
        let mut answers = vec![first];
        match self.singles(&questions[1..]).await {
            Ok(rest) => answers.extend(rest),
            Err(error) => answers.extend(questions[1..].iter().map(|_| Err(error.clone()))),
        }
        Ok(answers)
    }

    /// One request for each question, some at once. Fails if none could be asked.
    async fn singles(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let asked: Vec<_> = questions.iter().map(|question| self.single(question)).collect();
        let rounds: Vec<_> = stream::iter(asked).buffered(SINGLES).collect().await;
        if rounds.iter().all(Result::is_err)
            && let Some(Err(error)) = rounds.first()
        {
            return Err(error.clone());
        }
        Ok(rounds.into_iter().map(Result::flatten).collect())
    }

    async fn single(&self, question: &Question) -> Result<Result<Answer>> {
        let request = self.request(question)?;
        let id = request.id().clone();
        match self.exchange(RequestPacket::Single(request)).await? {
            ResponsePacket::Single(answer) if answer.id == Id::None && answer.is_error() => {
                Ok(convert::answer(question, &answer.payload))
            }
            ResponsePacket::Single(answer) => Ok(one(matched(std::slice::from_ref(question), &[id], vec![answer]))),
            ResponsePacket::Batch(answers) => Ok(one(matched(std::slice::from_ref(question), &[id], answers))),
        }
    }

    fn request(&self, question: &Question) -> Result<SerializedRequest> {
        let (method, params) = convert::request(question);
        let request = self.client.make_request(method, params).serialize();
        request.map_err(|error| fault::chain("the question cannot be written as JSON").with_source(error))
    }

    async fn exchange(&self, packet: RequestPacket) -> Result<ResponsePacket, Failed> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Failed::Ours(fault::chain("reading a chain needs a tokio runtime")));
        }
        let answer = tokio::time::timeout(self.limits.timeout, send(self.client.transport().clone(), packet)).await;
        match answer {
            Ok(answer) => answer.map_err(Failed::Other),
            Err(_) => Err(Failed::Ours(fault::late(self.limits.timeout))),
        }
    }
}

async fn send(mut transport: alloy_transport::BoxTransport, packet: RequestPacket) -> TransportResult<ResponsePacket> {
    std::future::poll_fn(|context| transport.poll_ready(context)).await?;
    transport.call(packet).await
}

enum Failed {
    Ours(Error),
    Other(TransportError),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Ours(error) => error,
            Failed::Other(error) => fault::of(error),
        }
    }
}

/// What a batch was refused with, if that is all there is.
fn lone_refusal(answers: &[Response]) -> Option<&alloy_json_rpc::ErrorPayload> {
    match answers {
        [Response { id: Id::None, payload: ResponsePayload::Failure(error) }] => Some(error),
        _ => None,
    }
}

/// Gives each question its answer by the id, whatever their order.
fn matched(questions: &[Question], ids: &[Id], answers: Vec<Response>) -> Vec<Result<Answer>> {
    let mut by_id: HashMap<Id, Vec<ResponsePayload>> = HashMap::with_capacity(answers.len());
    let mut orphan = None;
    for Response { id, payload } in answers {
        match (same(id), payload) {
            // It could not read what it was asked, so it cannot say what that was.
            (Id::None, ResponsePayload::Failure(error)) => orphan = Some(error),
            (id, payload) => by_id.entry(id).or_default().push(payload),
        }
    }
    let of = |(question, id)| match by_id.get(id).map(Vec::as_slice) {
        Some([payload]) => convert::answer(question, payload),
        Some([_, _, ..]) => Err(fault::nonsense("the RPC gave two answers to one question")),
        Some([]) | None => Err(match &orphan {
            Some(error) => fault::said(error),
            None => fault::nonsense("the RPC left a question unanswered"),
        }),
    };
    questions.iter().zip(ids).map(of).collect()
}

/// Some send numbers back as text.
pub(super) fn same(id: Id) -> Id {
    match &id {
        Id::String(text) => text.parse().map_or(id, Id::Number),
        _ => id,
    }
}

fn one(answers: Vec<Result<Answer>>) -> Result<Answer> {
    answers.into_iter().next().unwrap_or_else(|| Err(fault::nonsense("the RPC left a question unanswered")))
}
