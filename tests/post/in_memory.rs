//! Posting a result oneself, on a chain in memory: what is posted, what is found out before and after, and what becomes of a
//! transaction whose fate is open.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{future::IntoFuture, time::Duration};

use infinityvm_sdk::{
    Client, Error, ErrorKind, LocalSigner, OffchainJobRequest, Outcome, ProgramId, RelayStrategy, Revision, SignedJob,
    Verified, Wire,
    chain::{Binding, Blobs, Chain, ChainIdentity, Revert, RevertCause},
    primitives::{Address, B256, Bytes, alloy_sol_types::SolCall, keccak256},
    rpc::Encoding,
    verify,
};
use prost::Message;

use support::{ledger_chain, plain_client, vectors};

use ledger_chain::{FakeChain, FakePoster, Fate, JOB_MANAGER, JobState, submitResultForOffchainJobCall};

pub const CONSUMER: Address = Address::repeat_byte(0xc0);

pub struct Case {
    pub revision: Revision,
    pub chain: FakeChain,
    pub poster: FakePoster,
    pub client: Client,
    signer: LocalSigner,
    pub operator: LocalSigner,
}

impl Case {
    pub async fn new(revision: Revision) -> Self {
        let (signer, operator) = (LocalSigner::random().unwrap(), LocalSigner::random().unwrap());
        let chain = FakeChain::new(revision, operator.address());
        chain.deploy(CONSUMER, signer.address(), None);
        let poster = FakePoster::new(&chain);
        // No node is asked for anything.
        let client = Client::builder()
            .grpc("http://127.0.0.1:9")
            .revision(revision)
            .operator(operator.address())
            .chain(Chain::new(chain.clone(), JOB_MANAGER))
            .poster(poster.clone())
            .connect()
            .await
            .unwrap();
        Self { revision, chain, poster, client, signer, operator }
    }

    async fn sign(&self, nonce: u64, onchain: &[u8], offchain: &[u8]) -> SignedJob {
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::from(B256::repeat_byte(5)));
        let job = job.max_cycles(1000).onchain_input(onchain.to_vec()).offchain_input(offchain.to_vec());
        let job = match self.revision {
            Revision::State => job.state(vec![1, 2, 3]),
            _ => job.relay(RelayStrategy::Ordered),
        };
        let job = job.build().unwrap().prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap();
        self.chain.knows(&job);
        job
    }

    pub fn verified(&self, job: &SignedJob, blobs: &[B256]) -> Verified {
        verified(job, &self.operator, &ledger_chain::result(job, b"out", blobs), None)
    }

    pub async fn job(&self) -> (SignedJob, Verified) {
        let job = self.sign(1, b"in", &[]).await;
        let verified = self.verified(&job, &[]);
        (job, verified)
    }
}

pub async fn both<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for revision in Revision::ALL {
        test(Case::new(revision).await).await;
    }
}

/// Signed bytes hold no chain id: a client that is bound posts on its own chain only.
#[tokio::test]
async fn a_client_that_is_bound_posts_on_its_own_chain_only() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let chain = Chain::new(case.chain.clone(), JOB_MANAGER);
        let here = Binding::read(&chain, CONSUMER, case.signer.address()).await.unwrap();
        let bound = async |binding| {
            let builder = Client::builder().grpc("http://127.0.0.1:9").revision(case.revision);
            let builder = builder.chain(chain.clone()).poster(case.poster.clone()).bind(binding);
            builder.operator(case.operator.address()).connect().await?.post_result(&job, &verified).await
        };
        let elsewhere = ChainIdentity::new(here.chain_id, B256::repeat_byte(1));
        let wrong = [
            Binding::new(elsewhere, JOB_MANAGER, CONSUMER, case.signer.address()),
            Binding::new(here.identity(), JOB_MANAGER, CONSUMER, Address::repeat_byte(1)),
        ];
        for binding in wrong {
            let error = bound(binding).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::WrongChain, Outcome::NotSent),
                "{}",
                error.report()
            );
        }
        assert!(case.poster.posted().is_empty());
        assert!(!bound(here).await.unwrap().already);
    })
    .await;
}

/// The node's record of an executed job, read and verified.
pub fn verified(job: &SignedJob, operator: &LocalSigner, result: &[u8], tx_hash: Option<B256>) -> Verified {
    let signature = operator.sign_message_sync(result).to_vec();
    let tx_hash = tx_hash.map(|hash| hash.to_vec()).unwrap_or_default();
    macro_rules! message {
        ($revision:ident, { $($extra:tt)* }) => {
            plain_client::$revision::GetResultResponse {
                job_result: Some(plain_client::$revision::JobResult {
                    id: job.id().as_bytes().to_vec(),
                    nonce: job.nonce(),
                    max_cycles: job.max_cycles(),
                    consumer_address: job.consumer().to_vec(),
                    program_id: job.program_id().as_bytes().to_vec(),
                    onchain_input: job.onchain_input().to_vec(),
                    offchain_input_hash: job.offchain_input_hash().to_vec(),
                    request_signature: job.signature().to_vec(),
                    result_with_metadata: result.to_vec(),
                    zkvm_operator_signature: signature,
                    status: Some(plain_client::$revision::JobStatus { status: 2, failure_reason: None, retries: 0 }),
                    relay_tx_hash: tx_hash,
                    $($extra)*
                }),
            }
            .encode_to_vec()
        };
    }
    let response = match job.revision() {
        Revision::State => message!(state, { state_hash: job.state_hash().to_vec() }),
        _ => message!(relay, {}),
    };
    let record = Wire::new(job.revision(), Encoding::Protobuf).get_result_response(&response.into()).unwrap();
    verify(job, &record, operator.address()).unwrap()
}

#[track_caller]
pub fn is(error: &Error, kind: ErrorKind, outcome: Outcome, tx_hash: Option<B256>) {
    assert_eq!((error.kind(), error.outcome(), error.tx_hash()), (kind, outcome, tx_hash), "{}", error.report());
    assert!(error.job_id().is_some() && error.hint().is_some(), "{}", error.report());
}

/// The golden vectors: the node's own request bytes, results and signatures come out of a record unchanged.
#[tokio::test]
async fn the_calldata_of_the_vectors() {
    let mut relayed = 0;
    for case in vectors::all() {
        let request = case.bytes("/expect/request_abi");
        let job = SignedJob::from_parts(
            case.revision,
            request.clone(),
            case.bytes("/expect/signature"),
            case.bytes("/offchain_input"),
            if case.revision == Revision::State { case.bytes("/state") } else { Bytes::new() },
            case.relay().unwrap_or_default(),
        )
        .unwrap();
        let operator = LocalSigner::from_slice(&case.bytes("/expect/result/operator_key")).unwrap();
        let result = case.bytes("/expect/result/result_with_metadata");
        let verified = verified(&job, &operator, &result, None);
        let call = submitResultForOffchainJobCall::abi_decode(&verified.post_calldata()).unwrap();
        assert_eq!(call.request, request);
        assert_eq!(call.requestSignature, *job.signature());
        assert_eq!(call.result, result);
        assert_eq!(call.resultSignature, case.bytes("/expect/result/operator_signature"));
        assert_eq!(call.abi_encode(), verified.post_calldata());
        assert_eq!(verified.needs_blobs(), !verified.blob_hashes().is_empty());
        relayed += 1;
    }
    assert_eq!(relayed, 24);
}

#[tokio::test]
async fn the_request_is_encoded_as_it_was_signed() {
    both(|case| async move {
        for (nonce, len) in [(1, 0), (2, 1), (3, 31), (4, 32), (u64::MAX - 1, 3_333)] {
            let job = case.sign(nonce, &vec![7; len], &vec![8; len * 2]).await;
            let call = case.verified(&job, &[]).post_calldata();
            let call = submitResultForOffchainJobCall::abi_decode(&call).unwrap();
            assert_eq!((&call.request, &call.requestSignature), (job.request(), job.signature()));
        }
    })
    .await;
}

/// Decoded by hand: words whose first byte is 0; the first one holds the length of what follows; that is the input's length and the
/// input in LZ4 blocks.
#[test]
fn blobs_hold_the_input() {
    for len in [1, 31, 1000, 126_000, 400_000] {
        let mut seed = B256::repeat_byte(3);
        let mut input = Vec::new();
        while input.len() < len {
            seed = keccak256(seed);
            input.extend_from_slice(seed.as_slice());
        }
        input.truncate(len);
        let blobs = Blobs::of_input(&input).unwrap();
        let sidecar = blobs.sidecar();
        let words: Vec<&[u8]> = sidecar.blobs.iter().flat_map(|blob| blob.chunks(32)).collect();
        assert!(words.iter().all(|word| word[0] == 0));
        let length = u64::from_be_bytes(words[0][1..9].try_into().unwrap()) as usize;
        let data: Vec<u8> = words[1..].iter().flat_map(|word| word[1..].iter().copied()).take(length).collect();
        assert_eq!(data[..4], (len as u32).to_le_bytes());
        assert_eq!(lz4_flex_decompress(&data[4..], len), input);
        assert_eq!(blobs.hashes().len(), (1 + length.div_ceil(31)).div_ceil(4096));
        assert_eq!(blobs.hashes().len(), sidecar.blobs.len());
        assert!(blobs.hashes().iter().all(|hash| hash[0] == 1), "versioned");
    }
}

/// LZ4's block format, by hand.
fn lz4_flex_decompress(mut data: &[u8], len: usize) -> Vec<u8> {
    fn length(data: &mut &[u8], nibble: u8) -> usize {
        let mut total = nibble as usize;
        if nibble == 15 {
            loop {
                let byte = data[0];
                *data = &data[1..];
                total += byte as usize;
                if byte != 255 {
                    break;
                }
            }
        }
        total
    }
    let mut output = Vec::with_capacity(len);
    while !data.is_empty() {
        let token = data[0];
        data = &data[1..];
        let literals = length(&mut data, token >> 4);
        output.extend_from_slice(&data[..literals]);
        data = &data[literals..];
        if data.is_empty() {
            break;
        }
        let offset = u16::from_le_bytes([data[0], data[1]]) as usize;
        data = &data[2..];
        let matched = length(&mut data, token & 15) + 4;
        for _ in 0..matched {
            output.push(output[output.len() - offset]);
        }
    }
    output
}

#[tokio::test]
async fn a_stranger_posts_the_result() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let post = case.client.post_result(&job, &verified).await.unwrap();
        let posted = case.poster.posted();
        let [(hash, transaction)] = &posted[..] else { panic!("{posted:?}") };
        assert_eq!(transaction.data, verified.post_calldata());
        assert!(transaction.blobs.is_none());
        assert_eq!((post.tx_hash, post.block_number, post.already), (Some(*hash), Some(11), false));
        assert_eq!((post.job_id, post.wasted), (job.id(), None));
        // One look before, one after.
        assert_eq!(case.chain.round_trips(), 2);
        assert_eq!(case.chain.world().jobs[&B256::from(job.id())].result, Bytes::from_static(b"out"));
        assert!(case.client.open_posts().is_empty());

        let again = case.client.resume(job).unwrap().post_result(&verified).await.unwrap();
        assert_eq!((again.tx_hash, again.block_number, again.already), (Some(*hash), Some(11), true));
        assert_eq!(case.poster.posted().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_on_chain_already_is_a_success_or_taken() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.chain.put(&job, 3);
        let post = case.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((post.already, post.tx_hash), (true, Some(keccak256(B256::from(job.id())))));

        type Change = fn(&mut JobState);
        let id = B256::from(job.id());
        let kept = case.chain.world().jobs[&id].clone();
        let others: [Change; 6] = [
            |it| it.onchain_input = Bytes::from_static(b"other"),
            |it| it.offchain_input_hash = B256::repeat_byte(1),
            |it| it.program_id = Bytes::from_static(&[1]),
            |it| it.max_cycles += 1,
            |it| it.status = 1,
            |it| it.status = 2,
        ];
        let taken = async || {
            let error = case.client.post_result(&job, &verified).await.unwrap_err();
            is(&error, ErrorKind::NonceTaken, Outcome::NotSent, None);
        };
        for change in others {
            let mut other = kept.clone();
            change(&mut other);
            case.chain.world().jobs.insert(id, other);
            let before = case.chain.round_trips();
            taken().await;
            assert_eq!(case.chain.round_trips() - before, 2, "told at the second look");
        }
        // Requested on chain, and completed.
        let asked = JobState { offchain_input_hash: B256::ZERO, state_hash: B256::ZERO, ..kept.clone() };
        case.chain.world().complete_request(B256::repeat_byte(0x44), id, asked);
        taken().await;
        assert!(case.poster.posted().is_empty());

        // The consumer says nothing of inputs, or nothing yet: the transaction does.
        let (revision, data) = (case.revision, verified.post_calldata());
        let blank = |job: &mut JobState| {
            (job.onchain_input, job.offchain_input_hash, job.state_hash) = (Bytes::new(), B256::ZERO, B256::ZERO);
        };
        let posted = |hash: B256, data: &[u8]| {
            let mut world = case.chain.world();
            world.jobs.remove(&id);
            assert!(world.include(revision, hash, data, &[]));
            blank(world.jobs.get_mut(&id).unwrap());
        };
        posted(B256::repeat_byte(0x45), &data);
        let post = case.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((post.already, post.tx_hash), (true, Some(B256::repeat_byte(0x45))));
        // And where that is another payload's, which has the same program and the same bound.
        let other = case.sign(1, b"another", b"offchain").await;
        posted(B256::repeat_byte(0x46), &case.verified(&other, &[]).post_calldata());
        taken().await;
        // Nothing shows it: then nothing is said, and nothing is posted.
        case.chain.world().included.clear();
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        is(&error, ErrorKind::Chain, Outcome::NotSent, None);
        assert!(error.is_retryable() && error.hint().unwrap().contains("do not sign"), "{}", error.report());
        assert!(case.poster.posted().is_empty());
    })
    .await;
}

/// The node's claim is believed if the receipt has the event; else recent blocks are searched.
#[tokio::test]
async fn the_transaction_of_a_complete_job_is_found_or_not() {
    both(|case| async move {
        let (job, first) = case.job().await;
        let hash = case.client.post_result(&job, &first).await.unwrap().tx_hash;
        case.chain.world().number += 5_000;
        assert_eq!(case.client.post_result(&job, &first).await.unwrap().tx_hash, None);
        let claims = |hash| verified(&job, &case.operator, &ledger_chain::result(&job, b"out", &[]), hash);
        let post = case.client.post_result(&job, &claims(hash)).await.unwrap();
        assert_eq!((post.tx_hash, post.block_number), (hash, Some(11)));
        let post = case.client.post_result(&job, &claims(Some(B256::repeat_byte(9)))).await.unwrap();
        assert_eq!((post.tx_hash, post.already), (None, true));
    })
    .await;
}

#[tokio::test]
async fn another_chain_or_operator_is_refused() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.chain.world().operator = Address::repeat_byte(8);
        is(&case.client.post_result(&job, &verified).await.unwrap_err(), ErrorKind::WrongChain, Outcome::NotSent, None);
        case.chain.world().operator = case.operator.address();
        case.chain.world().consumers.get_mut(&CONSUMER).unwrap().job_manager = Some(Address::repeat_byte(9));
        is(&case.client.post_result(&job, &verified).await.unwrap_err(), ErrorKind::WrongChain, Outcome::NotSent, None);
        case.chain.set_unreachable(true);
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (ErrorKind::Chain, Outcome::NotSent, true));
        assert!(case.poster.posted().is_empty() && case.client.open_posts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_set_up_or_does_not_belong_is_said_at_once() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let other = case.sign(2, b"in", &[]).await;
        is(
            &case.client.post_result(&other, &verified).await.unwrap_err(),
            ErrorKind::InvalidInput,
            Outcome::NotSent,
            None,
        );
        let same_nonce = case.sign(1, b"other", &[]).await;
        let error = case.client.post_result(&same_nonce, &verified).await.unwrap_err();
        is(&error, ErrorKind::InvalidInput, Outcome::NotSent, None);
        let bare = Client::builder().grpc("http://127.0.0.1:9").revision(case.revision);
        let error = bare.connect().await.unwrap().post_result(&job, &verified).await.unwrap_err();
        is(&error, ErrorKind::InvalidConfig, Outcome::NotSent, None);
        let chain = Chain::new(case.chain.clone(), JOB_MANAGER);
        let bare = Client::builder().grpc("http://127.0.0.1:9").revision(case.revision).chain(chain);
        let error = bare.connect().await.unwrap().post_result(&job, &verified).await.unwrap_err();
        is(&error, ErrorKind::InvalidConfig, Outcome::NotSent, None);
        assert!(error.hint().unwrap().contains("poster"));
        assert_eq!(case.chain.round_trips(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_would_revert_costs_nothing() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let set = |change: fn(&mut ledger_chain::ConsumerState)| {
            let mut world = case.chain.world();
            let consumer = world.consumers.get_mut(&CONSUMER).unwrap();
            change(consumer);
        };
        let refused = async |cause: RevertCause, text: &str| {
            let error = case.client.post_result(&job, &verified).await.unwrap_err();
            is(&error, ErrorKind::Reverted, Outcome::NotSent, None);
            let revert = Revert::of(&error).unwrap();
            assert_eq!(revert.cause(), cause);
            assert!(revert.to_string().contains(text) && error.to_string().contains(text), "{error}");
            assert_eq!(error.hint(), Some(cause.advice()));
        };
        set(|it| it.reverts_with = Some("out of stock"));
        refused(RevertCause::Other, "out of stock").await;
        set(|it| (it.reverts_with, it.state) = (None, Some(B256::repeat_byte(1))));
        refused(RevertCause::StaleState, "Invalid state").await;
        set(|it| it.signer = Address::repeat_byte(1));
        refused(RevertCause::RequestSignature, "Invalid signature on job request").await;
        assert!(case.poster.posted().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_race_that_is_lost_is_a_success_and_one_that_changes_the_chain_is_told() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let (data, revision) = (verified.post_calldata(), case.revision);
        let winner = B256::repeat_byte(0x33);
        case.poster.before({
            let data = data.clone();
            move |world| assert!(world.include(revision, winner, &data, &[]))
        });
        let post = case.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((post.tx_hash, post.already), (Some(winner), true));
        assert_eq!(post.wasted, Some(case.poster.posted()[0].0));

        // The nonce goes to somebody else; or the consumer changes its mind.
        let job = case.sign(2, b"in", &[]).await;
        let verified = case.verified(&job, &[]);
        let id = B256::from(job.id());
        case.poster.before(move |world| {
            world.jobs.insert(id, JobState { status: 1, ..JobState::default() });
        });
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        is(&error, ErrorKind::NonceTaken, Outcome::Rejected, Some(case.poster.posted()[1].0));

        let job = case.sign(3, b"in", &[]).await;
        let verified = case.verified(&job, &[]);
        case.poster.before(|world| world.consumers.get_mut(&CONSUMER).unwrap().reverts_with = Some("closed"));
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        is(&error, ErrorKind::Reverted, Outcome::Rejected, Some(case.poster.posted()[2].0));
        assert_eq!(Revert::of(&error), Some(&Revert::Message("closed".into())));
        assert!(case.client.open_posts().is_empty());
    })
    .await;
}

/// Not all of the RPC's servers are at one block.
#[tokio::test]
async fn a_chain_that_contradicts_itself_is_looked_at_again() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let text = "JobManager.createJob: job already exists with this nonce and consumer";
        case.chain.world().consumers.get_mut(&CONSUMER).unwrap().reverts_with = Some(text);
        let mut looks = 0;
        let put = case.chain.clone();
        let signed = job.clone();
        let landed = tokio::spawn(async move {
            while put.round_trips() < 2 {
                tokio::task::yield_now().await;
                put.world().number += 1;
            }
            put.put(&signed, 3);
            put.world().number += 1;
        });
        let post = case.client.post_result(&job, &verified).await;
        landed.await.unwrap();
        looks += case.chain.round_trips();
        match post {
            Ok(post) => assert!(post.already && looks >= 2),
            Err(error) => panic!("{}", error.report()),
        }
        assert!(case.poster.posted().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_the_relayer_says_decides_what_is_open() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Refused);
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.outcome(), error.tx_hash()), (Outcome::Rejected, None));
        assert!(case.client.open_posts().is_empty());
        // It went through, and only the answer was lost.
        case.poster.fate(Fate::LostIncluded);
        let post = case.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((post.already, post.tx_hash), (false, Some(case.poster.posted()[0].0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_knows_stays_open_and_the_next_relay_sends_anew() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Lost);
        let begun = tokio::time::Instant::now();
        let error = case.client.post_result(&job, &verified).await.unwrap_err();
        let hash = case.poster.posted()[0].0;
        is(&error, ErrorKind::Chain, Outcome::Unknown, Some(hash));
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(case.client.open_posts(), [(job.id(), hash)]);
        case.poster.fate(Fate::Included);
        let post = case.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((post.tx_hash, post.already), (Some(case.poster.posted()[1].0), false));
        assert!(case.client.open_posts().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_just_sent_is_waited_for_although_the_chain_does_not_know_it() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Lost);
        case.client.post_result(&job, &verified).timeout(Duration::from_secs(2)).await.unwrap_err();
        let hash = case.poster.posted()[0].0;
        case.poster.fate(Fate::Included);
        let error = case.client.post_result(&job, &verified).timeout(Duration::from_secs(2)).await.unwrap_err();
        is(&error, ErrorKind::DeadlineExceeded, Outcome::Unknown, Some(hash));
        assert_eq!(case.poster.posted().len(), 1);
        assert_eq!(case.client.open_posts(), [(job.id(), hash)]);
        // Long enough after that it is given up.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!case.client.post_result(&job, &verified).await.unwrap().already);
        assert_eq!(case.poster.posted().len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_in_the_pool_is_waited_for_and_none_is_sent_beside_it() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Pooled);
        let begun = tokio::time::Instant::now();
        let error = case.client.post_result(&job, &verified).timeout(Duration::from_secs(90)).await.unwrap_err();
        let hash = case.poster.posted()[0].0;
        is(&error, ErrorKind::DeadlineExceeded, Outcome::Unknown, Some(hash));
        assert!(error.is_retryable() && error.report().to_string().contains(&hash.to_string()));
        assert!((90..100).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(case.client.open_posts(), [(job.id(), hash)]);

        // An RPC that is away for a while.
        let posting = tokio::spawn(case.client.post_result(&job, &verified).into_future());
        tokio::time::sleep(Duration::from_secs(10)).await;
        case.chain.set_unreachable(true);
        tokio::time::sleep(Duration::from_secs(10)).await;
        case.chain.set_unreachable(false);
        assert!(case.poster.include(hash));
        let post = posting.await.unwrap().unwrap();
        assert_eq!((post.tx_hash, post.already, post.block_number), (Some(hash), false, Some(11)));
        assert_eq!(case.poster.posted().len(), 1);

        // One that is given up by hand.
        let job = case.sign(2, b"in", &[]).await;
        let verified = case.verified(&job, &[]);
        case.client.post_result(&job, &verified).timeout(Duration::from_secs(9)).await.unwrap_err();
        assert_eq!(case.client.forget_post(job.id()), Some(case.poster.posted()[1].0));
        assert_eq!(case.client.forget_post(job.id()), None);
        assert!(case.client.open_posts().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn somebody_else_lands_while_ours_is_in_the_pool() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Pooled);
        let posting = tokio::spawn(case.client.post_result(&job, &verified).into_future());
        while case.poster.posted().is_empty() {
            tokio::task::yield_now().await;
        }
        let winner = B256::repeat_byte(0x33);
        assert!(case.chain.world().include(case.revision, winner, &verified.post_calldata(), &[]));
        let post = posting.await.unwrap().unwrap();
        assert_eq!((post.tx_hash, post.already), (Some(winner), true));
        assert_eq!(post.wasted, Some(case.poster.posted()[0].0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_loses_nothing() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        drop(case.client.post_result(&job, &verified));
        assert_eq!(case.chain.round_trips(), 0);

        // It goes away while the poster has not answered yet.
        case.poster.fate(Fate::Hangs);
        let late = tokio::time::timeout(Duration::from_secs(1), case.client.post_result(&job, &verified).into_future());
        late.await.unwrap_err();
        let hash = case.poster.posted()[0].0;
        assert_eq!(case.client.open_posts(), [(job.id(), hash)]);
        // Joined: no second one.
        let error = case.client.post_result(&job, &verified).timeout(Duration::from_secs(1)).await.unwrap_err();
        is(&error, ErrorKind::DeadlineExceeded, Outcome::Unknown, Some(hash));
        assert_eq!(case.poster.posted().len(), 1);

        // It goes away while the transaction is in the pool: the relay goes on.
        let job = case.sign(2, b"in", &[]).await;
        let verified = case.verified(&job, &[]);
        case.poster.fate(Fate::Pooled);
        let late = tokio::time::timeout(Duration::from_secs(1), case.client.post_result(&job, &verified).into_future());
        late.await.unwrap_err();
        let hash = case.poster.posted()[1].0;
        assert!(case.poster.include(hash));
        while case.client.open_posts().iter().any(|(id, _)| *id == job.id()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(case.client.post_result(&job, &verified).await.unwrap().already);
    })
    .await;
}

#[tokio::test]
async fn many_at_once_are_one() {
    both(|case| async move {
        let (job, verified) = case.job().await;
        let relays: Vec<_> =
            (0..20).map(|_| tokio::spawn(case.client.post_result(&job, &verified).into_future())).collect();
        for relay in relays {
            let post = relay.await.unwrap().unwrap();
            assert_eq!(post.tx_hash, Some(case.poster.posted()[0].0));
        }
        assert_eq!(case.poster.posted().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn blobs_are_carried_and_compared_before_anything_is_sent() {
    let case = Case::new(Revision::Relay).await;
    let input: Vec<u8> = (0..100_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let job = case.sign(1, b"in", &input).await;
    let blobs = Blobs::of_input(&input).unwrap();
    let honest = case.verified(&job, blobs.hashes());
    assert!(honest.needs_blobs());
    let post = case.client.post_result(&job, &honest).await.unwrap();
    assert!(!post.already);
    let (_, transaction) = &case.poster.posted()[0];
    assert_eq!(transaction.blobs.as_ref().unwrap().hashes(), honest.blob_hashes());

    // An operator that signed others; and one that signed none, whose result needs none.
    let job = case.sign(2, b"in", &input).await;
    let other = case.verified(&job, &[B256::repeat_byte(1)]);
    let error = case.client.post_result(&job, &other).await.unwrap_err();
    is(&error, ErrorKind::InvalidInput, Outcome::NotSent, None);
    assert_eq!(case.poster.posted().len(), 1);
    case.client.post_result(&job, &case.verified(&job, &[])).await.unwrap();
    assert!(case.poster.posted()[1].1.blobs.is_none());
}

/// What was signed for one chain can be posted on another; a client that is bound does not.
#[tokio::test]
async fn a_bound_client_posts_on_its_own_chain_only() {
    let case = Case::new(Revision::Relay).await;
    let chain = Chain::new(case.chain.clone(), JOB_MANAGER);
    let binding = infinityvm_sdk::chain::Binding::read(&chain, CONSUMER, case.signer.address()).await.unwrap();
    let bound = async |binding| {
        let builder = Client::builder().grpc("http://127.0.0.1:9").revision(case.revision);
        let builder = builder.operator(case.operator.address()).chain(chain.clone()).poster(case.poster.clone());
        builder.bind(binding).connect().await
    };
    let mut elsewhere = binding;
    elsewhere.genesis_hash = B256::repeat_byte(9);
    assert_eq!(bound(elsewhere).await.unwrap_err().kind(), ErrorKind::WrongChain);
    let client = bound(binding).await.unwrap();
    let (job, result) = case.job().await;
    client.post_result(&job, &result).await.unwrap();
    assert_eq!(case.poster.posted().len(), 1);
    let stranger = LocalSigner::random().unwrap();
    let foreign = infinityvm_sdk::chain::Binding::read(&chain, CONSUMER, stranger.address()).await.unwrap();
    let error = bound(foreign).await.unwrap().post_result(&job, &result).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongChain, Outcome::NotSent));
    // Begun anew since the client connected.
    let client = bound(binding).await.unwrap();
    case.chain.world().genesis = Some(B256::repeat_byte(8));
    let error = client.post_result(&job, &result).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongChain, Outcome::NotSent));
}
