//! Diagnoses of jobs that are well: nothing else is said of them.

use std::{
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Cause, Client, Confidence, Diagnosis, JobId, OffchainJobRequest, ProgramId, RelayStrategy, RetryPolicy, Revision,
    SignedJob, Until,
    client::Stage,
    devnode::{ConsumerRules, JobState},
    nonce::Sequential,
    primitives::Address,
};

use crate::{
    diagnosis::{Case, progress},
    rig::within,
};

/// How far the node is with a job, and which of its consumer's nonces up to this one are relayed.
async fn truth(case: &Case, job: &SignedJob) -> (JobState, Vec<u64>) {
    let mut truth = None;
    let (consumer, nonce) = (job.consumer(), job.nonce());
    case.rig
        .node
        .wait_until(|view| {
            let state = |nonce| view.job_state(JobId::derive(nonce, consumer).into());
            let from = nonce.saturating_sub(64).max(1);
            let relayed = (from..=nonce).filter(|nonce| state(*nonce) == Some(JobState::Relayed)).collect();
            truth = state(nonce).map(|state| (state, relayed));
            true
        })
        .await;
    truth.expect("the node has the job")
}

/// Diagnoses a job that is well, and compares with what the node was before and after. Returns what it named.
async fn diagnose_healthy(case: &Case, client: &Client, job: &SignedJob) -> (JobState, Diagnosis) {
    let (before, relayed) = truth(case, job).await;
    // Other builds on this machine can make a list slow.
    let diagnosis = client.diagnose(job).patience(Duration::from_secs(300)).await.unwrap();
    let (after, _) = truth(case, job).await;
    let named = match diagnosis.cause() {
        Cause::InProgress { stage: Stage::Accepted, .. } => JobState::Pending,
        Cause::InProgress { stage: Stage::Executed, .. } => JobState::Done,
        Cause::InLine { behind, .. } => {
            assert!(job.relay_strategy() == RelayStrategy::Ordered && *behind < job.nonce(), "{diagnosis}");
            assert!(!relayed.contains(behind), "nonce {behind} was relayed before\n{diagnosis}");
            JobState::Done
        }
        Cause::Relayed => JobState::Relayed,
        _ => panic!("a wrong label on a healthy job, {before:?} before and {after:?} after:\n{diagnosis}"),
    };
    let order =
        |state: JobState| [JobState::Pending, JobState::Done, JobState::Relayed].iter().position(|it| *it == state);
    assert!(order(before) <= order(named) && order(named) <= order(after), "{before:?} {after:?}\n{diagnosis}");
    assert_eq!(diagnosis.confidence(), Confidence::Shown, "{diagnosis}");
    (named, diagnosis)
}

const CONSUMERS: u64 = 5;
const JOBS_OF_EACH: u64 = 50;

fn consumer(number: u64) -> Address {
    Address::repeat_byte(0xd0 + number as u8)
}

/// 1,000 jobs: 250 for each revision and transport, over five consumers, of which one began its lane elsewhere. Half of them
/// are diagnosed, also by a stranger, while they are pending, executed and relayed; the other half is submitted at once, waited for, and
/// diagnosed again and again while the node executes and relays them in fits and starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_healthy_jobs_get_no_wrong_label() {
    let mut total = 0;
    for revision in Revision::ALL {
        for rest in [false, true] {
            total += within(healthy_jobs(Arc::new(Case::new(revision, rest).await))).await;
        }
    }
    assert_eq!(total, 1000);
}

/// Executes one job for each token, and relays now and then.
struct Pace {
    tokens: Sender<()>,
    steps: AtomicUsize,
}

impl Pace {
    /// After each diagnosis.
    fn step(&self, case: &Case) {
        let step = self.steps.fetch_add(1, SeqCst);
        if step.is_multiple_of(4) {
            // Without any job left that wants them, they stay.
            _ = self.tokens.send(());
        }
        case.rig.node.faults().stall_relays(!step.is_multiple_of(9));
    }
}

/// How many diagnoses named which cause.
#[derive(Debug, PartialEq)]
struct Counts {
    accepted: usize,
    executed: usize,
    in_line: usize,
}

impl Counts {
    fn of(causes: &[Cause]) -> Self {
        let count = |stage| causes.iter().filter(|cause| **cause == progress(stage)).count();
        let in_line = causes.iter().filter(|cause| matches!(cause, Cause::InLine { .. })).count();
        Self { accepted: count(Stage::Accepted), executed: count(Stage::Executed), in_line }
    }
}

async fn healthy_jobs(case: Arc<Case>) -> u64 {
    let begun_elsewhere = consumer(CONSUMERS - 1);
    for number in 0..CONSUMERS {
        let rules = ConsumerRules::signed_by(case.rig.signer.address());
        let seen = if consumer(number) == begun_elsewhere { 7000 } else { 0 };
        case.rig.node.chain().deploy(consumer(number), rules.with_max_nonce(seen));
    }
    let nonces = Sequential::starting_at(1).with_next(begun_elsewhere, 7001);
    let builder = case.rig.builder().retry(RetryPolicy::default()).nonces(nonces);
    let builder = if case.rest { builder.rest(case.rig.node.rest_url()) } else { builder };
    let client = builder.connect().await.unwrap();
    let stranger = case.stranger().await;
    let request = |number: u64, program: &ProgramId| {
        let job = OffchainJobRequest::builder(consumer(number % CONSUMERS), program.clone()).max_cycles(1000);
        let job = job.onchain_input(number.to_be_bytes().to_vec());
        let ordered = !case.is_state() && !number.is_multiple_of(CONSUMERS);
        let job = if ordered { job.relay(RelayStrategy::Ordered) } else { job };
        job.build().unwrap()
    };

    let faults = case.rig.node.faults();
    let gate = faults.hold_executions();
    faults.stall_relays(true);
    let (mut causes, mut handles) = (Vec::new(), Vec::new());
    for number in 0..CONSUMERS * JOBS_OF_EACH / 2 {
        handles.push(client.submit(request(number, &case.rig.program)).await.unwrap());
    }
    let mut jobs = handles.len() as u64;
    for state in [JobState::Pending, JobState::Done, JobState::Relayed] {
        match state {
            JobState::Done => gate.open(),
            JobState::Relayed => faults.stall_relays(false),
            _ => {}
        }
        for handle in &handles {
            case.rig.reaches(handle.id(), state).await;
        }
        for handle in &handles {
            for client in [&client, &stranger] {
                let (named, diagnosis) = diagnose_healthy(&case, client, handle.signed_job()).await;
                assert_eq!(named, state);
                causes.push(diagnosis.cause().clone());
            }
        }
    }

    // Up to here nothing depends on who comes first: each job was diagnosed twice in each state. Executed jobs of the four Ordered
    // lanes stand in line behind the first of their lane, 24 in each; what comes from here on depends on the machine.
    let in_line = if case.is_state() { 0 } else { 2 * 4 * 24 };
    assert_eq!(Counts::of(&causes), Counts { accepted: 250, executed: 250 - in_line, in_line });

    let (tokens, taken) = channel();
    let (pace, taken) = (Arc::new(Pace { tokens, steps: AtomicUsize::new(0) }), Mutex::new(taken));
    let paced = ProgramId::new(case.rig.node.register_program(move |input| {
        taken.lock().unwrap().recv().expect("the test goes on");
        Ok(input.onchain.to_vec())
    }));
    faults.stall_relays(true);
    let tasks: Vec<_> = (0..CONSUMERS * JOBS_OF_EACH / 2)
        .map(|number| {
            let (case, client, pace) = (Arc::clone(&case), client.clone(), Arc::clone(&pace));
            let request = request(number, &paced);
            tokio::spawn(async move {
                let handle = client.submit(request).await.unwrap();
                let waiting = tokio::spawn(handle.wait(Until::Relayed).into_future());
                let mut causes = Vec::new();
                loop {
                    let (state, diagnosis) = diagnose_healthy(&case, &client, handle.signed_job()).await;
                    causes.push(diagnosis.cause().clone());
                    if state == JobState::Relayed {
                        break;
                    }
                    pace.step(&case);
                }
                waiting.await.unwrap().unwrap();
                causes
            })
        })
        .collect();
    for task in tasks {
        causes.extend(task.await.unwrap());
        jobs += 1;
    }

    let counts = Counts::of(&causes);
    println!(
        "{} over {}: {jobs} jobs, {} diagnoses: {counts:?}",
        case.rig.revision,
        if case.rest { "REST" } else { "gRPC" },
        causes.len()
    );
    jobs
}
