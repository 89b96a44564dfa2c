//! Addresses: which are taken, and that nothing of them is shown that may be a key.

use infinityvm_sdk::{ErrorKind, chain::Chain, primitives::Address};

use support::closed_port::closed_port;

use crate::harness::within;

const KEY: &str = "a1b2c3d4e5f60718";

#[tokio::test]
async fn addresses_may_be_of_both_kinds_and_their_keys_are_never_shown() {
    within(async {
        let closed = closed_port();
        let urls = [format!("ws://{closed}/v3/{KEY}"), format!("http://{closed}/?key={KEY}")];
        let chain = Chain::connect_any(urls, Address::ZERO).await.unwrap();
        let policy = infinityvm_sdk::RetryPolicy::none();
        let error = chain.clone().with_retry(policy).next_nonce(Address::ZERO).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Chain && error.is_retryable(), "{error:?}");
        let rpcs = chain.rpcs();
        assert_eq!(rpcs.len(), 2);
        assert!(rpcs.iter().all(|rpc| rpc.left.is_some() && rpc.head.is_none()), "{rpcs:?}");
        for shown in [format!("{chain:?}"), format!("{rpcs:?}"), format!("{error:?}"), error.report().to_string()] {
            assert!(!shown.contains(KEY) && shown.contains(&closed.to_string()), "{shown}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_address_is_refused_and_so_is_none() {
    let none: [&str; 0] = [];
    for urls in [&none[..], &["http://127.0.0.1:1", "ftp://127.0.0.1:1"], &["http://rpc.example.org"]] {
        let error = Chain::connect_any(urls.to_vec(), Address::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{urls:?}: {error:?}");
    }
}
