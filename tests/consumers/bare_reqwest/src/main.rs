//! What happens to a user's own reqwest, which has no TLS, and what mends it.

use std::panic::catch_unwind;

use infinityvm_sdk::{
    tls,
    transport::{GrpcTransport, RestTransport},
};

#[path = "../../common.rs"]
mod common;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = common::serve();
    // This crate needs no provider of the process, and brings none.
    GrpcTransport::builder("https://localhost").build().expect("gRPC with TLS");
    RestTransport::builder("https://localhost").build().expect("REST with TLS");

    let panic = catch_unwind(|| reqwest::Client::builder().build()).expect_err("a panic");
    println!("{}", common::text(panic));
    let get = tokio::spawn(reqwest::get(url.clone())).await.expect_err("a panic");
    assert!(get.is_panic());

    tls::install_default();
    // Again is no harm.
    tls::install_default();
    let answer = reqwest::get(url).await.expect("an answer").text().await.expect("text");
    assert_eq!(answer, "hello");
}
