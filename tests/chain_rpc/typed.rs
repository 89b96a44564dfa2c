//! The typed reads of `Batch`, of what a scripted reader says.

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, JobId, Result, Revision,
    chain::{Answer, Batch, Block, Chain, ChainReader, OnchainStatus, Question, Revert, SignatureCheck, Ticket},
    primitives::{Address, B256, Bytes, SolValue, U256, hex},
};

/// Says the same to every call.
#[derive(Debug)]
struct Says(Answer);

#[async_trait]
impl ChainReader for Says {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        Ok(questions.iter().map(|_| Ok(self.0.clone())).collect())
    }

    async fn next_head(&self, _: Option<B256>) -> Result<Block> {
        Err(Error::new(ErrorKind::Chain, "no blocks here"))
    }

    fn endpoint(&self) -> &str {
        "a script"
    }
}

async fn take<T>(answer: Answer, ask: impl FnOnce(&mut Batch) -> Ticket<T>) -> Result<T> {
    let chain = Chain::new(Says(answer), Address::repeat_byte(1));
    let mut batch = chain.batch();
    let ticket = ask(&mut batch);
    batch.send().await?.take(ticket)
}

fn returned(bytes: impl Into<Bytes>) -> Answer {
    Answer::Returned(bytes.into())
}

fn job() -> JobId {
    JobId::from(B256::repeat_byte(3))
}

#[tokio::test]
async fn metadata_comes_as_a_struct_or_as_its_values() {
    let program = Bytes::from(vec![7; 32]);
    let values = (program.clone(), 5_u64, Address::repeat_byte(2), U256::from(3));
    let forms = [("struct", values.abi_encode()), ("values", values.abi_encode_params())];
    assert_ne!(forms[0].1, forms[1].1);
    for (name, bytes) in forms {
        let metadata = take(returned(bytes), |batch| batch.job_metadata(job())).await.expect(name);
        assert_eq!((metadata.program_id, metadata.max_cycles), (program.clone(), 5), "{name}");
        assert_eq!((metadata.consumer, metadata.status), (Address::repeat_byte(2), OnchainStatus::Completed), "{name}");
    }
    for (number, status) in [
        (0_u64, OnchainStatus::Unknown),
        (1, OnchainStatus::Pending),
        (2, OnchainStatus::Cancelled),
        (9, OnchainStatus::Unrecognized(9)),
    ] {
        let bytes = (Bytes::new(), 0_u64, Address::ZERO, U256::from(number)).abi_encode_params();
        assert_eq!(take(returned(bytes), |batch| batch.job_metadata(job())).await.expect("read").status, status);
    }
    for bytes in [vec![], vec![0; 31], vec![0xff; 128], (U256::from(32), U256::MAX).abi_encode()] {
        let error = take(returned(bytes), |batch| batch.job_metadata(job())).await.expect_err("none");
        assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Chain, Some("a script")));
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn signatures_are_valid_by_the_magic_value_alone() {
    let ask = |batch: &mut Batch| batch.is_valid_signature(Address::ZERO, B256::ZERO, Bytes::new());
    let mut magic = vec![0; 32];
    magic[..4].copy_from_slice(&hex!("1626ba7e"));
    assert_eq!(take(returned(magic.clone()), ask).await.expect("said"), SignatureCheck::Valid);
    let mut right = vec![0; 32];
    right[28..].copy_from_slice(&hex!("1626ba7e"));
    let mut dirty = magic.clone();
    dirty[31] = 1;
    for other in [right, dirty, vec![0xff; 32], magic[..4].to_vec(), vec![], vec![0; 32]] {
        assert_eq!(take(returned(other.clone()), ask).await.expect("said"), SignatureCheck::Invalid, "{other:?}");
    }
    let reason = Bytes::from(vec![1, 2]);
    assert_eq!(take(Answer::Reverted(reason.clone()), ask).await.expect("said"), SignatureCheck::Reverted(reason));
    assert!(take(Answer::ChainId(1), ask).await.is_err());
}

#[tokio::test]
async fn functions_that_are_not_there() {
    // No contract at all, or one without the function.
    for nothing in [returned(vec![]), Answer::Reverted(Bytes::new())] {
        for revision in [Revision::State, Revision::Relay] {
            let state = take(nothing.clone(), |batch| batch.latest_state(Address::ZERO, revision)).await;
            assert_eq!(state.expect("optional"), None);
        }
        let signer = take(nothing.clone(), |batch| batch.offchain_signer(Address::ZERO)).await;
        assert_eq!(signer.expect("optional"), None);
        let manager = take(nothing.clone(), |batch| batch.job_manager_of(Address::ZERO)).await;
        assert_eq!(manager.expect("optional"), None);
        let nonce = take(nothing.clone(), |batch| batch.next_nonce(Address::ZERO)).await.expect_err("must be there");
        assert!(nonce.to_string().contains("getNextNonce") && nonce.hint().is_some(), "{nonce}");
        let operator = take(nothing, Batch::operator).await.expect_err("must be there");
        assert_eq!(operator.kind(), ErrorKind::Chain);
    }
    let signer =
        take(returned(Address::repeat_byte(4).abi_encode()), |batch| batch.offchain_signer(Address::ZERO)).await;
    assert_eq!(signer.expect("read"), Some(Address::repeat_byte(4)));
}

#[tokio::test]
async fn values_that_are_none() {
    // A nonce beyond 64 bits, an address with dirt, half a word.
    for bytes in [U256::MAX.abi_encode(), vec![0xff; 31]] {
        assert!(take(returned(bytes.clone()), |batch| batch.next_nonce(Address::ZERO)).await.is_err());
        assert!(take(returned(bytes.clone()), Batch::operator).await.is_err());
        assert!(take(returned(bytes), |batch| batch.offchain_signer(Address::ZERO)).await.is_err());
    }
    assert_eq!(take(returned(7_u64.abi_encode()), |batch| batch.next_nonce(Address::ZERO)).await.expect("read"), 7);
}

#[tokio::test]
async fn reverts_are_told_in_words() {
    let reason = [&hex!("08c379a0")[..], &"not\nnow".to_owned().abi_encode()].concat();
    let error = take(Answer::Reverted(reason.into()), Batch::operator).await.expect_err("reverted");
    assert!(
        error.to_string().contains("getCoprocessorOperator reverted") && !error.to_string().contains('\n'),
        "{error}"
    );
    let panic = [&hex!("4e487b71")[..], &U256::from(0x11).abi_encode()].concat();
    assert_eq!(Revert::decode(&panic), Revert::Panic(0x11));
    assert_eq!(Revert::decode(&[]), Revert::Empty);
    assert!(matches!(Revert::decode(&[1, 2, 3, 4]), Revert::Custom(_)));
}

#[tokio::test]
async fn a_reader_that_miscounts_is_an_error() {
    #[derive(Debug)]
    struct Short;
    #[async_trait]
    impl ChainReader for Short {
        async fn ask(&self, _: &[Question]) -> Result<Vec<Result<Answer>>> {
            Ok(vec![])
        }
        async fn next_head(&self, _: Option<B256>) -> Result<Block> {
            Err(Error::new(ErrorKind::Chain, "none"))
        }
        fn endpoint(&self) -> &str {
            "short"
        }
    }
    let error = Chain::new(Short, Address::ZERO).operator().await.expect_err("no answer");
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Chain, Some("short")));
}
