//! Thousands of jobs: the JobManager's events say which of them to look at, and nothing but a look is believed.

use std::time::Duration;

use infinityvm_sdk::{
    Client, ErrorKind, HealPolicy, Result, Revision, SignedJob, Until, Verified, primitives::B256, rpc::Method,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    answers,
    fake_chain::{FakeChain, Tx},
    fixture::{pause, signed},
    node::{Node, Says},
    rig::{CONSUMER, Scripted, job},
};

const NOBODY: [u64; 0] = [];

/// Many jobs that are waited for, and where they can land.
struct Crowd {
    chain: FakeChain,
    says: Node,
    node: Scripted,
    jobs: Vec<SignedJob>,
    landed: mpsc::UnboundedReceiver<Result<Verified>>,
    waits: JoinHandle<()>,
}

impl Crowd {
    async fn new(jobs: u64, until: Until) -> Self {
        Self::of(jobs, until, false).await
    }

    async fn of(jobs: u64, until: Until, has_list: bool) -> Self {
        let chain = FakeChain::new(Revision::Relay, answers::operator());
        chain.mine_empty(5);
        let says = Node::default();
        let node = says.scripted(has_list);
        let client = Client::builder().transport(node.clone()).revision(Revision::Relay);
        let client = client.chain(chain.chain()).healing(HealPolicy::off()).connect().await.unwrap();
        let jobs: Vec<_> = (1..=jobs).map(|nonce| job(Revision::Relay, CONSUMER, nonce)).collect();
        jobs.iter().for_each(|job| says.say(job, Says::Pending));
        let handles: Vec<_> = jobs.iter().map(|job| client.resume(job.clone()).unwrap()).collect();
        let (sender, landed) = mpsc::unbounded_channel();
        let mut watched = client.watch_many(handles, until).timeout(Duration::from_secs(3600));
        let waits = tokio::spawn(async move {
            while let Some((_, result)) = watched.next().await {
                sender.send(result).unwrap();
            }
        });
        let crowd = Self { chain, says, node, jobs, landed, waits };
        // Each has been looked at once, by node and chain.
        pause(15_000).await;
        crowd
    }

    fn post(&self, number: usize) -> Tx {
        let (job, result) = (&self.jobs[number], signed(&self.jobs[number], b"output"));
        Tx::post(job, &result.result, &result.signature, b"output")
    }

    /// The jobs that were seen landed since this was asked last, in order.
    fn landed(&mut self) -> Vec<u64> {
        let seen = std::iter::from_fn(|| self.landed.try_recv().ok());
        let mut seen: Vec<_> = seen.map(|result| result.unwrap().job().nonce()).collect();
        seen.sort_unstable();
        seen
    }

    fn batches(&self) -> u64 {
        self.chain.counts().batches
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.waits.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn of_thousands_of_jobs_only_those_are_looked_at_that_land() {
    let mut crowd = Crowd::new(3000, Until::Relayed).await;
    let (batches, looks) = (crowd.batches(), crowd.node.count(Method::GetResult));
    for _ in 0..5 {
        crowd.chain.mine_empty(1);
        pause(1000).await;
    }
    assert_eq!(crowd.batches(), batches + 5, "one for each head");
    crowd.chain.mine([4, 700, 2999].map(|number| crowd.post(number)).into());
    pause(1000).await;
    assert_eq!(crowd.landed(), [5, 701, 3000]);
    // The events; the status of each, then its state and the transaction's receipt, and the result that this posted.
    assert_eq!(crowd.batches(), batches + 5 + 4);
    assert!(crowd.chain.counts().largest <= 100);
    let looks = crowd.node.count(Method::GetResult) - looks;
    assert!(looks <= 6 * 75, "50 looks a second at the node, more or less: {looks}");
}

/// A job that leaves the list has landed, as a rule, and the chain shows it; one that has failed is looked up a little later.
#[tokio::test(start_paused = true)]
async fn jobs_that_leave_the_list_are_looked_up_only_if_the_chain_does_not_show_them() {
    let mut crowd = Crowd::of(4000, Until::Relayed, true).await;
    let looks = crowd.node.count(Method::GetResult);
    for number in 0..10 {
        let tx = crowd.post(number);
        let result = signed(&crowd.jobs[number], b"output");
        crowd.says.say(&crowd.jobs[number], Says::Relayed(result, tx.hash));
        // The lists show it before the RPC tells of the block.
        pause(600).await;
        crowd.chain.mine(vec![tx]);
        pause(600).await;
        assert_eq!(crowd.landed(), [number as u64 + 1]);
    }
    assert_eq!(crowd.node.count(Method::GetResult), looks);
    crowd.says.say(&crowd.jobs[500], Says::Failed("execution_error"));
    pause(7000).await;
    let error = crowd.landed.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
}

/// A finding is looked at again once it is deep enough, and not before.
#[tokio::test(start_paused = true)]
async fn a_job_that_has_landed_is_left_alone_until_it_is_deep_enough() {
    let mut crowd = Crowd::new(150, Until::Finalized { confirmations: 4 }).await;
    let batches = crowd.batches();
    crowd.chain.mine(vec![crowd.post(0)]);
    pause(1000).await;
    assert_eq!(crowd.batches(), batches + 4);
    for _ in 0..2 {
        crowd.chain.mine_empty(1);
        pause(1000).await;
    }
    assert_eq!((crowd.batches(), crowd.landed()), (batches + 4 + 2, Vec::new()));
    crowd.chain.mine_empty(1);
    pause(1000).await;
    assert_eq!(crowd.landed(), [1]);
}

/// A reorganisation takes a result away that was about to be final, and brings it back elsewhere.
#[tokio::test(start_paused = true)]
async fn a_reorganisation_has_all_jobs_looked_at() {
    let mut crowd = Crowd::new(150, Until::Finalized { confirmations: 3 }).await;
    let tx = crowd.post(0);
    crowd.chain.mine(vec![tx.clone()]);
    pause(1000).await;
    let batches = crowd.batches();
    crowd.chain.with(|world| {
        world.drop_blocks(1);
        world.mine_empty(1);
    });
    pause(1000).await;
    assert_eq!(crowd.batches(), batches + 2, "the status of all");
    crowd.chain.mine_empty(3);
    pause(1000).await;
    assert_eq!(crowd.landed(), NOBODY);
    let block = crowd.chain.mine(vec![tx]);
    crowd.chain.mine_empty(2);
    pause(1000).await;
    let result = crowd.landed.try_recv().unwrap().unwrap();
    assert_eq!(result.finality().map(|place| (place.block_hash, place.confirmations)), Some((block.hash, 3)));
}

/// Servers of one RPC differ: the one that is asked for events has none of the block that another has told of.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_left_out_is_found_with_the_next_head() {
    let mut crowd = Crowd::new(150, Until::Relayed).await;
    let hidden = crowd.chain.lock().blocks().head().number + 1;
    crowd.chain.lock().faults.hidden_logs.push(hidden);
    crowd.chain.mine(vec![crowd.post(9)]);
    pause(1000).await;
    crowd.chain.lock().faults.hidden_logs.clear();
    pause(1000).await;
    assert_eq!(crowd.landed(), NOBODY, "nothing says so");
    crowd.chain.mine_empty(1);
    pause(1000).await;
    assert_eq!(crowd.landed(), [10]);
}

/// An RPC that lags is asked again, and nothing is left out.
#[tokio::test(start_paused = true)]
async fn events_are_asked_for_until_the_rpc_has_come_to_the_head() {
    let mut crowd = Crowd::new(150, Until::Relayed).await;
    crowd.chain.with(|world| {
        world.mine_empty(1);
        // Behind from the first question on.
        world.ambush(0, Box::new(|world| world.faults.lag = 2));
    });
    pause(600).await;
    crowd.chain.mine(vec![crowd.post(20)]);
    pause(600).await;
    assert_eq!(crowd.landed(), NOBODY);
    crowd.chain.with(|world| world.faults.lag = 0);
    pause(2000).await;
    assert_eq!(crowd.landed(), [21]);
}

/// Where there are no events, the status of all is read for each head; and events are asked for less and less often.
#[tokio::test(start_paused = true)]
async fn without_events_all_jobs_are_looked_at() {
    let mut crowd = Crowd::new(150, Until::Relayed).await;
    crowd.chain.lock().faults.no_logs = true;
    let mut cost = Vec::new();
    for _ in 0..8 {
        let before = crowd.batches();
        crowd.chain.mine_empty(1);
        pause(1000).await;
        cost.push(crowd.batches() - before);
    }
    assert_eq!(cost, [1 + 2, 2, 1 + 2, 2, 2, 1 + 2, 2, 2]);
    crowd.chain.lock().faults.no_logs = false;
    crowd.chain.mine(vec![crowd.post(3)]);
    pause(1000).await;
    assert_eq!(crowd.landed(), [4]);
}

/// What no event speaks of is looked at all the same, a few jobs at a time.
#[tokio::test(start_paused = true)]
async fn a_job_of_which_no_event_speaks_is_found() {
    let mut crowd = Crowd::new(150, Until::Relayed).await;
    // While nobody looks, and further back than events are asked for again.
    let tx = crowd.post(77);
    crowd.chain.lock().mine(vec![tx]);
    let hidden = crowd.chain.lock().blocks().head();
    crowd.chain.with(|world| world.faults.hidden_logs.push(hidden.number));
    for _ in 0..40 {
        crowd.chain.mine_empty(1);
        pause(1000).await;
    }
    assert_eq!(crowd.landed(), [78]);
}

/// Where the calldata does not prove a result, the node has to, and it is asked soon.
#[tokio::test(start_paused = true)]
async fn what_the_chain_does_not_prove_the_node_is_asked_for() {
    let mut crowd = Crowd::new(3000, Until::Relayed).await;
    crowd.says.say(&crowd.jobs[7], Says::Done(signed(&crowd.jobs[7], b"output")));
    crowd.chain.mine(vec![crowd.post(7).by_way_of_another()]);
    pause(6000).await;
    assert_eq!(crowd.landed(), [8]);
}

/// Events of jobs that have not ended: they cost a look, and end nothing.
#[tokio::test(start_paused = true)]
async fn an_event_that_lies_ends_nothing() {
    let mut crowd = Crowd::new(150, Until::Relayed).await;
    let id = B256::from(crowd.jobs[5].id());
    crowd.chain.with(|world| {
        world.faults.invented_ends.push(id);
        world.mine_empty(1);
    });
    pause(1000).await;
    for _ in 0..5 {
        crowd.chain.mine_empty(1);
        pause(1000).await;
    }
    assert_eq!(crowd.landed(), NOBODY);
    crowd.chain.mine(vec![crowd.post(5)]);
    pause(1000).await;
    assert_eq!(crowd.landed(), [6]);
}
