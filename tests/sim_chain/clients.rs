//! The dev node's simulated chain, as a client reads it and posts to it.
#![cfg(all(feature = "devnode", feature = "grpc"))]

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use infinityvm_sdk::{
    Cause, Client, ErrorKind, FindingKind, JobHandle, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy,
    Revision, Severity, SignedJob, Until,
    chain::{
        Answer, At, Binding, Call, ChainNonces, ChainReader, LogFilter, OnchainStatus, PostTransaction, Poster,
        Question, Revert, RevertCause, SignatureCheck,
    },
    client::ClientBuilder,
    devnode::{self, ConsumerRules, DevNode, Tear},
    job::eip191_hash,
    nonce::Sequential,
    primitives::{Address, B256, keccak256},
};
use support::facts;

const CONSUMER: Address = Address::repeat_byte(0xc0);
const STATEFUL: Address = Address::repeat_byte(0xc1);
const ROOT: B256 = B256::repeat_byte(7);

struct Rig {
    node: DevNode,
    signer: LocalSigner,
    program: ProgramId,
}

impl Rig {
    async fn start(revision: Revision) -> Self {
        Self::on(revision, 31_337).await
    }

    async fn on(revision: Revision, chain_id: u64) -> Self {
        let signer = LocalSigner::random().unwrap();
        let rules = ConsumerRules::signed_by(signer.address());
        let builder = DevNode::builder(revision).chain_id(chain_id).consumer(CONSUMER, rules.clone());
        let node = builder.consumer(STATEFUL, rules.with_state(ROOT)).start().await.unwrap();
        let program = ProgramId::new(node.register_program(|input| Ok(input.onchain.to_vec())));
        Self { node, signer, program }
    }

    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder().grpc(self.node.grpc_url()).revision(self.node.revision());
        builder.signer(self.signer.clone()).nonces(Sequential::starting_at(1)).chain(self.node.chain().to_chain())
    }

    async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    fn job(&self, consumer: Address) -> OffchainJobRequest {
        let job =
            OffchainJobRequest::builder(consumer, self.program.clone()).max_cycles(1_000).onchain_input(vec![1, 2, 3]);
        job.build().unwrap()
    }

    async fn sign(&self, consumer: Address, nonce: u64) -> SignedJob {
        self.job(consumer).prepare(self.node.revision(), nonce).unwrap().sign(&self.signer).await.unwrap()
    }
}

/// Not done, however often it is asked.
async fn stands<F: Future + Unpin>(mut future: F) -> F {
    for _ in 0..20 {
        tokio::task::yield_now().await;
        std::future::poll_fn(|cx| {
            assert!(pin!(&mut future).poll(cx).is_pending(), "too early");
            Poll::Ready(())
        })
        .await;
    }
    future
}

async fn submitted(client: &Client, job: OffchainJobRequest) -> JobHandle {
    client.submit(job).await.unwrap()
}

#[tokio::test]
async fn clients_read_what_the_contracts_say() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let chain = rig.node.chain().to_chain();
        assert_eq!(chain.operator().await.unwrap(), rig.node.operator());
        assert_eq!(chain.next_nonce(CONSUMER).await.unwrap(), 1);
        assert_eq!(chain.latest_state(STATEFUL, revision).await.unwrap(), Some(ROOT));
        assert_eq!(chain.latest_state(CONSUMER, revision).await.unwrap(), None);
        assert_eq!(chain.offchain_signer(CONSUMER).await.unwrap(), Some(rig.signer.address()));
        assert!(
            !chain.code(CONSUMER).await.unwrap().is_empty()
                && !chain.code(chain.job_manager()).await.unwrap().is_empty()
        );
        assert!(chain.code(Address::repeat_byte(9)).await.unwrap().is_empty());
        assert_eq!(chain.next_nonce(Address::repeat_byte(9)).await.unwrap_err().kind(), ErrorKind::Chain);
        let job = rig.sign(CONSUMER, 1).await;
        let hash = eip191_hash(job.request());
        let check = |hash, signature| chain.is_valid_signature(CONSUMER, hash, signature);
        assert_eq!(check(hash, job.signature().clone()).await.unwrap(), SignatureCheck::Valid);
        assert_ne!(check(keccak256("another"), job.signature().clone()).await.unwrap(), SignatureCheck::Valid);
        assert_eq!(chain.job_metadata(job.id()).await.unwrap().status, OnchainStatus::Unknown);
        let client = rig.client().await;
        let result = submitted(&client, rig.job(CONSUMER)).await.wait(Until::Relayed).await.unwrap();
        let metadata = chain.job_metadata(result.id()).await.unwrap();
        assert_eq!(
            (metadata.status, metadata.max_cycles, metadata.consumer),
            (OnchainStatus::Completed, 1_000, CONSUMER)
        );
        assert_eq!((chain.max_nonce(CONSUMER).await.unwrap(), rig.node.chain().head().number), (1, 1));
    }
}

#[tokio::test]
async fn blocks_come_when_they_are_mined_and_finality_with_them() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let client = rig.client().await;
        let handle = submitted(&client, rig.job(CONSUMER)).await;
        let wait = tokio::spawn(handle.wait(Until::Finalized { confirmations: 3 }).into_future());
        handle.wait(Until::Relayed).await.unwrap();
        let wait = stands(wait).await;
        rig.node.chain().mine(1);
        let wait = stands(wait).await;
        let head = rig.node.chain().mine(1);
        let result = wait.await.unwrap().unwrap();
        let place = result.finality().unwrap();
        let completed = rig.node.chain().completed(handle.id().into()).unwrap();
        assert_eq!((place.block_number, place.confirmations, head.number), (1, 3, 3));
        assert_eq!((place.tx_hash, completed.block_number), (completed.tx_hash, 1));
        assert_eq!(*result.output(), completed.result);
    }
}

#[tokio::test]
async fn what_a_reorganisation_takes_away_can_be_posted_again() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let chain = rig.node.chain();
        let stranger = chain.account(Address::repeat_byte(0x55));
        let client = rig.builder().poster(stranger).connect().await.unwrap();
        let handle = submitted(&client, rig.job(CONSUMER)).await;
        let result = handle.wait(Until::Relayed).await.unwrap();
        let before = chain.head();
        let after = chain.reorganise(1);
        assert_eq!((before.number, after.number), (1, 1));
        assert_ne!(before.hash, after.hash);
        assert_eq!((chain.completed(handle.id().into()), chain.next_nonce(CONSUMER)), (None, Some(1)));
        // The node goes on saying RELAYED, and nothing is final.
        let wait = stands(tokio::spawn(handle.wait(Until::Relayed).into_future())).await;
        let post = handle.post_result(&result).await.unwrap();
        assert_eq!((post.already, post.block_number), (false, Some(2)));
        let again = wait.await.unwrap().unwrap();
        assert_eq!((again.output(), again.finality().unwrap().block_number), (result.output(), 2));
        assert!(handle.post_result(&result).await.unwrap().already);
    }
}

#[tokio::test]
async fn preflight_names_what_would_not_land() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let (client, chain) = (rig.client().await, rig.node.chain());
        let worst = async |job: &SignedJob| {
            let report = client.preflight(job).await.unwrap();
            let worst = report.findings().iter().max_by_key(|finding| finding.severity()).map(|it| it.kind().clone());
            (report.will_land(), worst)
        };
        let job = rig.sign(CONSUMER, 1).await;
        let (lands, note) = worst(&job).await;
        assert!(lands && note.is_none_or(|note| matches!(note, FindingKind::ProgramNotChecked)));
        let refused = |(lands, worst): (bool, Option<FindingKind>)| worst.filter(|_| !lands).unwrap();
        chain.deploy(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1)));
        assert!(matches!(refused(worst(&job).await), FindingKind::SignerRefused { .. }));
        chain.deploy(CONSUMER, ConsumerRules::signed_by(rig.signer.address()).with_max_nonce(5));
        assert_eq!(chain.take_nonce(CONSUMER), Some(6));
        let requested = refused(worst(&rig.sign(CONSUMER, 6).await).await);
        assert_eq!(requested, facts!(NonceTakenOnChain { status: OnchainStatus::Pending }));
        let nowhere = rig.sign(Address::repeat_byte(9), 1).await;
        assert!(matches!(refused(worst(&nowhere).await), FindingKind::NoConsumer));
        chain.set_operator(Address::ZERO);
        assert!(matches!(refused(worst(&rig.sign(CONSUMER, 7).await).await), FindingKind::NoOperator));
    }
}

#[tokio::test]
async fn nonces_pass_over_on_chain_requests() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let nonces = ChainNonces::new(chain.to_chain()).with_max_age(Duration::ZERO);
    let client = rig.builder().nonces(nonces).connect().await.unwrap();
    let first = submitted(&client, rig.job(CONSUMER)).await;
    first.wait(Until::Relayed).await.unwrap();
    assert_eq!(chain.take_nonce(CONSUMER), Some(2));
    let second = submitted(&client, rig.job(CONSUMER)).await;
    assert_eq!((first.signed_job().nonce(), second.signed_job().nonce()), (1, 3));
    let id = infinityvm_sdk::JobId::derive(2, CONSUMER);
    let status = async || chain.to_chain().job_metadata(id).await.unwrap().status;
    assert_eq!(status().await, OnchainStatus::Pending);
    assert!(chain.cancel(id.into()) && !chain.cancel(id.into()));
    assert_eq!(status().await, OnchainStatus::Cancelled);
}

#[tokio::test]
async fn diagnosis_sees_the_chain() {
    let rig = Rig::start(Revision::Relay).await;
    let client = rig.client().await;
    rig.node.chain().deploy(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1)));
    let refused = submitted(&client, rig.job(CONSUMER)).await;
    refused.wait(Until::Executed).await.unwrap();
    assert!(matches!(refused.diagnose().await.unwrap().cause(), Cause::SignerRefused { .. }));
    // The same job lands once the contract takes its signer.
    rig.node.chain().deploy(CONSUMER, ConsumerRules::signed_by(rig.signer.address()));
    refused.wait(Until::Relayed).await.unwrap();
    assert!(matches!(refused.diagnose().await.unwrap().cause(), Cause::Complete));
    rig.node.chain().set_operator(Address::repeat_byte(3));
    let pinned =
        rig.builder().nonces(Sequential::starting_at(2)).operator(rig.node.operator()).connect().await.unwrap();
    let orphan = submitted(&pinned, rig.job(CONSUMER)).await;
    let id = orphan.id().into();
    rig.node.wait_until(|view| view.stats().last_revert(id) == Some(devnode::RevertReason::OperatorSignature)).await;
    // Whom the client is to believe, it must not be told by the chain.
    assert_eq!(orphan.wait(Until::Executed).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert!(matches!(orphan.diagnose().await.unwrap().cause(), Cause::OtherOperator { .. }));
}

#[tokio::test]
async fn an_rpc_that_is_down_is_an_error_and_comes_back() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let client = rig.client().await;
    chain.set_reachable(false);
    let error = chain.to_chain().next_nonce(CONSUMER).await.unwrap_err();
    assert!(error.is_retryable() && error.endpoint().is_some(), "{}", error.report());
    assert!(chain.next_head(None).await.is_err());
    let post = PostTransaction::new(31_337, chain.job_manager(), vec![1]);
    let error = chain.account(Address::ZERO).post(&post, &|_| panic!("signed")).await.unwrap_err();
    assert_eq!(error.outcome(), infinityvm_sdk::Outcome::NotSent);
    chain.set_reachable(true);
    let handle = submitted(&client, rig.job(CONSUMER)).await;
    let result = handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap();
    assert_eq!(result.finality().unwrap().confirmations, 1);
}

#[tokio::test]
async fn a_bound_client_knows_another_chain() {
    let (here, there) = (Rig::start(Revision::Relay).await, Rig::on(Revision::Relay, 5).await);
    let binding = Binding::read(&here.node.chain().to_chain(), CONSUMER, here.signer.address()).await.unwrap();
    here.builder().bind(binding).connect().await.unwrap();
    let elsewhere = here.builder().chain(there.node.chain().to_chain()).bind(binding).connect().await;
    assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::WrongChain);
    let post = PostTransaction::new(31_337, there.node.chain().job_manager(), vec![1]);
    let error = there.node.chain().account(Address::ZERO).post(&post, &|_| panic!("signed")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongChain);
}

/// As a node relays, so that a second one reverts in its block.
#[tokio::test]
async fn transactions_of_an_account_are_included_even_if_they_revert() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let client = rig.client().await;
    let handle = submitted(&client, rig.job(CONSUMER)).await;
    let result = handle.wait(Until::Relayed).await.unwrap();
    let account = chain.account(Address::repeat_byte(0x55));
    let post = PostTransaction::new(31_337, chain.job_manager(), result.post_calldata());
    let signed = std::sync::Mutex::new(None);
    let hash = account.post(&post, &|hash| *signed.lock().unwrap() = Some(hash)).await.unwrap();
    assert_eq!(*signed.lock().unwrap(), Some(hash));
    let (mut call, head) = (Call::new(chain.job_manager(), result.post_calldata()), chain.head());
    call.from = Some(account.address());
    let answers = chain
        .ask(&[Question::Receipt(hash), Question::Transaction(hash), Question::Call(call, At::Latest)])
        .await
        .unwrap();
    let Ok([Answer::Receipt(Some(receipt)), Answer::Transaction(Some(transaction)), Answer::Reverted(data)]) =
        <[_; 3]>::try_from(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>())
    else {
        panic!("other answers");
    };
    assert!(!receipt.succeeded && receipt.logs.is_empty() && receipt.block_hash == head.hash);
    assert_eq!((transaction.to, &transaction.input), (Some(chain.job_manager()), &result.post_calldata()));
    assert_eq!(Revert::decode(&data).cause(), RevertCause::NonceTaken);
    assert_eq!(chain.all_completed().len(), 1);
}

#[tokio::test]
async fn blocks_keep_their_past() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let genesis = chain.head();
    let first = rig.node.operator();
    chain.set_operator(Address::repeat_byte(2));
    let second = chain.head();
    chain.set_latest_state_root(STATEFUL, B256::repeat_byte(8));
    chain.mine(2);
    let reads = chain.to_chain();
    let operator = async |at| {
        let mut batch = reads.batch().at(at);
        let ticket = batch.operator();
        batch.send().await.unwrap().take(ticket)
    };
    assert_eq!(operator(At::Number(0)).await.unwrap(), first);
    assert_eq!(operator(At::Hash(genesis.hash)).await.unwrap(), first);
    for at in [At::Number(1), At::Hash(second.hash), At::Number(4), At::Latest] {
        assert_eq!(operator(at).await.unwrap(), Address::repeat_byte(2));
    }
    for nowhere in [At::Number(5), At::Hash(B256::ZERO)] {
        assert!(operator(nowhere).await.unwrap_err().is_retryable());
    }
    let blocks = (0..=5).map(|number| Question::Block(At::Number(number))).collect::<Vec<_>>();
    let mut last = None;
    for (number, answer) in chain.ask(&blocks).await.unwrap().into_iter().enumerate() {
        let Ok(Answer::Block(block)) = answer else { panic!("{answer:?}") };
        assert_eq!(block.is_some(), number < 5);
        let Some(block) = block else { continue };
        assert_eq!((block.number, block.parent), (number as u64, last.unwrap_or_default()));
        last = Some(block.hash);
    }
    chain.reorganise(100);
    assert_eq!((chain.head().number, chain.operator(), chain.latest_state_root(STATEFUL)), (4, first, Some(ROOT)));
    assert!(operator(At::Hash(second.hash)).await.is_err());
    // A contract of a block that is gone.
    chain.deploy(Address::repeat_byte(9), ConsumerRules::signed_by(first));
    assert_eq!(chain.next_nonce(Address::repeat_byte(9)), Some(1));
    chain.reorganise(1);
    assert_eq!(chain.next_nonce(Address::repeat_byte(9)), None);
}

/// What was chosen is of an older block than its neighbours, at the latest block and at one that is named; and only so
/// often.
#[tokio::test]
async fn a_batch_is_torn_where_and_as_often_as_it_was_said() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let first = chain.operator();
    let nonce = chain.take_nonce(CONSUMER).unwrap();
    chain.set_operator(Address::repeat_byte(2));
    let (head, reads) = (chain.head(), chain.to_chain());
    let read = async |at| {
        let mut batch = reads.batch().at(at);
        let (operator, next, latest) = (batch.operator(), batch.next_nonce(CONSUMER), batch.block(At::Latest));
        let mut answers = batch.send().await.unwrap();
        (answers.take(operator).unwrap(), answers.take(next).unwrap(), answers.take(latest).unwrap().unwrap().number)
    };
    let whole = (Address::repeat_byte(2), nonce + 1, 2);
    for at in [At::Latest, At::Hash(head.hash), At::Number(2)] {
        let before = chain.torn();
        assert_eq!(read(at).await, whole);
        chain.tear(Tear::calls(["getCoprocessorOperator()"]).after(1).batches(2));
        // A batch that holds no such question is none.
        reads.next_nonce(CONSUMER).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(read(at).await);
        }
        let torn = (first, nonce + 1, 2);
        assert_eq!(seen, [whole, torn, torn, whole], "{at:?}");
        assert_eq!(chain.torn() - before, 2);
        chain.tear(Tear::calls(["getNextNonce()"]).by(2));
        assert_eq!(read(at).await, (Address::repeat_byte(2), nonce, 2), "{at:?}");
        // A block comes in between.
        chain.tear(Tear::first(1));
        assert_eq!(read(at).await, torn, "{at:?}");
        chain.tear(Tear::questions(|question| matches!(question, Question::Block(At::Latest))));
        assert_eq!(read(at).await, (Address::repeat_byte(2), nonce + 1, 1), "{at:?}");
        chain.tear(None);
        assert_eq!(read(at).await, whole, "{at:?}");
    }
    // At random, and the same again.
    let mut runs = [Vec::new(), Vec::new()];
    for run in &mut runs {
        chain.tear(Tear::at_random(5).by(9).batches(20));
        for _ in 0..30 {
            run.push(read(At::Latest).await);
        }
        chain.tear(None);
    }
    assert_eq!(runs[0], runs[1]);
    let odd = |old| runs[0].iter().filter(|(operator, next, _)| old == (*operator == first, *next == nonce)).count();
    assert!(odd((true, false)) > 2 && odd((false, true)) > 2, "{:?}", runs[0]);
    // What a transaction brought is not there before its block.
    let (hash, log) = {
        let everything = LogFilter::new(chain.job_manager(), Vec::new(), 0, 2);
        let answers = chain.ask(&[Question::Logs(everything)]).await.unwrap();
        let Ok(Answer::Logs(logs)) = &answers[0] else { panic!("{answers:?}") };
        (logs[0].tx_hash, logs[0].clone())
    };
    assert_eq!(log.block_number, 1);
    let filter = LogFilter::new(chain.job_manager(), Vec::new(), 0, 2);
    let questions = [Question::Receipt(hash), Question::Transaction(hash), Question::Logs(filter), Question::ChainId];
    for (by, there) in [(1, true), (2, false)] {
        chain.tear(Tear::first(3).by(by));
        let answers: Vec<_> = chain.ask(&questions).await.unwrap().into_iter().map(Result::unwrap).collect();
        let [Answer::Receipt(receipt), Answer::Transaction(transaction), Answer::Logs(logs), _] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!((receipt.is_some(), transaction.is_some(), logs.len() == 1), (there, there, there));
    }
}

#[tokio::test]
async fn logs_are_found_by_block_and_topic() {
    let rig = Rig::start(Revision::Relay).await;
    let (chain, client) = (rig.node.chain(), rig.client().await);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let handle = submitted(&client, rig.job(CONSUMER)).await;
        handle.wait(Until::Relayed).await.unwrap();
        ids.push(B256::from(handle.id()));
    }
    let completed = keccak256("JobCompleted(bytes32,bytes)");
    let find = async |topics: Vec<Vec<B256>>, first, last| {
        let filter = LogFilter::new(chain.job_manager(), topics, first, last);
        let Ok(Answer::Logs(logs)) = chain.ask(&[Question::Logs(filter)]).await.unwrap().remove(0) else { panic!() };
        logs.into_iter().map(|log| (log.block_number, log.topics[1])).collect::<Vec<_>>()
    };
    let all: Vec<_> = ids.iter().enumerate().map(|(at, id)| (at as u64 + 1, *id)).collect();
    assert_eq!(find(vec![vec![completed]], 0, 9).await, all);
    assert_eq!(find(vec![], 2, 2).await, all[1..2]);
    assert_eq!(find(vec![vec![], vec![ids[0], ids[2]]], 1, 3).await, [all[0], all[2]]);
    assert_eq!(find(vec![vec![keccak256("JobCancelled(bytes32)")]], 0, 9).await, []);
    assert_eq!(find(vec![], 4, 3).await, []);
}

#[tokio::test]
async fn a_transaction_after_a_reorganisation_is_another_one() {
    let rig = Rig::start(Revision::Relay).await;
    let (chain, client) = (rig.node.chain(), rig.client().await);
    let handle = submitted(&client, rig.job(CONSUMER)).await;
    let result = handle.wait(Until::Relayed).await.unwrap();
    let before = result.finality().unwrap().tx_hash;
    chain.reorganise(1);
    let job = handle.signed_job();
    let after = chain
        .submit_result(result.result_with_metadata(), result.operator_signature(), job.request(), job.signature(), &[])
        .unwrap();
    assert_ne!(before, after);
    let answers = chain.ask(&[Question::Transaction(before), Question::Transaction(after)]).await.unwrap();
    assert!(matches!(&answers[..], [Ok(Answer::Transaction(None)), Ok(Answer::Transaction(Some(_)))]), "{answers:?}");
    rig.node.wait_until(|view| view.head().number == 2 && view.chain_status(handle.id().into()).is_some()).await;
}

#[tokio::test]
async fn oddities_are_those_of_a_chain() {
    let rig = Rig::start(Revision::Relay).await;
    let (chain, client) = (rig.node.chain(), rig.client().await);
    submitted(&client, rig.job(CONSUMER)).await.wait(Until::Relayed).await.unwrap();
    // The nonce comes round again, and the job under it exists.
    chain.deploy(CONSUMER, ConsumerRules::signed_by(rig.signer.address()));
    assert_eq!((chain.next_nonce(CONSUMER), chain.take_nonce(CONSUMER)), (Some(1), None));
    assert_eq!(chain.all_completed().len(), 1);
    // Where there is no code, everything succeeds.
    let nowhere = PostTransaction::new(chain.chain_id(), Address::repeat_byte(9), vec![1]);
    let hash = chain.account(Address::ZERO).post(&nowhere, &|_| ()).await.unwrap();
    let Ok(Answer::Receipt(Some(receipt))) = chain.ask(&[Question::Receipt(hash)]).await.unwrap().remove(0) else {
        panic!("no receipt");
    };
    assert!(receipt.succeeded && receipt.logs.is_empty());
}

/// The node goes on saying RELAYED when the transaction is gone.
#[tokio::test]
async fn a_relay_that_a_reorganisation_took_away_is_named() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let chain = rig.node.chain();
        let client = rig.builder().poster(chain.account(Address::repeat_byte(0x55))).connect().await.unwrap();
        let handle = submitted(&client, rig.job(CONSUMER)).await;
        let result = handle.wait(Until::Relayed).await.unwrap();
        chain.reorganise(1);
        let first = handle.diagnose().await.unwrap();
        assert!(matches!(first.cause(), Cause::Relayed) && !first.is_stuck(), "a lag may look the same: {first}");
        let later = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
        assert!(matches!(later.cause(), Cause::RelayDropped { .. }) && later.is_stuck(), "{later}");
        assert!(later.advice().contains("Client::post_result"), "{later}");
        handle.post_result(&result).await.unwrap();
        let landed = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
        assert_eq!(*landed.cause(), Cause::Complete);
    }
}

/// What was read of the chain may be older than an on-chain request; the preflight is not.
#[tokio::test]
async fn a_nonce_that_was_taken_since_the_chain_was_read_is_passed_over() {
    let rig = Rig::start(Revision::Relay).await;
    let chain = rig.node.chain();
    let nonces = ChainNonces::new(chain.to_chain()).with_max_age(Duration::from_secs(3600));
    let builder = rig.builder().nonces(nonces.clone()).require_preflight(Severity::Warning);
    let client = builder.connect().await.unwrap();
    let first = submitted(&client, rig.job(CONSUMER)).await;
    first.wait(Until::Relayed).await.unwrap();
    assert_eq!(chain.take_nonce(CONSUMER), Some(2));
    let second = submitted(&client, rig.job(CONSUMER)).await;
    assert_eq!(second.signed_job().nonce(), 3);
    second.wait(Until::Relayed).await.unwrap();
    let found = nonces.reconcile(CONSUMER, &[first.signed_job().clone(), second.signed_job().clone()]).await.unwrap();
    assert_eq!((found.relayed, found.next), (vec![1, 3], 4), "the client's source and its clone are one");
    // A nonce of the caller's own is not exchanged for another.
    assert_eq!(chain.take_nonce(CONSUMER), Some(4));
    let own = OffchainJobRequest::builder(CONSUMER, rig.program.clone()).max_cycles(1).nonce(4).build().unwrap();
    let error = client.submit(own).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Preflight && error.to_string().contains("getJobMetadata"), "{error}");
    // A source that does not look at the chain hands the same one out, and is not asked again and again.
    let blind =
        rig.builder().nonces(Sequential::starting_at(4)).require_preflight(Severity::Error).connect().await.unwrap();
    assert_eq!(blind.submit(rig.job(CONSUMER)).await.unwrap_err().kind(), ErrorKind::Preflight);
}

/// The node's lane does not notice on-chain requests.
#[tokio::test]
async fn an_ordered_lane_behind_an_on_chain_request_is_foretold() {
    let rig = Rig::start(Revision::Relay).await;
    let (client, chain) = (rig.client().await, rig.node.chain());
    let ordered = async |nonce| {
        let job =
            OffchainJobRequest::builder(CONSUMER, rig.program.clone()).max_cycles(1_000).relay(RelayStrategy::Ordered);
        job.build().unwrap().prepare(Revision::Relay, nonce).unwrap().sign(&rig.signer).await.unwrap()
    };
    let first = client.submit_signed(ordered(1).await).await.unwrap();
    first.wait(Until::Relayed).await.unwrap();
    assert_eq!(chain.take_nonce(CONSUMER), Some(2));
    let third = ordered(3).await;
    let report = client.preflight(&third).await.unwrap();
    let kinds: Vec<_> = report
        .findings()
        .iter()
        .map(|finding| (facts::Facts::from(finding.kind().clone()), finding.severity()))
        .collect();
    assert_eq!(kinds, [(facts!(RequestedBefore { nonce: 2 }), Severity::Warning)], "{report}");
    let handle = client.submit_signed(third).await.unwrap();
    let error = handle.wait(Until::Relayed).timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.report());
    // As the finding says.
    rig.node.restart();
    client.submit_signed(handle.signed_job().clone()).await.unwrap().wait(Until::Relayed).await.unwrap();
    assert!(client.preflight(&ordered(4).await).await.unwrap().is_clear());
}
