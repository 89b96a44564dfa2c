//! Submissions that read the chain first: a dead RPC costs them nothing after the first.

use std::time::Duration;

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, Revision, Severity,
    chain::{Chain, ChainNonces, WhyLeft},
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    primitives::{Address, Bytes},
    rpc::Method,
};
use tokio::time::Instant;

use crate::{harness::within, tapped::Tapped};

const CONSUMER: Address = Address::repeat_byte(0xc0);

#[tokio::test]
async fn a_dead_rpc_starves_no_submission() {
    for hangs in [false, true] {
        within(async {
            let signer = LocalSigner::random().unwrap();
            let rules = ConsumerRules::signed_by(signer.address());
            let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start().await.unwrap();
            let program = ProgramId::new(node.register_program(|_| Ok(ProgramOutput::new(vec![1]))));
            let (dead, alive) = (Tapped::new(node.chain()), Tapped::new(node.chain()));
            let chain = Chain::over_any([dead.clone(), alive.clone()], node.chain().job_manager()).unwrap();
            let client = Client::builder().grpc(node.grpc_url()).revision(Revision::Relay).signer(signer);
            let nonces = ChainNonces::new(chain.clone()).with_max_age(Duration::ZERO);
            let client = client.chain(chain.clone()).nonces(nonces).require_preflight(Severity::Error);
            let client = client.connect().await.unwrap();
            let job = |number: u64| {
                let job = OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1_000);
                job.onchain_input(Bytes::copy_from_slice(&number.to_be_bytes())).build().unwrap()
            };
            client.submit(job(0)).await.unwrap();
            assert_eq!(alive.rpc().asked, 1, "only looked at");

            {
                let mut rpc = dead.rpc();
                (rpc.down, rpc.hangs) = (!hangs, hangs);
            }
            let (before, begun) = (dead.rpc().asked, Instant::now());
            let submissions = (1..=200).map(|number| {
                let (client, job) = (client.clone(), job(number));
                async move { client.submit(job).await }
            });
            for submission in futures_util::future::join_all(submissions).await {
                submission.unwrap();
            }
            assert_eq!(node.stats().calls(Method::SubmitJob), 201);
            let rest = dead.rpc().asked - before;
            // All that had begun to ask it when it died: after that, one look at a time.
            for number in 201..=230 {
                client.submit(job(number)).await.unwrap();
            }
            let (later, took) = (dead.rpc().asked - before - rest, begun.elapsed());
            println!(
                "hangs: {hangs}: asked {rest} times by 200 submissions at once, {later} by 30 one by one, {took:?}"
            );
            assert!(rest <= 210 && later <= 10, "{rest} {later}");
            let state = &chain.rpcs()[0];
            assert!(state.left.as_ref().is_some_and(|left| left.why == WhyLeft::Failed) && !state.in_use, "{state:?}");
        })
        .await;
    }
}
