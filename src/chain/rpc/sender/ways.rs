//! The RPCs that an account's transactions are sent through. Which of them is asked is decided as it is for reads
//! (`chain/fallback`). An account nonce is read from one of them, and the transaction is sent to that one first. If it
//! fails, the same bytes go to another.
//!
//! The RPC that the account nonce is read from has to be on the right chain before and after. That a block has the
//! account nonce counts only if the RPC that says so then shows that it is in order.

use std::{future::Future, time::Duration};

use alloy_primitives::{Address, Bytes};
use alloy_transport::RpcError;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    access::{Access, failed},
    decide::Word,
    gas,
    sign::Terms,
    words,
};
use crate::{
    chain::{Chain, Question, RpcReader, WhyLeft, rpc::fault},
    error::{Error, ErrorKind, Result},
    retry::RetryPolicy,
    sync::Lock,
};

/// One or more RPCs of one chain.
pub(super) struct Ways {
    each: Vec<Access>,
    /// The same RPCs, of which one is chosen. The JobManager of it is none.
    chain: Lock<Chain>,
}

/// What was said of a transaction that was sent, and which RPC has said it.
pub(super) struct Put {
    pub word: Word,
    pub by: usize,
    pub error: Option<Error>,
}

impl Ways {
    pub(super) fn of(reader: RpcReader) -> Self {
        let chain = Lock::from(Chain::new(reader.clone(), Address::ZERO));
        Self { each: vec![Access::new(reader, true)], chain }
    }

    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is none.
    pub(super) fn of_any(readers: Vec<RpcReader>) -> Result<Self> {
        let chain = Lock::from(Chain::over_any(readers.clone(), Address::ZERO)?);
        let repeats = readers.len() == 1;
        Ok(Self { each: readers.into_iter().map(|reader| Access::new(reader, repeats)).collect(), chain })
    }

    /// Where there are several, all of something is repeated, and not a single question.
    pub(super) fn repeat(&self, policy: RetryPolicy) {
        match &self.each[..] {
            [only] => only.repeat(policy),
            _ => {
                let mut chain = self.chain.lock();
                *chain = chain.clone().with_retry(policy);
            }
        }
    }

    /// The RPCs, that have to be of this chain. What an only one is on is asked with what is sent.
    pub(super) fn chain(&self, chain_id: Option<u64>) -> Chain {
        let chain = self.chain.lock().clone();
        match chain_id.filter(|_| self.are_several()) {
            Some(id) => chain.with_chain_id(id),
            None => chain,
        }
    }

    pub(super) fn are_several(&self) -> bool {
        self.each.len() > 1
    }

    pub(super) fn at(&self, index: usize) -> Result<&Access> {
        self.each.get(index).ok_or_else(|| Error::new(ErrorKind::Chain, "there is no RPC to ask"))
    }

    /// Has one RPC answer all of something, and tells which one that was. Of several it has shown that it is on the
    /// right chain and has the latest block. If it fails, all is made again by the next one.
    pub(super) async fn by_one<'a, T, Made>(
        &'a self,
        chain_id: Option<u64>,
        make: impl Fn(usize, &'a Access) -> Made,
    ) -> Result<(usize, T)>
    where
        Made: Future<Output = Result<T>>,
    {
        let (chain, make) = (&self.chain(chain_id), &make);
        chain.rpcs.look_around().await;
        let made = chain.verdict(|one| async move {
            let index = one.index();
            let access = self.at(index)?;
            if self.are_several() {
                // What goes along with it is what counts.
                one.reader().ask(&[Question::ChainId]).await?;
            }
            match make(index, access).await {
                Ok(made) => Ok((index, made)),
                Err(error) => {
                    let error = error.with_endpoint(chain.rpcs.endpoint_of(index));
                    Err(if fault::is_of_the_rpc(&error) { one.fails(error) } else { error })
                }
            }
        });
        made.await
    }

    /// Of several, whether this one is still on the right chain, and has the latest block: asked after what decides
    /// much, as a proxy can change what is behind an address.
    pub(super) async fn vouches(&self, index: usize, chain_id: Option<u64>) -> bool {
        !self.are_several() || self.chain(chain_id).rpcs.is_in_order(index).await
    }

    /// Sends a transaction by this RPC. If that one does not say that it has the transaction, or another has its nonce,
    /// the same bytes go to the next. Tells the last that was said, if anything was. `terms` are the transaction's.
    pub(super) async fn put(&self, terms: Terms, first: usize, raw: Bytes) -> Put {
        let chain = self.chain(Some(terms.chain_id));
        let (mut told, mut tried, mut next) = (None::<Put>, Vec::new(), Some(first));
        while let Some(by) = next {
            tried.push(by);
            let put = self.put_by(&chain, by, terms.gas, raw.clone()).await;
            let ends = !matches!(put.word, Word::Silent | Word::Unclear | Word::Refused);
            let failed = self.are_several() && matches!(put.word, Word::Silent | Word::Unclear);
            if let Some(error) = put.error.as_ref().filter(|_| failed) {
                chain.rpcs.failed(by, error);
            }
            if told.is_none() || put.word != Word::Silent {
                told = Some(put);
            }
            next = if ends { None } else { chain.rpcs.choose(&tried) };
        }
        told.unwrap_or(Put { word: Word::Silent, by: first, error: None })
    }

    async fn put_by(&self, chain: &Chain, by: usize, gas: u64, raw: Bytes) -> Put {
        let sent = async {
            let access = self.at(by)?;
            let sent = access.request::<Value>("eth_sendRawTransaction", json!([raw])).await;
            Ok(sent.map_err(|error| (gas::refused(access, gas, &error), error)))
        };
        let (word, error) = match within(chain.rpcs.patience(by), sent).await {
            // By its own hash, whatever the RPC calls it.
            Ok(Ok(Value::Null)) => (Word::Silent, Some(failed(RpcError::NullResp))),
            Ok(Ok(_)) => (Word::Taken, None),
            Ok(Err((None, error))) => (words::of(&error), Some(failed(error))),
            Ok(Err((Some(told), error))) => (words::of(&error), Some(told.with_source(failed(error)))),
            Err(error) => (Word::Silent, Some(error)),
        };
        Put { word, by, error: error.map(|error| error.with_endpoint(chain.rpcs.endpoint_of(by))) }
    }

    /// Has all but this one look for something, at once. Those on another chain are not asked. With what each has
    /// found comes whether its pool counts: not of one that lags, as it may keep what has become of no use long ago.
    pub(super) async fn others<'a, T, Made>(
        &'a self,
        but: usize,
        look: impl Fn(&'a Access) -> Made,
    ) -> Vec<(bool, Result<T>)>
    where
        Made: Future<Output = Result<T>>,
    {
        let (chain, look) = (self.chain(None), &look);
        let asks = self.each.iter().enumerate().filter(|(index, _)| *index != but).filter_map(|(index, access)| {
            let why = chain.rpcs.left(index).map(|left| left.why);
            let (counts, patience) = (!matches!(why, Some(WhyLeft::Lags { .. })), chain.rpcs.patience(index));
            let found = async move { (counts, within(patience, look(access)).await) };
            (!matches!(why, Some(WhyLeft::WrongChain { .. }))).then_some(found)
        });
        join_all(asks).await
    }
}

/// No longer than that, if there is a bound.
async fn within<T>(patience: Option<Duration>, asked: impl Future<Output = Result<T>>) -> Result<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(fault::late(patience))),
        None => asked.await,
    }
}
