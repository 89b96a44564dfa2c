//! What the chain has said of a job, and what that means for those who wait for it. No I/O.

use std::ops::Range;

use alloy_primitives::B256;
use tokio::time::Instant;

use super::{
    stage::{Stage, Until},
    track::{Shown, Track},
};
use crate::{
    chain::{Ask, Standing},
    error::Error,
    job::{SignedJob, Verified},
};

/// After so many looks in a row that could not say, a job is not looked at for a new head any more, but after pauses.
const MAX_IN_VAIN: u32 = 2;

/// The chain's side of a job. Kept where the client has a chain.
#[derive(Debug, Default)]
pub(super) struct OnChain {
    /// What the last look said that said something.
    standing: Option<Standing>,
    /// Why the last look said nothing, or not enough.
    error: Option<Error>,
    /// The head it was looked at last.
    head: Option<B256>,
    /// A result that the node has shown beside the first.
    other: Option<Box<Verified>>,
    /// The transaction with the result: as the node names it, and as the chain showed it.
    named: Option<B256>,
    found: Option<B256>,
    /// Whether the node's last word of it was RELAYED.
    relayed: bool,
    /// Whether a look after the node had ended the job has shown that it is not completed.
    end_stands: bool,
    /// Looks in a row that could not say whether it is completed, or how.
    in_vain: u32,
}

impl OnChain {
    /// Takes in a verified result that the node shows.
    pub(super) fn node_shows(&mut self, shown: Box<Verified>, claim: Shown, first: &mut Option<Box<Verified>>) {
        if claim == Shown::Relayed {
            self.named = shown.record().relay_tx_hash().or(self.named);
        }
        match first {
            Some(first) if first.output() != shown.output() => self.other = Some(shown),
            // The chain's, or the first.
            Some(_) => {}
            None => *first = Some(shown),
        }
    }

    /// The node's last word.
    pub(super) fn node_says(&mut self, claim: Shown) {
        self.relayed = claim == Shown::Relayed;
    }

    pub(super) fn is_settled(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_settled)
    }
}

impl Track {
    /// The verdict of a wait. The chain's word is worth something at the moment of a look only: `fresh` is then.
    pub(crate) fn verdict(&self, job: &SignedJob, until: Until, fresh: bool) -> Option<Result<Verified, Error>> {
        let Some((chain, depth)) = self.chain.as_ref().and_then(|chain| Some((chain, until.depth(true)?))) else {
            return self.node_verdict(until);
        };
        let standing = chain.standing.as_ref().filter(|_| fresh);
        standing.and_then(|standing| standing.verdict(job, depth)).or_else(|| {
            // A look has shown that the chain does not know better.
            self.end.clone().filter(|_| chain.end_stands).map(Err)
        })
    }

    /// The result with what the chain says of it, right after a look.
    pub(crate) fn final_result(&self) -> Option<&Verified> {
        match self.chain.as_ref()?.standing.as_ref()? {
            Standing::Complete(result) => Some(result),
            _ => None,
        }
    }

    /// What to ask the chain, for a wait of so many confirmations.
    pub(super) fn ask(&self, job: &SignedJob, depth: u64) -> Ask {
        let chain = self.chain.as_ref();
        let mut transactions: Vec<_> = chain.and_then(|chain| chain.found).into_iter().collect();
        transactions.extend(chain.and_then(|chain| chain.named).filter(|named| !transactions.contains(named)));
        let other = chain.and_then(|chain| chain.other.as_deref());
        let shown = self.result().into_iter().chain(other).cloned().collect();
        Ask { job: job.clone(), transactions, shown, quiet: self.quiet(depth), ended: self.has_ended() }
    }

    /// The numbers of heads at which the last look's finding can hold and is not deep enough; none if that is not all there is to
    /// know.
    fn quiet(&self, depth: u64) -> Range<u64> {
        let found = self.final_result().and_then(Verified::finality).filter(|_| self.end.is_none());
        found.map_or(0..0, |found| found.block_number..found.block_number.saturating_add(depth - 1))
    }

    /// Takes in what a look at the chain has shown. `after_end`: it was begun after the node had ended the job. True if what is known now
    /// is what this look showed, and not one before.
    pub(super) fn chain_says(&mut self, standing: Standing, head: B256, after_end: bool, now: Instant) -> bool {
        let Some(chain) = &mut self.chain else { return false };
        chain.head = Some(head);
        let standing = match standing {
            Standing::Shallow => {
                (chain.error, chain.in_vain) = (None, 0);
                return false;
            }
            Standing::Unread(error) => {
                (chain.error, chain.in_vain) = (Some(error), chain.in_vain.saturating_add(1));
                return false;
            }
            standing => standing,
        };
        (chain.error, chain.in_vain) = match &standing {
            Standing::Unproven(error) => (Some(error.clone()), chain.in_vain.saturating_add(1)),
            _ => (None, 0),
        };
        if let Standing::Complete(result) = &standing {
            chain.found = result.finality().map(|finality| finality.tx_hash);
            if self.result.as_ref().is_none_or(|known| known.output() != result.output()) {
                // The other one stays at hand: a reorganisation can bring it back.
                chain.other = self.result.replace(Box::new((**result).clone().with_finality(None)));
            }
            self.relayed = true;
            if self.stage < Stage::Relayed {
                (self.stage, self.moved) = (Stage::Relayed, now);
            }
        }
        chain.end_stands |= after_end && standing.is_open() && self.end.is_some();
        chain.standing = Some(standing);
        true
    }

    /// Whether the chain is to be looked at for it when this is the head.
    pub(super) fn wants_look(&self, head: B256) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.head != Some(head) && chain.in_vain <= MAX_IN_VAIN)
    }

    /// Looks in a row that could not say.
    pub(super) fn in_vain(&self) -> u32 {
        self.chain.as_ref().map_or(0, |chain| chain.in_vain)
    }

    /// What the node has said that makes a look at the chain urgent: that it ended the job, that it was relayed and in which
    /// transaction, or a result that was missing to prove what the chain says.
    pub(super) fn urges(&self) -> impl PartialEq + use<> {
        let chain = self.chain.as_ref();
        let unproven = chain.is_some_and(|chain| matches!(chain.standing, Some(Standing::Unproven(_))));
        let shown = chain.map(|chain| (self.result.is_some(), chain.other.is_some()));
        let relayed = chain.map(|chain| (chain.relayed, chain.named));
        (self.has_ended(), relayed, shown.filter(|_| unproven))
    }

    pub(super) fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    /// Whether the chain shows the nonce used up.
    pub(super) fn is_settled(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.is_settled())
    }

    /// Whether the node has nothing more to say for now: it has shown the result, and only the chain is waited for.
    pub(super) fn rests(&self) -> bool {
        let proven = |chain: &OnChain| matches!(chain.standing, Some(Standing::Complete(_)));
        self.result.is_some() && self.chain.as_ref().is_some_and(|chain| chain.relayed || proven(chain))
    }

    /// The end stands, whatever the chain says.
    pub(super) fn insist(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.end_stands = true;
        }
    }

    /// For the wait whose deadline has passed: what the chain last said, in words, what to do, and what was wrong.
    pub(super) fn on_chain(&self, depth: u64, rpc: Option<&Error>) -> Option<(String, &'static str, Option<Error>)> {
        let chain = self.chain.as_ref()?;
        let unread = "the chain could not be read, so the job may be complete there: check the RPC, and wait again";
        if let Some(error) = rpc {
            return Some(("the chain could not be read".into(), unread, Some(error.clone())));
        }
        let said = match (&chain.standing, &chain.error) {
            (Some(Standing::Complete(result)), _) => {
                let seen = result.finality().map_or(0, |finality| finality.confirmations);
                let text =
                    format!("on chain it is complete, with {seen} of {depth} confirmations when last read in full");
                (text, "the job landed: wait again, or longer, for more blocks", None)
            }
            (Some(Standing::Unproven(error)), _) => {
                let hint = "the JobManager says that the job is completed, and that could not be proven: see the cause";
                ("on chain it is completed, without proof".into(), hint, Some(error.clone()))
            }
            (_, Some(error)) => ("the chain could not be read".into(), unread, Some(error.clone())),
            (Some(Standing::Foreign { depth: seen, .. }), _) => (
                format!("on chain another job has its nonce, with {seen} of {depth} confirmations"),
                "unless the chain is reorganised the job will never land: sign it again under another nonce",
                None,
            ),
            (Some(Standing::Cancelled { depth: seen }), _) => (
                format!("on chain its id is cancelled, with {seen} of {depth} confirmations"),
                "unless the chain is reorganised the job will never land: sign it again under another nonce",
                None,
            ),
            (Some(_), None) if chain.found.is_some() => (
                "it was complete on chain, and is no more: its block was given up".into(),
                "a reorganisation took it away, and the node does not send it again; post the result with JobHandle::relay, or wait in case that \
                 the block comes back",
                None,
            ),
            (Some(_), None) if chain.relayed => (
                "the node says RELAYED, and on chain it is not complete".into(),
                "the node does not look whether its transaction succeeds: it may have reverted or been dropped, and the node will not send \
                 another; or the RPC lags behind; JobHandle::diagnose looks for the cause",
                None,
            ),
            (Some(_), None) => return None,
            (None, None) => ("the chain was not read".into(), "the RPC took too long: check it, and wait again", None),
        };
        Some(said)
    }
}
