//! RPCs that refuse some questions for good, contracts of a later make, signers of another account: what was not shown
//! is no verdict, and nothing is sent for it.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::time::Duration;

use alloy_consensus::SignableTransaction;
use alloy_network::TxSigner;
use alloy_primitives::Signature;
use alloy_sol_types::SolValue;
use async_trait::async_trait;
use infinityvm_sdk::{
    ErrorKind,
    chain::RpcPoster,
    primitives::{Address, Bytes, hex, keccak256},
};
use serde_json::{Value, json};

use crate::{
    edges::{CONSUMER, KEY, both},
    pool::{Outcome, error},
};

/// Whether this is a call of such a function.
fn calls(method: &str, params: &Value, signature: &str) -> bool {
    let selector = format!("0x{}", hex::encode(&keccak256(signature)[..4]));
    let data = params[0]["input"].as_str().or_else(|| params[0]["data"].as_str());
    method == "eth_call" && data.is_some_and(|data| data.starts_with(&selector))
}

/// Whoever signs the payload again for such a status runs it twice.
#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_known_is_no_other_job() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        edge.chain.edge(|method, params, chain| match chain.forward(method, params) {
            Outcome::Result(_) if calls(method, params, "getJobMetadata(bytes32)") => {
                let metadata = (Bytes::from_static(b"a program"), 7_u64, CONSUMER, 9_u32).abi_encode();
                Outcome::Result(json!(hex::encode_prefixed(metadata)))
            }
            outcome => outcome,
        });
        let error = edge.client.post_result(&job, &verified).await.unwrap_err();
        let report = error.report().to_string();
        assert_eq!(error.kind(), ErrorKind::Chain, "{report}");
        assert!(report.contains("status 9") && !report.contains("under another nonce"), "{report}");
        assert!(edge.chain.sent().is_empty());
    })
    .await;
}

/// Another payload has landed under the nonce, and the RPC does not say which.
#[tokio::test(start_paused = true)]
async fn a_result_is_not_taken_for_ones_own_as_the_inputs_are_refused() {
    for (code, text) in [
        (-32603, "Internal error"),
        (-32000, "missing trie node 8b2f (path )"),
        (-32602, "invalid params"),
        (-32601, "the method is not on your plan"),
        (-32000, "state is pruned"),
    ] {
        both(|edge| async move {
            let (landed, of_landed) = edge.result_of(1, b"another input".to_vec()).await;
            let (job, verified) = edge.result(1).await;
            assert_eq!(landed.id(), job.id());
            edge.client.post_result(&landed, &of_landed).await.unwrap();
            edge.chain.edge(move |method, params, chain| {
                let getters = ["getOnchainInputForJob(bytes32)", "getOffchainInputHashForJob(bytes32)"];
                match getters.iter().any(|getter| calls(method, params, getter)) {
                    true => error(code, text),
                    false => chain.forward(method, params),
                }
            });
            let sent = edge.chain.sent().len();
            let ended = edge.client.post_result(&job, &verified).await;
            let error = ended.expect_err("it is another payload's result");
            assert!(matches!(error.kind(), ErrorKind::NonceTaken | ErrorKind::Chain), "{text}: {}", error.report());
            // Nor is it said of the one that has landed that it has not.
            match edge.client.post_result(&landed, &of_landed).await {
                Ok(post) => assert!(post.already, "{text}"),
                Err(error) => assert!(error.kind() == ErrorKind::Chain && error.is_retryable(), "{}", error.report()),
            }
            assert_eq!(edge.chain.sent().len(), sent);
        })
        .await;
    }
}

/// The first of two RPCs refuses what has to be known, in words that no list has.
#[tokio::test(start_paused = true)]
async fn what_one_rpc_refuses_another_is_asked() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let refusing = edge.chain.reader_by(|method, params, chain| {
            let answer = match method {
                "eth_call" => error(-32601, "not on your plan"),
                _ => chain.forward(method, params),
            };
            (Duration::ZERO, answer)
        });
        let poster = RpcPoster::over(edge.chain.reader(), RpcPoster::key(KEY).unwrap());
        let client = edge.reading_by(vec![refusing, edge.chain.reader()], poster).await;
        let post = client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(!post.already && edge.chain.results() == (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_block_without_a_limit_of_gas_is_no_obstacle() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        edge.chain.edge(|method, params, chain| match chain.forward(method, params) {
            Outcome::Result(mut block) if method == "eth_getBlockByNumber" => {
                block["gasLimit"] = json!("0x0");
                Outcome::Result(block)
            }
            outcome => outcome,
        });
        edge.client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(edge.chain.results(), (1, 0));
    })
    .await;
}

/// Says that it signs for one account, and has the key of another, which would pay.
struct OtherAccount<S>(S);

#[async_trait]
impl<S: TxSigner<Signature> + Send + Sync> TxSigner<Signature> for OtherAccount<S> {
    fn address(&self) -> Address {
        RpcPoster::key([0x43; 32]).unwrap().address()
    }

    async fn sign_transaction(&self, tx: &mut dyn SignableTransaction<Signature>) -> alloy_signer::Result<Signature> {
        self.0.sign_transaction(tx).await
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_that_another_account_would_pay_for() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let client = edge.signing(OtherAccount(RpcPoster::key(KEY).unwrap())).await;
        let error = client.post_result(&job, &verified).await.unwrap_err();
        let payer = edge.account().to_string();
        assert_eq!(error.kind(), ErrorKind::Signer, "{}", error.report());
        assert!(error.to_string().contains(&payer), "{}", error.report());
        assert!(error.hint().is_some_and(|hint| hint.contains("nothing was sent")), "{}", error.report());
        assert!(edge.chain.sent().is_empty());
    })
    .await;
}
