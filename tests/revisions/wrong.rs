//! A client and a node of different revisions: never an Ok that means something else than it says. The nodes in here do not
//! say what they are; the other files here have those that do.

use support::vectors;

use infinityvm_sdk::{
    Client, Error,
    ErrorKind::{self, *},
    JobId, LocalSigner, OffchainJobRequest,
    Outcome::{self, NotSent, Rejected as Refused, Unknown},
    ProgramId, ProgramUpload, RelayStrategy, Revision, Wire,
    devnode::{ConsumerRules, DevNode},
    nonce::Sequential,
    primitives::{Address, keccak256},
    rpc::Encoding,
};

const CONSUMER: Address = Address::repeat_byte(7);

/// A node, a client of the other revision, and one of the node's own.
struct Pair {
    node: DevNode,
    wrong: Client,
    right: Client,
    program: ProgramId,
}

fn other(revision: Revision) -> Revision {
    if revision == Revision::State { Revision::Relay } else { Revision::State }
}

impl Pair {
    async fn new(client: Revision) -> Self {
        let signer = LocalSigner::from_slice(&[1; 32]).expect("a key");
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(other(client)).consumer(CONSUMER, rules).reflection(false);
        let node = node.start().await.expect("starts");
        let program = ProgramId::new(node.register_program(|input| Ok(input.onchain.to_vec())));
        let connect = async |revision| {
            let builder = Client::builder().grpc(node.grpc_url()).revision(revision).signer(signer.clone());
            builder.operator(node.operator()).nonces(Sequential::starting_at(1)).connect().await.expect("connects")
        };
        let (wrong, right) = (connect(client).await, connect(other(client)).await);
        Self { node, wrong, right, program }
    }

    fn job(&self, offchain: bool, special: bool) -> OffchainJobRequest {
        let mut job = OffchainJobRequest::builder(CONSUMER, self.program.clone());
        job = job.max_cycles(1000).onchain_input(vec![1, 2, 3]);
        if offchain {
            job = job.offchain_input(vec![4; 100]);
        }
        job = match self.wrong.revision() {
            _ if !special => job,
            Revision::State => job.state(vec![5; 60]),
            _ => job.relay(RelayStrategy::Ordered),
        };
        job.build().expect("valid")
    }
}

fn said(error: &Error) -> (ErrorKind, Outcome, bool) {
    (error.kind(), error.outcome(), error.is_retryable())
}

fn speaks_of_the_revision(error: &Error) {
    assert!(error.hint().is_some_and(|hint| hint.contains("revision") || hint.contains("check that")), "{error:?}");
}

#[tokio::test]
async fn submissions() {
    // By client: with offchain input, with state or relay strategy; then what the client says, and whether the node ran it.
    let cases = [
        // A Relay node decodes the State struct's first fields, runs the job and never relays it. The client cannot read the
        // record, so it says that the fate is open.
        (Revision::State, false, false, (BadResponse, Unknown, false), true),
        (Revision::State, true, false, (BadResponse, Unknown, false), true),
        // Field 4 is bytes here and an enum there.
        (Revision::State, false, true, (WrongRevision, Unknown, false), false),
        (Revision::State, true, true, (WrongRevision, Unknown, false), false),
        // A State node takes what follows the Relay struct for the state hash.
        (Revision::Relay, false, false, (WrongRevision, Refused, false), false),
        (Revision::Relay, true, false, (WrongRevision, Refused, false), false),
        (Revision::Relay, false, true, (WrongRevision, Unknown, false), false),
        (Revision::Relay, true, true, (WrongRevision, Unknown, false), false),
    ];
    for (revision, offchain, special, expected, runs) in cases {
        let pair = Pair::new(revision).await;
        let error = pair.wrong.submit(pair.job(offchain, special)).await.expect_err("the node misreads it");
        let name = format!("{revision} client, offchain {offchain}, special {special}: {}", error.report());
        assert_eq!(said(&error), expected, "{name}");
        speaks_of_the_revision(&error);
        // The signed job is kept, and its nonce is not handed out again.
        assert_eq!(pair.wrong.unresolved().len(), 1, "{name}");
        assert_eq!(pair.wrong.nonces().quarantined(CONSUMER), [1], "{name}");
        assert_eq!(pair.node.stats().submissions(JobId::derive(1, CONSUMER).into()) > 0, runs, "{name}");
        // Sending the same bytes again changes nothing of it.
        let again = pair.wrong.submit_signed(pair.wrong.unresolved().remove(0)).await.expect_err("misread again");
        assert_eq!(said(&again), expected, "{name}");
    }
}

#[tokio::test]
async fn reads() {
    for revision in Revision::ALL {
        for offchain in [false, true] {
            let pair = Pair::new(revision).await;
            let mut job = OffchainJobRequest::builder(CONSUMER, pair.program.clone()).max_cycles(1000);
            if offchain {
                job = job.offchain_input(vec![4; 100]);
            }
            let handle = pair.right.submit(job.build().expect("valid")).await.expect("the right client submits");
            handle.wait(infinityvm_sdk::Until::Relayed).await.expect("and gets its result");

            let error = pair.wrong.get_result(handle.id()).await.expect_err("a record of the other revision");
            assert_eq!(said(&error), (BadResponse, Unknown, false), "{}", error.report());
            speaks_of_the_revision(&error);
            // A job of the other revision does not even get that far.
            let resumed = pair.wrong.resume(handle.signed_job().clone()).expect_err("another revision's job");
            assert_eq!(said(&resumed), (WrongRevision, NotSent, false));
            let sent = pair.wrong.submit_signed(handle.signed_job().clone()).await.expect_err("another revision's job");
            assert_eq!(said(&sent), (WrongRevision, NotSent, false));
        }
        // An unknown job is unknown in either revision: the request has one form.
        let pair = Pair::new(revision).await;
        let error = pair.wrong.get_result(JobId::derive(9, CONSUMER)).await.expect_err("unknown");
        assert_eq!(said(&error), (NotFound, Unknown, false));
    }
}

#[tokio::test]
async fn programs() {
    type Upload = fn(Vec<u8>) -> ProgramUpload;
    let cases: [(Revision, Upload, _); 3] = [
        // Field 2 is an enum here and bytes there.
        (Revision::State, |elf| ProgramUpload::sp1(elf), (WrongRevision, Unknown, false)),
        // RISC Zero is 0, which is not written: the node reads an upload without an id.
        (Revision::State, |elf| ProgramUpload::risc0(elf), (Rejected, Refused, false)),
        (Revision::Relay, |elf| ProgramUpload::sp1(elf), (WrongRevision, Unknown, false)),
    ];
    for (revision, upload, expected) in cases {
        let pair = Pair::new(revision).await;
        let elf = pair.node.add_elf(|_| Ok(vec![])).to_vec();
        let upload = upload(elf.clone()).with_id(keccak256(&elf));
        let error = pair.wrong.submit_program(upload).await.expect_err("misread");
        assert_eq!(said(&error), expected, "{}", error.report());
    }
}

#[tokio::test]
async fn calls_of_one_revision() {
    // A State client refuses by itself; to a Relay client the node says that it has no such call.
    for (revision, expected) in
        [(Revision::State, (Unsupported, NotSent, false)), (Revision::Relay, (Unsupported, Refused, false))]
    {
        let pair = Pair::new(revision).await;
        let pending = pair.wrong.pending_jobs(CONSUMER).await.expect_err("no such call");
        assert_eq!(said(&pending), expected, "{}", pending.report());
        let contains = pair.wrong.contains_program(&pair.program).await.expect_err("no such call");
        assert_eq!(said(&contains), expected, "{}", contains.report());
        speaks_of_the_revision(&pending);
    }
}

/// Every record of the vectors, read as the other revision, in both encodings.
#[test]
fn records_of_the_vectors() {
    let mut why = std::collections::BTreeMap::<_, usize>::new();
    for case in vectors::all() {
        let responses = [
            (Encoding::Protobuf, case.bytes("/expect/grpc/get_result_response").0),
            (Encoding::Json, case.text("/expect/rest/get_result_response").to_owned().into()),
        ];
        for (encoding, response) in responses {
            let right = Wire::new(case.revision, encoding).get_result_response(&response).expect("its own");
            assert_eq!(right.revision(), case.revision);
            let wrong = Wire::new(other(case.revision), encoding).get_result_response(&response);
            let error = wrong.expect_err("read as the other revision");
            assert_eq!(said(&error), (BadResponse, Unknown, false), "{}", error.report());
            speaks_of_the_revision(&error);
            let name = format!("{encoding:?}");
            *why.entry((name, case.revision, error.to_string())).or_default() += 1;
        }
    }
    let found: Vec<_> =
        why.iter().map(|((name, revision, text), count)| (name.as_str(), *revision, text.as_str(), *count)).collect();
    assert_eq!(
        found,
        [
            (
                "Json",
                Revision::State,
                "bad response: GetResult: the record holds a state_hash, which only the State revision has",
                12
            ),
            ("Json", Revision::Relay, "bad response: GetResult: state_hash has 0 bytes instead of 32", 12),
            ("Protobuf", Revision::State, "bad response: GetResult: not a message of this call", 6),
            ("Protobuf", Revision::State, "bad response: GetResult: the record holds no status", 6),
            ("Protobuf", Revision::Relay, "bad response: GetResult: not a message of this call", 3),
            ("Protobuf", Revision::Relay, "bad response: GetResult: the record holds no status", 9),
        ]
    );
}
