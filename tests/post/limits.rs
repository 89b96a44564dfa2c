//! How posts ask: by the rules of all reads of a chain, with what was learnt of its RPC, and no more than that.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use infinityvm_sdk::RetryPolicy;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    edges::{Edge, SEND, both, once},
    pool::{TIP, error},
};

async fn posts(edge: &Edge, nonces: std::ops::RangeInclusive<u64>) {
    for nonce in nonces {
        let (job, verified) = edge.result(nonce).await;
        let post = edge.client.post_result(&job, &verified).await;
        assert!(!post.unwrap_or_else(|error| panic!("{}", error.report())).already);
    }
}

/// A server that is behind does not lack a form. Without a block the estimate would be made on the pool's state.
#[tokio::test(start_paused = true)]
async fn what_passes_is_not_learnt() {
    for (code, text) in [
        (-32000, "header not found"),
        (-32602, "header not found"),
        (-32000, "block not found"),
        (-32603, "service temporarily unavailable"),
        (-32005, "too many requests"),
        (-32000, "not found"),
    ] {
        both(|edge| async move {
            let (first, plain) = (once(), Arc::new(AtomicUsize::new(0)));
            let counted = Arc::clone(&plain);
            edge.chain.edge(move |method, params, chain| match method {
                "eth_estimateGas" if params[1] == Value::Null => {
                    counted.fetch_add(1, SeqCst);
                    error(-32000, "execution reverted: on the state of the pool")
                }
                "eth_estimateGas" if first() => error(code, text),
                _ => chain.forward(method, params),
            });
            let (job, verified) = edge.result(1).await;
            let told = edge.client.post_result(&job, &verified).await;
            // What is known to pass is asked again.
            assert!(text == "not found" || told.is_ok(), "{text}: {}", told.unwrap_err().report());
            posts(&edge, 2..=3).await;
            assert_eq!(plain.load(SeqCst), 0, "{text}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_does_not_lack_a_method() {
    for text in ["service is not available", "resource not found", "internal error", "method temporarily not available"]
    {
        both(|edge| async move {
            let first = once();
            edge.chain.edge(move |method, params, chain| match method {
                "eth_maxPriorityFeePerGas" if first() => error(-32000, text),
                _ => chain.forward(method, params),
            });
            posts(&edge, 1..=2).await;
            assert_eq!(edge.chain.sent()[1].tip, TIP, "{text}");
        })
        .await;
    }
}

/// What was learnt is not asked for again, and is tried again after a while.
#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_forgotten_in_the_end() {
    both(|edge| async move {
        let lacks = Arc::new(AtomicUsize::new(0));
        let (asked, begun) = (Arc::clone(&lacks), Instant::now());
        edge.chain.edge(move |method, params, chain| match method {
            "eth_maxPriorityFeePerGas" | "eth_estimateGas" if begun.elapsed() < Duration::from_secs(300) => {
                match (method, &params[1]) {
                    ("eth_estimateGas", Value::Null) => chain.forward(method, params),
                    ("eth_estimateGas", _) => {
                        asked.fetch_add(1, SeqCst);
                        error(-32602, "too many arguments, want at most 1")
                    }
                    _ => {
                        asked.fetch_add(1, SeqCst);
                        error(-32601, "Method not found")
                    }
                }
            }
            "eth_estimateGas" if params[1] == Value::Null => error(-32602, "missing value for required argument 1"),
            _ => chain.forward(method, params),
        });
        posts(&edge, 1..=5).await;
        assert_eq!(lacks.load(SeqCst), 2, "once each");
        tokio::time::sleep(Duration::from_secs(601)).await;
        posts(&edge, 6..=6).await;
        assert_eq!(edge.chain.sent().last().unwrap().tip, TIP);
    })
    .await;
}

/// By the policy that was set.
#[tokio::test(start_paused = true)]
async fn a_poster_repeats_its_reads_as_often_as_it_is_told() {
    for (policy, times) in [(RetryPolicy::none(), 1), (RetryPolicy::default().with_attempts(3), 3)] {
        both(|edge| {
            let policy = policy.clone();
            async move {
                edge.chain.edge(|method, params, chain| match (method, chain.forward(method, params)) {
                    ("eth_maxPriorityFeePerGas", _) => error(-32000, "service temporarily unavailable"),
                    (_, answer) => answer,
                });
                let client = edge.another(|poster| poster.with_retry(policy)).await;
                let (job, verified) = edge.result(1).await;
                // There is another way to learn the tip.
                client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
                let asked = edge.chain.methods().into_iter().filter(|it| it == "eth_maxPriorityFeePerGas").count();
                assert_eq!(asked, times);
            }
        })
        .await;
    }
}

/// Whatever a post reads is read again after a limit, and not before the pause is over that is asked for.
#[tokio::test(start_paused = true)]
async fn a_limit_ends_no_post_and_its_pause_is_kept() {
    let asked = ["eth_maxPriorityFeePerGas", "eth_estimateGas", "eth_getTransactionCount", "eth_getBalance", SEND];
    for method in asked {
        both(|edge| async move {
            let (seen, limited) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
            let noted = Arc::clone(&seen);
            edge.chain.edge(move |it, params, chain| {
                if asked.contains(&it) {
                    noted.lock().unwrap().push(Instant::now());
                }
                match it == method && limited.fetch_add(1, SeqCst) < 2 {
                    true => error(-32005, "too many requests, try again in 3s"),
                    false => chain.forward(it, params),
                }
            });
            posts(&edge, 1..=2).await;
            assert_eq!((edge.chain.results(), edge.signed()), ((2, 0), 2), "{method}");
            let seen = seen.lock().unwrap();
            let pauses = seen.windows(2).filter(|pair| pair[1] - pair[0] >= Duration::from_secs(3)).count();
            assert!(pauses >= 2, "{method}: {seen:?}");
        })
        .await;
    }
}
