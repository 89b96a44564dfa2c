//! A node in memory that answers by a script, mostly of lies, and remembers what it has said to whom.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    JobHandle, LocalSigner, Revision, SignedJob, Stage,
    primitives::keccak256,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::Transport,
};

use crate::{
    answers::{self, DONE, FAILED, OPERATOR, PENDING, RELAYED, Row, Signed},
    rig::{CONSUMER, broken, down, not_found, request, status},
};

/// The most jobs of a history.
pub const JOBS: usize = 3;

/// What a record shows as its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Two results that the operator signed for the job, as when it was executed twice.
    First,
    Second,
    Missing,
    /// Signed by another key.
    Stranger,
    /// Signed for another job.
    OtherJob,
    /// Signed for another cycle limit.
    OtherCycles,
    /// Cut in the middle, and signed so.
    Cut,
    /// Changed after it was signed.
    Changed,
    /// With a signature that is none.
    NoSignature,
}

impl Proof {
    pub fn is_true(self) -> bool {
        matches!(self, Self::First | Self::Second)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Done(Proof),
    Relayed(Proof),
    Failed(Option<&'static str>),
    Number(i32),
}

/// A field of the record that is not as the job's.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    Input,
    Signature,
    Program,
    Cycles,
    OffchainHash,
}

/// An answer that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Refused,
    Broken,
    TimedOut,
    Unavailable,
    Exhausted,
    /// Nothing comes, until the transport itself gives up.
    Silent,
    /// These will not pass, as far as a client can tell.
    Internal,
    Garbage,
    TooLarge,
}

impl Trouble {
    pub fn passes(self) -> bool {
        !matches!(self, Self::Internal | Self::Garbage | Self::TooLarge)
    }

    fn error(self) -> CallError {
        match self {
            Self::Refused => down(),
            Self::Broken => broken(),
            Self::TimedOut | Self::Silent => CallError::new(CallFailure::TimedOut, "no answer"),
            Self::Unavailable => status(StatusCode::UNAVAILABLE, "busy"),
            Self::Exhausted => status(StatusCode::RESOURCE_EXHAUSTED, "busy"),
            Self::Internal => status(StatusCode::INTERNAL, "a broken database"),
            Self::Garbage => CallError::new(CallFailure::BadResponse, "this is not gRPC"),
            Self::TooLarge => CallError::new(CallFailure::ResponseTooLarge, "too large"),
        }
    }
}

/// The answer to GetResult, whichever job it asks for.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Record(Status),
    Echo(Field, Status),
    NotFound,
    /// The record of a job that was not asked for.
    OtherJob,
    /// A record that breaks off.
    Cut,
    /// A message without a record.
    Empty,
    Trouble(Trouble),
}

/// The answer to GetPendingJobs.
#[derive(Clone, Debug)]
pub enum List {
    /// The jobs of these bits, and numbers that belong to no job.
    Nonces(u8, Vec<u64>),
    Unimplemented,
    Cut,
    Trouble(Trouble),
}

/// The answer to SubmitJob.
#[derive(Clone, Copy, Debug)]
pub enum Intake {
    Taken,
    OtherId,
    Exists,
    AlreadyRelayed,
    LowNonce,
    Stored,
    Invalid,
    Trouble(Trouble),
}

/// What the node will say, answer by answer, and for ever after; each with the milliseconds it takes.
#[derive(Clone, Debug)]
pub struct Script {
    pub revision: Revision,
    pub jobs: usize,
    pub has_list: bool,
    pub answers: Vec<(Answer, u16)>,
    pub lists: Vec<(List, u16)>,
    pub intakes: Vec<(Intake, u16)>,
    pub last_answer: Answer,
    pub last_list: List,
}

/// A job, and the results that are shown for it.
pub struct Kit {
    pub job: SignedJob,
    proofs: Vec<(Proof, Signed)>,
}

impl Kit {
    fn new(revision: Revision, nonce: u64) -> Self {
        let signer = LocalSigner::from_bytes([0x51; 32]).unwrap();
        let sign = |nonce| {
            let unsigned = request(CONSUMER, format!("input {nonce}").as_bytes()).prepare(revision, nonce).unwrap();
            let signature = signer.sign_message_sync(unsigned.signing_bytes());
            unsigned.with_signature(signature.to_vec().into()).unwrap()
        };
        let (job, other) = (sign(nonce), sign(nonce + 100));
        let good = |output: &str| Signed::by(&OPERATOR, answers::result(&job, output.as_bytes()));
        let (first, second) = (good("first"), good("second"));
        let half = first.result[..first.result.len() / 2].to_vec();
        let proofs = vec![
            (Proof::Stranger, Signed::by(&signer, first.result.to_vec())),
            (Proof::OtherJob, Signed::by(&OPERATOR, answers::result(&other, b"first"))),
            (Proof::OtherCycles, Signed::by(&OPERATOR, answers::result_with_cycles(&job, b"first", 1))),
            (Proof::Cut, Signed::by(&OPERATOR, half)),
            (Proof::Changed, Signed { result: second.result.clone(), signature: first.signature.clone() }),
            (Proof::NoSignature, Signed { result: first.result.clone(), signature: vec![9; 65].into() }),
            (Proof::First, first),
            (Proof::Second, second),
        ];
        Self { job, proofs }
    }

    fn signed(&self, proof: Proof) -> Option<&Signed> {
        self.proofs.iter().find(|(name, _)| *name == proof).map(|(_, signed)| signed)
    }

    /// Which of the true results this is.
    pub fn which(&self, result: &[u8], signature: &[u8]) -> Option<Proof> {
        let same = |signed: &Signed| signed.result == result && signed.signature == signature;
        self.proofs.iter().find(|(proof, signed)| proof.is_true() && same(signed)).map(|(proof, _)| *proof)
    }

    fn row(&self, what: Status) -> Row {
        let (number, proof, reason) = match what {
            Status::Pending => (PENDING, Proof::Missing, None),
            Status::Done(proof) => (DONE, proof, None),
            Status::Relayed(proof) => (RELAYED, proof, None),
            Status::Failed(reason) => (FAILED, Proof::Missing, reason),
            Status::Number(number) => (number, Proof::First, None),
        };
        let mut row = Row::of(&self.job, number);
        row.result = self.signed(proof).cloned();
        row.reason = reason.map(str::to_owned);
        row
    }
}

/// The jobs of each revision: the same in all histories, as signatures take time.
pub fn kits(revision: Revision) -> &'static [Kit] {
    static STATE: LazyLock<Vec<Kit>> =
        LazyLock::new(|| (1..=4).map(|nonce| Kit::new(Revision::State, nonce)).collect());
    static RELAY: LazyLock<Vec<Kit>> =
        LazyLock::new(|| (1..=4).map(|nonce| Kit::new(Revision::Relay, nonce)).collect());
    if revision == Revision::State { &STATE } else { &RELAY }
}

/// What the node has said of a job, as far as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub accepted: bool,
    pub executed: BTreeSet<Proof>,
    pub relayed: BTreeSet<Proof>,
    /// How often each of what a wait must not believe at once.
    pub failed: usize,
    pub foreign: usize,
    pub unproven: usize,
    pub not_found: usize,
    /// Something that will not pass.
    pub hopeless: bool,
    pub submissions: usize,
    pub refused: bool,
    /// After RELAYED it said something less.
    pub went_back: bool,
    pub unlisted_unfinished: bool,
    pub listed_finished: bool,
    last: Option<Stage>,
}

impl Said {
    /// The most that can be true of the job, going by that.
    pub fn stage(&self) -> Stage {
        if !self.relayed.is_empty() {
            Stage::Relayed
        } else if !self.executed.is_empty() {
            Stage::Executed
        } else if self.accepted {
            Stage::Accepted
        } else {
            Stage::Submitted
        }
    }

    fn hear(&mut self, answer: &Answer) {
        let mut now = None;
        match answer {
            Answer::Record(what) => {
                self.accepted = true;
                match what {
                    Status::Pending | Status::Number(_) => now = Some(Stage::Accepted),
                    Status::Done(proof) | Status::Relayed(proof) if proof.is_true() => {
                        self.executed.insert(*proof);
                        now = Some(Stage::Executed);
                        if matches!(what, Status::Relayed(_)) {
                            self.relayed.insert(*proof);
                            now = Some(Stage::Relayed);
                        }
                    }
                    Status::Done(_) | Status::Relayed(_) => self.unproven += 1,
                    Status::Failed(_) => self.failed += 1,
                }
            }
            Answer::Echo(..) => self.foreign += 1,
            Answer::NotFound => {
                self.not_found += 1;
                now = Some(Stage::Submitted);
            }
            Answer::OtherJob | Answer::Cut | Answer::Empty => self.hopeless = true,
            Answer::Trouble(trouble) => self.hopeless |= !trouble.passes(),
        }
        if let Some(now) = now {
            self.went_back |= self.last == Some(Stage::Relayed) && now < Stage::Relayed;
            self.last = Some(now);
        }
    }
}

#[derive(Default)]
struct State {
    answers: VecDeque<(Answer, u16)>,
    lists: VecDeque<(List, u16)>,
    intakes: VecDeque<(Intake, u16)>,
    honest: bool,
    said: Vec<Said>,
    calls: usize,
    in_flight: [usize; JOBS],
    watched: Vec<(JobHandle, Stage)>,
    stages_seen: usize,
    kept_above: usize,
    silences: usize,
    wrongs: Vec<String>,
}

/// The node. Clones are one.
#[derive(Clone)]
pub struct Liar {
    script: Arc<Script>,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar")
    }
}

impl Liar {
    pub fn new(script: &Script) -> Self {
        let state = State {
            answers: script.answers.clone().into(),
            lists: script.lists.clone().into(),
            intakes: script.intakes.clone().into(),
            said: vec![Said::default(); JOBS],
            ..State::default()
        };
        Self { script: Arc::new(script.clone()), state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn kits(&self) -> &'static [Kit] {
        &kits(self.script.revision)[..self.script.jobs]
    }

    /// Samples the stage of this handle whenever the node is called, until it is dropped with the node.
    pub fn watch(&self, handle: &JobHandle) {
        let stage = handle.stage();
        self.lock().watched.push((handle.clone(), stage));
    }

    /// Handles know their client, and that its transport.
    pub fn unwatch(&self) {
        let watched = std::mem::take(&mut self.lock().watched);
        drop(watched);
    }

    /// From now on the truth: every job was relayed with its first result.
    pub fn turn_honest(&self) {
        self.lock().honest = true;
    }

    pub fn said(&self, job: usize) -> Said {
        self.lock().said[job].clone()
    }

    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// How often stages were sampled, how often one was above the node's latest word, and how many calls got no answer.
    pub fn sampled(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.stages_seen, state.kept_above, state.silences)
    }

    pub fn wrong(&self, what: String) {
        self.lock().wrongs.push(what);
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.lock().wrongs.clone()
    }

    /// What was answered before is worked in by now: no stage goes back, and none is above what was said.
    pub fn sample(&self) {
        let mut state = self.lock();
        let mut watched = std::mem::take(&mut state.watched);
        for (handle, last) in &mut watched {
            let (now, job) = (handle.stage(), self.number(handle.id().as_bytes()));
            let said = &state.said[job];
            let (most, latest) = (said.stage(), said.last);
            if now < *last {
                state.wrongs.push(format!("the stage of job {job} went back from {last} to {now}"));
            }
            if now > most {
                state.wrongs.push(format!("the stage of job {job} is {now}, and the node only proved {most}"));
            }
            state.stages_seen += 1;
            state.kept_above += usize::from(latest.is_some_and(|latest| latest < now));
            *last = now;
        }
        state.watched = watched;
    }

    fn number(&self, id: &[u8]) -> usize {
        self.kits().iter().position(|kit| kit.job.id().as_bytes() == id).expect("a job of the history")
    }

    async fn get_result(&self, body: &[u8]) -> Result<Bytes, CallError> {
        let job = self.number(&answers::asked_for(body));
        let (answer, delay) = {
            let mut state = self.lock();
            let told = state.answers.pop_front().unwrap_or((self.script.last_answer, 0));
            if state.honest { (Answer::Record(Status::Relayed(Proof::First)), 0) } else { told }
        };
        self.pause(delay, matches!(answer, Answer::Trouble(Trouble::Silent))).await;
        self.lock().said[job].hear(&answer);
        let kit = &self.kits()[job];
        match answer {
            Answer::Record(what) => Ok(kit.row(what).encode()),
            Answer::Echo(field, what) => {
                let mut row = kit.row(what);
                match field {
                    Field::Input => row.onchain_input = b"something else".to_vec(),
                    Field::Signature => row.request_signature = vec![27; 65],
                    Field::Program => row.program_id = vec![2],
                    Field::Cycles => row.max_cycles += 1,
                    Field::OffchainHash => row.offchain_input_hash = keccak256(b"else").to_vec(),
                }
                Ok(row.encode())
            }
            Answer::NotFound => Err(not_found()),
            Answer::OtherJob => Ok(kits(self.script.revision)[JOBS].row(Status::Relayed(Proof::First)).encode()),
            Answer::Cut => {
                let whole = kit.row(Status::Relayed(Proof::First)).encode();
                Ok(whole.slice(..whole.len() / 2))
            }
            Answer::Empty => Ok(Bytes::new()),
            Answer::Trouble(trouble) => Err(trouble.error()),
        }
    }

    async fn get_pending_jobs(&self) -> Result<Bytes, CallError> {
        let (list, delay) = {
            let mut state = self.lock();
            let told = state.lists.pop_front().unwrap_or((self.script.last_list.clone(), 0));
            if state.honest { (List::Nonces(0, Vec::new()), 0) } else { told }
        };
        self.pause(delay, matches!(list, List::Trouble(Trouble::Silent))).await;
        match list {
            List::Nonces(bits, others) => {
                let mut nonces = others;
                let mut state = self.lock();
                for (number, kit) in self.kits().iter().enumerate() {
                    let (listed, said) = (bits >> number & 1 == 1, &mut state.said[number]);
                    let finished = said.last == Some(Stage::Relayed);
                    said.listed_finished |= listed && finished;
                    said.unlisted_unfinished |= !listed && !finished;
                    if listed {
                        nonces.push(kit.job.nonce());
                    }
                }
                Ok(answers::pending_jobs(nonces))
            }
            List::Unimplemented => Err(status(StatusCode::UNIMPLEMENTED, "")),
            List::Cut => Ok(Bytes::from_static(&[0x0a, 0x7f, 1])),
            List::Trouble(trouble) => Err(trouble.error()),
        }
    }

    async fn submit_job(&self, body: &[u8]) -> Result<Bytes, CallError> {
        let (request, signature) = answers::submitted(body);
        let ours = |kit: &Kit| *kit.job.request() == request && *kit.job.signature() == signature;
        let Some(job) = self.kits().iter().position(ours) else {
            self.wrong("other bytes were submitted than those that were signed".into());
            return Err(down());
        };
        let mut under_way = UnderWay { liar: self, job: Some(job), what: Method::SubmitJob };
        let (intake, delay) = {
            let mut state = self.lock();
            state.said[job].submissions += 1;
            state.in_flight[job] += 1;
            if state.in_flight[job] > 1 {
                state.wrongs.push(format!("two submissions of job {job} are in flight"));
            }
            let told = state.intakes.pop_front().unwrap_or((Intake::Taken, 0));
            if state.honest { (Intake::AlreadyRelayed, 0) } else { told }
        };
        self.pause(delay, matches!(intake, Intake::Trouble(Trouble::Silent))).await;
        under_way.answered();
        let refuse = |text: &str| {
            self.lock().said[job].refused = true;
            Err(status(StatusCode::INTERNAL, &format!("failed to submit job: {text}")))
        };
        match intake {
            Intake::Taken => Ok(answers::taken(self.kits()[job].job.id().as_bytes())),
            Intake::OtherId => {
                self.lock().said[job].refused = true;
                Ok(answers::taken(&[7; 32]))
            }
            Intake::Exists => refuse("job already exists"),
            Intake::AlreadyRelayed => refuse("job has already been executed and relayed"),
            Intake::LowNonce => refuse("nonce is too low for an ordered job"),
            Intake::Stored => refuse("could not read the nonce from the consumer contract: no route"),
            Intake::Invalid => {
                self.lock().said[job].refused = true;
                Err(status(StatusCode::INVALID_ARGUMENT, "job max cycles must be positive"))
            }
            Intake::Trouble(trouble) => {
                self.lock().said[job].refused = true;
                Err(trouble.error())
            }
        }
    }

    async fn pause(&self, delay: u16, silent: bool) {
        if silent {
            self.lock().silences += 1;
        }
        // A transport gives up by itself in the end.
        let pause = if silent { Duration::from_secs(20) } else { Duration::from_millis(delay.into()) };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// A call that must run to its end.
struct UnderWay<'a> {
    liar: &'a Liar,
    job: Option<usize>,
    what: Method,
}

impl UnderWay<'_> {
    fn answered(&mut self) {
        if let Some(job) = self.job.take() {
            let mut state = self.liar.lock();
            state.in_flight[job] = state.in_flight[job].saturating_sub(1);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.job.is_some() {
            self.liar.wrong(format!("{} was abandoned", self.what));
        }
    }
}

#[async_trait]
impl Transport for Liar {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        let all = Capabilities::ALL;
        if self.script.has_list { all } else { all.without(Method::GetPendingJobs) }
    }

    fn endpoint(&self) -> &str {
        "liar"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        self.sample();
        self.lock().calls += 1;
        match method {
            Method::GetResult => self.get_result(&body.to_bytes()).await,
            Method::GetPendingJobs => self.get_pending_jobs().await,
            Method::SubmitJob => self.submit_job(&body.to_bytes()).await,
            other => panic!("{other} was called"),
        }
    }
}
