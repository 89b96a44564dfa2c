//! The one place where several questions are answered as of one block.
//!
//! A verdict about a job is made of several answers: its status, its inputs, the operator, a relay that is tried. An
//! RPC answers a batch question by question, perhaps by several servers, and a block may come in between. Answers of
//! two blocks that are read as of one say things that were never so: of a job that has just landed, that another one
//! has its nonce. So no verdict is made of a bare [`Batch`]; it is made of a [`Snapshot`], and there is no other way
//! to one than through here:
//!
//! - [`OneRpc::at_latest`] asks for the head first and last, in the same round trip. Where that is one block, the
//!   answers count as of it. Else they are asked for again, of that block by its hash.
//! - [`OneRpc::at_block`] asks about a block by its hash (EIP-1898), and last whether that is the chain's still. Of an
//!   RPC that refuses hashes it asks by number, and for the block before and after.
//! - [`OneRpc::again`] is a second look: a round trip of its own about the same block, or about a later one if that is
//!   gone.
//! - [`OneRpc::glance`] is for questions each of which stands by itself; [`OneRpc::hold`] says whether blocks are the
//!   chain's still.
//!
//! An RPC may lie about this, and some do: they answer a pinned batch from two states. Therefore bad news that cannot
//! be taken back is believed at a second look only (`second_look.rs`).

use std::time::Duration;

use super::{
    OneRpc,
    batch::{Answers, Batch, StateKnown, Ticket},
    learnt::Learnt,
    reader::{At, Block},
};
use crate::error::{Error, ErrorKind, Result};

/// How often a block is pinned anew because the chain or its RPC had another one meanwhile.
const ATTEMPTS: u32 = 3;
/// Before a server that does not have the block yet is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers that are all of one block.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    /// The block.
    pub head: Block,
    /// The latest block by then; this one, or a later one.
    pub tip: Block,
    /// The places of the answers.
    pub asked: T,
    pub answers: Answers,
    /// How many round trips it took.
    pub round_trips: u32,
}

/// What a batch about one block came to.
enum Pinned<T> {
    Read(T, Answers),
    /// It is not the chain's any more.
    Gone,
}

impl OneRpc {
    /// Questions about the latest block: one round trip, and a second one where a block comes in between.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`], retryable, if the chain cannot be asked, or changes faster than that. What goes wrong
    /// with one question only is told where its answer is taken.
    pub(crate) async fn at_latest<T>(&self, ask: impl Fn(&mut Batch) -> T) -> Result<Snapshot<T>> {
        let mut batch = self.batch().fenced();
        let asked = ask(&mut batch);
        let (fences, mut answers) = batch.send_fenced().await?;
        let mut heads = Vec::with_capacity(fences.len());
        for fence in fences {
            heads.push(latest(answers.take(fence)?)?);
        }
        let tip = *heads.last().ok_or_else(no_head)?;
        if heads.iter().all(|head| head.hash == tip.hash) {
            return Ok(Snapshot { head: tip, tip, asked, answers, round_trips: 1 });
        }
        let snapshot = self.again(tip, ask).await?;
        Ok(Snapshot { round_trips: snapshot.round_trips + 1, ..snapshot })
    }

    /// A second look: the same questions about this block, or about the latest if this one is gone, by hash.
    ///
    /// # Errors
    /// As [`at_latest`](Self::at_latest).
    pub(crate) async fn again<T>(&self, seen: Block, ask: impl Fn(&mut Batch) -> T) -> Result<Snapshot<T>> {
        let both = |batch: &mut Batch| (batch.block(At::Latest), ask(batch));
        let (mut block, mut round_trips) = (seen, 0);
        for attempt in 1..=ATTEMPTS {
            round_trips += 1;
            let Pinned::Read((tip, asked), mut answers) = self.pinned(block, &both).await? else {
                round_trips += 1;
                block = self.glance(|_| ()).await?.head;
                continue;
            };
            if answers.lacks_block() && attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let tip = latest(answers.take(tip)?)?;
            // Servers that are behind tell of earlier ones.
            let tip = if tip.number > block.number { tip } else { block };
            return Ok(Snapshot { head: block, tip, asked, answers, round_trips });
        }
        Err(restless(self))
    }

    /// Questions about this block, in one round trip. Nothing if it is not the chain's any more.
    ///
    /// # Errors
    /// As [`at_latest`](Self::at_latest).
    pub(crate) async fn at_block<T>(
        &self,
        block: Block,
        ask: impl Fn(&mut Batch) -> T,
    ) -> Result<Option<(T, Answers)>> {
        Ok(match self.pinned(block, &ask).await? {
            Pinned::Read(asked, answers) => Some((asked, answers)),
            Pinned::Gone => None,
        })
    }

    /// The latest block, and questions at the latest of which each stands by itself: together they prove nothing. The
    /// block is asked for first, so that no answer is older than it by the RPC's own order.
    ///
    /// # Errors
    /// As [`at_latest`](Self::at_latest).
    pub(crate) async fn glance<T>(&self, ask: impl Fn(&mut Batch) -> T) -> Result<Snapshot<T>> {
        let mut batch = self.batch();
        let head = batch.block(At::Latest);
        let asked = ask(&mut batch);
        let mut answers = batch.send().await?;
        let head = latest(answers.take(head)?)?;
        Ok(Snapshot { head, tip: head, asked, answers, round_trips: 1 })
    }

    /// Whether all of these blocks are the chain's.
    ///
    /// # Errors
    /// As [`at_latest`](Self::at_latest).
    pub(crate) async fn hold(&self, blocks: &[Block]) -> Result<bool> {
        let there = |batch: &mut Batch| -> Vec<_> {
            blocks.iter().map(|block| (block.hash, batch.block(At::Number(block.number)))).collect()
        };
        let mut glance = self.glance(there).await?;
        for (hash, ticket) in glance.asked {
            if glance.answers.take(ticket)?.is_none_or(|block| block.hash != hash) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn pinned<T>(&self, block: Block, ask: &impl Fn(&mut Batch) -> T) -> Result<Pinned<T>> {
        if self.learnt().is_some_and(Learnt::by_number) {
            return self.pin(block, true, ask).await;
        }
        let read = self.pin(block, false, ask).await?;
        let Pinned::Read(_, answers) = &read else { return Ok(read) };
        match answers.state_known() {
            StateKnown::Unasked => return Ok(read),
            StateKnown::Some => {
                self.learnt().inspect(|learnt| learnt.takes_hashes());
                return Ok(read);
            }
            // Perhaps it takes hashes for some questions, and numbers for all.
            StateKnown::Partly if self.learnt().is_some_and(Learnt::has_compared) => return Ok(read),
            StateKnown::Partly => {
                let refused = answers.refused();
                let by_number = self.pin(block, true, ask).await?;
                if let Pinned::Read(_, answers) = &by_number
                    && answers.refused() < refused
                {
                    self.learnt().inspect(|learnt| learnt.refuses_hashes());
                    return Ok(by_number);
                }
                self.learnt().inspect(|learnt| learnt.numbers_do_no_more());
                return Ok(read);
            }
            StateKnown::Lacking if !self.learnt().is_some_and(Learnt::misses_hash) => return Ok(read),
            // Perhaps it takes numbers. If so, it is asked by them from now on.
            StateKnown::Lacking | StateKnown::Refused => {}
        }
        let by_number = self.pin(block, true, ask).await?;
        if let Pinned::Read(_, answers) = &by_number
            && matches!(answers.state_known(), StateKnown::Some | StateKnown::Partly)
        {
            self.learnt().inspect(|learnt| learnt.refuses_hashes());
        }
        Ok(by_number)
    }

    async fn pin<T>(&self, block: Block, by_number: bool, ask: &impl Fn(&mut Batch) -> T) -> Result<Pinned<T>> {
        let mut batch = self.batch().pinned(block, by_number);
        let canonical = |batch: &mut Batch| batch.block(At::Number(block.number));
        let before = by_number.then(|| canonical(&mut batch));
        let asked = ask(&mut batch);
        // The last question: what came before was asked of this chain.
        let after = canonical(&mut batch);
        let mut answers = batch.send().await?;
        let mut is_there = |ticket: Ticket<Option<Block>>| -> Result<bool> {
            Ok(answers.take(ticket)?.is_some_and(|there| there.hash == block.hash))
        };
        let there = before.map_or(Ok(true), &mut is_there)? && is_there(after)?;
        Ok(if there { Pinned::Read(asked, answers) } else { Pinned::Gone })
    }
}

fn latest(block: Option<Block>) -> Result<Block> {
    block.ok_or_else(no_head)
}

fn no_head() -> Error {
    Error::new(ErrorKind::Chain, "the chain has no latest block")
        .with_retryable(true)
        .with_hint("check the chain's RPC")
}

/// The chain's head moves faster than it can be pinned.
pub(crate) fn restless(chain: &OneRpc) -> Error {
    Error::new(ErrorKind::Chain, "the chain changes while it is read")
        .with_retryable(true)
        .with_endpoint(chain.reader().endpoint())
        .with_hint("if it stays so, the RPC's servers do not agree on the latest block")
}
