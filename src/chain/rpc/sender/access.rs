//! An RPC as the sender asks it. Reads are repeated by the policy of all reads of a chain, and what the RPC lacks is
//! remembered for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use alloy_transport::{RpcError, TransportError};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    chain::{
        blobs::BlobForm,
        rpc::{Received, RpcReader, fault},
    },
    error::{Error, Result},
    retry::{Retries, RetryPolicy},
    sync::Lock,
};

/// How long the RPC is believed to lack something. Not all of its servers need be alike, nor stay as they are.
const BELIEVED: Duration = Duration::from_secs(600);

/// One way to an RPC. A transaction is prepared, sent and looked for through one of them from beginning to end: servers
/// of different RPCs differ in what their pools hold.
pub(super) struct Access {
    reader: RpcReader,
    lacks: Lacks,
    /// A budget of its own. Nothing where another RPC is asked instead.
    retries: Option<Lock<Arc<Retries>>>,
}

/// What an RPC was found to lack, and when.
#[derive(Default)]
struct Lacks {
    /// `eth_maxPriorityFeePerGas`.
    tip: Lock<Option<Instant>>,
    /// A block as the second parameter of `eth_estimateGas`.
    block: Lock<Option<Instant>>,
    /// Transactions of more gas than EIP-7825 allows.
    gas: Lock<Option<Instant>>,
    /// Blobs in the form before Osaka.
    plain_blobs: AtomicBool,
}

fn believed(found: &Lock<Option<Instant>>) -> bool {
    found.lock().is_some_and(|found| found.elapsed() < BELIEVED)
}

impl Access {
    /// Whether what fails is asked again.
    pub(super) fn new(reader: RpcReader, repeats: bool) -> Self {
        let retries = repeats.then(|| Lock::from(Arc::new(Retries::new(RetryPolicy::default()))));
        Self { reader, lacks: Lacks::default(), retries }
    }

    pub(super) fn repeat(&self, policy: RetryPolicy) {
        if let Some(retries) = &self.retries {
            *retries.lock() = Arc::new(Retries::new(policy));
        }
    }

    pub(super) fn suggests_tips(&self) -> bool {
        !believed(&self.lacks.tip)
    }

    pub(super) fn note_no_tips(&self) {
        *self.lacks.tip.lock() = Some(Instant::now());
    }

    pub(super) fn takes_blocks(&self) -> bool {
        !believed(&self.lacks.block)
    }

    pub(super) fn note_no_blocks(&self) {
        *self.lacks.block.lock() = Some(Instant::now());
    }

    /// Whether it has refused a transaction for more gas than one may have.
    pub(super) fn holds_to_the_gas_cap(&self) -> bool {
        believed(&self.lacks.gas)
    }

    pub(super) fn note_gas_cap(&self) {
        *self.lacks.gas.lock() = Some(Instant::now());
    }

    /// The form in which the chain takes blobs, as far as that is known.
    pub(super) fn blob_form(&self) -> BlobForm {
        if self.lacks.plain_blobs.load(Relaxed) { BlobForm::Eip7594 } else { BlobForm::Eip4844 }
    }

    pub(super) fn note_blob_form(&self, taken: BlobForm) {
        self.lacks.plain_blobs.store(taken != BlobForm::Eip4844, Relaxed);
    }

    /// Asks once: what is sent, and looks that are followed by others anyway.
    pub(super) async fn request<R: Received>(&self, method: &'static str, params: Value) -> Result<R, TransportError> {
        self.reader.request(method, params).await
    }

    /// A read, which is made again if what it failed of may pass, and there is no other RPC to ask.
    pub(super) async fn ask<R: Received>(&self, method: &'static str, params: Value) -> Result<R, TransportError> {
        let retries = self.retries.as_ref().map(|retries| Arc::clone(&retries.lock()));
        let Some(retries) = retries else { return self.request(method, params).await };
        let mut attempts = retries.attempts(retries.read_deadline());
        loop {
            let error = match self.request(method, params.clone()).await {
                Ok(answer) => {
                    retries.succeeded();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            attempts.fail();
            match passing(&error) {
                Some(told) if attempts.again(&told).await => {}
                _ => return Err(error),
            }
        }
    }

    /// The same: whatever fails, nothing was sent.
    pub(super) async fn read<R: Received>(&self, method: &'static str, params: Value) -> Result<R> {
        self.ask(method, params).await.map_err(failed)
    }
}

/// What the RPC says, if the same question may be answered later. An answer that makes no sense is that of a method
/// that it lacks, perhaps.
fn passing(error: &TransportError) -> Option<Error> {
    let sense = matches!(error, RpcError::ErrorResp(_) | RpcError::Transport(_));
    Some(fault::told(error)).filter(|told| sense && told.is_retryable())
}

/// The code of JSON-RPC for a fault within the server.
const INTERNAL: i64 = -32603;

/// Whether it is no word of the RPC's about the question, or one that passes, perhaps.
pub(super) fn may_pass(error: &TransportError) -> bool {
    let broken = match error {
        RpcError::ErrorResp(payload) => payload.code == INTERNAL,
        RpcError::Transport(_) => true,
        _ => false,
    };
    broken || passing(error).is_some()
}

pub(super) fn failed(error: TransportError) -> Error {
    let text = match &error {
        RpcError::ErrorResp(payload) => payload.message.to_lowercase(),
        _ => String::new(),
    };
    let error = fault::of(error);
    if text.contains("insufficient funds") {
        error.with_hint("the account needs funds")
    } else if text.contains("already reserved") {
        error.with_retryable(true).with_hint(
            "the account has a transaction of the other kind in the pool (with or without blobs): wait for it, or use two accounts",
        )
    } else if ["underpriced", "base fee", "basefee", "fee too low", "feetoolow", "pool is full"]
        .iter()
        .any(|it| text.contains(it))
    {
        error
            .with_retryable(true)
            .with_hint("post it again: it bids what is asked by then; or set a tip, by RpcPoster::with_tip")
    } else {
        error
    }
}
