//! Every combination of what can be read of a job, and what follows from it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolEvent, SolValue};

use super::*;
use crate::{
    chain::{
        Block, JobMetadata, Log, OnchainStatus, Receipt, Transaction,
        abi::JobManager::{JobCancelled, JobCompleted, submitResultCall},
        recorded::Inputs,
    },
    error::ErrorKind,
    job::{
        LocalSigner, OffchainJobRequest, ProgramId, Revision, abi::job_manager::submitResultForOffchainJobCall,
        input_hash, posted,
    },
};

const MANAGER: Address = Address::repeat_byte(0x3a);
const HEAD: u64 = 500;
const REACH: u64 = 77;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Unread,
    Unknown,
    Pending,
    Cancelled,
    Completed,
    Odd,
}

/// Which job the contracts keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Ours,
    Program,
    Cycles,
    Consumer,
    Onchain,
    Offchain,
    State,
    /// The consumer has no onchain input of it, no offchain hash, no state hash; or nothing at all.
    NoOnchain,
    NoOffchain,
    NoState,
    Nothing,
    Unread,
}

impl Payload {
    /// Whether it may be ours, and the consumer does not show it.
    fn is_unclear(self) -> bool {
        matches!(self, Self::NoOnchain | Self::NoOffchain | Self::NoState | Self::Nothing)
    }
}

/// Where its end is: in the transaction that was named, or found by a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Named,
    NamedFailed,
    NamedOtherContract,
    NamedOtherJob,
    NamedGarbage,
    NamedNowhere,
    NamedUnread,
    Found,
    FoundContradicted,
    FoundUnread,
    Searching,
    SearchFailed,
    Nowhere,
}

/// The block it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canon {
    Head,
    Linked,
    Broken,
    Gone,
    Unread,
    Above,
    Old,
    OldBroken,
}

/// Where the result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Shown,
    NotAsked,
    Calldata,
    OldOperator,
    Stranger,
    OtherOutput,
    ByAnother,
    NoTransaction,
    Unread,
    OperatorUnread,
    /// The transaction brought the result of another request, under another id or under this one.
    OtherId,
    OtherRequest,
    /// Or that of a request made on chain.
    OnchainRequest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unseen,
    Requested,
    Cancelled(u64),
    Taken(u64),
    Complete(u64),
    Unproven,
    Unread,
    Moved,
    Read,
}

/// What must follow; the table in words.
fn expected(status: Status, payload: Payload, place: Place, canon: Canon, source: Source) -> Verdict {
    use Verdict as V;
    // A block is deep, not of this chain, or not known yet.
    let at = |then: fn(u64) -> Verdict| match canon {
        Canon::Head => then(1),
        Canon::Linked => then(3),
        Canon::Old => then(101),
        Canon::Broken | Canon::Gone | Canon::Above | Canon::OldBroken => V::Moved,
        Canon::Unread => V::Read,
    };
    let searched = matches!(place, Place::Found | Place::FoundContradicted | Place::FoundUnread);
    match (status, payload, place) {
        (Status::Unread | Status::Odd, ..) => V::Unread,
        (Status::Unknown, ..) => V::Unseen,
        (Status::Pending, ..) => V::Requested,
        // The log alone says how deep.
        (Status::Cancelled, ..) if searched => at(V::Cancelled),
        (Status::Cancelled, _, Place::Nowhere) => V::Cancelled(REACH),
        (Status::Cancelled, _, Place::SearchFailed) => V::Unproven,
        (Status::Cancelled, ..) => V::Read,
        (Status::Completed, Payload::Unread, _) => V::Unproven,
        (Status::Completed, _, Place::SearchFailed | Place::FoundContradicted | Place::FoundUnread) => V::Unproven,
        (Status::Completed, payload, Place::Nowhere) if payload == Payload::Ours || payload.is_unclear() => V::Unproven,
        // The transaction alone shows whose it is; a result that was shown does not.
        (Status::Completed, payload, Place::Named | Place::Found)
            if payload.is_unclear() && matches!(source, Source::OtherRequest | Source::OnchainRequest) =>
        {
            at(V::Taken)
        }
        (Status::Completed, payload, Place::Named | Place::Found)
            if payload == Payload::Ours || payload.is_unclear() =>
        {
            match source {
                Source::Shown | Source::Calldata | Source::OldOperator => at(V::Complete),
                Source::NotAsked if at(V::Complete) == V::Moved => V::Moved,
                Source::NotAsked => V::Read,
                _ if matches!(at(V::Complete), V::Complete(_)) => V::Unproven,
                _ => at(V::Complete),
            }
        }
        (Status::Completed, _, Place::Nowhere) => V::Taken(REACH),
        (Status::Completed, _, Place::Named | Place::Found) => at(V::Taken),
        // What was named is not it: it is searched for.
        (Status::Completed, ..) => V::Read,
    }
}

struct Fixture {
    job: SignedJob,
    result: Bytes,
    signature: Bytes,
    shown: Verified,
    operator: Address,
    /// Requests of other jobs: of another id, and of the same.
    others: [Bytes; 2],
}

fn fixture() -> Fixture {
    let operator = LocalSigner::from_bytes([7; 32]).unwrap();
    let signed = |input: &[u8], nonce| {
        let job = OffchainJobRequest::builder(Address::repeat_byte(0xc0), ProgramId::new(vec![1])).max_cycles(1000);
        let job = job.onchain_input(input.to_vec()).state(b"state".to_vec()).build().unwrap();
        job.prepare(Revision::State, nonce).unwrap().with_signature(vec![27; 65].into()).unwrap()
    };
    let job = signed(b"in", 3);
    let others = [signed(b"in", 4), signed(b"else", 3)].map(|job| job.request().clone());
    let result = crate::job::abi::state::OffchainResultWithMetadata {
        jobID: job.id().into(),
        onchainInputHash: input_hash(job.onchain_input()),
        offchainInputHash: job.offchain_input_hash(),
        stateHash: job.state_hash(),
        maxCycles: job.max_cycles(),
        programID: job.program_id().as_bytes().clone(),
        result: b"out".as_slice().into(),
    };
    let result = Bytes::from(result.abi_encode());
    let signature = Bytes::copy_from_slice(&operator.sign_message_sync(&result));
    let shown = posted(&job, result.clone(), signature.clone(), B256::ZERO, &[operator.address()]).unwrap();
    Fixture { job, result, signature, shown, operator: operator.address(), others }
}

fn broken() -> Error {
    Error::new(ErrorKind::Chain, "no")
}

fn block(number: u64, branch: u8) -> Block {
    let hash = |number: u64| B256::left_padding_from(&[&[branch], &number.to_be_bytes()[..]].concat());
    Block::new(number, hash(number), hash(number.wrapping_sub(1)), 0)
}

impl Fixture {
    fn step(&self, status: Status, payload: Payload, place: Place, canon: Canon, source: Source) -> Step {
        let (tx, job) = (B256::repeat_byte(0x77), &self.job);
        let (number, branch) = match canon {
            Canon::Head => (HEAD, 1),
            Canon::Linked | Canon::Gone | Canon::Unread => (HEAD - 2, 1),
            Canon::Broken => (HEAD - 2, 2),
            Canon::Above => (HEAD + 1, 1),
            Canon::Old => (HEAD - 100, 1),
            Canon::OldBroken => (HEAD - 100, 2),
        };
        let there = block(number, branch);
        let mut blocks = Blocks::new(block(HEAD, 1));
        for number in HEAD - 2..HEAD {
            blocks.read.insert(number, Some(block(number, 1)));
        }
        blocks.read.insert(HEAD - 100, Some(block(HEAD - 100, 1)));
        match canon {
            Canon::Unread => drop(blocks.read.remove(&(HEAD - 1))),
            Canon::Gone => drop(blocks.read.insert(HEAD - 1, None)),
            _ => {}
        }
        let log = |address, id, data: Vec<u8>, event| {
            Log::new(address, vec![event, id], data.into(), there.number, there.hash, tx)
        };
        let (id, data, done) = (job.id().into(), Bytes::from_static(b"out").abi_encode(), JobCompleted::SIGNATURE_HASH);
        let end = match status {
            Status::Cancelled => log(MANAGER, id, Vec::new(), JobCancelled::SIGNATURE_HASH),
            _ => log(MANAGER, id, data.clone(), done),
        };
        let logged = match place {
            Place::NamedOtherContract => log(Address::repeat_byte(9), id, data, done),
            Place::NamedOtherJob => log(MANAGER, B256::repeat_byte(9), data, done),
            Place::NamedGarbage => log(MANAGER, id, vec![1; 31], done),
            _ => log(MANAGER, id, data, done),
        };
        let succeeded = !matches!(place, Place::NamedFailed | Place::FoundContradicted);
        let receipt = Receipt::new(tx, there.number, there.hash, succeeded, vec![logged]);
        let receipt = match place {
            Place::NamedUnread | Place::FoundUnread => Some(Err(broken())),
            Place::NamedNowhere => Some(Ok(None)),
            Place::Searching | Place::SearchFailed | Place::Nowhere => None,
            _ => Some(Ok(Some(receipt))),
        };
        let found = matches!(place, Place::Found | Place::FoundContradicted | Place::FoundUnread);
        let searched = found || matches!(place, Place::Searching | Place::SearchFailed | Place::Nowhere);
        let other = Address::repeat_byte(0x55);
        // Of another job the operator has signed another result.
        let (result, request) = match source {
            Source::OtherId => (Bytes::from_static(b"other"), self.others[0].clone()),
            Source::OtherRequest => (Bytes::from_static(b"other"), self.others[1].clone()),
            _ => (self.result.clone(), job.request().clone()),
        };
        let signatures = (self.signature.clone(), job.signature().clone());
        let call = submitResultForOffchainJobCall {
            result: result.clone(),
            operatorSignature: signatures.0.clone(),
            request,
            requestSignature: signatures.1,
        };
        let input = match source {
            Source::OnchainRequest => {
                submitResultCall { resultWithMetadata: result, resultSignature: signatures.0 }.abi_encode()
            }
            _ => call.abi_encode(),
        };
        let to = if source == Source::ByAnother { other } else { MANAGER };
        let transaction = match source {
            Source::NoTransaction => Ok(None),
            Source::Unread => Err(broken()),
            _ => Ok(Some(Transaction::new(tx, Some(to), input.into()))),
        };
        let operators = match source {
            Source::Stranger => vec![Ok(other), Ok(other)],
            Source::OldOperator => vec![Ok(self.operator), Ok(other)],
            Source::OperatorUnread => vec![Err(broken()), Err(broken())],
            _ => vec![Err(broken()), Ok(self.operator)],
        };
        let differs = |which: Payload| payload == which;
        let metadata = JobMetadata {
            program_id: if differs(Payload::Program) { vec![2].into() } else { job.program_id().as_bytes().clone() },
            max_cycles: job.max_cycles() + u64::from(differs(Payload::Cycles)),
            consumer: if differs(Payload::Consumer) { other } else { job.consumer() },
            status: match status {
                Status::Unread | Status::Odd => OnchainStatus::Unrecognized(9),
                Status::Unknown => OnchainStatus::Unknown,
                Status::Pending => OnchainStatus::Pending,
                Status::Cancelled => OnchainStatus::Cancelled,
                Status::Completed => OnchainStatus::Completed,
            },
        };
        let hash = |other: Payload, none: Payload, hash: B256| match payload {
            it if it == other => B256::repeat_byte(1),
            it if it == none || it == Payload::Nothing => B256::ZERO,
            _ => hash,
        };
        let inputs = Inputs {
            onchain: match payload {
                Payload::Onchain => Bytes::from_static(b"else"),
                Payload::NoOnchain | Payload::Nothing => Bytes::new(),
                _ => job.onchain_input().clone(),
            },
            offchain_hash: hash(Payload::Offchain, Payload::NoOffchain, job.offchain_input_hash()),
            state_hash: Some(hash(Payload::State, Payload::NoState, job.state_hash())),
        };
        let shown = if source == Source::Shown { std::slice::from_ref(&self.shown) } else { &[] };
        // The event has another output than what was signed.
        let receipt = receipt.map(|receipt| {
            receipt.map(|receipt| {
                receipt.map(|mut receipt| {
                    if source == Source::OtherOutput && place != Place::NamedGarbage {
                        receipt.logs[0].data = Bytes::from_static(b"else").abi_encode().into();
                    }
                    receipt
                })
            })
        });
        let evidence = Evidence {
            job,
            job_manager: MANAGER,
            transactions: if searched { Vec::new() } else { vec![tx] },
            shown,
            reach: REACH,
            screened: false,
            metadata: Some(if status == Status::Unread { Err(broken()) } else { Ok(metadata) }),
            inputs: Some(if differs(Payload::Unread) { Err(broken()) } else { Ok(inputs) }),
            receipts: receipt.map(|receipt| (tx, receipt)).into_iter().collect::<BTreeMap<_, _>>(),
            search: Search {
                most: 1,
                next: (place != Place::Nowhere).then_some(HEAD),
                found: found.then_some(end),
                error: (place == Place::SearchFailed).then(broken),
            },
            posted: (source != Source::NotAsked).then_some(PostedResult { transaction, operators }),
        };
        evidence.step(&blocks)
    }
}

#[test]
fn the_table_of_every_combination() {
    let fixture = fixture();
    let statuses =
        [Status::Unread, Status::Unknown, Status::Pending, Status::Cancelled, Status::Completed, Status::Odd];
    let payloads = {
        use Payload as P;
        [
            P::Ours,
            P::Program,
            P::Cycles,
            P::Consumer,
            P::Onchain,
            P::Offchain,
            P::State,
            P::NoOnchain,
            P::NoOffchain,
            P::NoState,
            P::Nothing,
            P::Unread,
        ]
    };
    let places = {
        use Place as P;
        [
            P::Named,
            P::NamedFailed,
            P::NamedOtherContract,
            P::NamedOtherJob,
            P::NamedGarbage,
            P::NamedNowhere,
            P::NamedUnread,
            P::Found,
            P::FoundContradicted,
            P::FoundUnread,
            P::Searching,
            P::SearchFailed,
            P::Nowhere,
        ]
    };
    let canons = {
        use Canon as C;
        [C::Head, C::Linked, C::Broken, C::Gone, C::Unread, C::Above, C::Old, C::OldBroken]
    };
    let sources = {
        use Source as S;
        [
            S::Shown,
            S::NotAsked,
            S::Calldata,
            S::OldOperator,
            S::Stranger,
            S::OtherOutput,
            S::ByAnother,
            S::NoTransaction,
            S::Unread,
            S::OperatorUnread,
            S::OtherId,
            S::OtherRequest,
            S::OnchainRequest,
        ]
    };
    let mut counts = BTreeMap::<String, usize>::new();
    for status in statuses {
        for payload in payloads {
            for place in places {
                for canon in canons {
                    for source in sources {
                        let step = fixture.step(status, payload, place, canon, source);
                        let depth = |standing: &Standing| standing.depth().unwrap();
                        let seen = match &step {
                            Step::Moved => Verdict::Moved,
                            Step::Read(needs) => {
                                assert!(!needs.is_empty());
                                Verdict::Read
                            }
                            Step::Done(standing) => match standing {
                                Standing::Unseen => Verdict::Unseen,
                                Standing::Requested => Verdict::Requested,
                                Standing::Cancelled { .. } => Verdict::Cancelled(depth(standing)),
                                Standing::Taken { .. } => Verdict::Taken(depth(standing)),
                                Standing::Complete(result) => {
                                    assert_eq!(result.output()[..], *b"out");
                                    Verdict::Complete(depth(standing))
                                }
                                Standing::Unproven(_) => Verdict::Unproven,
                                Standing::Unread(_) => Verdict::Unread,
                                Standing::Shallow => panic!("a look at all of it is never shallow"),
                            },
                        };
                        let wanted = expected(status, payload, place, canon, source);
                        assert_eq!(seen, wanted, "{status:?} {payload:?} {place:?} {canon:?} {source:?}: {step:?}");
                        *counts.entry(format!("{wanted:?}")).or_default() += 1;
                    }
                }
            }
        }
    }
    assert_eq!(counts.values().sum::<usize>(), 6 * 12 * 13 * 8 * 13);
    assert_eq!(counts.len(), 9 + 3 + 3 + 2, "each verdict, with each depth: {counts:?}");
}

/// The latest state has it completed, and the state of the head has not: one of the two is of another block than it
/// says.
#[test]
fn what_was_complete_a_moment_ago_is_not_unseen() {
    let (fixture, blocks) = (fixture(), Blocks::new(block(HEAD, 1)));
    for status in [OnchainStatus::Unknown, OnchainStatus::Pending] {
        for screened in [false, true] {
            let metadata = JobMetadata { program_id: Bytes::new(), max_cycles: 0, consumer: Address::ZERO, status };
            let evidence = Evidence {
                job: &fixture.job,
                job_manager: MANAGER,
                transactions: Vec::new(),
                shown: &[],
                reach: REACH,
                screened,
                metadata: Some(Ok(metadata)),
                inputs: None,
                receipts: BTreeMap::new(),
                search: Search { next: None, most: 1, found: None, error: None },
                posted: None,
            };
            assert_eq!(matches!(evidence.step(&blocks), Step::Moved), screened);
        }
    }
}

#[test]
fn a_verdict_needs_the_depth_that_was_asked_for() {
    let fixture = fixture();
    let at = |canon| match fixture.step(Status::Completed, Payload::Ours, Place::Named, canon, Source::Shown) {
        Step::Done(standing) => standing,
        other => panic!("{other:?}"),
    };
    for (canon, depth) in [(Canon::Head, 1), (Canon::Linked, 3), (Canon::Old, 101)] {
        let standing = at(canon);
        assert!(matches!(standing.verdict(&fixture.job, depth), Some(Ok(_))));
        assert!(standing.verdict(&fixture.job, depth + 1).is_none());
        assert!(standing.is_settled() && !standing.is_open());
    }
    for standing in [Standing::Unseen, Standing::Requested, Standing::Shallow, Standing::Unread(broken())] {
        assert!(standing.verdict(&fixture.job, 0).is_none() && !standing.is_settled());
    }
    let taken = Standing::Taken { field: "program id", depth: 2 };
    assert_eq!(taken.verdict(&fixture.job, 2).unwrap().unwrap_err().kind(), ErrorKind::NonceTaken);
    let cancelled = Standing::Cancelled { depth: 2 };
    assert_eq!(cancelled.verdict(&fixture.job, 1).unwrap().unwrap_err().kind(), ErrorKind::JobFailed);
    assert!(cancelled.verdict(&fixture.job, 3).is_none() && cancelled.is_open() && taken.is_settled());
}
