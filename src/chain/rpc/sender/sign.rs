//! A transaction, signed.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
#[cfg(feature = "blobs")]
use alloy_consensus::{TxEip4844, TxEip4844WithSidecar};
use alloy_network::{TxSigner, eip2718::Encodable2718};
use alloy_primitives::{B256, Bytes, Signature, U256};

use super::{draft::Draft, fees::Bid};
use crate::{
    chain::{Blobs, blobs::BlobForm},
    error::{Error, ErrorKind, Result},
};

pub(super) type DynSigner = dyn TxSigner<Signature> + Send + Sync;

/// What a transaction holds beside its draft.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub chain_id: u64,
    pub nonce: u64,
    pub gas: u64,
    pub bid: Bid,
}

/// A signed transaction as it is sent.
pub(super) struct Signed {
    pub hash: B256,
    pub raw: Bytes,
}

pub(super) async fn sign(signer: &DynSigner, draft: &Draft, terms: Terms, form: BlobForm) -> Result<Signed> {
    let Terms { chain_id, nonce, gas, bid } = terms;
    let Some(blobs) = &draft.blobs else {
        let tx = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: bid.most,
            max_priority_fee_per_gas: bid.tip,
            to: draft.to,
            value: U256::ZERO,
            access_list: Default::default(),
            input: draft.data.clone(),
        };
        return envelope(signer, tx).await;
    };
    with_blobs(signer, draft, blobs, terms, form).await
}

#[cfg(feature = "blobs")]
async fn with_blobs(signer: &DynSigner, draft: &Draft, blobs: &Blobs, terms: Terms, form: BlobForm) -> Result<Signed> {
    let Terms { chain_id, nonce, gas, bid } = terms;
    let alloy_primitives::TxKind::Call(to) = draft.to else {
        return Err(Error::new(ErrorKind::InvalidInput, "a transaction with blobs creates no contract"));
    };
    let tx = TxEip4844 {
        chain_id,
        nonce,
        gas_limit: gas,
        max_fee_per_gas: bid.most,
        max_priority_fee_per_gas: bid.tip,
        to,
        value: U256::ZERO,
        access_list: Default::default(),
        blob_versioned_hashes: blobs.hashes().to_vec(),
        max_fee_per_blob_gas: bid.blob,
        input: draft.data.clone(),
    };
    let sidecar = blobs.in_form(form).await?;
    let tx = alloy_consensus::TxEip4844Variant::from(TxEip4844WithSidecar::from_tx_and_sidecar(tx, sidecar));
    envelope(signer, tx).await
}

/// Blobs cannot be made in this build, so none can be here.
#[cfg(not(feature = "blobs"))]
async fn with_blobs(_: &DynSigner, _: &Draft, _: &Blobs, _: Terms, _: BlobForm) -> Result<Signed> {
    Blobs::of_input(&[]).and(Err(Error::new(ErrorKind::Unsupported, "no blobs in this build")))
}

async fn envelope<T>(signer: &DynSigner, mut tx: T) -> Result<Signed>
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signature = signer.sign_transaction(&mut tx).await.map_err(|error| {
        Error::new(ErrorKind::Signer, "the account did not sign the transaction").with_source(error)
    })?;
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    Ok(Signed { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() })
}
