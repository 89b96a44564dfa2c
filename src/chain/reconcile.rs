//! What became, on chain, of the nonces that were handed out.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use super::{
    Batch, Block, ChainNonces, JobMetadata, OnchainStatus, OneRpc, Ticket,
    batch::Answers,
    finality::{Ask, Standing, look},
    recorded::{InputTickets, Kept},
    second_look::{Heard, SecondLook, Tidings, contradiction},
};
use crate::{
    error::Result,
    job::{JobId, SignedJob},
    nonce::NonceSource,
};

/// How many jobs are asked about in one round trip.
const AT_ONCE: usize = 256;

/// How the nonces that [`ChainNonces`] handed out stand on chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciliation {
    /// The chain's next nonce.
    pub next_on_chain: u64,
    /// The nonce that is handed out next.
    pub next: u64,
    /// Nonces that were handed out and that others have: requested on chain, cancelled there, or completed with other
    /// inputs than those of the signed job that was given. A job of ours under such a nonce will not land.
    pub taken: Vec<(u64, OnchainStatus)>,
    /// Nonces that were handed out and are complete on chain, by jobs that were not given, or of which the chain does
    /// not show whose they are: most likely ours.
    pub completed: Vec<u64>,
    /// Nonces whose signed jobs were given, and are complete on chain.
    pub relayed: Vec<u64>,
    /// Nonces that were handed out and that the chain does not know yet.
    pub open: Vec<u64>,
}

/// How one nonce stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Relayed,
    /// By a job that was not given.
    Completed,
    Taken(OnchainStatus),
    /// By a job of which the consumer does not show whether it is the one that was given.
    Unclear,
}

/// One look at nonces.
struct Survey {
    fates: BTreeMap<u64, Fate>,
    next: u64,
    /// Whether that gives up nonces that could be handed out.
    moves: bool,
    tip: Block,
}

impl Survey {
    /// The nonces that a job of ours would not land under, or that are given up.
    fn lost(&self) -> impl Iterator<Item = (u64, Fate)> {
        let lost = |fate: &Fate| matches!(fate, Fate::Taken(_) | Fate::Unclear);
        self.fates.iter().filter(move |(_, fate)| lost(fate)).map(|(nonce, fate)| (*nonce, *fate))
    }
}

impl Tidings for Survey {
    fn is_bad(&self) -> bool {
        self.moves || self.lost().next().is_some()
    }

    fn agrees(&self, other: &Self) -> bool {
        self.moves == other.moves && self.lost().eq(other.lost())
    }
}

/// The questions about one nonce.
struct Asked<'a> {
    nonce: u64,
    metadata: Ticket<JobMetadata>,
    inputs: Option<(&'a SignedJob, InputTickets)>,
}

impl Asked<'_> {
    fn take(self, answers: &mut Answers) -> Result<Fate> {
        let metadata = answers.take(self.metadata)?;
        Ok(match (metadata.status.known()?, self.inputs) {
            (OnchainStatus::Unknown, _) => Fate::Open,
            (OnchainStatus::Completed, None) => Fate::Completed,
            (OnchainStatus::Completed, Some((job, inputs))) => {
                match Kept::compare(job, &metadata, &inputs.take(answers)?) {
                    Kept::Ours => Fate::Relayed,
                    Kept::Other(_) => Fate::Taken(metadata.status),
                    Kept::Unclear(_) => Fate::Unclear,
                }
            }
            (status, _) => Fate::Taken(status),
        })
    }
}

impl ChainNonces {
    /// Compares the nonces that were handed out for a consumer with the chain, and moves on past what others have used
    /// there.
    ///
    /// Tells which of them others have: an on-chain request of the consumer that came first shows as pending or
    /// cancelled. Whose job a completed nonce was shows only by its inputs, so give the signed jobs that you have.
    /// Completed nonces are told once.
    ///
    /// One round trip for every 256 nonces that were handed out and not told as completed yet; of more than 4096 the
    /// oldest are forgotten. What others have is read once more before it is told.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read;
    /// [`ErrorKind::Nonce`](crate::ErrorKind::Nonce) if its next nonce is too far ahead to be believed, as in
    /// [`reserve`](NonceSource::reserve).
    pub async fn reconcile(&self, consumer: Address, jobs: &[SignedJob]) -> Result<Reconciliation> {
        let out: Vec<u64> =
            self.books().get(&consumer).map_or_else(Vec::new, |book| book.out.iter().copied().collect());
        let (next, fates) = self.chain().verdict(|chain| self.told(chain, consumer, jobs, &out)).await?;
        let mut found = Reconciliation { next_on_chain: next, ..Reconciliation::default() };
        for (nonce, fate) in fates {
            found.sort_in(nonce, fate);
        }
        let mut books = self.books();
        let book = books.entry(consumer).or_default();
        book.check(consumer, found.next_on_chain, self.max_jump())?;
        book.apply(found.next_on_chain);
        let lost = found.taken.iter().filter(|(_, status)| *status == OnchainStatus::Completed).map(|(nonce, _)| nonce);
        for nonce in found.completed.iter().chain(&found.relayed).chain(lost) {
            book.out.remove(nonce);
        }
        if let Some(line) = &mut book.line {
            for (nonce, _) in &found.taken {
                line.strike(*nonce);
            }
            found.next = line.peek();
        }
        Ok(found)
    }

    /// The chain's next nonce, and how these nonces stand.
    async fn told(
        &self,
        chain: OneRpc,
        consumer: Address,
        jobs: &[SignedJob],
        out: &[u64],
    ) -> Result<(u64, BTreeMap<u64, Fate>)> {
        let first = self.survey(&chain, consumer, jobs, out, None).await?;
        let mut fates = first.fates.clone();
        let lost: Vec<u64> = first.lost().map(|(nonce, _)| nonce).collect();
        let (mut second, mut seen, mut survey) = (SecondLook::new(), first.tip, first);
        let told = loop {
            match second.hear(survey) {
                Heard::Told(told) => break told,
                Heard::Again(pause) => tokio::time::sleep(pause).await,
                Heard::Contradiction { .. } => return Err(contradiction(&chain)),
            }
            survey = self.survey(&chain, consumer, jobs, &lost, Some(seen)).await?;
            seen = survey.tip;
        };
        fates.extend(told.fates);
        self.clear_up(&chain, jobs, consumer, &mut fates).await?;
        Ok((told.next, fates))
    }

    /// Looks at these nonces, and at the next one. With the tip of an earlier look it is a second one, about that
    /// block or a later one.
    async fn survey(
        &self,
        chain: &OneRpc,
        consumer: Address,
        jobs: &[SignedJob],
        nonces: &[u64],
        seen: Option<Block>,
    ) -> Result<Survey> {
        let (mut fates, mut next, mut seen) = (BTreeMap::new(), 0, seen);
        let mut chunks = nonces.chunks(AT_ONCE);
        let mut chunk = chunks.next().unwrap_or_default();
        let tip = loop {
            let ask = |batch: &mut Batch| {
                let next = batch.next_nonce(consumer);
                let asked = chunk.iter().map(|&nonce| {
                    let id = JobId::derive(nonce, consumer);
                    let job = jobs.iter().find(|job| job.id() == id);
                    let metadata = batch.job_metadata(id);
                    Asked { nonce, metadata, inputs: job.map(|job| (job, InputTickets::ask(batch, job))) }
                });
                (next, asked.collect::<Vec<_>>())
            };
            // All of a second look at one block; of a first one each chunk at what is the latest then.
            let snapshot = match seen {
                None => chain.at_latest(ask).await?,
                Some(block) => chain.again(block, ask).await?,
            };
            let (asked, mut answers) = (snapshot.asked, snapshot.answers);
            next = next.max(answers.take(asked.0)?);
            for asked in asked.1 {
                fates.insert(asked.nonce, asked.take(&mut answers)?);
            }
            seen = seen.map(|_| snapshot.head);
            match chunks.next() {
                Some(next) => chunk = next,
                None => break snapshot.tip,
            }
        };
        let moves = self.books().get(&consumer).is_none_or(|book| book.is_moved_by(next));
        Ok(Survey { fates, next, moves, tip })
    }

    /// Finds out whose the jobs are that the consumer does not show, by the transactions that completed them.
    async fn clear_up(
        &self,
        chain: &OneRpc,
        jobs: &[SignedJob],
        consumer: Address,
        fates: &mut BTreeMap<u64, Fate>,
    ) -> Result<()> {
        let unclear = fates.iter_mut().filter(|(_, fate)| **fate == Fate::Unclear);
        let (mut asks, mut places) = (Vec::new(), Vec::new());
        for (nonce, fate) in unclear {
            let id = JobId::derive(*nonce, consumer);
            if let Some(job) = jobs.iter().find(|job| job.id() == id) {
                let (transactions, shown) = Default::default();
                asks.push(Ask { job: job.clone(), transactions, shown, quiet: 0..0, ended: false });
                places.push(fate);
            }
        }
        if asks.is_empty() {
            return Ok(());
        }
        let (_, standings) = look(chain, &asks).await?;
        for (fate, standing) in places.into_iter().zip(standings) {
            *fate = match standing {
                Standing::Complete(_) => Fate::Relayed,
                Standing::Taken { .. } => Fate::Taken(OnchainStatus::Completed),
                Standing::Cancelled { .. } => Fate::Taken(OnchainStatus::Cancelled),
                _ => Fate::Completed,
            };
        }
        Ok(())
    }
}

impl Reconciliation {
    fn sort_in(&mut self, nonce: u64, fate: Fate) {
        match fate {
            Fate::Open => self.open.push(nonce),
            Fate::Relayed => self.relayed.push(nonce),
            Fate::Completed | Fate::Unclear => self.completed.push(nonce),
            Fate::Taken(status) => self.taken.push((nonce, status)),
        }
    }
}
