//! The chain that the options describe.

use std::time::Duration;

use infinityvm_sdk::{
    Error, ErrorKind, Result,
    chain::{Chain, RpcReader},
};
use tokio::time::timeout;

use crate::{
    cli::Globals,
    connect::{FIRST_CONTACT, headers},
};

/// Readers of the RPCs, in their order.
pub async fn readers(globals: &Globals) -> Result<Vec<RpcReader>> {
    let headers = headers("--rpc-headers", &globals.rpc_headers)?;
    let mut readers = Vec::new();
    for url in &globals.rpc_url {
        let mut builder = RpcReader::builder(url);
        if globals.allow_plaintext {
            builder = builder.allow_plaintext();
        }
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        readers.push(builder.connect().await?);
    }
    Ok(readers)
}

/// The chain, if both an RPC and the JobManager were named.
pub async fn of(globals: &Globals) -> Result<Option<Chain>> {
    // An RPC alone is often in the environment, for cast.
    let (Some(job_manager), false) = (globals.job_manager, globals.rpc_url.is_empty()) else { return Ok(None) };
    let chain = Chain::over_any(readers(globals).await?, job_manager)?;
    if let [_] = globals.rpc_url[..] {
        first_contact(globals.timeout, chain.identity()).await?;
    }
    Ok(Some(chain))
}

/// Asks an RPC for the first time. Reads are patient with an RPC that is away; one that was never reached is told of at
/// once.
pub async fn first_contact<T>(limit: Option<Duration>, read: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = limit.map_or(FIRST_CONTACT, |limit| FIRST_CONTACT.min(limit));
    timeout(limit, read).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Chain, format!("the chain's RPC gave no answer within {limit:?}"))
            .with_retryable(true)
            .with_hint("check the address, and that the RPC runs; then try again"))
    })
}

/// The chain of a command that cannot do without.
pub async fn required(globals: &Globals) -> Result<Chain> {
    of(globals).await?.ok_or_else(|| {
        let missing = match (globals.rpc_url.is_empty(), globals.job_manager) {
            (true, _) => "--rpc-url (or ETH_RPC_URL)",
            (false, _) => "--job-manager (or IVM_JOB_MANAGER)",
        };
        Error::new(ErrorKind::InvalidConfig, format!("this needs the chain, and {missing} is missing"))
            .with_hint("name the chain's RPC and the JobManager contract on it")
    })
}
