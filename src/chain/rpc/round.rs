//! Round trips: questions out in one packet, and each answer to its question.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use alloy_json_rpc::{Id, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_rpc_client::RpcClientInner;
use alloy_transport::TransportResult;
use futures_util::stream::{self, StreamExt};
use tower_service::Service;

use super::{
    convert,
    fault::{self, Sign},
};
use crate::{
    chain::{
        batch::FENCED,
        limit::Limit,
        reader::{Answer, At, Question},
    },
    error::{Error, Result},
    sync::Lock,
};

/// How many requests for one list of questions are under way at once.
const AT_ONCE: usize = 16;

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
///
/// However an RPC refuses several questions at once, they are asked in smaller packets, down to single questions, and
/// the size is kept. What was answered of a packet is answered.
pub(super) struct Asker {
    client: Arc<RpcClientInner>,
    limits: RpcLimits,
    /// Every question is a message of its own, and a packet is none of the RPC's business.
    apart: bool,
    batch: Lock<Limit>,
}

/// What came of a packet.
enum Part {
    /// In the order of the questions; nothing for those that were left out.
    Answered(Vec<Option<Result<Answer>>>),
    /// They are to be asked again, fewer at once, for this. The first one may be answered.
    Refused(Error, Option<Result<Answer>>),
    /// None of them could be asked.
    Failed(Error),
}

/// The answer to each question that has one, and what all were refused with.
type Several = (Vec<Option<Result<Answer>>>, Option<Error>);

impl Asker {
    pub(super) fn new(client: Arc<RpcClientInner>, limits: RpcLimits, apart: bool) -> Self {
        let batch = Lock::from(Limit::new(limits.max_batch as u64));
        Self { client, limits, apart, batch }
    }

    pub(super) fn limits(&self) -> RpcLimits {
        self.limits
    }

    /// The most questions that the RPC takes at once, if that was found to be fewer than are allowed.
    pub(super) fn learnt_batch(&self) -> Option<u64> {
        let batch = self.batch.lock();
        batch.is_learnt().then(|| batch.known())
    }

    /// For what is no question.
    pub(super) fn client(&self) -> &RpcClientInner {
        &self.client
    }

    /// Answers in the order of the questions. Fails if nothing could be asked.
    pub(super) async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let mut answers: Vec<Option<Result<Answer>>> = questions.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..questions.len()).collect();
        let (mut most, mut answered, mut failure) = (self.limits.max_batch.max(1), questions.is_empty(), None);
        let (before, mut refusals, mut explained) = (*self.batch.lock(), Vec::new(), false);
        while !open.is_empty() {
            let size = self.size_for(open.len()).min(most);
            let mut left = Vec::new();
            for (places, part) in self.round(questions, &open, size).await {
                let found = match part {
                    Part::Answered(found) => {
                        answered = true;
                        if let [Some(Err(error))] = &found[..] {
                            explained |= refusals.contains(&error.to_string());
                        }
                        found
                    }
                    Part::Refused(error, first) => {
                        refusals.push(error.to_string());
                        vec![first]
                    }
                    Part::Failed(error) => {
                        explained |= refusals.contains(&error.to_string());
                        failure.get_or_insert_with(|| error.clone());
                        places.iter().map(|_| Some(Err(error.clone()))).collect()
                    }
                };
                let mut found = found.into_iter();
                for place in places {
                    match (found.next().flatten(), answers.get_mut(*place)) {
                        (Some(answer), Some(room)) => *room = Some(answer),
                        _ => left.push(*place),
                    }
                }
                if left.last() >= places.first() {
                    most = most.min(places.len() / 2).max(1);
                }
            }
            // A last question about a block closes the frame around all others, so it comes after what is asked again.
            if let (Some(before), Some((last, Question::Block(_)))) = (left.last(), questions.iter().enumerate().last())
                && *before != last
            {
                left.push(last);
            }
            open = left;
        }
        if explained && answered {
            // One of the questions was what was refused, and not their number.
            *self.batch.lock() = before;
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect()),
        }
    }

    fn size_for(&self, wanted: usize) -> usize {
        let size = self.batch.lock().size_for(wanted as u64);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// Asks these of the questions, so many at once.
    async fn round<'a>(&self, questions: &[Question], open: &'a [usize], size: usize) -> Vec<(&'a [usize], Part)> {
        let parts: Vec<&'a [usize]> = open.chunks(size).collect();
        // Made beforehand, and begun where they are awaited.
        let mut asks: VecDeque<_> = parts.iter().map(|places| self.part_of(questions, places)).collect();
        let mut asked = Vec::with_capacity(parts.len());
        if size > FENCED || self.apart {
            asked.extend(stream::iter(asks).buffered(AT_ONCE).collect::<Vec<_>>().await);
        } else {
            // Whoever asks may have put a frame around them.
            let (first, last) = (asks.pop_front(), asks.pop_back());
            if let Some(first) = first {
                match first.await {
                    // What was refused may be these questions.
                    Part::Failed(error) if fault::sign(&error) != Some(Sign::Refused) => {
                        asked.extend(parts.iter().map(|_| Part::Failed(error.clone())));
                    }
                    part => {
                        asked.push(part);
                        asked.extend(stream::iter(asks).buffered(AT_ONCE).collect::<Vec<_>>().await);
                        if let Some(last) = last {
                            asked.push(last.await);
                        }
                    }
                }
            }
        }
        parts.into_iter().zip(asked).collect()
    }

    async fn part_of(&self, questions: &[Question], places: &[usize]) -> Part {
        let some: Vec<_> = places.iter().filter_map(|place| questions.get(*place)).collect();
        self.part(&some).await
    }

    async fn part(&self, questions: &[&Question]) -> Part {
        let size = questions.len() as u64;
        if let [question] = questions {
            return match self.single(question).await {
                Ok(answer) => {
                    self.batch.lock().took(size);
                    Part::Answered(vec![Some(answer)])
                }
                Err(error) => Part::Failed(error),
            };
        }
        let (answers, refusal) = match self.several(questions).await {
            Ok(answers) => answers,
            Err(error) => (Vec::new(), Some(error)),
        };
        let whole = answers.len() == questions.len() && answers.iter().all(Option::is_some);
        let part = match refusal {
            Some(error) if !self.apart => self.refused_part(questions, error).await,
            Some(error) => Part::Failed(error),
            None if self.apart => {
                let or_error = |answer: Option<_>| answer.or_else(|| Some(Err(unanswered())));
                return Part::Answered(answers.into_iter().map(or_error).collect());
            }
            None => {
                let mut batch = self.batch.lock();
                if whole {
                    batch.took(size)
                } else {
                    batch.refused(size)
                }
                return Part::Answered(answers);
            }
        };
        // If it was not their number, each has been told what is wrong with it.
        match part {
            Part::Failed(_) if whole => Part::Answered(answers),
            part => part,
        }
    }

    /// What to do with questions none of which was answered.
    async fn refused_part(&self, questions: &[&Question], error: Error) -> Part {
        let size = questions.len() as u64;
        match fault::sign(&error) {
            None => Part::Failed(error),
            Some(Sign::Doubt) => {
                self.batch.lock().doubt(size);
                Part::Failed(error)
            }
            // That depends on what is asked.
            Some(Sign::TooLong) => Part::Refused(error, None),
            Some(Sign::TooMany) => {
                self.refused(size, &error);
                Part::Refused(error, None)
            }
            Some(Sign::Refused | Sign::Limited) => self.one_tells(questions, error).await,
        }
    }

    fn refused(&self, size: u64, error: &Error) {
        let mut batch = self.batch.lock();
        if fault::takes_no_batches(error) { batch.none() } else { batch.refused(size) }
    }

    /// Whether it was their number for which they were refused. The plainest question by itself tells.
    async fn one_tells(&self, questions: &[&Question], refusal: Error) -> Part {
        let plainest = questions.iter().enumerate().min_by_key(|(_, question)| match question {
            Question::ChainId => 0,
            Question::Block(At::Latest | At::Number(_)) => 1,
            Question::Call(_, At::Hash(_)) | Question::Code(_, At::Hash(_)) => 3,
            _ => 2,
        });
        let Some((index, question)) = plainest else { return Part::Failed(refusal) };
        match self.single(question).await {
            Err(_) => Part::Failed(refusal),
            Ok(Err(error)) if fault::sign(&error) == Some(Sign::Limited) => Part::Failed(refusal),
            Ok(Err(error)) if error.to_string() == refusal.to_string() => Part::Failed(refusal),
            Ok(answer) => {
                if answer.is_ok() {
                    self.refused(questions.len() as u64, &refusal);
                }
                // No other question may have been asked to come before this one.
                Part::Refused(refusal, Some(answer).filter(|_| index == 0))
            }
        }
    }

    /// Asks them in one packet: what each was answered, and what all of them were refused with, if it may be that.
    async fn several(&self, questions: &[&Question]) -> Result<Several> {
        let requests = questions.iter().map(|question| self.request(question)).collect::<Result<Vec<_>>>()?;
        let ids: Vec<_> = requests.iter().map(|request| request.id().clone()).collect();
        match self.exchange(RequestPacket::Batch(requests)).await? {
            ResponsePacket::Batch(answers) => {
                let refusal = refusal_of_all(&answers, ids.len());
                let found = matched(questions, &ids, answers);
                let answered = found.iter().any(|found| matches!(found, Some(Ok(_))));
                Ok((found, refusal.filter(|_| !answered)))
            }
            ResponsePacket::Single(answer) => Err(match &answer.payload {
                ResponsePayload::Failure(error) => fault::said(error),
                ResponsePayload::Success(_) => fault::no_answers("the RPC gave one answer to several questions"),
            }),
        }
    }

    /// Asks one. Fails if it has no answer.
    async fn single(&self, question: &Question) -> Result<Result<Answer>> {
        let request = self.request(question)?;
        let id = request.id().clone();
        let answers = match self.exchange(RequestPacket::Single(request)).await? {
            ResponsePacket::Single(answer) if answer.id == Id::None && answer.is_error() => {
                return Ok(convert::answer(question, &answer.payload));
            }
            ResponsePacket::Single(answer) => vec![answer],
            ResponsePacket::Batch(answers) => answers,
        };
        matched(&[question], &[id], answers).pop().flatten().ok_or_else(unanswered)
    }

    fn request(&self, question: &Question) -> Result<SerializedRequest> {
        let (method, params) = convert::request(question);
        let request = self.client.make_request(method, params).serialize();
        request.map_err(|error| fault::chain("the question cannot be written as JSON").with_source(error))
    }

    async fn exchange(&self, packet: RequestPacket) -> Result<ResponsePacket> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(fault::chain("reading a chain needs a tokio runtime"));
        }
        let answer = tokio::time::timeout(self.limits.timeout, send(self.client.transport().clone(), packet)).await;
        match answer {
            Ok(answer) => answer.map_err(fault::of),
            Err(_) => Err(fault::late(self.limits.timeout)),
        }
    }
}

async fn send(mut transport: alloy_transport::BoxTransport, packet: RequestPacket) -> TransportResult<ResponsePacket> {
    std::future::poll_fn(|context| transport.poll_ready(context)).await?;
    transport.call(packet).await
}

fn unanswered() -> Error {
    fault::no_answers("the RPC left a question unanswered")
}

/// What so many questions were refused with, if it may be for their number: in the same words, or not each of them.
fn refusal_of_all(answers: &[Response], asked: usize) -> Option<Error> {
    let mut all = Vec::with_capacity(answers.len());
    for answer in answers {
        match &answer.payload {
            ResponsePayload::Failure(error) => all.push(error),
            ResponsePayload::Success(_) => return None,
        }
    }
    let Some(first) = all.first() else { return (asked > 0).then(unanswered) };
    let alike = all.iter().all(|it| it.code == first.code && it.message == first.message);
    (all.len() < asked || alike && !fault::is_behind(first)).then(|| fault::said(first))
}

/// Gives each question its answer by the id, whatever their order; nothing to those that were left out.
fn matched(questions: &[&Question], ids: &[Id], answers: Vec<Response>) -> Vec<Option<Result<Answer>>> {
    let mut by_id: HashMap<Id, Vec<ResponsePayload>> = HashMap::with_capacity(answers.len());
    for Response { id, payload } in answers {
        by_id.entry(same(id)).or_default().push(payload);
    }
    let of = |(question, id): (&&Question, &Id)| match by_id.get(id).map(Vec::as_slice) {
        Some([payload]) => Some(convert::answer(question, payload)),
        Some([_, _, ..]) => Some(Err(fault::nonsense("the RPC gave two answers to one question"))),
        Some([]) | None => None,
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
