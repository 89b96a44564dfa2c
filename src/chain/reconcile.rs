//! What became, on chain, of the nonces that were handed out.

use alloy_primitives::Address;

use super::{
    ChainNonces, JobMetadata, OnchainStatus, Ticket,
    batch::Answers,
    recorded::{InputTickets, other_job},
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
    /// Nonces that were handed out and are complete on chain, by jobs that were not given: most likely ours.
    pub completed: Vec<u64>,
    /// Nonces whose signed jobs were given, and are complete on chain.
    pub relayed: Vec<u64>,
    /// Nonces that were handed out and that the chain does not know yet.
    pub open: Vec<u64>,
}

/// The questions about one nonce.
struct Asked<'a> {
    nonce: u64,
    metadata: Ticket<JobMetadata>,
    inputs: Option<(&'a SignedJob, InputTickets)>,
}

impl ChainNonces {
    /// Compares the nonces that were handed out for a consumer with the chain, and moves on past what others have used there.
    ///
    /// Tells which of them others have: an on-chain request of the consumer that came first shows as pending or cancelled. Whose
    /// job a completed nonce was shows only by its inputs, so give the signed jobs that you have. Completed nonces are told
    /// once.
    ///
    /// One round trip for every 256 nonces that were handed out and not told as completed yet; of more than 4096 the oldest
    /// are forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read; [`ErrorKind::Nonce`](crate::ErrorKind::Nonce) if its
    /// next nonce is too far ahead to be believed, as in [`reserve`](NonceSource::reserve).
    pub async fn reconcile(&self, consumer: Address, jobs: &[SignedJob]) -> Result<Reconciliation> {
        let out: Vec<u64> =
            self.books().get(&consumer).map_or_else(Vec::new, |book| book.out.iter().copied().collect());
        let mut found = Reconciliation::default();
        let mut chunks = out.chunks(AT_ONCE);
        let mut chunk = chunks.next().unwrap_or_default();
        loop {
            let mut batch = self.chain().batch();
            let next = batch.next_nonce(consumer);
            let mut asked = Vec::with_capacity(chunk.len());
            for &nonce in chunk {
                let id = JobId::derive(nonce, consumer);
                let job = jobs.iter().find(|job| job.id() == id);
                let metadata = batch.job_metadata(id);
                asked.push(Asked { nonce, metadata, inputs: job.map(|job| (job, InputTickets::ask(&mut batch, job))) });
            }
            let mut answers = batch.send().await?;
            found.next_on_chain = found.next_on_chain.max(answers.take(next)?);
            for asked in asked {
                found.sort_in(asked, &mut answers)?;
            }
            match chunks.next() {
                Some(next) => chunk = next,
                None => break,
            }
        }
        let mut books = self.books();
        let book = books.entry(consumer).or_default();
        book.apply(consumer, found.next_on_chain, self.max_jump())?;
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
}

impl Reconciliation {
    fn sort_in(&mut self, asked: Asked<'_>, answers: &mut Answers) -> Result<()> {
        let Asked { nonce, metadata, inputs } = asked;
        let metadata = answers.take(metadata)?;
        match metadata.status {
            OnchainStatus::Unknown => self.open.push(nonce),
            OnchainStatus::Completed => {
                let is_ours = |(job, tickets): (&SignedJob, InputTickets)| -> Result<bool> {
                    Ok(other_job(job, &metadata, &tickets.take(answers)?).is_none())
                };
                let ours = inputs.map(is_ours).transpose()?;
                match ours {
                    None => self.completed.push(nonce),
                    Some(true) => self.relayed.push(nonce),
                    Some(false) => self.taken.push((nonce, metadata.status)),
                }
            }
            status => self.taken.push((nonce, status)),
        }
        Ok(())
    }
}
