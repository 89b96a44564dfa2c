//! `ivm ffi execute` by itself: what forge reads, and what it says where it cannot run a job.

use infinityvm_sdk::{
    LocalSigner, OffchainJobRequest, Proof, RelayStrategy, Revision, SignedJob,
    devnode::DEV_OPERATOR,
    primitives::{Address, B256, Bytes, SolValue, hex},
};

use crate::{
    rig::{Done, Folder},
    running::word,
};

async fn job(revision: Revision, onchain: Vec<u8>) -> SignedJob {
    let signer = LocalSigner::from_bytes([0x51; 32]).unwrap();
    let job = OffchainJobRequest::builder(Address::repeat_byte(7), vec![9; 32]).max_cycles(5_000);
    let job = job.onchain_input(onchain).offchain_input(b"off".to_vec()).build().unwrap();
    job.prepare(revision, 3).unwrap().sign(&signer).await.unwrap()
}

/// What `OffchainJobs.sol` calls.
fn execute(folder: &Folder, job: &SignedJob, program: &[&str], more: &[&str]) -> Done {
    let (request, signature) = (hex::encode_prefixed(job.request()), hex::encode_prefixed(job.signature()));
    let given = ["--request", &request, "--signature", &signature, "--offchain-input", "0x6f6666"];
    let revision = ["ffi", "execute", "--revision", job.revision().name(), "--program"];
    folder.ivm(&[&revision, program, &given, more].concat())
}

#[tokio::test]
async fn it_prints_one_tuple_that_verifies() {
    let folder = Folder::new();
    for revision in Revision::ALL {
        let job = job(revision, word(144)).await;
        let done = execute(&folder, &job, &["example:square-root"], &[]);
        assert_eq!((done.code, done.err.as_str()), (0, ""));
        assert!(done.out.starts_with("0x") && !done.out.ends_with('\n'));
        let tuple = <(Bytes, Bytes, Vec<B256>)>::abi_decode_params(&hex::decode(&done.out).unwrap()).unwrap();
        let result = Proof::new(job, tuple.0, tuple.1).verify(DEV_OPERATOR).unwrap();
        assert_eq!(**result.output(), [word(144), word(12)].concat());
        assert_eq!((result.blob_hashes(), tuple.2.len()), (&*tuple.2, usize::from(revision == Revision::Relay)));
    }
}

#[tokio::test]
async fn a_signature_of_nobody_is_the_contracts_affair() {
    let job = job(Revision::Relay, word(9)).await;
    let parts = (job.request().clone(), Bytes::from_static(b"no signature"), job.offchain_input().clone());
    let forged =
        SignedJob::from_parts(Revision::Relay, parts.0, parts.1, parts.2, Bytes::new(), RelayStrategy::Unordered);
    execute(&Folder::new(), &forged.unwrap(), &["example:square-root"], &[]).ok();
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let folder = Folder::new();
    let job = job(Revision::Relay, b"abc".to_vec()).await;
    for (program, more, code, says) in [
        (&["example:square-root"][..], &[][..], 1, "the onchain input is 3 bytes long"),
        (&["false", "--raw"], &[], 1, "the program has no output"),
        (&["./none"], &[], 2, "cannot be started"),
        (&["example:cube"], &[], 2, "square-root and sum"),
        (&["true"], &["--state", "0x00"], 2, "state"),
        (&["true"], &["--state", "@none.bin"], 2, "none.bin cannot be read"),
        (&["true"], &["--state", "00"], 2, "use 0x and hex digits"),
    ] {
        let done = execute(&folder, &job, program, more);
        assert!(done.fails(code).contains(says), "{program:?} {more:?}: {}", done.err);
        assert_eq!(done.out, "");
    }
    let garbled = folder.ivm(&["ffi", "execute", "--program", "true", "--request", "0x00", "--signature", "0x00"]);
    assert!(garbled.fails(2).contains("request"), "{}", garbled.err);
}
