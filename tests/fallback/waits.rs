//! Waits for a final, while the RPCs do as they like. On the chain that they lie about, another payload has the nonce.

use std::time::Duration;

use infinityvm_sdk::{
    Client, ErrorKind, PollPolicy, Revision, Until,
    chain::{Chain, WhyLeft},
};
use tokio::time::{Instant, sleep};

use crate::{
    answers::{self, Signed},
    fake_chain::{FakeChain, JOB_MANAGER, Tx},
    node::{Node, Says},
    peer::{Mode, Peer},
    scripted::{CONSUMER, Random, job, request, seed, within},
};

struct Rig {
    right: FakeChain,
    peers: Vec<Peer>,
    chain: Chain,
    client: Client,
    job: infinityvm_sdk::SignedJob,
}

impl Rig {
    async fn new(revision: Revision) -> Self {
        let (right, other) =
            (FakeChain::new(revision, answers::operator()), FakeChain::new(revision, answers::operator()));
        right.mine_empty(50);
        other.mine_empty(10_000);
        other.lock().chain_id = 1;
        let job = job(revision, CONSUMER, 7);
        let foreign = request(CONSUMER, b"another").prepare(revision, 7).unwrap();
        let foreign = foreign.with_signature(vec![27; 65].into()).unwrap();
        let signed = Signed::by(&answers::OPERATOR, answers::result(&foreign, b"another"));
        other.mine(vec![Tx::post(&foreign, &signed.result, &signed.signature, b"another")]);
        other.mine_empty(100);
        let peers: Vec<_> = ["first", "second", "third"].map(|name| Peer::new(name, &right, &other)).into();
        let chain = Chain::over_any(peers.clone(), JOB_MANAGER).unwrap();
        let node = Node::default();
        node.say(&job, Says::Pending);
        let client = Client::builder().transport(node.scripted(false)).revision(revision).chain(chain.clone());
        let polling = PollPolicy::default().with_timeout(Duration::from_secs(600));
        let client = client.polling(polling).connect().await.unwrap();
        Self { right, peers, chain, client, job }
    }

    /// A transaction with the job's result.
    fn result(&self) -> Tx {
        let signed = Signed::by(&answers::OPERATOR, answers::result(&self.job, b"done"));
        Tx::post(&self.job, &signed.result, &signed.signature, b"done")
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_what_the_right_chain_shows_whatever_the_rpcs_do() {
    for round in 0..40 {
        within(async {
            let mut random = Random::new(seed() * 1_000 + round);
            let rig = Rig::new(if round % 2 == 0 { Revision::Relay } else { Revision::State }).await;
            // So that it is known which chain is meant.
            rig.chain.identity().await.unwrap();
            let handle = rig.client.resume(rig.job.clone()).unwrap();
            let waiting = tokio::spawn(async move { handle.wait(Until::Finalized { confirmations: 3 }).await });
            let (lands, begun) = (random.below(40) as u64, Instant::now());
            let mut landed = None;
            for second in 0..80 {
                for _ in 0..=random.below(2) {
                    let peer = &rig.peers[random.below(3)];
                    peer.set(match random.below(9) {
                        0 => Mode::Lags(1 + random.below(3) as u64),
                        1 => Mode::Lags(20 + random.below(20) as u64),
                        2 => Mode::Fails,
                        3 => Mode::Hangs,
                        4 | 5 => Mode::Lies,
                        _ => Mode::Works,
                    });
                }
                // More than ten seconds of the chain's time pass with that.
                let txs = if second == lands { vec![rig.result()] } else { Vec::new() };
                let block = rig.right.mine(txs);
                if second == lands {
                    landed = Some(block);
                }
                sleep(Duration::from_millis(500 + random.below(1_000) as u64)).await;
            }
            rig.peers.iter().for_each(|peer| peer.set(Mode::Works));
            // Those on another chain are left for minutes.
            for _ in 0..900 {
                if waiting.is_finished() {
                    break;
                }
                rig.right.mine_empty(1);
                sleep(Duration::from_secs(1)).await;
            }
            let verified = waiting.await.unwrap();
            let verified =
                verified.unwrap_or_else(|error| panic!("round {round}, after {:?}: {error:?}", begun.elapsed()));
            assert_eq!(verified.finality().map(|place| place.block_hash), landed.map(|block| block.hash));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_on_rpcs_of_another_chain_only_tells_that() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.chain.identity().await.unwrap();
        rig.peers.iter().for_each(|peer| peer.set(Mode::Lies));
        let error = rig.chain.job_metadata(rig.job.id()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::WrongChain, false), "{error:?}");
        for rpc in rig.chain.rpcs() {
            let why = rpc.left.map(|left| left.why);
            assert!(matches!(why, Some(WhyLeft::WrongChain { chain_id: 1, .. })), "{} {why:?}", rpc.endpoint);
        }
    })
    .await;
}
