//! What a real chain says, both ways, and by a provider of alloy.

use std::time::{Duration, Instant};

use infinityvm_sdk::{
    chain::{Answer, At, Call, ChainReader, LogFilter, Question, RpcReader},
    primitives::{Address, B256, Bytes, U256, hex},
};
use serde_json::json;

use crate::{anvil::Anvil, rpc::Rpc};

/// Code that returns its blob hash of index 0; that reverts with one byte; that logs; that writes its first word to storage.
const BLOB_HASH: &str = "0x60004960005260206000f3";
const REVERTS: &str = "0x60016000526001601ffd";
const LOGS: &str = "0x6001600052602a60206000a100";
const FAILS: &str = "0xfe";

struct Stage {
    anvil: Anvil,
    rpc: Rpc,
    tx: B256,
}

fn at(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

async fn stage() -> Stage {
    let anvil = Anvil::start();
    let rpc = Rpc::new(anvil.http_url());
    for (byte, code) in [(1, BLOB_HASH), (2, REVERTS), (3, LOGS), (4, FAILS)] {
        rpc.call("anvil_setCode", json!([at(byte), code])).await;
    }
    let tx = rpc.send(anvil.address(0), Some(at(3)), &[9]).await.expect("sent");
    rpc.receipt(tx).await;
    Stage { anvil, rpc, tx }
}

async fn readers(stage: &Stage) -> Vec<(&'static str, RpcReader)> {
    let provider =
        alloy_provider::RootProvider::<alloy_provider::network::Ethereum>::new(alloy_rpc_client::RpcClient::new(
            alloy_transport_http::Http::with_client(bare(), stage.anvil.http_url().parse().expect("a URL")),
            true,
        ));
    vec![
        ("http", RpcReader::http(stage.anvil.http_url()).expect("a reader")),
        ("ws", RpcReader::ws(stage.anvil.ws_url()).await.expect("a reader")),
        ("provider", RpcReader::from_provider(provider)),
    ]
}

/// Nothing may be installed in the process, so the client of the test is given its TLS as well.
fn bare() -> reqwest::Client {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
    let tls = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client")
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn every_question_both_ways() {
    let stage = stage().await;
    for (name, reader) in readers(&stage).await {
        let heads = reader.ask(&[Question::Block(At::Number(0)), Question::Block(At::Latest)]).await.expect("asked");
        let (Ok(Answer::Block(Some(genesis))), Ok(Answer::Block(Some(head)))) = (&heads[0], &heads[1]) else {
            panic!("{name}: {heads:?}")
        };
        assert_eq!((genesis.number, head.number), (0, 1), "{name}");
        let mut blobs = Call::new(at(1), vec![]);
        blobs.blob_hashes = vec![B256::repeat_byte(1)];
        let unknown = B256::repeat_byte(0xab);
        let questions = [
            Question::ChainId,
            Question::Block(At::Hash(head.hash)),
            Question::Block(At::Hash(unknown)),
            Question::Block(At::Number(99)),
            Question::Code(at(4), At::Hash(head.hash)),
            Question::Code(at(9), At::Latest),
            Question::Call(Call::new(at(2), vec![]), At::Latest),
            Question::Call(Call::new(at(4), vec![]), At::Hash(head.hash)),
            Question::Call(Call::new(at(9), vec![]), At::Number(1)),
            Question::Receipt(stage.tx),
            Question::Receipt(unknown),
            Question::Transaction(stage.tx),
            Question::Transaction(unknown),
            Question::Logs(LogFilter::new(at(3), vec![vec![]], 0, 1)),
            Question::Call(Call::new(at(2), vec![]), At::Hash(unknown)),
            Question::Call(blobs, At::Latest),
        ];
        let mut answers = reader.ask(&questions).await.expect("asked");
        let blob = answers.pop().expect("one");
        let nowhere = answers.pop().expect("one");
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|error| panic!("{name}: {}", error.report())))
            .collect();
        assert_eq!(answers[0], Answer::ChainId(31337), "{name}");
        assert_eq!(answers[1], Answer::Block(Some(*head)), "{name}");
        assert_eq!(answers[2..4], [Answer::Block(None), Answer::Block(None)], "{name}");
        assert_eq!(answers[4..6], [Answer::Code(Bytes::from(hex!("fe"))), Answer::Code(Bytes::new())], "{name}");
        assert_eq!(answers[6], Answer::Reverted(Bytes::from(vec![1])), "{name}");
        assert_eq!(answers[7], Answer::Reverted(Bytes::new()), "{name}");
        assert_eq!(answers[8], Answer::Returned(Bytes::new()), "{name}");
        let Answer::Receipt(Some(receipt)) = &answers[9] else { panic!("{name}: {:?}", answers[9]) };
        assert!(receipt.succeeded && receipt.block_hash == head.hash && receipt.tx_hash == stage.tx, "{name}");
        assert_eq!(receipt.logs[0].topics, [B256::from(U256::from(0x2a))], "{name}");
        assert_eq!((&answers[10], &answers[12]), (&Answer::Receipt(None), &Answer::Transaction(None)), "{name}");
        let Answer::Transaction(Some(transaction)) = &answers[11] else { panic!("{name}: {:?}", answers[11]) };
        assert_eq!((transaction.to, &transaction.input), (Some(at(3)), &Bytes::from(vec![9])), "{name}");
        assert_eq!(answers[13], Answer::Logs(receipt.logs.clone()), "{name}");
        assert!(nowhere.is_err(), "{name}: {nowhere:?}");
        let expected = Answer::Returned(Bytes::copy_from_slice(B256::repeat_byte(1).as_slice()));
        assert_eq!(blob.unwrap_or_else(|error| panic!("{name}: {}", error.report())), expected, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn new_blocks_are_told_both_ways() {
    let stage = stage().await;
    for (name, reader) in readers(&stage).await {
        let head = reader.next_head(None).await.expect("a head");
        let wait = tokio::spawn({
            let reader = reader.clone();
            async move { reader.next_head(Some(head.hash)).await.map(|block| (block, Instant::now())) }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!wait.is_finished(), "{name}");
        let mined = Instant::now();
        stage.rpc.call("evm_mine", json!([])).await;
        let (block, told) = wait.await.expect("no panic").expect("a head");
        assert_eq!((block.number, block.parent), (head.number + 1, head.hash), "{name}");
        println!("{name}: told of a block after {:?}", told.duration_since(mined));
        assert!(told.duration_since(mined) < Duration::from_secs(5), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_reorganised_block_is_gone_and_the_new_head_is_told() {
    let stage = stage().await;
    for (name, reader) in readers(&stage).await {
        stage.rpc.call("anvil_mine", json!(["0x3"])).await;
        let old = reader.next_head(None).await.expect("a head");
        let known = match reader.ask(&[Question::Block(At::Latest)]).await.expect("asked").remove(0) {
            Ok(Answer::Block(Some(block))) => block,
            other => panic!("{name}: {other:?}"),
        };
        let wait = tokio::spawn({
            let reader = reader.clone();
            async move { reader.next_head(Some(known.hash)).await.expect("a head") }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Two blocks are replaced by as many, and one more is mined: some nodes tell only of that.
        stage.rpc.call("anvil_reorg", json!([2, []])).await;
        stage.rpc.call("evm_mine", json!([])).await;
        let new = wait.await.expect("no panic");
        assert_ne!(new.hash, known.hash, "{name}");
        let questions = [Question::Block(At::Hash(known.hash)), Question::Code(at(4), At::Hash(known.hash))];
        let answers = reader.ask(&questions).await.expect("asked");
        assert_eq!(answers[0].as_ref().expect("gone"), &Answer::Block(None), "{name}");
        println!("{name}: code at a block that is gone: {:?}", answers[1].as_ref().map_err(ToString::to_string));
        let _ = old;
    }
}
