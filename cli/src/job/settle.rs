//! `ivm job verify`, `post` and `replace`: what is done with a result, or instead of one.

use std::path::PathBuf;

use clap::Args;
use infinityvm_sdk::{OffchainJobRequest, Proof, Result, SignedJob, chain::RpcPoster, primitives::Address};
use serde_json::json;

use super::{
    result::ResultOptions,
    send::{SendOptions, save},
};
use crate::{
    chain,
    cli::Globals,
    connect,
    input::Source,
    keys::KeyOptions,
    output::{Output, Page},
    text::refused,
};

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The proof's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    #[command(flatten)]
    result: ResultOptions,
}

#[derive(Args, Debug)]
pub struct PostArgs {
    /// The proof's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    /// The most to bid for a unit of gas, in wei
    #[arg(long, value_name = "WEI")]
    max_fee: Option<u64>,

    /// The account that pays
    #[command(flatten)]
    keys: KeyOptions,
}

#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The file of the signed job that failed
    #[arg(value_name = "FAILED")]
    failed: Source,

    /// The file of the new job: signed under the same nonce, or built and signed here. - is standard input
    #[arg(value_name = "NEW")]
    new: Source,

    #[command(flatten)]
    keys: KeyOptions,

    /// Write the new signed job to this file before it is sent
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    #[command(flatten)]
    send: SendOptions,
}

impl VerifyArgs {
    /// Needs no network, if the operator is given.
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let proof: Proof = self.file.json("a proof")?;
        let verified = proof.verify(operator(globals).await?)?;
        self.result.tell(&verified, None, output)
    }
}

async fn operator(globals: &Globals) -> Result<Address> {
    match globals.operator {
        Some(operator) => Ok(operator),
        None => chain::of(globals).await?.ok_or_else(connect::no_operator)?.operator().await,
    }
}

impl PostArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let proof: Proof = self.file.json("a proof")?;
        let chain = chain::required(globals).await?;
        let operator = match globals.operator {
            Some(operator) => operator,
            None => chain.operator().await?,
        };
        let verified = proof.verify(operator)?;
        let key = RpcPoster::key(*self.keys.key(output)?)?;
        let mut poster = RpcPoster::over_any(chain::readers(globals).await?, key)?;
        if let Some(wei) = self.max_fee {
            poster = poster.with_max_fee(wei);
        }
        let client = connect::builder(globals).await?.revision(proof.job().revision()).poster(poster).connect().await?;
        let progress = output.progress("posting the result");
        let posting = client.post_result(proof.job(), &verified);
        let posted = match globals.timeout {
            Some(timeout) => posting.timeout(timeout).await?,
            None => posting.await?,
        };
        drop(progress);
        let page = Page::default()
            .row("job", posted.job_id)
            .maybe("transaction", posted.tx_hash)
            .maybe("block", posted.block_number)
            .row("posted by", if posted.already { "somebody else" } else { "this account" });
        output.answer(
            &json!({
                "id": posted.job_id,
                "tx_hash": posted.tx_hash,
                "block_number": posted.block_number,
                "already": posted.already,
                "wasted": posted.wasted,
            }),
            page,
        );
        Ok(())
    }
}

impl ReplaceArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        if (&self.failed, &self.new) == (&Source::Stdin, &Source::Stdin) {
            return Err(refused("both jobs are to come from standard input").with_hint("give one of them as a file"));
        }
        self.send.check(globals).await?;
        let failed: SignedJob = self.failed.json("a signed job")?;
        let revision = connect::revision(globals, &failed)?;
        let text: serde_json::Value = self.new.json("a job")?;
        let read = |error| refused(format!("{} does not hold a job", self.new.name())).with_source(error);
        let signed = text.get("signature").is_some();
        let new: SignedJob = if signed {
            serde_json::from_value(text).map_err(read)?
        } else {
            let job: OffchainJobRequest = serde_json::from_value(text).map_err(read)?;
            job.prepare(revision, failed.nonce())?.sign(&self.keys.signer(output)?).await?
        };
        let client = self.send.builder(globals).await?.revision(revision).connect().await?;
        if let Some(path) = &self.save {
            save(&new, path)?;
        }
        let handle = client.resume(failed)?;
        let file = match &self.new {
            Source::File(path) if signed => Some(path.as_path()),
            _ => self.save.as_deref(),
        };
        let replaced = client.replace_signed(&handle, new.clone());
        self.send.finish(replaced, &client, &new, file, globals, output).await
    }
}
