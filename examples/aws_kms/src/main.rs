//! Jobs signed by AWS KMS. The key never leaves the service: `alloy-signer-aws` asks it, and `AlloySigner` makes a
//! signer of this SDK of that.
//!
//! ```sh
//! examples/aws_kms/run
//! ```
//!
//! Runs against a stand-in on this machine, which throttles and hangs. In earnest the client of KMS comes from
//! `aws_config::load_defaults`, and the rest is the same.

mod stand_in;

use std::{error::Error, time::Duration};

use alloy_signer_aws::AwsSigner;
use aws_credential_types::Credentials;
use aws_sdk_kms::config::{Region, retry::RetryConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use infinityvm_sdk::{
    AlloySigner, Client, ErrorKind, JobSigner, OffchainJobRequest, Outcome, RelayStrategy, RetryPolicy, Revision,
    Until,
    devnode::{ConsumerRules, DevNode},
    nonce::Sequential,
    primitives::Address,
};
use stand_in::{KEY_ID, Mood, StandIn};

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let service = StandIn::start().await;
    let key = AwsSigner::new(kms(&service.url()), KEY_ID.to_owned(), None).await?;
    // AWS's own client repeats what fails, but not for long. No person stands behind a key service, so whatever alloy
    // has no name for may be asked for again.
    let signer = AlloySigner::new(key).with_retry_if(|error| matches!(error, alloy_signer::Error::Other(_)));
    println!("account   {} (of the key {KEY_ID})", signer.address());
    check(signer.address() == service.account(), "the account is that of the service's key")?;

    // The node, and the app's contract, which lets this account sign.
    let consumer = Address::repeat_byte(7);
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await?;
    let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
    let client = Client::builder()
        .grpc(node.grpc_url())
        .operator(node.operator())
        .signer(signer)
        .nonces(Sequential::starting_at(1))
        .retry(RetryPolicy::default().with_signing_deadline(Duration::from_secs(10)))
        .connect()
        .await?;
    let job = OffchainJobRequest::builder(consumer, echo)
        .max_cycles(1_000)
        .onchain_input(vec![1, 2, 3])
        .relay(RelayStrategy::Ordered)
        .build()?;

    // Signed by the service, in DER, with a high s in half of the cases, and on chain as any other.
    for _ in 0..4 {
        let handle = client.submit(job.clone()).await?;
        handle.wait(Until::Relayed).await?;
        println!("relayed   nonce {}, job {}", handle.signed_job().nonce(), handle.id());
    }

    // It throttles for longer than AWS's client has patience.
    service.next([Mood::Throttles; 7]);
    let handle = client.submit(job.clone()).await?;
    handle.wait(Until::Relayed).await?;
    check(service.left() == 0, "all of its refusals were met")?;
    println!("relayed   nonce {}, although the service throttled", handle.signed_job().nonce());

    // It hangs: the signature is given up, nothing was sent, and the nonce is free for the next job.
    service.next([Mood::Hangs; 20]);
    let Err(error) = client.submit(job.clone()).await else { return Err("it hangs".into()) };
    println!("gave up   {error}");
    check((error.kind(), error.outcome()) == (ErrorKind::Signer, Outcome::NotSent), "nothing was sent")?;
    service.next([]);
    let handle = client.submit(job).await?;
    check(handle.signed_job().nonce() == 6, "the nonce was free again")?;
    handle.wait(Until::Relayed).await?;
    println!("relayed   nonce {}", handle.signed_job().nonce());
    check(node.chain().all_completed().len() == 6, "six jobs are on chain")
}

/// AWS's client, with what the stand-in needs: an address, and any credentials.
fn kms(url: &str) -> aws_sdk_kms::Client {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_sdk_kms::Config::builder()
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("stand-in", "stand-in", None, None, "example"))
        .endpoint_url(url)
        .http_client(http)
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(10)))
        .build();
    aws_sdk_kms::Client::from_conf(config)
}

/// So that a run that ends well has shown something.
fn check(holds: bool, what: &str) -> Result<(), AnyError> {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}
