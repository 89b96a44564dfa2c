//! `ivm nonce`.

use clap::Args;
use infinityvm_sdk::{Result, primitives::Address};
use serde_json::json;

use crate::{
    chain,
    cli::Globals,
    connect,
    exit::closing,
    output::{Output, Page},
    text,
};

#[derive(Args, Debug)]
pub struct NonceArgs {
    /// The app's contract
    #[arg(value_name = "CONSUMER", value_parser = text::address)]
    consumer: Address,

    /// Ask the node, too, which nonces it works on (Relay revision, gRPC)
    #[arg(long)]
    pending: bool,
}

impl NonceArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let chain = chain::required(globals).await?;
        let next = chain.next_nonce(self.consumer).await?;
        let most = chain.max_nonce(self.consumer).await?;
        let pending = if self.pending {
            let client = connect::builder(globals).await?.connect().await?;
            Some(closing(&client, client.pending_jobs(self.consumer)).await?)
        } else {
            None
        };
        let shown = pending.as_ref().map(|pending| {
            let words: Vec<_> = pending.iter().map(u64::to_string).collect();
            if words.is_empty() { "none".to_owned() } else { words.join(", ") }
        });
        let page = Page::default().row("next nonce", next).row("highest used", most).maybe("pending", shown);
        let value = json!({ "consumer": self.consumer, "next_nonce": next, "max_nonce": most, "pending": pending });
        output.answer(&value, page);
        Ok(())
    }
}
