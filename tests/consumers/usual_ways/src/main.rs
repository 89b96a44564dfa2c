//! Each of the five works beside the others, and sets up its TLS without a panic.

use alloy::providers::{Provider, ProviderBuilder};
use infinityvm_sdk::{
    Client, ErrorKind, JobId, Revision, chain::RpcReader, devnode::DevNode, primitives::B256, transport::GrpcTransport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::transport::{ClientTlsConfig, Endpoint};

#[path = "../../common.rs"]
mod common;

#[tokio::main]
async fn main() {
    let (hello, node) = (common::serve(), DevNode::builder(Revision::Relay).start().await.expect("a node"));

    let transport = GrpcTransport::builder(node.grpc_url()).build().expect("a transport");
    let client = Client::builder().transport(transport).connect().await.expect("a client");
    let unknown = client.get_result(JobId::from(B256::repeat_byte(7))).await.expect_err("no such job");
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{}", unknown.report());
    RpcReader::builder("https://localhost").connect().await.expect("a reader with TLS");

    let answer = reqwest::get(&hello).await.expect("an answer").text().await.expect("text");
    assert_eq!(answer, "hello");

    Endpoint::from_shared(node.grpc_url()).expect("an address").connect().await.expect("tonic's own channel");
    let tls = ClientTlsConfig::new().with_enabled_roots();
    let refused = Endpoint::from_static("https://127.0.0.1:1").tls_config(tls).expect("TLS").connect().await;
    refused.expect_err("nobody is there");

    let provider = ProviderBuilder::new().connect_http(hello.parse().expect("an address"));
    provider.get_block_number().await.expect_err("no chain says hello");

    let database = sqlx::SqlitePool::connect("sqlite::memory:").await.expect("a database");
    let two: i64 = sqlx::query_scalar("SELECT 1 + 1").fetch_one(&database).await.expect("an answer");
    assert_eq!(two, 2);
    // A server that agrees to TLS and goes away.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("postgres://user@localhost:{}/db?sslmode=require", listener.local_addr().expect("bound").port());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket.read_exact(&mut [0; 8]).await.expect("the question for TLS");
        socket.write_all(b"S").await.expect("yes");
        // What comes is the first message of TLS.
        assert_eq!(socket.read_u8().await.expect("a handshake"), 0x16);
    });
    sqlx::PgPool::connect(&url).await.expect_err("the server is gone");
    server.await.expect("sqlx has begun with TLS");
    println!("each works beside the others");
}
