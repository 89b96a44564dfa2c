//! The node, in a process of its own: does what the parent tells it on a line each, and answers on a line each.

use std::{
    collections::BTreeSet,
    io::stdin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    JobId, LocalSigner, Revision,
    chain::{Answer, Question},
    devnode::{ConsumerRules, DevNode, JobState, Loss, ProgramError, ProgramInput, ProgramOutput},
    primitives::{Address, SolValue, alloy_sol_types::SolCall, hex, sol},
    rpc::Method,
};
use support::json_chain::{self, Rules};
use tokio::sync::mpsc;

use crate::orders;

sol! {
    function submitResultForOffchainJob(bytes result, bytes resultSignature, bytes request, bytes requestSignature);
    struct OffchainResultWithMetadata {
        bytes32 jobID; bytes32 onchainInputHash; bytes32 offchainInputHash; uint64 maxCycles; bytes programID;
        bytes result; bytes32[] versionedBlobHashes;
    }
}

/// How often a block is mined that nobody needs, where the chain counts.
const BLOCKS: Duration = Duration::from_millis(150);

/// Job ids in a row that the node does not know, after which it knows no more.
const UNKNOWN: u64 = 512;

pub fn run(words: &[String]) {
    let [revision, key, consumers, mines] = words else { panic!("the node is told four things") };
    let revision = revision.parse().unwrap();
    let consumers = consumers.split(',').map(|consumer| consumer.parse().unwrap()).collect();
    let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(revision, key, consumers, mines == "true"));
}

async fn serve(revision: Revision, key: [u8; 32], consumers: Vec<Address>, mines: bool) {
    let signer = LocalSigner::from_bytes(key).unwrap().address();
    let builder = DevNode::builder(revision);
    let builder = consumers.iter().fold(builder, |all, one| all.consumer(*one, ConsumerRules::signed_by(signer)));
    let node = Arc::new(builder.start().await.unwrap());
    let program = hex::encode(node.register_program(program(revision)));
    let rpc = json_chain::serve(node.chain().to_chain(), Rules::none()).await;
    let (grpc, rest, operator, manager) =
        (node.grpc_address(), node.rest_address(), node.operator(), node.chain().job_manager());
    println!("ready {grpc} {rest} {} {manager} {operator} {program}", rpc.url());
    if mines {
        let chain = node.chain();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BLOCKS).await;
                chain.mine(1);
            }
        });
    }
    let (told, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    let returning = Arc::new(AtomicUsize::new(0));
    // It ends with its parent.
    while let Some(command) = commands.recv().await {
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["restart"] => node.restart(),
            ["lose", count, how] => {
                let how = if how == "stream" { Loss::ResetStream } else { Loss::CloseConnection };
                node.faults().drop_replies(Method::SubmitJob, count.parse().unwrap(), how);
            }
            ["reorganise", depth, after] => {
                let after = Duration::from_millis(after.parse().unwrap());
                reorganise(&node, depth.parse().unwrap(), after, &returning).await;
            }
            ["report"] => report(&node, &consumers, &returning).await,
            _ => panic!("the node is told {command:?}"),
        }
        println!("ok");
    }
}

/// Says what it is given, once it does not fail. In the Relay revision what fails does so always; in the State revision,
/// whose nodes take no other payload under a nonce, only the first time.
fn program(revision: Revision) -> impl Fn(ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> + Send + Sync {
    let failed = Mutex::new(BTreeSet::new());
    move |input| {
        let text = String::from_utf8_lossy(input.onchain).into_owned();
        let Some(id) = orders::failing(&text) else { return Ok(ProgramOutput::new(text.into_bytes())) };
        if revision == Revision::State && !failed.lock().unwrap().insert(id.to_owned()) {
            return Ok(ProgramOutput::new(id.as_bytes().to_vec()));
        }
        Ok(ProgramOutput::new(Vec::new()).with_cycles(u64::MAX))
    }
}

/// The last blocks are not what they were. What was in them is in a pool, and in a later block after a while.
async fn reorganise(node: &Arc<DevNode>, depth: u64, after: Duration, returning: &Arc<AtomicUsize>) {
    let chain = node.chain();
    // Nothing lands between the look and the reorganisation.
    node.faults().stall_relays(true);
    let kept = chain.head().number.saturating_sub(depth);
    let mut calls = Vec::new();
    for job in chain.all_completed().into_iter().filter(|job| job.block_number > kept) {
        let question = [Question::Transaction(job.tx_hash)];
        let answer = chain.to_chain().reader().ask(&question).await.unwrap().remove(0).unwrap();
        let Answer::Transaction(Some(transaction)) = answer else { panic!("a result without a transaction") };
        calls.push(submitResultForOffchainJobCall::abi_decode(&transaction.input).unwrap());
    }
    let depth = chain.head().number - kept;
    chain.reorganise(depth);
    node.faults().stall_relays(false);
    returning.fetch_add(1, Ordering::SeqCst);
    let returning = Arc::clone(returning);
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        for call in calls {
            let blobs = OffchainResultWithMetadata::abi_decode(&call.result).unwrap().versionedBlobHashes;
            let landed =
                chain.submit_result(&call.result, &call.resultSignature, &call.request, &call.requestSignature, &blobs);
            // Another reorganisation may have had it in its pool, too.
            _ = landed;
        }
        returning.fetch_sub(1, Ordering::SeqCst);
    });
}

/// What landed, and what the node's records say of every nonce.
async fn report(node: &DevNode, consumers: &[Address], returning: &AtomicUsize) {
    while returning.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for job in node.chain().all_completed() {
        let consumer = consumers.iter().position(|consumer| *consumer == job.consumer).unwrap();
        println!("landed {consumer} {} {}", job.nonce, hex::encode(&job.result));
    }
    let mut records = Vec::new();
    node.wait_until(|view| {
        records.clear();
        for (number, consumer) in consumers.iter().enumerate() {
            let (mut nonce, mut unknown) = (1, 0);
            while unknown < UNKNOWN {
                match view.job_state(JobId::derive(nonce, *consumer).into()) {
                    Some(state) => records.push((number, nonce, state)),
                    None => unknown += 1,
                }
                nonce += 1;
            }
        }
        true
    })
    .await;
    for (consumer, nonce, state) in records {
        let word = match state {
            JobState::Pending => "pending",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Relayed => "relayed",
            _ => "other",
        };
        println!("record {consumer} {nonce} {word}");
    }
}
