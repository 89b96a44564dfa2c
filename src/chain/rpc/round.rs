//! Round trips: questions out in one packet, and each answer to its question.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use alloy_json_rpc::{Id, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy_rpc_client::RpcClientInner;
use alloy_transport::{RpcError, TransportErrorKind, TransportResult};
use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tokio::time::Instant;
use tower_service::Service;
use tracing::Instrument;

use super::{
    convert,
    fault::{self, Sign},
    rate::{RateLimit, Turn},
};
use crate::{
    chain::{
        batch::FENCED,
        limit::Limit,
        reader::{Answer, At, Question},
    },
    error::{Error, Result},
    observe::{self, Server},
    sync::Lock,
};

/// How many requests for one list of questions are under way at once.
const AT_ONCE: usize = 16;
/// How long a packet waits for its turn at most. What would wait longer is not sent.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What an answer is read as.
pub(crate) trait Received: serde::de::DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static {}
impl<T: serde::de::DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static> Received for T {}

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
    server: Server,
    limits: RpcLimits,
    /// Every question is a message of its own, and a packet is none of the RPC's business.
    apart: bool,
    batch: Lock<Limit>,
    rate: Lock<RateLimit>,
}

/// What came of a packet.
enum Part {
    /// In the order of the questions; nothing for those that were left out, and why they were.
    Answered(Vec<Option<Result<Answer>>>, Option<Error>),
    /// They are to be asked again, fewer at once, for this. The first one may be answered.
    Refused(Error, Option<Result<Answer>>),
    /// None of them could be asked.
    Failed(Error),
}

/// What several questions were answered.
struct Several {
    /// Nothing for those that were left out, and for those that may be answered without the others, which were.
    found: Vec<Option<Result<Answer>>>,
    /// What all were refused with.
    refusal: Option<Error>,
    /// What those of the second kind were refused with.
    left: Option<Error>,
}

impl Asker {
    pub(super) fn new(client: Arc<RpcClientInner>, endpoint: &str, limits: RpcLimits, apart: bool) -> Self {
        let server = Server::of_chain(endpoint);
        let batch = Lock::from(Limit::new(limits.max_batch as u64));
        Self { client, server, limits, apart, batch, rate: Lock::default() }
    }

    pub(super) fn limits(&self) -> RpcLimits {
        self.limits
    }

    /// The most questions that the RPC takes at once, if that was found to be fewer than are allowed.
    pub(super) fn learnt_batch(&self) -> Option<u64> {
        let batch = self.batch.lock();
        batch.is_learnt().then(|| batch.known())
    }

    /// How many questions in a second the RPC takes, if that was found out.
    pub(super) fn learnt_rate(&self) -> Option<u64> {
        self.rate.lock().rate()
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
                    Part::Answered(found, left) => {
                        answered = true;
                        refusals.extend(left.map(|error| error.to_string()));
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
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect();
        if let Some(error) = failure.filter(|_| !answered) {
            return Err(error);
        }
        // A limit passes, and half an answer decides nothing: all of it is asked again, at the pace that was learnt. If a
        // question for the logs of several blocks met it, it may be of their number.
        let limited: Vec<_> =
            questions.iter().zip(&answers).filter(|(_, answer)| answer.as_ref().is_err_and(is_limit)).collect();
        let of_logs = limited.iter().any(|(question, _)| is_wide(question));
        let longest = limited.iter().filter_map(|(_, answer)| answer.as_ref().err()).max_by_key(|it| it.retry_after());
        match longest.cloned() {
            Some(error) if !of_logs => Err(error),
            _ => Ok(answers),
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
                    Part::Answered(vec![Some(answer)], None)
                }
                Err(error) => Part::Failed(error),
            };
        }
        let (sent, several) = self.several(questions).await;
        let Several { found: answers, refusal, left } =
            several.unwrap_or_else(|error| Several { found: Vec::new(), refusal: Some(error), left: None });
        let whole = answers.len() == questions.len() && answers.iter().all(Option::is_some);
        let refusal = refusal.map(|error| of_these(questions, error));
        let part = match refusal {
            Some(error) if !self.apart => self.refused_part(questions, sent, error, &answers).await,
            Some(error) => {
                self.keep_limit((sent, questions.len()), 0, &error);
                Part::Failed(error)
            }
            None if self.apart => {
                let error = left.unwrap_or_else(unanswered);
                self.keep_limit((sent, questions.len()), answers.iter().flatten().count(), &error);
                let or_error = |answer: Option<_>| answer.or_else(|| Some(Err(error.clone())));
                return Part::Answered(answers.into_iter().map(or_error).collect(), None);
            }
            None => {
                let limit = left.as_ref().filter(|error| is_limit(error));
                let answered = answers.iter().flatten().count();
                let for_its_size =
                    !whole && limit.is_none_or(|error| self.limited((sent, questions.len()), answered, error));
                let mut batch = self.batch.lock();
                match (whole, for_its_size) {
                    (true, _) => batch.took(size),
                    (false, true) if left.as_ref().is_some_and(fault::is_cut_short) => batch.failed(size),
                    (false, true) => batch.refused(size),
                    (false, false) => batch.doubt(size),
                }
                return Part::Answered(answers, left);
            }
        };
        // If it was not their number, each has been told what is wrong with it. A limit passes.
        match part {
            Part::Failed(error) if whole && !is_limit(&error) => Part::Answered(answers, None),
            part => part,
        }
    }

    /// What to do with questions none of which was answered. `each`: what each was refused with, if it was.
    async fn refused_part(
        &self,
        questions: &[&Question],
        sent: Instant,
        error: Error,
        each: &[Option<Result<Answer>>],
    ) -> Part {
        let size = questions.len() as u64;
        match fault::sign(&error) {
            None | Some(Sign::Barred) => Part::Failed(error),
            Some(Sign::Doubt) => {
                self.batch.lock().failed(size);
                Part::Failed(error)
            }
            // That depends on what is asked.
            Some(Sign::TooLong) => Part::Refused(error, None),
            Some(Sign::TooMany) => {
                self.refused(size, &error);
                Part::Refused(error, None)
            }
            // The pause is kept, and then it is seen whether they were too many by themselves.
            Some(Sign::Limited) if error.retry_after().is_some() => {
                if self.limited((sent, questions.len()), 0, &error) {
                    self.batch.lock().refused(size);
                }
                Part::Failed(error)
            }
            Some(Sign::Refused | Sign::Limited) => self.one_tells(questions, sent, error, each).await,
        }
    }

    fn refused(&self, size: u64, error: &Error) {
        let mut batch = self.batch.lock();
        if fault::takes_no_batches(error) { batch.none() } else { batch.refused(size) }
    }

    /// Whether it was their number for which they were refused. The plainest question by itself tells.
    async fn one_tells(
        &self,
        questions: &[&Question],
        sent: Instant,
        refusal: Error,
        each: &[Option<Result<Answer>>],
    ) -> Part {
        let size = questions.len();
        // Before that one counts among those that were taken.
        let for_its_size = !is_limit(&refusal) || self.is_too_large(sent, size);
        let plainest = questions.iter().enumerate().min_by_key(|(_, question)| match question {
            Question::ChainId => 0,
            Question::Block(At::Latest | At::Finalized | At::Number(_)) => 1,
            Question::Call(_, At::Hash(_)) | Question::Code(_, At::Hash(_)) => 3,
            _ => 2,
        });
        let Some((index, question)) = plainest else { return Part::Failed(refusal) };
        let before = match each.get(index) {
            Some(Some(Err(error))) => error.to_string(),
            _ => refusal.to_string(),
        };
        match self.single(question).await {
            Err(_) => Part::Failed(refusal),
            Ok(Err(error)) if fault::sign(&error) == Some(Sign::Limited) => Part::Failed(refusal),
            Ok(Err(error)) if error.to_string() == before => Part::Failed(refusal),
            Ok(answer) => {
                match (answer.is_ok(), for_its_size) {
                    (true, true) => self.refused(size as u64, &refusal),
                    (true, false) => self.batch.lock().doubt(size as u64),
                    (false, _) => {}
                }
                // No other question may have been asked to come before this one.
                Part::Refused(refusal, Some(answer).filter(|_| index == 0))
            }
        }
    }

    /// Asks them in one packet: what each was answered, and what all of them were refused with, if it may be that.
    async fn several(&self, questions: &[&Question]) -> (Instant, Result<Several>) {
        let requests = questions.iter().map(|question| self.request(question)).collect::<Result<Vec<_>>>();
        let requests = match requests {
            Ok(requests) => requests,
            Err(error) => return (Instant::now(), Err(error)),
        };
        let ids: Vec<_> = requests.iter().map(|request| request.id().clone()).collect();
        let (sent, answer) = self.exchange(RequestPacket::Batch(requests)).await;
        (sent, answer.and_then(|answer| answers_of(questions, &ids, answer, self.apart)))
    }

    /// Asks one. Fails if it has no answer.
    async fn single(&self, question: &Question) -> Result<Result<Answer>> {
        let request = self.request(question)?;
        let id = request.id().clone();
        let (sent, answer) = self.exchange(RequestPacket::Single(request)).await;
        let answer = answer.and_then(|answer| match answer {
            // Without an id it is the one that was asked, where a request has an answer of its own.
            ResponsePacket::Single(answer) if answer.id == Id::None && (answer.is_error() || !self.apart) => {
                Ok(convert::answer(question, &answer.payload))
            }
            ResponsePacket::Single(answer) => one_of(question, id, vec![answer]),
            ResponsePacket::Batch(answers) => one_of(question, id, answers),
        });
        let answer = answer.map_err(|error| of_these(&[question], error));
        if let Err(error) | Ok(Err(error)) = &answer {
            self.keep_limit((sent, 1), 0, error);
        }
        answer
    }

    fn request(&self, question: &Question) -> Result<SerializedRequest> {
        let (method, params) = convert::request(question);
        let request = self.client.make_request(method, params).serialize();
        request.map_err(|error| fault::chain("the question cannot be written as JSON").with_source(error))
    }

    /// A request that is no question, when it is its turn.
    pub(super) async fn other<R: Received>(&self, method: &'static str, params: Value) -> TransportResult<R> {
        let sent = self.turn(1).await.map_err(TransportErrorKind::custom)?;
        let span = self.server.chain_request(Some(method), 1);
        let request = self.client.request::<Value, R>(method, params).into_future().instrument(span.clone());
        let answer = tokio::time::timeout(self.limits.timeout, request).await;
        let answer = answer.unwrap_or_else(|_| Err(TransportErrorKind::custom(fault::late(self.limits.timeout))));
        if answer.is_err() {
            observe::failed(&span);
        }
        let limit = answer.as_ref().err().map(fault::told).filter(is_limit);
        match (&limit, &answer) {
            (Some(limit), _) => _ = self.limited((sent, 1), 0, limit),
            (None, Ok(_) | Err(RpcError::ErrorResp(_))) => self.took(),
            (None, Err(_)) => {}
        }
        answer
    }

    /// Waits until so many questions may be sent, and returns when that was.
    async fn turn(&self, questions: usize) -> Result<Instant> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(fault::chain("reading a chain needs a tokio runtime"));
        }
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            let turn = match self.rate.lock().turn(questions, Instant::now(), latest) {
                Ok(turn) => turn,
                Err(at) => return Err(fault::asked_to_wait(at.saturating_duration_since(Instant::now()))),
            };
            let mut queued = Queued { rate: &self.rate, turn: Some(turn) };
            tokio::time::sleep_until(turn.at).await;
            let (mut rate, now) = (self.rate.lock(), Instant::now());
            if rate.holds(turn) {
                queued.turn = None;
                rate.sent(questions, now);
                return Ok(now);
            }
        }
    }

    /// Sends a packet when it is its turn; with when that was.
    async fn exchange(&self, packet: RequestPacket) -> (Instant, Result<ResponsePacket>) {
        let sent = match self.turn(packet.len()).await {
            Ok(sent) => sent,
            Err(error) => return (Instant::now(), Err(error)),
        };
        let method = match &packet {
            RequestPacket::Single(request) => Some(request.method()),
            RequestPacket::Batch(_) => None,
        };
        let span = self.server.chain_request(method, packet.len());
        let request = send(self.client.transport().clone(), packet).instrument(span.clone());
        let answer = match tokio::time::timeout(self.limits.timeout, request).await {
            Ok(answer) => answer.map_err(fault::of),
            Err(_) => Err(fault::late(self.limits.timeout)),
        };
        if answer.is_err() {
            observe::failed(&span);
        }
        if let Ok(packet) = &answer
            && packet.iter_errors().all(|error| !is_limit(&fault::said(error)))
        {
            self.took();
        }
        (sent, answer)
    }

    fn took(&self) {
        let too_large = self.rate.lock().took(Instant::now());
        if let Some(size) = too_large {
            self.batch.lock().refused(size as u64);
        }
    }

    /// Whether so many questions, that met a limit without a pause, are too many by themselves, as far as is known.
    fn is_too_large(&self, sent: Instant, questions: usize) -> bool {
        self.rate.lock().refused(sent, questions, Instant::now())
    }

    /// If that is a limit, its pause is kept.
    fn keep_limit(&self, packet: (Instant, usize), answered: usize, error: &Error) {
        if is_limit(error) {
            self.limited(packet, answered, error);
        }
    }

    /// A packet, by when it was sent and its size, was too much for the time, but for so many `answered` questions.
    /// Tells whether it may be too much at any time.
    fn limited(&self, packet: (Instant, usize), answered: usize, error: &Error) -> bool {
        let pause = error.retry_after().unwrap_or_default();
        self.rate.lock().limited(packet, answered, pause, Instant::now())
    }
}

/// A packet that waits for its turn, which is given back if the caller goes away.
struct Queued<'a> {
    rate: &'a Lock<RateLimit>,
    turn: Option<Turn>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.rate.lock().give_back(turn);
        }
    }
}

/// What these questions were refused with, all of them at once.
fn of_these(questions: &[&Question], error: Error) -> Error {
    if questions.iter().any(|question| is_wide(question)) { fault::of_logs(error) } else { error }
}

/// Whether it asks for the logs of several blocks.
fn is_wide(question: &Question) -> bool {
    matches!(question, Question::Logs(it) if it.from_block < it.to_block)
}

fn is_limit(error: &Error) -> bool {
    fault::sign(error) == Some(Sign::Limited)
}

async fn send(mut transport: alloy_transport::BoxTransport, packet: RequestPacket) -> TransportResult<ResponsePacket> {
    std::future::poll_fn(|context| transport.poll_ready(context)).await?;
    transport.call(packet).await
}

fn one_of(question: &Question, id: Id, answers: Vec<Response>) -> Result<Result<Answer>> {
    matched(&[question], &[id], answers).pop().flatten().ok_or_else(unanswered)
}

fn answers_of(questions: &[&Question], ids: &[Id], packet: ResponsePacket, apart: bool) -> Result<Several> {
    let answers = match packet {
        ResponsePacket::Batch(answers) => answers,
        ResponsePacket::Single(answer) => {
            return Err(match &answer.payload {
                ResponsePayload::Failure(error) => fault::said(error),
                ResponsePayload::Success(_) => fault::no_answers("the RPC gave one answer to several questions"),
            });
        }
    };
    let refusal = refusal_of_all(&answers, ids.len());
    let mut found = matched(questions, ids, answers);
    if !found.iter().any(|found| matches!(found, Some(Ok(_)))) {
        return Ok(Several { found, refusal, left: None });
    }
    // Those that met a limit, or were too much beside the others, may be answered by themselves.
    let alone = |error: &Error| is_limit(error) || !apart && fault::is_for_the_others(error);
    let left = found.iter_mut().filter_map(|found| found.take_if(|it| it.as_ref().is_err_and(alone))?.err());
    let left = left.max_by_key(|error| (is_limit(error), error.retry_after()));
    Ok(Several { found, refusal: None, left })
}

fn unanswered() -> Error {
    fault::no_answers("the RPC left a question unanswered")
}

/// What so many questions were refused with, if it may be for their number: all of them, by limits, or not each.
fn refusal_of_all(answers: &[Response], asked: usize) -> Option<Error> {
    let mut all = Vec::with_capacity(answers.len());
    for answer in answers {
        match &answer.payload {
            ResponsePayload::Failure(error) => all.push(error),
            ResponsePayload::Success(_) => return None,
        }
    }
    let Some(first) = all.first() else { return (asked > 0).then(unanswered) };
    if all.iter().all(|it| fault::is_limit(it)) {
        // Each in words of its own, perhaps. The longest pause counts.
        return all.iter().map(|it| fault::said(it)).max_by_key(Error::retry_after);
    }
    let named = all.iter().find(|it| fault::sign(&fault::said(it)) == Some(Sign::TooMany));
    let behind = all.iter().any(|it| fault::is_behind(it));
    (all.len() < asked || named.is_some() || !behind).then(|| fault::said(named.unwrap_or(first)))
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
