//! A client that is bound to one chain works on no other: signed bytes hold no chain id.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

use std::future::Future;

use infinityvm_sdk::{
    Client, ErrorKind, FindingKind, LocalSigner, OffchainJobRequest, Outcome, ProgramId, RelayStrategy, Revision,
    Severity, Until,
    chain::{Answer, Binding, Chain, Question},
    primitives::{Address, B256, Bytes},
};

use crate::rig::{CONSUMER, Rig, within};

async fn binding(rig: &Rig) -> Binding {
    Binding::read(&rig.chain.chain(), CONSUMER, rig.signer.address()).await.unwrap()
}

async fn both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    for revision in Revision::ALL {
        within(test(Rig::new(revision, false).await)).await;
    }
}

#[tokio::test]
async fn a_bound_client_works_on_its_own_chain() {
    both(|rig| async move {
        let binding = binding(&rig).await;
        let client = rig.builder().bind(binding).connect().await.unwrap();
        assert_eq!(client.binding(), Some(&binding));
        let handle = client.submit(rig.job("one").build().unwrap()).await.unwrap();
        handle.wait(Until::Executed).await.unwrap();
        let signed = client.sign(rig.job("two").build().unwrap()).await.unwrap();
        client.submit_signed(signed.clone()).await.unwrap();
        client.resume(signed).unwrap().wait(Until::Executed).await.unwrap();
        assert_eq!(rig.client().await.binding(), None);
    })
    .await;
}

#[tokio::test]
async fn it_connects_to_no_other() {
    let rig = Rig::new(Revision::Relay, false).await;
    let binding = binding(&rig).await;
    let refused = async |what: &str, builder: infinityvm_sdk::client::ClientBuilder| {
        let error = builder.bind(binding).connect().await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert!(error.kind() == ErrorKind::Chain || error.hint().is_some(), "{what}");
        error
    };
    rig.chain.say("id", |question| matches!(question, Question::ChainId).then_some(Ok(Answer::ChainId(1))));
    let error = refused("another id", rig.builder()).await;
    assert_eq!(error.kind(), ErrorKind::WrongChain);
    assert!(error.to_string().contains("has id 1, the client is bound to 31337"), "{error}");
    rig.chain.truth("id");

    rig.chain.begin_anew(B256::repeat_byte(1));
    assert_eq!(refused("begun anew", rig.builder()).await.kind(), ErrorKind::WrongChain);
    rig.chain.truth("genesis");

    let elsewhere = Chain::new(rig.chain.clone(), Address::repeat_byte(4));
    assert_eq!(refused("another JobManager", rig.builder().chain(elsewhere)).await.kind(), ErrorKind::WrongChain);
    let stranger = LocalSigner::random().unwrap();
    assert_eq!(refused("another signer", rig.builder().signer(stranger)).await.kind(), ErrorKind::WrongChain);

    rig.chain.rpc().down = true;
    let error = refused("chain down", rig.builder()).await;
    assert!(error.kind() == ErrorKind::Chain && error.is_retryable());
    let unchained = Client::builder().grpc(rig.node.grpc_url()).revision(rig.revision);
    assert_eq!(refused("no chain", unchained).await.kind(), ErrorKind::InvalidConfig);
    assert_eq!(rig.submissions(), 0);
}

#[tokio::test]
async fn nothing_is_signed_or_sent_for_others() {
    both(|rig| async move {
        let client = rig.builder().bind(binding(&rig).await).connect().await.unwrap();
        let wrong = |error: infinityvm_sdk::Error| {
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::WrongChain, Outcome::NotSent),
                "{}",
                error.report()
            );
        };
        let other = Address::repeat_byte(0xdd);
        let request = || OffchainJobRequest::builder(other, ProgramId::new(vec![1])).max_cycles(1).build().unwrap();
        wrong(client.sign(request()).await.unwrap_err());
        wrong(client.submit(request()).await.unwrap_err());
        let for_other = request().prepare(rig.revision, 1).unwrap().sign(&rig.signer).await.unwrap();
        wrong(client.submit_signed(for_other.clone()).await.unwrap_err());
        wrong(client.resume(for_other).unwrap_err());

        let stranger = LocalSigner::random().unwrap();
        let unsigned = || rig.job("one").build().unwrap().prepare(rig.revision, 1).unwrap();
        let by_stranger = unsigned().sign(&stranger).await.unwrap();
        wrong(client.submit_signed(by_stranger.clone()).await.unwrap_err());
        wrong(client.resume(by_stranger).unwrap_err());
        let unreadable = unsigned().with_signature(Bytes::from_static(&[1; 65])).unwrap();
        wrong(client.submit_signed(unreadable).await.unwrap_err());

        assert_eq!(rig.submissions(), 0);
        assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
        // None of them has used a nonce up.
        assert_eq!(client.submit(rig.job("one").build().unwrap()).await.unwrap().signed_job().nonce(), 1);
    })
    .await;
}

/// What it says of the lane means nothing, and so nobody is asked for the nonces that it names.
#[tokio::test]
async fn the_numbers_of_another_chain_are_not_used() {
    both(|rig| async move {
        if rig.revision == Revision::State {
            return;
        }
        let client = rig.builder().bind(binding(&rig).await).connect().await.unwrap();
        let job = rig.sign(7, rig.job("behind others").relay(RelayStrategy::Ordered)).await;
        let calls = |report: &infinityvm_sdk::PreflightReport| (report.chain_round_trips(), report.node_round_trips());
        let here = client.preflight(&job).await.unwrap();
        assert!(here.findings().iter().any(|it| matches!(it.kind(), FindingKind::NonceGap { .. })), "{here}");
        rig.chain.say("id", |question| matches!(question, Question::ChainId).then_some(Ok(Answer::ChainId(1))));
        let elsewhere = client.preflight(&job).await.unwrap();
        let kinds: Vec<_> = elsewhere.findings().iter().filter(|it| it.severity() == Severity::Error).collect();
        assert!(
            kinds.iter().all(|it| matches!(it.kind(), FindingKind::WrongChain)) && !kinds.is_empty(),
            "{elsewhere}"
        );
        // Two looks, each of them one round trip to both.
        assert_eq!(calls(&elsewhere), (2, 2), "{elsewhere}");
        assert!(calls(&here).1 > 2, "{here}");
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_was_begun_anew_is_noticed_before_the_next_submission() {
    both(|rig| async move {
        let builder = rig.builder().bind(binding(&rig).await).require_preflight(Severity::Error);
        let client = builder.connect().await.unwrap();
        client.submit(rig.job("one").build().unwrap()).await.unwrap();
        rig.chain.begin_anew(B256::repeat_byte(2));
        let error = client.submit(rig.job("two").build().unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongChain, Outcome::NotSent), "{}", error.report());
        assert!(infinityvm_sdk::PreflightReport::of(&error).is_some());
        assert_eq!(rig.submissions(), 1);
    })
    .await;
}

#[tokio::test]
async fn it_can_be_stored() {
    let rig = Rig::new(Revision::Relay, false).await;
    let binding = binding(&rig).await;
    assert_eq!((binding.job_manager, binding.consumer), (rig.chain.sim.job_manager(), CONSUMER));
    let stored = serde_json::to_string(&binding).unwrap();
    assert_eq!(serde_json::from_str::<Binding>(&stored).unwrap(), binding);
    let more = stored.replacen('{', "{\"network\":\"main\",", 1);
    serde_json::from_str::<Binding>(&more).expect_err("an unknown field may be a condition");
    let less = stored.replace("\"chain_id\":31337,", "");
    assert!(less != stored && serde_json::from_str::<Binding>(&less).is_err());
}
