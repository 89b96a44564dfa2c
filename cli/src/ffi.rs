//! `ivm ffi`: for forge's tests, which call it through `vm.tryFfi`.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::{Args, Subcommand};
use infinityvm_sdk::{
    Client, Error, ErrorKind, RelayStrategy, Result, Revision, SignedJob, Until,
    devnode::{ConsumerRules, DevNode},
    job::recover_signer,
    primitives::{SolValue, hex},
};

use crate::{
    cli::Globals,
    devnode::program::{How, ProgramArg, Runs},
    input::BytesArg,
};

#[derive(Debug, Subcommand)]
pub enum FfiCommand {
    /// Run a signed job's program here, and print what a JobManager takes
    Execute(ExecuteArgs),
}

/// Prints 0x and the hex digits of `abi.encode(bytes result, bytes operatorSignature, bytes32[] blobHashes)`, without an
/// end of line. The operator is that of the development node.
#[derive(Args, Debug)]
pub struct ExecuteArgs {
    /// What runs: a command with its arguments, the file of an ELF, which ivm-sp1 on the path runs, or example:NAME
    #[arg(long, value_name = "COMMAND", value_parser = Runs::parse)]
    program: Runs,

    /// The command reads the onchain input and writes the output, instead of speaking the protocol
    #[arg(long)]
    raw: bool,

    /// The ABI-encoded request, as it was signed: 0x and hex digits, or @FILE
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse)]
    request: BytesArg,

    /// The signature of the request
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse)]
    signature: BytesArg,

    /// The offchain input
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse, default_value = "0x")]
    offchain_input: BytesArg,

    /// The state, in the State revision
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse, default_value = "0x")]
    state: BytesArg,
}

impl FfiCommand {
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let Self::Execute(args) = self;
        let answer = args.execute(globals.revision.unwrap_or(Revision::Relay), globals.timeout).await?;
        let mut stdout = io::stdout();
        // forge takes an end of line for a part of the digits.
        let written = stdout.write_all(hex::encode_prefixed(answer).as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| Error::new(ErrorKind::InvalidInput, "the answer cannot be written").with_source(error))
    }
}

impl ExecuteArgs {
    async fn execute(self, revision: Revision, time_limit: Option<Duration>) -> Result<Vec<u8>> {
        let (offchain, state) = (self.offchain_input.read()?, self.state.read()?);
        let (request, signature) = (self.request.read()?, self.signature.read()?);
        // Whose signature it is, and whether it is one, the test's own contracts say.
        let signer = recover_signer(&request, &signature).unwrap_or_default();
        let job = SignedJob::from_parts(revision, request, signature, offchain, state, RelayStrategy::Unordered)?;
        let node =
            DevNode::builder(revision).consumer(job.consumer(), ConsumerRules::signed_by(signer)).start().await?;
        // Whether the contracts take the result is for the test's own ones to say.
        node.faults().stall_relays(true);
        let id = job.program_id().as_bytes().clone();
        let how = How { revision, raw: self.raw, time_limit };
        ProgramArg { id: Some(id), what: self.program }.register(&node, how).await?;
        let client = Client::builder().grpc(node.grpc_url()).operator(node.operator()).connect().await?;
        let handle = client.submit_signed(job).await?;
        let result = handle.wait(Until::Executed).await.map_err(|error| {
            let stats = node.stats();
            match stats.last_execution_error(handle.id().into()) {
                Some(why) => Error::new(ErrorKind::JobFailed, format!("the program has no output: {why}")),
                None => error,
            }
        })?;
        let answer = (result.result_with_metadata(), result.operator_signature(), result.blob_hashes());
        Ok((answer.0.clone(), answer.1.clone(), answer.2.to_vec()).abi_encode_params())
    }
}
