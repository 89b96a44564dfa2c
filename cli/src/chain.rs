//! The chain that the options describe.

use infinityvm_sdk::{
    Error, ErrorKind, Result,
    chain::{Chain, RpcReader},
};

use crate::cli::Globals;

/// Readers of the RPCs, in their order.
pub async fn readers(globals: &Globals) -> Result<Vec<RpcReader>> {
    let mut readers = Vec::new();
    for url in &globals.rpc_url {
        let mut builder = RpcReader::builder(url);
        if globals.allow_plaintext {
            builder = builder.allow_plaintext();
        }
        readers.push(builder.connect().await?);
    }
    Ok(readers)
}

/// The chain, if both an RPC and the JobManager were named.
pub async fn of(globals: &Globals) -> Result<Option<Chain>> {
    // An RPC alone is often in the environment, for cast.
    let (Some(job_manager), false) = (globals.job_manager, globals.rpc_url.is_empty()) else { return Ok(None) };
    Chain::over_any(readers(globals).await?, job_manager).map(Some)
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
