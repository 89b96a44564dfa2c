//! With one provider nothing panics, and the transports speak TLS by it. Arguments: addresses of a node behind TLS, over
//! gRPC and over REST, and a file with the certificate of their authority.

use infinityvm_sdk::{
    Client, ErrorKind, JobId, Revision,
    primitives::B256,
    transport::{GrpcTransport, RestTransport},
};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};

#[path = "../../common.rs"]
mod common;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = common::serve();
    let [grpc, rest, ca] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("three arguments");
    let ca = std::fs::read(ca).expect("a certificate");

    let transport = GrpcTransport::builder(grpc).ca_certificate(ca.clone()).build().expect("gRPC with TLS");
    // Asks the node for its revision.
    let client = Client::builder().transport(transport).connect().await.expect("a node");
    assert_eq!(client.revision(), Revision::Relay);
    let transport = RestTransport::builder(rest).ca_certificate(ca).build().expect("REST with TLS");
    let client = Client::builder().transport(transport).revision(Revision::Relay).connect().await.expect("a client");
    let unknown = client.get_result(JobId::from(B256::repeat_byte(7))).await.expect_err("no such job");
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{}", unknown.report());
    assert!(CryptoProvider::get_default().is_none(), "nothing is installed by this crate");

    let answer = reqwest::get(url).await.expect("an answer").text().await.expect("text");
    assert_eq!(answer, "hello");
    ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
}
