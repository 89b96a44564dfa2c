//! Healthy jobs: no finding but the notes that are told of, in one round trip to each side.

use infinityvm_sdk::{
    Client, OffchainJobRequest, RelayStrategy, Revision, Severity, SignedJob, Until,
    chain::{Answer, Question},
    client::FindingKind,
    nonce::Sequential,
    primitives::{Address, B256, Bytes},
    rpc::Method,
};

use support::tapped::is_call;

use crate::rig::{CONSUMER, Rig, STATEFUL, next, root, within};

const JOBS: u64 = 50;
const ORDERED: Address = Address::repeat_byte(0xc1);
const LISTED: Address = Address::repeat_byte(0xc2);

/// 50 jobs for each revision and transport: of four consumers, one with a list of signers and no `getJobManager`, one stateful,
/// one Ordered with jobs in flight; each with a preflight by hand, and then one that is required.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_healthy_jobs_get_no_wrong_label() {
    let mut total = 0;
    for revision in Revision::ALL {
        for rest in [false, true] {
            total += within(healthy(Rig::new(revision, rest).await)).await;
        }
    }
    assert_eq!(total, 200);
}

/// The state after all jobs, what it is the hash of, and the jobs that are not on chain yet, with their outputs.
struct Stateful {
    state: B256,
    raw: Vec<u8>,
    pending: Vec<(SignedJob, Vec<u8>)>,
}

async fn healthy(rig: Rig) -> u64 {
    let relay = rig.revision == Revision::Relay;
    for address in [ORDERED, LISTED] {
        rig.chain.sim.deploy(address, rig.rules().with_max_nonce(40));
    }
    // An old contract, with a list of signers.
    rig.chain.say("listed", |question| match question {
        Question::Call(call, _) if call.to == LISTED => {
            let lacks = ["getOffchainSigner()", "getJobManager()"];
            let lacks = lacks.iter().any(|function| is_call(question, function));
            lacks.then(|| Ok(Answer::Reverted(Bytes::new())))
        }
        _ => None,
    });
    let nonces = Sequential::starting_at(1).with_next(ORDERED, 41).with_next(LISTED, 41);
    let client = rig.builder().nonces(nonces).require_preflight(Severity::Warning).connect().await.unwrap();
    let mut lane = Stateful { state: root("start"), raw: b"start".to_vec(), pending: Vec::new() };
    for number in 0..JOBS {
        healthy_job(&rig, &client, number, relay, &mut lane).await;
    }
    assert_eq!(rig.submissions() as u64, JOBS);
    JOBS
}

async fn healthy_job(rig: &Rig, client: &Client, number: u64, relay: bool, lane: &mut Stateful) {
    let consumer = [CONSUMER, ORDERED, LISTED, STATEFUL][(number % 4) as usize];
    let program = if consumer == STATEFUL { &rig.stateful } else { &rig.program };
    let job = OffchainJobRequest::builder(consumer, program.clone()).max_cycles(1000 + number);
    let mut job = job.offchain_input(vec![number as u8; (number as usize % 5) * 3000]);
    if consumer == STATEFUL {
        job = if relay { job.stateful_onchain_input(lane.state, vec![1]) } else { job.state(lane.raw.clone()) };
    } else {
        job = job.onchain_input(number.to_be_bytes().to_vec());
        if !relay {
            job = job.state(vec![number as u8; number as usize % 3]);
        }
    }
    if relay && matches!(consumer, ORDERED | STATEFUL) {
        job = job.relay(RelayStrategy::Ordered);
    }
    let signed = client.sign(job.build().unwrap()).await.unwrap();

    let (asked, before) = (rig.chain.rpc().asked, rig.node.stats());
    let report = client.preflight(&signed).await.unwrap();
    let kinds: Vec<_> = report.findings().iter().map(|finding| finding.kind().clone()).collect();
    let notes = if rig.has_note() { vec![FindingKind::ProgramNotChecked] } else { vec![] };
    assert_eq!(kinds, notes, "job {number}, {}, REST {}\n{report}", rig.revision, rig.rest);
    assert!(report.is_clear() && report.will_land());
    let after = rig.node.stats();
    let calls = |method| after.calls(method) - before.calls(method);
    // Of a lane, the job that is next to land is looked at before the others.
    let behind = signed.relay_strategy() == RelayStrategy::Ordered
        && signed.nonce() > rig.chain.sim.next_nonce(consumer).unwrap();
    let trips = if behind { 2 } else { 1 };
    assert_eq!(rig.chain.rpc().asked - asked, trips);
    assert_eq!((calls(Method::GetResult), calls(Method::ContainsProgram)), (trips, usize::from(!rig.has_note())));
    assert_eq!((report.chain_round_trips() as usize, report.node_round_trips() as usize), (trips, trips));

    let handle = client.submit_signed(signed).await.unwrap();
    if consumer == STATEFUL {
        // Every other result is not on chain when the next job comes: then this client knows of it.
        let result = handle.wait(Until::Executed).await.unwrap();
        let output = result.output().to_vec();
        let result = result.stateful().unwrap();
        assert_eq!(result.next_state, next(lane.state));
        (lane.state, lane.raw) = (result.next_state, lane.state.to_vec());
        lane.pending.push((handle.signed_job().clone(), output));
        if number % 8 == 7 {
            for (job, output) in lane.pending.drain(..) {
                rig.chain.land(&job, &output);
            }
        }
    } else if !number.is_multiple_of(3) {
        // The others stay in flight; an Ordered lane is relayed from the bottom.
        if consumer != ORDERED {
            rig.chain.land(handle.signed_job(), b"out");
        }
    }
}
