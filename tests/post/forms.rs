//! Forms in which RPCs say the same of a transaction: that there is none, and that it is in no block yet.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{future::IntoFuture, time::Duration};

use infinityvm_sdk::primitives::B256;
use serde_json::{Value, json};

use crate::{
    edges::{both, until},
    pool::{BASE_FEE, Outcome, error},
};

const BY_HASH: [&str; 2] = ["eth_getTransactionByHash", "eth_getTransactionReceipt"];

/// In place of null: errors, and things without a word.
fn absences() -> Vec<Outcome> {
    let errors = [
        (-32000, "transaction not found"),
        (-32001, "Resource not found."),
        (-32603, "tx (0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060) not found"),
        (-32000, "Transaction receipt not found"),
        (-32000, "no such transaction"),
        (3, "the transaction does not exist"),
        (-32000, "unknown transaction"),
    ];
    let mut all: Vec<_> = errors.into_iter().map(|(code, text)| error(code, text)).collect();
    all.push(Outcome::Result(Value::Null));
    all
}

/// A stranger's transaction takes the account nonce: that one's own is gone has to be read of its absence.
#[tokio::test(start_paused = true)]
async fn that_there_is_no_such_transaction_is_said_in_many_forms() {
    for absent in absences() {
        both(|edge| {
            let absent = absent.clone();
            async move {
                let (told, (job, verified)) = (absent.clone(), edge.result(1).await);
                edge.chain.edge(move |method, params, chain| match chain.forward(method, params) {
                    Outcome::Result(Value::Null) if BY_HASH.contains(&method) => told.clone(),
                    answer => answer,
                });
                let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
                until(|| edge.chain.pooled() > 0).await;
                edge.chain.put_strangers(edge.account(), 0);
                let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{absent:?}: {}", error.report()));
                assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 2, (1, 0)), "{absent:?}");
            }
        })
        .await;
    }
}

/// An index that is made yet, or a history that is gone, says nothing of a transaction: the next one is not signed on
/// the strength of it.
#[tokio::test(start_paused = true)]
async fn that_an_rpc_cannot_tell_is_no_absence() {
    for text in [
        "transaction indexing is in progress",
        "the method eth_getTransactionByHash does not exist/is not available",
        "transaction not found: block history is pruned",
        "transactions not available",
    ] {
        both(|edge| async move {
            let (job, verified) = edge.result(1).await;
            edge.chain.edge(move |method, params, chain| match chain.forward(method, params) {
                Outcome::Result(Value::Null) if BY_HASH.contains(&method) => error(-32000, text),
                answer => answer,
            });
            let posting = edge.client.post_result(&job, &verified).timeout(Duration::from_secs(40));
            let posting = tokio::spawn(posting.into_future());
            until(|| edge.chain.pooled() > 0).await;
            edge.chain.put_strangers(edge.account(), 0);
            let failed = posting.await.unwrap().unwrap_err();
            assert_eq!(failed.outcome(), infinityvm_sdk::Outcome::Unknown, "{text}: {}", failed.report());
            assert_eq!(edge.signed(), 1, "{text}");
        })
        .await;
    }
}

/// A transaction that waits, with a block of zeros, and a receipt that says as little.
#[tokio::test(start_paused = true)]
async fn what_has_a_block_of_zeros_is_in_no_block() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        edge.chain.edge(move |method, params, chain| {
            let answer = chain.forward(method, params);
            let waits =
                |it: &Outcome| matches!(it, Outcome::Result(it) if it["blockNumber"].is_null() && it.is_object());
            match (method, answer) {
                ("eth_getTransactionByHash", Outcome::Result(mut it)) if waits(&Outcome::Result(it.clone())) => {
                    (it["blockNumber"], it["blockHash"]) = (json!("0x0"), json!(B256::ZERO));
                    Outcome::Result(it)
                }
                ("eth_getTransactionReceipt", Outcome::Result(Value::Null))
                    if waits(&chain.forward("eth_getTransactionByHash", params)) =>
                {
                    Outcome::Result(json!({
                        "transactionHash": params[0], "blockNumber": "0x0", "blockHash": B256::ZERO, "status": "0x0",
                        "logs": null,
                    }))
                }
                (_, answer) => answer,
            }
        });
        let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
        until(|| edge.chain.pooled() > 0).await;
        edge.chain.set_base_fee(7 * BASE_FEE);
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        let sent = edge.chain.sent();
        assert_eq!((post.already, edge.chain.results(), post.tx_hash), (false, (1, 0), Some(sent[1].hash)));
    })
    .await;
}
