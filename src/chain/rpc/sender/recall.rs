//! Transactions that were signed before this process began, as if they had been signed in it.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_network::eip2718::Decodable2718;

use super::{
    Sender,
    fees::Bid,
    sign::{Signed, Terms},
};
use crate::chain::SignedPost;

impl Sender {
    /// Takes these transactions of one draft for its own, in the order in which they were signed. One that cannot be
    /// read stays unknown.
    pub(crate) fn recall(&self, kept: &[SignedPost]) {
        let hashes: Vec<_> = kept.iter().map(|post| post.hash).collect();
        let mut book = self.book.lock();
        for post in kept {
            let Some(terms) = terms(post) else { continue };
            book.recall(&hashes, terms, &Signed { hash: post.hash, raw: post.raw.clone() });
        }
    }
}

/// What its bytes say.
fn terms(post: &SignedPost) -> Option<Terms> {
    let tx = TxEnvelope::decode_2718(&mut post.raw.as_ref()).ok().filter(|tx| *tx.tx_hash() == post.hash)?;
    let bid = Bid {
        most: tx.max_fee_per_gas(),
        tip: tx.max_priority_fee_per_gas().unwrap_or_default(),
        blob: tx.max_fee_per_blob_gas().unwrap_or_default(),
        legacy: tx.is_legacy(),
    };
    Some(Terms { chain_id: tx.chain_id()?, nonce: tx.nonce(), gas: tx.gas_limit(), bid })
}
