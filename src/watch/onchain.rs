//! What the chain has said of a job, and what that means for those who wait for it. No I/O.

use std::ops::Range;

use alloy_primitives::B256;

use crate::{
    chain::{Ask, Block, Standing},
    error::{Error, Result},
    job::{SignedJob, Verified},
};

/// After so many looks in a row that could not say, a job is not looked at for a new head any more, but after pauses.
const MAX_IN_VAIN: u32 = 2;
/// So many looks follow an event that they do not confirm: one server of an RPC may lag behind another.
const LOOKS_FOR_EVENT: u32 = 3;

/// For what a job is to be looked at on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainWish {
    /// For nothing.
    None,
    /// If an event speaks of it; where there are no events to go by, for each head.
    AtEvents,
    /// For each head.
    AtHeads,
}

/// The chain's side of a job. Kept where the client has a chain.
#[derive(Debug, Default)]
pub(super) struct OnChain {
    /// What the last look said that said something.
    standing: Option<Standing>,
    /// Why the last look said nothing, or not enough.
    error: Option<Error>,
    /// The head it was looked at last.
    head: Option<B256>,
    /// A result beside the first: of the node, or of the chain before a reorganisation.
    other: Option<Box<Verified>>,
    /// The transaction with the result: as the node names it, and as the chain showed it.
    named: Option<B256>,
    found: Option<B256>,
    /// Or as an event has told it, and how many looks since did not confirm that.
    told: Option<(B256, u32)>,
    /// Whether the node's last word of it was RELAYED.
    relayed: bool,
    /// Whether a look after the node had ended the job has shown that it is not completed.
    end_stands: bool,
    /// Looks in a row that could not say whether it is completed, or how.
    in_vain: u32,
}

impl OnChain {
    /// Takes in a verified result that the node shows, and whether it says that this was relayed.
    pub(super) fn node_shows(&mut self, shown: Box<Verified>, relayed: bool, first: &mut Option<Box<Verified>>) {
        if relayed {
            self.named = shown.record().relay_tx_hash().or(self.named);
        }
        match first {
            Some(first) if first.output() != shown.output() => self.other = Some(shown),
            // The chain's, or the first.
            Some(_) => {}
            None => *first = Some(shown),
        }
    }

    /// The node's last word: whether it was RELAYED.
    pub(super) fn node_says(&mut self, relayed: bool) {
        self.relayed = relayed;
    }

    /// Whether the chain shows the nonce used up.
    pub(super) fn is_settled(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_settled)
    }

    /// The result with what the chain says of it.
    pub(super) fn final_result(&self) -> Option<&Verified> {
        match self.standing.as_ref()? {
            Standing::Complete(result) => Some(result),
            _ => None,
        }
    }

    /// Whether the node, or else the chain, has said that the job is through.
    pub(super) fn is_through(&self) -> bool {
        self.relayed || self.final_result().is_some()
    }

    /// What the node has said that makes a look at the chain urgent: that the job was relayed and in which
    /// transaction, or another result while one is missing to prove what the chain says.
    pub(super) fn urges(&self, result: Option<&Verified>) -> impl PartialEq + use<> {
        let unproven = matches!(self.standing, Some(Standing::Unproven(_)));
        (self.relayed, self.named, unproven.then_some((result.is_some(), self.other.is_some())))
    }

    /// What a wait of so many confirmations ends with, right after a look.
    pub(super) fn verdict(&self, job: &SignedJob, depth: u64) -> Option<Result<Verified>> {
        self.standing.as_ref()?.verdict(job, depth)
    }

    /// Whether the node's end of the job stands, as a look has shown that the chain does not know better.
    pub(super) fn end_stands(&self) -> bool {
        self.end_stands
    }

    /// What to ask the chain, for a wait of so many confirmations. `result` is what is known, `ended` whether the
    /// node has ended the job.
    pub(super) fn ask(&self, job: &SignedJob, depth: u64, result: Option<&Verified>, ended: bool) -> Ask {
        let mut transactions: Vec<_> = self.found.into_iter().collect();
        for other in [self.told.map(|(told, _)| told), self.named].into_iter().flatten() {
            if !transactions.contains(&other) {
                transactions.push(other);
            }
        }
        let shown = result.into_iter().chain(self.other.as_deref()).cloned().collect();
        Ask { job: job.clone(), transactions, shown, quiet: self.quiet(depth, ended), ended }
    }

    /// The numbers of heads at which the last look's finding can hold and is not deep enough; none if that is not all
    /// there is to know.
    fn quiet(&self, depth: u64, ended: bool) -> Range<u64> {
        let found = self.final_result().and_then(Verified::finality).filter(|_| !ended);
        found.map_or(0..0, |found| found.block_number..found.block_number.saturating_add(depth - 1))
    }

    /// Takes in what a look at the chain has shown. `after_end`: it was begun after the node had ended the job. True
    /// if what is known now is what this look showed, and not one before. Its result, if it shows one, becomes the
    /// first.
    pub(super) fn looked(
        &mut self,
        standing: Standing,
        head: B256,
        after_end: bool,
        first: &mut Option<Box<Verified>>,
    ) -> bool {
        self.head = Some(head);
        let in_vain = self.in_vain.saturating_add(1);
        (self.error, self.in_vain) = match &standing {
            Standing::Unread(error) | Standing::Unproven(error) => (Some(error.clone()), in_vain),
            _ => (None, 0),
        };
        if matches!(standing, Standing::Shallow | Standing::Unread(_)) {
            return false;
        }
        if let Standing::Complete(result) = &standing {
            self.found = result.finality().map(|finality| finality.tx_hash);
            if first.as_ref().is_none_or(|known| known.output() != result.output()) {
                // The other one stays at hand: a reorganisation can bring it back.
                self.other = first.replace(Box::new((**result).clone().with_finality(None)));
            }
        }
        self.end_stands |= after_end && standing.is_open();
        self.told = self.told.filter(|(_, looks)| *looks < LOOKS_FOR_EVENT && standing.is_open());
        if let Some((_, looks)) = &mut self.told {
            *looks += 1;
        }
        self.standing = Some(standing);
        true
    }

    /// For what the chain is to be looked at when this is the head, in a wait of so many confirmations. `ended`:
    /// whether the node has ended the job.
    pub(super) fn wish(&self, head: Block, depth: u64, ended: bool) -> ChainWish {
        if self.head == Some(head.hash) || self.in_vain > MAX_IN_VAIN {
            return ChainWish::None;
        }
        match &self.standing {
            _ if self.error.is_some() => ChainWish::AtHeads,
            Some(Standing::Unseen | Standing::Requested) if self.told.is_none() => ChainWish::AtEvents,
            Some(Standing::Complete(_)) if self.quiet(depth, ended).contains(&head.number) => ChainWish::AtEvents,
            _ => ChainWish::AtHeads,
        }
    }

    /// An event says that the job has ended in this transaction. Whether that is news.
    pub(super) fn hear_event(&mut self, tx: B256) -> bool {
        if self.final_result().is_some() && self.found == Some(tx) {
            return false;
        }
        let looks = self.told.map_or(0, |(_, looks)| looks);
        self.told = Some((tx, looks));
        true
    }

    /// Whether the node is needed to prove what the chain says.
    pub(super) fn needs_node(&self) -> bool {
        matches!(self.standing, Some(Standing::Unproven(_)))
    }

    /// Looks in a row that could not say.
    pub(super) fn in_vain(&self) -> u32 {
        self.in_vain
    }

    /// For a wait of so many confirmations whose deadline has passed: what the chain last said in words, what to do,
    /// and what was wrong. `rpc` is why it cannot be read now.
    pub(super) fn words(&self, depth: u64, rpc: Option<&Error>) -> Option<(String, &'static str, Option<Error>)> {
        let unread = "the chain could not be read, so the job may be complete there: check the RPC, and wait again";
        let unread = |error: &Error| ("the chain could not be read".into(), unread, Some(error.clone()));
        Some(match (&self.standing, &self.error) {
            _ if let Some(error) = rpc => unread(error),
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
            (_, Some(error)) => unread(error),
            (Some(Standing::Taken { depth: seen, .. }), _) => (
                format!("on chain another job has its nonce, with {seen} of {depth} confirmations"),
                "unless the chain is reorganised the job will never land: sign it again under another nonce",
                None,
            ),
            (Some(Standing::Cancelled { depth: seen }), _) => (
                format!("on chain its id is cancelled, with {seen} of {depth} confirmations"),
                "unless the chain is reorganised the job will never land: sign it again under another nonce",
                None,
            ),
            (Some(_), None) if self.found.is_some() => (
                "it was complete on chain, and is no more: its block was given up".into(),
                "a reorganisation took it away, and the node does not send it again; post the result with JobHandle::post_result, or wait in case that \
                 the block comes back",
                None,
            ),
            (Some(_), None) if self.relayed => (
                "the node says RELAYED, and on chain it is not complete".into(),
                "the node does not look whether its transaction succeeds: it may have reverted or been dropped, and the node will not send \
                 another; or the RPC lags behind; JobHandle::diagnose looks for the cause",
                None,
            ),
            (Some(_), None) => return None,
            (None, None) => ("the chain was not read".into(), "the RPC took too long: check it, and wait again", None),
        })
    }
}
