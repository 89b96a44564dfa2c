//! A transaction, signed.

use std::time::Duration;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
#[cfg(feature = "blobs")]
use alloy_consensus::{TxEip4844, TxEip4844WithSidecar};
use alloy_network::{TxSigner, eip2718::Encodable2718};
use alloy_primitives::{B256, Bytes, Signature, U256};

use super::{draft::Draft, fees::Bid};
use crate::{
    chain::{Blobs, SignedPost, blobs::BlobForm, keep_within},
    error::{Error, ErrorKind, Result},
    job::recover_from_hash,
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

/// The account's signer, and how long it may take, and as long again whoever keeps what it signs.
pub(super) struct Hand<'a> {
    pub signer: &'a DynSigner,
    pub within: Duration,
}

/// A signed transaction as it is sent.
#[derive(Clone)]
pub(super) struct Signed {
    pub hash: B256,
    pub raw: Bytes,
}

/// Signs a transaction, and has it kept by whom the draft names: so nothing is sent that was not kept.
pub(super) async fn sign(hand: Hand<'_>, draft: &Draft, terms: Terms, form: BlobForm) -> Result<Signed> {
    let within = hand.within;
    let made = made(hand, draft, terms, form).await?;
    if let Some(keeper) = &draft.keeper {
        keep_within(&**keeper, &SignedPost::new(made.hash, terms.nonce, made.raw.clone()), within).await?;
    }
    Ok(made)
}

async fn made(hand: Hand<'_>, draft: &Draft, terms: Terms, form: BlobForm) -> Result<Signed> {
    let Terms { chain_id, nonce, gas, bid } = terms;
    let Some(blobs) = &draft.blobs else {
        if bid.legacy {
            let tx = TxLegacy {
                chain_id: Some(chain_id),
                nonce,
                gas_price: bid.most,
                gas_limit: gas,
                to: draft.to,
                value: U256::ZERO,
                input: draft.data.clone(),
            };
            return envelope(hand, tx).await;
        }
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
        return envelope(hand, tx).await;
    };
    with_blobs(hand, draft, blobs, terms, form).await
}

#[cfg(feature = "blobs")]
async fn with_blobs(hand: Hand<'_>, draft: &Draft, blobs: &Blobs, terms: Terms, form: BlobForm) -> Result<Signed> {
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
    envelope(hand, tx).await
}

/// Blobs cannot be made in this build, so none can be here.
#[cfg(not(feature = "blobs"))]
async fn with_blobs(_: Hand<'_>, _: &Draft, _: &Blobs, _: Terms, _: BlobForm) -> Result<Signed> {
    Blobs::of_input(&[]).and(Err(Error::new(ErrorKind::Unsupported, "no blobs in this build")))
}

async fn envelope<T>(hand: Hand<'_>, mut tx: T) -> Result<Signed>
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signed = tokio::time::timeout(hand.within, hand.signer.sign_transaction(&mut tx)).await;
    let signed = signed.map_err(|_| {
        let what = format!("the account's signer has not answered within {:?}", hand.within);
        Error::new(ErrorKind::Signer, what)
            .with_retryable(true)
            .with_hint("post it again, or give the signer longer: RpcPoster::with_signing_deadline")
    })?;
    let signature = signed.map_err(|error| {
        Error::new(ErrorKind::Signer, "the account did not sign the transaction").with_source(error).with_hint(
            "nothing was sent: check that the poster's signer reaches its key, and signs transactions of this chain",
        )
    })?;
    // Of a transaction the signature alone says who pays.
    let account = hand.signer.address();
    match recover_from_hash(&tx.signature_hash(), &signature.as_bytes()) {
        Ok(payer) if payer == account => {}
        found => {
            let payer = found.map_or_else(|error| error.to_string(), |payer| format!("{payer} would pay"));
            let what = format!("the poster's signer says that it signs for {account}, and did not: {payer}");
            return Err(Error::new(ErrorKind::Signer, what)
                .with_hint("nothing was sent: give RpcPoster the signer of the account that is to pay"));
        }
    }
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    Ok(Signed { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() })
}
