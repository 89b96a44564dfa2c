//! What happens to a user's own rustls where there are two providers, and what mends it.

use std::panic::catch_unwind;

use infinityvm_sdk::{
    tls,
    transport::{GrpcTransport, RestTransport},
};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};

#[path = "../../common.rs"]
mod common;

fn main() {
    // This crate is not in doubt.
    GrpcTransport::builder("https://localhost").build().expect("gRPC with TLS");
    RestTransport::builder("https://localhost").build().expect("REST with TLS");
    assert!(CryptoProvider::get_default().is_none(), "and installs nothing");

    println!("{}", common::text(catch_unwind(ClientConfig::builder).map(|_| ()).expect_err("a panic")));

    tls::install_default();
    ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let ring = rustls::crypto::ring::default_provider();
    let installed = CryptoProvider::get_default().expect("installed");
    assert_eq!(format!("{:?}", installed.secure_random), format!("{:?}", ring.secure_random), "ring");
}
