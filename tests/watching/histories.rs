//! Random histories of a lying node, under a clock that is stopped: whatever the node says, in whatever order, the user sees
//! no status go back, no result that is not verified, and no wait that does not end. `SWEEP=full`: 5,000 histories.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, ErrorKind, HealPolicy, JobEvent, JobHandle, Outcome, PollPolicy, Revision, Stage, Until, Verified,
    client::DeadlineExceeded, nonce::Sequential, verify,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    answers::operator,
    liar::{Answer, Field, Intake, JOBS, Liar, List, Proof, Script, Status, Trouble},
    rig::{seed, sweep, within},
};

/// By how much an end may be later than its deadline.
const SLACK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Wait(Until),
    Events,
    /// All jobs of the history at once.
    Many(Until),
    All(Until),
}

/// Somebody who waits.
#[derive(Clone, Debug)]
struct Actor {
    job: usize,
    what: What,
    begins: u16,
    timeout: u16,
    /// Is dropped that long after it began.
    dropped: Option<u16>,
}

#[derive(Clone, Debug)]
struct History {
    script: Script,
    /// How the jobs come to the client: submitted by it, or resumed.
    submits: bool,
    healing: Option<u16>,
    actors: Vec<Actor>,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    use Trouble as T;
    prop_oneof![
        20 => select(vec![T::Refused, T::Broken, T::TimedOut, T::Unavailable, T::Exhausted]),
        2 => Just(T::Silent),
        1 => select(vec![T::Internal, T::Garbage, T::TooLarge]),
    ]
}

fn true_proof() -> impl Strategy<Value = Proof> {
    prop_oneof![3 => Just(Proof::First), 1 => Just(Proof::Second)]
}

fn false_proof() -> impl Strategy<Value = Proof> {
    use Proof as P;
    select(vec![P::Missing, P::Stranger, P::OtherJob, P::OtherCycles, P::Cut, P::Changed, P::NoSignature])
}

fn record() -> impl Strategy<Value = Status> {
    let reasons = vec![None, Some("execution_error"), Some("low nonce"), Some("missing_program"), Some("a new reason")];
    prop_oneof![
        40 => Just(Status::Pending),
        16 => true_proof().prop_map(Status::Done),
        8 => true_proof().prop_map(Status::Relayed),
        6 => select(vec![0, 5, 77, -1]).prop_map(Status::Number),
        2 => select(reasons).prop_map(Status::Failed),
        1 => false_proof().prop_map(Status::Done),
        1 => false_proof().prop_map(Status::Relayed),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    use Field as F;
    let fields = vec![F::Input, F::Signature, F::Program, F::Cycles, F::OffchainHash];
    prop_oneof![
        70 => record().prop_map(Answer::Record),
        14 => Just(Answer::NotFound),
        14 => trouble().prop_map(Answer::Trouble),
        1 => (select(fields), record()).prop_map(|(field, status)| Answer::Echo(field, status)),
        1 => select(vec![Answer::OtherJob, Answer::Cut, Answer::Empty]),
    ]
}

fn list() -> impl Strategy<Value = List> {
    prop_oneof![
        12 => (0..8u8, prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u64>(), 1..5)]).prop_map(|(bits, others)| List::Nonces(bits, others)),
        3 => trouble().prop_map(List::Trouble),
        1 => Just(List::Unimplemented),
        1 => Just(List::Cut),
    ]
}

fn intake() -> impl Strategy<Value = Intake> {
    use Intake as I;
    prop_oneof![
        12 => Just(I::Taken),
        3 => select(vec![I::OtherId, I::Exists, I::AlreadyRelayed, I::LowNonce, I::Stored, I::Invalid]),
        3 => trouble().prop_map(I::Trouble),
    ]
}

/// How long an answer takes: most come at once.
fn delay() -> impl Strategy<Value = u16> {
    prop_oneof![6 => Just(0), 2 => 1..100u16, 1 => 100..15_000u16]
}

fn script() -> impl Strategy<Value = Script> {
    let revision = prop_oneof![2 => Just(Revision::Relay), 1 => Just(Revision::State)];
    let told = (vec((answer(), delay()), 0..40), vec((list(), delay()), 0..40), vec((intake(), delay()), 0..6));
    (revision, 1..=JOBS, any::<bool>(), told, answer(), list()).prop_map(
        |(revision, jobs, has_list, (answers, lists, intakes), last_answer, last_list)| Script {
            revision,
            jobs,
            has_list,
            answers,
            lists,
            intakes,
            last_answer,
            last_list,
        },
    )
}

fn actor() -> impl Strategy<Value = Actor> {
    let until = || select(vec![Until::Executed, Until::Relayed]);
    let what = prop_oneof![
        4 => until().prop_map(What::Wait),
        3 => Just(What::Events),
        1 => until().prop_map(What::Many),
        1 => until().prop_map(What::All),
    ];
    let dropped = prop_oneof![1 => Just(None), 1 => (0..10_000u16).prop_map(Some)];
    (0..JOBS, what, 0..20_000u16, 1..20_000u16, dropped).prop_map(|(job, what, begins, timeout, dropped)| Actor {
        job,
        what,
        begins,
        timeout,
        dropped,
    })
}

fn history() -> impl Strategy<Value = History> {
    let healing = prop_oneof![1 => Just(None), 4 => (0..20_000u16).prop_map(Some)];
    (script(), any::<bool>(), healing, 100..20_000u16, vec(actor(), 0..6)).prop_map(
        |(script, submits, healing, timeout, mut actors)| {
            // Every job has one of each from the beginning on.
            for job in 0..script.jobs {
                for what in [What::Wait(Until::Executed), What::Wait(Until::Relayed), What::Events] {
                    actors.push(Actor { job, what, begins: 0, timeout, dropped: None });
                }
            }
            actors.iter_mut().for_each(|actor| actor.job %= script.jobs);
            History { script, submits, healing, actors }
        },
    )
}

/// How often something happened, in all histories together.
#[derive(Default)]
struct Coverage(Mutex<BTreeMap<&'static str, usize>>);

impl Coverage {
    fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&self, what: &'static str, times: usize) {
        *self.0.lock().unwrap().entry(what).or_default() += times;
    }
}

/// What must have happened, or the histories prove nothing.
const CLASSES: [&str; 40] = [
    "waits: executed",
    "waits: relayed",
    "waits: deadline exceeded",
    "waits: job failed",
    "waits: nonce taken",
    "waits: verification",
    "waits: not found",
    "waits: other errors",
    "events: accepted",
    "events: executed",
    "events: relayed",
    "events: sent again",
    "events: error",
    "many: ended",
    "all: ended",
    "dropped midway",
    "a second result",
    "an error after a verified result",
    "said: RELAYED lost again",
    "said: two results of one job",
    "said: a list without an unfinished job",
    "said: a list with a relayed job",
    "said: another payload",
    "said: a result that proves nothing",
    "said: failed",
    "said: not found",
    "said: nothing",
    "said: taken again",
    "said: refused",
    "stages sampled",
    "stages kept above the node's word",
    "revision: Relay with lists",
    "revision: Relay without",
    "revision: State",
    "healing off",
    "handles: submitted",
    "handles: resumed",
    "the truth after a lie",
    "the truth for a fresh handle",
    "silence after the last wait",
];

/// One history as it runs.
#[derive(Clone)]
struct Scene {
    liar: Liar,
    client: Client,
    handles: Vec<JobHandle>,
    coverage: Arc<Coverage>,
}

impl Scene {
    async fn new(history: &History, coverage: Arc<Coverage>) -> Self {
        let liar = Liar::new(&history.script);
        let healing = match history.healing {
            Some(patience) => HealPolicy::default().with_patience(Duration::from_millis(patience.into())),
            None => HealPolicy::off(),
        };
        let builder = Client::builder().transport(liar.clone()).revision(history.script.revision).healing(healing);
        let builder = builder.operator(operator()).nonces(Sequential::starting_at(1000)).polling(PollPolicy::default());
        let client = builder.connect().await.unwrap();
        let mut handles = Vec::new();
        for kit in liar.kits() {
            let submitted = match history.submits {
                true => client.submit_signed(kit.job.clone()).await.ok(),
                false => None,
            };
            coverage.count(if submitted.is_some() { "handles: submitted" } else { "handles: resumed" });
            handles.push(submitted.unwrap_or_else(|| client.resume(kit.job.clone()).unwrap()));
        }
        handles.iter().for_each(|handle| liar.watch(handle));
        Self { liar, client, handles, coverage }
    }

    fn wrong(&self, what: impl Into<String>) {
        self.liar.wrong(what.into());
    }

    async fn act(self, actor: Actor) {
        let ms = |ms: u16| Duration::from_millis(ms.into());
        tokio::time::sleep(ms(actor.begins)).await;
        let (job, timeout) = (actor.job, ms(actor.timeout));
        let work = async {
            match actor.what {
                What::Wait(until) => self.wait(job, until, timeout).await,
                What::Events => self.events(job, timeout).await,
                What::Many(until) => self.many(until, timeout).await,
                What::All(until) => self.all(until, timeout).await,
            }
        };
        match actor.dropped {
            Some(after) => {
                if tokio::time::timeout(ms(after), work).await.is_err() {
                    self.coverage.count("dropped midway");
                }
            }
            None => self.in_time(timeout, work).await,
        }
    }

    async fn in_time(&self, timeout: Duration, work: impl Future<Output = ()>) {
        // Whatever ends late, or never.
        if tokio::time::timeout(timeout + SLACK, work).await.is_err() {
            self.wrong(format!("something with a deadline of {timeout:?} has not ended"));
        }
    }

    async fn wait(&self, job: usize, until: Until, timeout: Duration) {
        let (handle, begun) = (&self.handles[job], Instant::now());
        let result = handle.wait(until).timeout(timeout).await;
        match &result {
            Ok(_) if until == Until::Executed => self.coverage.count("waits: executed"),
            Ok(_) => self.coverage.count("waits: relayed"),
            Err(error) => self.coverage.count(match error.kind() {
                ErrorKind::DeadlineExceeded => "waits: deadline exceeded",
                ErrorKind::JobFailed => "waits: job failed",
                ErrorKind::NonceTaken => "waits: nonce taken",
                ErrorKind::Verification => "waits: verification",
                ErrorKind::NotFound => "waits: not found",
                _ => "waits: other errors",
            }),
        }
        self.judge(job, until, timeout, begun, &result);
    }

    /// The end of a wait is true, whatever it is.
    fn judge(&self, job: usize, until: Until, timeout: Duration, begun: Instant, result: &Result<Verified, Error>) {
        match result {
            Ok(result) => {
                self.proves(job, until == Until::Relayed, result);
                let at_least = if until == Until::Relayed { Stage::Relayed } else { Stage::Executed };
                if self.handles[job].stage() < at_least {
                    self.wrong(format!("job {job} is {at_least}, and its handle does not know"));
                }
            }
            Err(error) => self.is_true(job, timeout, begun, error),
        }
    }

    /// The result is one that the operator signed, and the node said what is said of it.
    fn proves(&self, job: usize, relayed: bool, result: &Verified) {
        let (kit, said) = (&self.liar.kits()[job], self.liar.said(job));
        if result.id() != kit.job.id() || verify(&kit.job, result.record(), operator()).ok().as_ref() != Some(result) {
            return self.wrong(format!("a result of job {job} does not verify"));
        }
        let Some(proof) = kit.which(result.result_with_metadata(), result.operator_signature()) else {
            return self.wrong(format!("the operator never signed this result of job {job}"));
        };
        let output: &[u8] = if proof == Proof::First { b"first" } else { b"second" };
        if &result.output()[..] != output {
            self.wrong(format!("job {job} wrote something else"));
        }
        if proof == Proof::Second {
            self.coverage.count("a second result");
        }
        let shown = if relayed { &said.relayed } else { &said.executed };
        if !shown.contains(&proof) {
            let what = if relayed { "relayed" } else { "executed" };
            self.wrong(format!("the node never said that the {proof:?} result of job {job} was {what}"));
        }
    }

    /// Says nothing of the job but what the node has said.
    fn is_true(&self, job: usize, timeout: Duration, begun: Instant, error: &Error) {
        let said = self.liar.said(job);
        let possible = match error.kind() {
            ErrorKind::DeadlineExceeded => begun.elapsed() >= timeout,
            ErrorKind::JobFailed => said.failed > 1,
            ErrorKind::NonceTaken => said.foreign > 1,
            ErrorKind::Verification => said.unproven > 1,
            ErrorKind::NotFound => said.not_found > 0,
            ErrorKind::BadResponse | ErrorKind::TooLarge | ErrorKind::Rejected | ErrorKind::WrongRevision => {
                said.hopeless || said.refused
            }
            ErrorKind::Nonce => said.refused,
            _ => false,
        };
        let outcome = match error.outcome() {
            Outcome::Accepted => said.accepted,
            Outcome::Unknown => true,
            _ => false,
        };
        if !(possible && outcome && error.job_id() == Some(self.handles[job].id().into())) {
            self.wrong(format!("this is not so: {}\n{said:?}", error.report()));
        }
        if error.kind() == ErrorKind::DeadlineExceeded {
            match DeadlineExceeded::of(error) {
                Some(details) if details.waited() >= timeout && details.stage() <= said.stage() => {}
                details => {
                    self.wrong(format!("the deadline of {timeout:?} says {details:?}; the node {}", said.stage()))
                }
            }
        }
        if !said.executed.is_empty() && error.kind() != ErrorKind::DeadlineExceeded {
            self.coverage.count("an error after a verified result");
        }
    }

    async fn events(&self, job: usize, timeout: Duration) {
        let (handle, begun) = (&self.handles[job], Instant::now());
        let mut events = handle.events().timeout(timeout);
        let (mut last, mut sent_again) = (Stage::Submitted, 0);
        loop {
            let Some(event) = events.next().await else {
                return self.wrong(format!("the events of job {job} end after {last}"));
            };
            let stage = match &event {
                Ok(JobEvent::Accepted) => {
                    self.coverage.count("events: accepted");
                    Stage::Accepted
                }
                Ok(JobEvent::SentAgain) => {
                    self.coverage.count("events: sent again");
                    sent_again += 1;
                    if sent_again > self.liar.said(job).submissions {
                        self.wrong(format!("job {job} was not sent again"));
                    }
                    continue;
                }
                Ok(JobEvent::Executed(result)) => {
                    self.coverage.count("events: executed");
                    self.proves(job, false, result);
                    Stage::Executed
                }
                Ok(JobEvent::Relayed(result)) => {
                    self.coverage.count("events: relayed");
                    self.proves(job, true, result);
                    Stage::Relayed
                }
                Ok(other) => return self.wrong(format!("an event that is not known: {other:?}")),
                Err(error) => {
                    self.coverage.count("events: error");
                    self.is_true(job, timeout, begun, error);
                    break;
                }
            };
            if stage <= last || event.is_ok_and(|event| event.stage() != Some(stage)) {
                self.wrong(format!("an event of job {job} comes after {last}: {stage}"));
            }
            if stage > handle.stage() || stage > self.liar.said(job).stage() {
                self.wrong(format!("an event of job {job} is ahead of its time: {stage}"));
            }
            last = stage;
            if stage == Stage::Relayed {
                break;
            }
        }
        if events.next().await.is_some() || events.next().await.is_some() {
            self.wrong(format!("something follows the end of the events of job {job}"));
        }
    }

    async fn many(&self, until: Until, timeout: Duration) {
        let begun = Instant::now();
        let mut many = self.client.watch_many(self.handles.clone(), until).timeout(timeout);
        let mut left: Vec<_> = (0..self.handles.len()).collect();
        while let Some((handle, result)) = many.next().await {
            let Some(at) = left.iter().position(|job| self.handles[*job].id() == handle.id()) else {
                return self.wrong("a job ended twice");
            };
            self.judge(left.remove(at), until, timeout, begun, &result);
            if many.len() != left.len() || many.is_empty() != left.is_empty() {
                self.wrong("jobs are not counted right");
            }
        }
        let counts = many.counts();
        let parts = counts.submitted + counts.accepted + counts.executed + counts.relayed + counts.failed;
        if !left.is_empty() || counts.total != self.handles.len() || parts != counts.total {
            self.wrong(format!("jobs {left:?} did not end: {counts:?}"));
        }
        self.coverage.count("many: ended");
    }

    async fn all(&self, until: Until, timeout: Duration) {
        let begun = Instant::now();
        let results = self.client.wait_all(self.handles.clone(), until).timeout(timeout).await;
        if results.len() != self.handles.len() {
            self.wrong(format!("{} results of {} jobs", results.len(), self.handles.len()));
        }
        for (job, result) in results.iter().enumerate() {
            self.judge(job, until, timeout, begun, result);
        }
        self.coverage.count("all: ended");
    }

    /// Once nobody waits, nobody asks; submissions may have to run to their end first.
    async fn falls_silent(&self) {
        tokio::time::sleep(Duration::from_secs(300)).await;
        let calls = self.liar.calls();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        match self.liar.calls() - calls {
            0 => self.coverage.count("silence after the last wait"),
            more => self.wrong(format!("{more} calls in an hour in which nobody waits")),
        }
    }

    /// No lie is for ever: a node that speaks the truth in the end is believed.
    async fn believes_the_truth(&self) {
        self.liar.turn_honest();
        for (job, handle) in self.handles.iter().enumerate() {
            let fresh = self.client.resume(handle.signed_job().clone()).unwrap();
            for (handle, class) in [(handle, "the truth after a lie"), (&fresh, "the truth for a fresh handle")] {
                match handle.wait(Until::Relayed).timeout(Duration::from_secs(600)).await {
                    Ok(result) => {
                        self.proves(job, true, &result);
                        self.coverage.count(class);
                    }
                    Err(error) => self.wrong(format!("{class} is not believed: {}", error.report())),
                }
            }
        }
    }

    fn cover(&self, history: &History) {
        let mut classes = vec![match (history.script.revision, history.script.has_list) {
            (Revision::State, _) => "revision: State",
            (_, true) => "revision: Relay with lists",
            (_, false) => "revision: Relay without",
        }];
        if history.healing.is_none() {
            classes.push("healing off");
        }
        for job in 0..self.handles.len() {
            let said = self.liar.said(job);
            let first = usize::from(history.submits);
            for (happened, class) in [
                (said.went_back, "said: RELAYED lost again"),
                (said.executed.len() > 1, "said: two results of one job"),
                (said.unlisted_unfinished, "said: a list without an unfinished job"),
                (said.listed_finished, "said: a list with a relayed job"),
                (said.foreign > 0, "said: another payload"),
                (said.unproven > 0, "said: a result that proves nothing"),
                (said.failed > 0, "said: failed"),
                (said.not_found > 0, "said: not found"),
                (said.submissions > first, "said: taken again"),
                (said.refused, "said: refused"),
            ] {
                if happened {
                    classes.push(class);
                }
            }
        }
        classes.into_iter().for_each(|class| self.coverage.count(class));
        let (sampled, kept_above, silences) = self.liar.sampled();
        self.coverage.add("stages sampled", sampled);
        self.coverage.add("stages kept above the node's word", kept_above);
        self.coverage.add("said: nothing", silences);
    }
}

fn run(history: &History, coverage: &Arc<Coverage>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let wrongs = runtime.block_on(within(async {
        let scene = Scene::new(history, Arc::clone(coverage)).await;
        let mut actors = JoinSet::new();
        for actor in &history.actors {
            actors.spawn(scene.clone().act(actor.clone()));
        }
        while let Some(ended) = actors.join_next().await {
            if let Err(panic) = ended {
                scene.wrong(format!("a panic: {panic}"));
            }
        }
        scene.liar.sample();
        scene.falls_silent().await;
        scene.cover(history);
        scene.believes_the_truth().await;
        scene.liar.sample();
        scene.liar.unwatch();
        scene.liar.wrongs()
    }));
    match wrongs.first() {
        None => Ok(()),
        Some(first) => Err(TestCaseError::fail(format!("{} wrongs, the first: {first}", wrongs.len()))),
    }
}

/// So many histories; the same for a seed.
fn run_all(cases: u32, seed: [u64; 2], coverage: &Arc<Coverage>) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed[0].to_le_bytes());
    bytes[8..16].copy_from_slice(&seed[1].to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    runner.run(&history(), |history| run(&history, coverage)).map_err(|error| match error {
        TestError::Fail(reason, history) => format!("seed {seed:?}: {reason}\n{history:#?}"),
        TestError::Abort(reason) => reason.to_string(),
    })
}

#[test]
fn no_history_makes_a_status_go_back_or_shows_what_is_not_verified() {
    const THREADS: u32 = 2;
    let cases = if sweep() { 5000 } else { 1000 };
    let coverage = Arc::new(Coverage::default());
    let begun = std::time::Instant::now();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let coverage = &coverage;
                    move || run_all(cases / THREADS, [seed(), thread.into()], coverage)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the runner panicked")).collect()
    });
    if let Some(failure) = ended.into_iter().find_map(Result::err) {
        panic!("{failure}");
    }
    let counts = coverage.0.lock().unwrap();
    println!("{cases} histories in {:.1} s (seed {}):", begun.elapsed().as_secs_f64(), seed());
    counts.iter().for_each(|(class, count)| println!("{count:>9}  {class}"));
    let silent: Vec<_> = CLASSES.iter().filter(|class| !counts.contains_key(*class)).collect();
    assert!(silent.is_empty(), "never happened: {silent:?}");
    assert!(counts.keys().all(|class| CLASSES.contains(class)), "a class that is not asserted");
}
