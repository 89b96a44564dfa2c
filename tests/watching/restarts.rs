//! A node that restarts at random points while jobs are submitted and waited for, over both transports, in both revisions,
//! with healing and without. `SWEEP=full`: 200 restarts under 1,000 jobs for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, ErrorKind, HealPolicy, JobHandle, LocalSigner, OffchainJobRequest, Outcome, PollPolicy, ProgramId,
    RelayStrategy, Result, RetryPolicy, Revision, SignedJob, Stage, Until, Verified,
    client::DeadlineExceeded,
    devnode::{ConsumerRules, DevNode, Gate, JobState, RevertReason, View},
    nonce::Sequential,
    primitives::{Address, B256},
    rpc::Method,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::rig::{CONSUMER, Random, seed, sweep, within};

/// How long a wait that hangs does so, by a clock that is stopped.
const HANG: Duration = Duration::from_secs(10);

/// Its jobs are Ordered.
const LANE: Address = Address::repeat_byte(0xd0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Rest,
}

/// When the node restarts, after a chunk of jobs began to be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// That many submissions came in.
    Submissions,
    /// That many looks came in.
    Looks,
    /// Anything changed in the node, that often.
    Changes,
    /// That many of the jobs began to run.
    Executions,
    /// That many of the jobs were relayed.
    Relays,
    /// That many submissions are in the middle of their intake.
    DuringIntake,
    /// That many of the jobs are accepted, and none runs.
    BeforeExecution,
    /// That many of the jobs are executed, and none is relayed.
    BeforeRelay,
}

impl Point {
    const ALL: [Self; 8] = [
        Self::Submissions,
        Self::Looks,
        Self::Changes,
        Self::Executions,
        Self::Relays,
        Self::DuringIntake,
        Self::BeforeExecution,
        Self::BeforeRelay,
    ];
}

/// The jobs that the node has been seen to have.
type Accepted = watch::Sender<Vec<JobHandle>>;

struct Scene {
    revision: Revision,
    healing: bool,
    node: DevNode,
    client: Client,
    program: ProgramId,
    random: Random,
    restarts: BTreeMap<Point, usize>,
    /// Errors of submissions that say what is not so.
    untrue: Vec<String>,
    failed_submissions: usize,
}

/// What became of a task that submits a job and waits for it.
struct Landed {
    handle: JobHandle,
    result: Result<Verified>,
    submissions: Vec<Error>,
}

impl Scene {
    async fn new(kind: Kind, revision: Revision, healing: bool) -> Self {
        let signer = LocalSigner::random().unwrap();
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(revision).consumer(CONSUMER, rules.clone()).consumer(LANE, rules);
        let node = node.start().await.unwrap();
        let program = ProgramId::new(node.register_program(|input| Ok([input.onchain, b" done"].concat())));
        let retry = RetryPolicy::default()
            .with_attempts(8)
            .with_backoff(Duration::from_millis(2), Duration::from_millis(50))
            .with_budget(1_000_000);
        let [first, most, tick] = [5, 500, 50].map(Duration::from_millis);
        let polling = PollPolicy::default().with_first(first).with_most(most).with_tick(tick);
        let heal =
            if healing { HealPolicy::default().with_patience(Duration::from_millis(200)) } else { HealPolicy::off() };
        let builder = match kind {
            Kind::Grpc => Client::builder().grpc(node.grpc_url()),
            Kind::Rest => Client::builder().rest(node.rest_url()),
        };
        let builder = builder.revision(revision).signer(signer).operator(node.operator()).healing(heal);
        let builder =
            builder.nonces(Sequential::starting_at(1)).retry(retry).polling(polling.with_timeout(Duration::MAX));
        Self {
            revision,
            healing,
            client: builder.connect().await.unwrap(),
            node,
            program,
            random: Random::new(seed()),
            restarts: BTreeMap::new(),
            untrue: Vec::new(),
            failed_submissions: 0,
        }
    }

    /// Signs a request under the next nonce.
    async fn sign(&self, number: usize, ordered: bool) -> SignedJob {
        let consumer = if ordered { LANE } else { CONSUMER };
        let job = OffchainJobRequest::builder(consumer, self.program.clone()).max_cycles(1000);
        let job = if ordered { job.relay(RelayStrategy::Ordered) } else { job };
        self.client.sign(job.onchain_input(format!("work {number}").into_bytes()).build().unwrap()).await.unwrap()
    }

    /// Submits the jobs chunk by chunk, restarts the node at a random point in each, and joins the waits that end.
    /// Returns the jobs whose waits do not end, if there are such.
    async fn round(&mut self, jobs: Vec<SignedJob>, mut restarts: usize) -> Vec<JobHandle> {
        let (count, mut left) = (jobs.len(), jobs);
        let ids: Vec<B256> = left.iter().map(|job| job.id().into()).collect();
        let accepted = Accepted::default();
        let mut tasks = JoinSet::new();
        while restarts > 0 {
            let mean = left.len() / restarts;
            let size =
                if restarts == 1 { left.len() } else { self.random.up_to(2 * mean - 1).min(left.len() + 1 - restarts) };
            let chunk: Vec<_> = left.drain(..size).collect();
            let point = Point::ALL[self.random.up_to(Point::ALL.len()) - 1];
            self.restart_amid(chunk, point, &accepted, &mut tasks).await;
            restarts -= 1;
        }
        for job in left {
            tasks.spawn(one_job(self.client.clone(), job, accepted.clone()));
        }
        let mut seen = accepted.subscribe();
        let handles = seen.wait_for(|accepted| accepted.len() == count).await.unwrap().clone();
        let lost = if self.settles_by_itself() { BTreeSet::new() } else { self.lose_what_runs(&ids).await };
        while tasks.len() > lost.len() {
            let Landed { handle, result, submissions } = tasks.join_next().await.unwrap().unwrap();
            self.judge(submissions);
            assert!(!lost.contains(&B256::from(handle.id())), "a wait for a lost job ended: {result:?}");
            let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
            assert_eq!(&result.output()[..], [handle.signed_job().onchain_input(), &b" done"[..]].concat());
            assert_eq!(handle.stage(), Stage::Relayed);
        }
        // The others have not ended, and end in no way that is not true.
        assert!(tasks.try_join_next().is_none());
        tasks.shutdown().await;
        self.hang(handles.into_iter().filter(|handle| lost.contains(&B256::from(handle.id()))).collect()).await
    }

    /// Waits that can only end by their deadlines do, and say nothing that is not so.
    async fn hang(&self, handles: Vec<JobHandle>) -> Vec<JobHandle> {
        tokio::time::pause();
        let waits = self.client.wait_all(handles.clone(), Until::Relayed).timeout(HANG);
        for (handle, result) in handles.iter().zip(waits.await) {
            let error = result.expect_err("the node has lost the job");
            let expected = (ErrorKind::DeadlineExceeded, Outcome::Accepted);
            assert_eq!((error.kind(), error.outcome()), expected, "{}", error.report());
            assert_eq!(error.job_id(), Some(handle.id().into()));
            let details = DeadlineExceeded::of(&error).expect("the details of a deadline");
            assert!(details.waited() >= HANG && details.polls() > 0, "{details:?}");
            assert!((Stage::Accepted..=Stage::Executed).contains(&details.stage()), "{details:?}");
            assert_eq!(details.stage(), handle.stage());
        }
        tokio::time::resume();
        handles
    }

    /// Whether every job ends relayed without anything being done.
    fn settles_by_itself(&self) -> bool {
        self.healing && self.revision == Revision::Relay
    }

    /// One more restart, with all jobs accepted: what is not relayed then is lost.
    async fn lose_what_runs(&self, ids: &[B256]) -> BTreeSet<B256> {
        self.node.restart();
        let mut lost = BTreeSet::new();
        let unfinished = |view: &View<'_>| {
            lost.extend(ids.iter().filter(|id| view.job_state(**id) != Some(JobState::Relayed)));
            true
        };
        self.node.wait_until(unfinished).await;
        lost
    }

    async fn restart_amid(
        &mut self,
        chunk: Vec<SignedJob>,
        point: Point,
        accepted: &Accepted,
        tasks: &mut JoinSet<Landed>,
    ) {
        // Jobs of a lane may have to wait for those before them.
        let free: Vec<B256> =
            chunk.iter().filter(|job| job.consumer() == CONSUMER).map(|job| job.id().into()).collect();
        let point = if free.is_empty() { Point::Submissions } else { point };
        let many = self.random.up_to(free.len().max(1));
        *self.restarts.entry(point).or_default() += 1;
        let faults = self.node.faults();
        let gate: Option<Gate> = match point {
            Point::DuringIntake => Some(faults.hold_intake()),
            Point::BeforeExecution => Some(faults.hold_executions()),
            _ => None,
        };
        if point == Point::BeforeRelay {
            faults.stall_relays(true);
        }
        let before = self.node.stats();
        for job in chunk {
            tasks.spawn(one_job(self.client.clone(), job, accepted.clone()));
        }
        let calls = |view: &View<'_>, method: Method| view.stats().calls(method) - before.calls(method);
        let of = |what: &dyn Fn(B256) -> bool| free.iter().filter(|id| what(**id)).count();
        let mut changes = 0;
        let reached = |view: &View<'_>| match point {
            Point::Submissions => calls(view, Method::SubmitJob) >= many,
            Point::Looks => calls(view, Method::GetResult) >= many,
            Point::Changes => {
                changes += 1;
                // Some are not noticed one by one.
                changes > many || of(&|id| view.job_state(id) == Some(JobState::Relayed)) == free.len()
            }
            Point::Executions => of(&|id| view.stats().executions(id) > 0) >= many,
            Point::Relays => of(&|id| view.job_state(id) == Some(JobState::Relayed)) >= many,
            Point::BeforeRelay => of(&|id| view.job_state(id) == Some(JobState::Done)) >= many,
            Point::DuringIntake | Point::BeforeExecution => true,
        };
        match &gate {
            Some(gate) => gate.arrived(many).await,
            None => self.node.wait_until(reached).await,
        }
        self.node.restart();
        if let Some(gate) = gate {
            gate.open();
        }
        if point == Point::BeforeRelay {
            faults.stall_relays(false);
        }
    }

    /// All that a restart can do to a submission is to keep it from arriving, or an answer from coming back.
    fn judge(&mut self, submissions: Vec<Error>) {
        self.failed_submissions += submissions.len();
        for error in submissions {
            let possible = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::CallTimeout)
                && matches!(error.outcome(), Outcome::NotSent | Outcome::Unknown);
            if !possible {
                self.untrue.push(error.report().to_string());
            }
        }
    }

    /// What must hold at the end, whatever happened.
    fn check(&self, requests: usize) {
        let stats = self.node.stats();
        let chain = self.node.chain().all_completed();
        let results: BTreeSet<_> = chain.iter().map(|job| job.result.clone()).collect();
        assert_eq!(results.len(), requests, "every request is on chain");
        assert_eq!(chain.len(), requests, "and no request is there twice");
        assert!(chain.iter().all(|job| stats.executions(job.job_id) > 0));
        assert!(stats.max_concurrent_submissions_of_any_job() <= 1);
        assert!(self.untrue.is_empty(), "{} untrue errors, such as: {}", self.untrue.len(), self.untrue[0]);
        assert!(self.client.unresolved().is_empty());
        for consumer in [CONSUMER, LANE] {
            assert_eq!(self.client.nonces().quarantined(consumer), Vec::<u64>::new());
            if self.revision == Revision::Relay {
                let mut nonces: Vec<_> =
                    chain.iter().filter(|job| job.consumer == consumer).map(|job| job.nonce).collect();
                nonces.sort_unstable();
                assert!(nonces.iter().copied().eq(1..=nonces.len() as u64), "a nonce is left out, or used twice");
            }
        }
        if self.revision == Revision::State {
            assert!(chain.iter().all(|job| stats.executions(job.job_id) == 1), "executed twice");
        }
    }
}

/// Submits a job until the node has it, says so, and waits.
async fn one_job(client: Client, job: SignedJob, accepted: Accepted) -> Landed {
    let mut submissions = Vec::new();
    let handle = loop {
        match client.submit_signed(job.clone()).await {
            Ok(handle) => break handle,
            Err(error) => submissions.push(error),
        }
        assert!(submissions.len() < 1000, "the job is never submitted: {:?}", submissions.last());
    };
    accepted.send_modify(|accepted| accepted.push(handle.clone()));
    let result = handle.wait(Until::Relayed).await;
    Landed { handle, result, submissions }
}

async fn survives(kind: Kind, revision: Revision, healing: bool) {
    let (restarts, requests) = if sweep() { (200, 1000) } else { (40, 200) };
    let begun = Instant::now().into_std();
    let mut scene = Scene::new(kind, revision, healing).await;
    // A lost job holds back those behind it in its lane, too: what hangs without healing would not be what was lost.
    let ordered = |number: usize| scene.settles_by_itself() && number % 10 == 3;
    let mut jobs = Vec::new();
    for number in 0..requests {
        jobs.push(scene.sign(number, ordered(number)).await);
    }
    let mut hung = Vec::new();
    // What the node lost of these is signed again, and may be lost again.
    let mut first = if revision == Revision::State { restarts * 7 / 10 } else { restarts };
    loop {
        let made = scene.restarts.values().sum::<usize>();
        let now = std::mem::take(&mut first).max((restarts - made).min(jobs.len() / 2));
        let lost = if now > 0 { scene.round(jobs, now).await } else { scene.last_round(jobs).await };
        if lost.is_empty() {
            break;
        }
        hung.push(lost.len());
        jobs = Vec::new();
        for handle in lost {
            let job = handle.signed_job();
            jobs.push(match revision {
                // The node never takes this nonce again.
                Revision::State => {
                    assert_eq!(scene.node.chain().job_status(job.id().into()), None, "its place is free on chain");
                    scene.sign_again(job).await
                }
                _ => job.clone(),
            });
        }
    }
    let stats = scene.node.stats();
    let sent_again = (1..=requests as u64)
        .flat_map(|nonce| [CONSUMER, LANE].map(|consumer| infinityvm_sdk::JobId::derive(nonce, consumer)))
        .filter(|id| stats.submissions((*id).into()) > 1)
        .count();
    println!(
        "{kind:?} {revision} healing {}: {requests} jobs, {} restarts ({:?}) in {:.1} s (seed {}): hung {hung:?}; jobs that came \
         again {sent_again}; failed submissions {}; calls: {} submissions, {} looks, {} lists",
        if healing { "on" } else { "off" },
        scene.restarts.values().sum::<usize>(),
        scene.restarts,
        begun.elapsed().as_secs_f64(),
        seed(),
        scene.failed_submissions,
        stats.calls(Method::SubmitJob),
        stats.calls(Method::GetResult),
        stats.calls(Method::GetPendingJobs),
    );
    scene.check(requests);
    assert_eq!(scene.restarts.values().sum::<usize>(), restarts);
    if scene.settles_by_itself() {
        assert!(hung.is_empty() && sent_again > 0, "the restarts met no job");
    } else {
        assert!(hung.first().is_some_and(|hung| *hung > 0), "the restarts met no job");
    }
}

impl Scene {
    /// Without restarts, every wait ends well.
    async fn last_round(&mut self, jobs: Vec<SignedJob>) -> Vec<JobHandle> {
        let accepted = Accepted::default();
        let mut tasks = JoinSet::new();
        for job in jobs {
            tasks.spawn(one_job(self.client.clone(), job, accepted.clone()));
        }
        while let Some(landed) = tasks.join_next().await {
            let Landed { result, submissions, .. } = landed.unwrap();
            self.judge(submissions);
            result.unwrap_or_else(|error| panic!("{}", error.report()));
        }
        Vec::new()
    }

    /// The same request under the next nonce.
    async fn sign_again(&self, job: &SignedJob) -> SignedJob {
        let request =
            OffchainJobRequest::builder(job.consumer(), job.program_id().clone()).max_cycles(job.max_cycles());
        self.client.sign(request.onchain_input(job.onchain_input().clone()).build().unwrap()).await.unwrap()
    }
}

macro_rules! every_case {
    ($($name:ident $kind:ident $revision:ident $healing:literal,)*) => {$(
        #[tokio::test]
        async fn $name() {
            within(survives(Kind::$kind, Revision::$revision, $healing)).await;
        }
    )*};
}

every_case! {
    grpc_relay Grpc Relay true,
    rest_relay Rest Relay true,
    grpc_state Grpc State true,
    rest_state Rest State true,
    grpc_relay_without_healing Grpc Relay false,
    rest_relay_without_healing Rest Relay false,
    grpc_state_without_healing Grpc State false,
    rest_state_without_healing Rest State false,
}

/// Results that reached the chain in the very moment of a crash: the node does not know it, runs the job again in vain, and
/// shows DONE for ever. No wait may say that the job was relayed, nor that it was not.
#[tokio::test]
async fn a_lost_record_of_a_relay_is_neither_denied_nor_made_up() {
    for kind in [Kind::Grpc, Kind::Rest] {
        within(async {
            let scene = Scene::new(kind, Revision::Relay, true).await;
            let (count, accepted) = (5, Accepted::default());
            let mut tasks = JoinSet::new();
            let mut ids: Vec<B256> = Vec::new();
            scene.node.faults().lose_relayed_records(count);
            for number in 0..count {
                let job = scene.sign(number, false).await;
                ids.push(job.id().into());
                tasks.spawn(one_job(scene.client.clone(), job, accepted.clone()));
            }
            let done = |view: &View<'_>, id: &B256| view.job_state(*id) == Some(JobState::Done);
            scene.node.wait_until(|view| ids.iter().all(|id| done(view, id))).await;
            scene.node.restart();
            let reverted = |view: &View<'_>, id: &B256| view.stats().last_revert(*id) == Some(RevertReason::JobExists);
            scene.node.wait_until(|view| ids.iter().all(|id| reverted(view, id) && done(view, id))).await;
            assert!(tasks.try_join_next().is_none());
            tasks.shutdown().await;
            let handles = accepted.borrow().clone();
            assert_eq!(handles.len(), count);
            for handle in scene.hang(handles).await {
                assert_eq!(handle.stage(), Stage::Executed);
                assert_eq!(handle.wait(Until::Executed).await.unwrap().id(), handle.id());
            }
            assert_eq!(scene.node.chain().all_completed().len(), count);
            assert!(scene.node.stats().max_concurrent_submissions_of_any_job() <= 1);
        })
        .await;
    }
}

/// In a lane the node calls such a job failed, as its nonce is too low.
#[tokio::test]
async fn a_lost_record_of_an_ordered_relay_fails_with_a_pointer_to_the_chain() {
    for kind in [Kind::Grpc, Kind::Rest] {
        within(async {
            let scene = Scene::new(kind, Revision::Relay, true).await;
            scene.node.faults().lose_relayed_records(1);
            let job = scene.sign(1, true).await;
            let id = job.id().into();
            let task = tokio::spawn(one_job(scene.client.clone(), job, Accepted::default()));
            scene.node.wait_until(|view| view.job_state(id) == Some(JobState::Done)).await;
            scene.node.restart();
            let Landed { handle, result, .. } = task.await.unwrap();
            let error = result.unwrap_err();
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::JobFailed, Outcome::Accepted),
                "{}",
                error.report()
            );
            assert!(error.to_string().contains("low nonce"), "{error}");
            assert!(error.hint().unwrap().contains("chain"), "{:?}", error.hint());
            assert!(handle.stage() < Stage::Relayed);
            assert!(scene.node.chain().completed(id).is_some());
        })
        .await;
    }
}

/// Many restarts in a row while one job is under way: it comes again after each, with pauses in between, and runs in the end.
#[tokio::test]
async fn a_job_that_is_lost_again_and_again_comes_again() {
    for kind in [Kind::Grpc, Kind::Rest] {
        within(async {
            let scene = Scene::new(kind, Revision::Relay, true).await;
            let faults = scene.node.faults();
            let job = scene.sign(1, false).await;
            let id = job.id().into();
            faults.stall_relays(true);
            let task = tokio::spawn(one_job(scene.client.clone(), job, Accepted::default()));
            for life in 1..=3 {
                let ran =
                    |view: &View<'_>| view.stats().executions(id) == life && view.job_state(id) == Some(JobState::Done);
                scene.node.wait_until(ran).await;
                scene.node.restart();
            }
            faults.stall_relays(false);
            let landed = task.await.unwrap();
            landed.result.unwrap_or_else(|error| panic!("{}", error.report()));
            let stats = scene.node.stats();
            assert_eq!((stats.executions(id), stats.submissions(id)), (4, 4));
            scene.check(1);
        })
        .await;
    }
}
