//! Asks the node, this client's own books, and the chain.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use tokio::{task::JoinSet, time::Instant};

use super::{
    cause::Confidence,
    evidence::{Books, InList, LaneBelow, Neighbour, NeighbourBook, Overtaken, Seen, Symptoms, WalkEnd},
    onchain::{Claims, onchain},
};
use crate::{
    error::{Error, ErrorKind, Result},
    inspect::{
        facts::{SeenAt, record},
        lane::{NeighbourLook, NeighbourState},
        sources::Sources,
    },
    job::{JobId, JobRecord, JobStatus, RelayStrategy, SignedJob},
    node::PendingNonces,
    nonce::{Lane, NonceStanding},
    text::one_line,
    watch::{History, Sight, Stage},
};

/// How many lower nonces are looked at.
const MAX_LOOKS: usize = 128;
/// How many at a time, after the first.
const AT_ONCE: usize = 8;

/// What to ask, and about what.
pub(super) struct Questions<'a> {
    sources: &'a Sources,
    job: &'a SignedJob,
    /// Jobs of the same consumer that the caller knows, by nonce.
    known: HashMap<u64, &'a SignedJob>,
    remembered: Option<(Stage, Instant)>,
    stalled_after: Duration,
    patience: Duration,
}

/// The answers of one round, and what they were in words.
pub(super) struct Round {
    pub evidence: Symptoms,
    pub lines: Vec<String>,
    /// What the chain has shown last, in this round or in one before. Nothing once that RPC has failed: then the next
    /// look is a first one again.
    pub seen: Option<SeenAt>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        job: &'a SignedJob,
        known: &'a [SignedJob],
        remembered: Option<(Stage, Instant)>,
        stalled_after: Duration,
        patience: Duration,
    ) -> Self {
        let known = known.iter().map(|job| (job.nonce(), job)).collect();
        Self { sources, job, known, remembered, stalled_after, patience }
    }

    /// First the list, then the record: a job that is relayed in between is then not in one and finished in the other.
    ///
    /// After an earlier round, what the chain shows is a second look, about the block that was the latest then or a
    /// later one.
    pub(super) async fn ask(&self, since: Option<SeenAt>) -> Result<Round> {
        let Self { sources, job, .. } = self;
        let mut lines = Vec::new();
        let listed = sources.pending.get(job.consumer(), self.patience).await;
        let listing = self.describe_list(&listed, &mut lines);
        let (seen, mut claims) = self.look(&mut lines).await?;
        let books = self.books(&mut lines);
        let has_program = match seen {
            Seen::Pending | Seen::Failed(_) => self.has_program(&mut lines).await,
            _ => None,
        };
        let stalled = self.stalled(&seen, &mut lines);
        let ordered = job.relay_strategy() == RelayStrategy::Ordered;
        // Of what is not executed yet, only the chain can say that it will be held.
        let waits = match seen {
            Seen::Executed { .. } => true,
            Seen::Pending => sources.chain.is_some(),
            _ => false,
        } && matches!(listing, InList::None | InList::Listed);
        let nonces = match &listed {
            PendingNonces::Known(nonces) => Some(&**nonces),
            _ => None,
        };
        let mut lane = None;
        if ordered && waits {
            let (below, head) = self.walk(nonces, &mut lines).await?;
            (lane, claims.head) = (Some(below), head);
        }
        // Last, so that it is not older than what the node says.
        let onchain = match &sources.chain {
            Some(chain) => onchain(sources, chain, job, &claims, since.as_ref(), &mut lines).await,
            None => None,
        };
        let (onchain, shown) = onchain.unzip();
        let shown = shown.or(since.filter(|since| !since.rpc.has_failed()));
        let evidence = Symptoms {
            nonce: job.nonce(),
            revision: job.revision(),
            ordered,
            program: job.program_id().clone(),
            seen,
            listing,
            books,
            has_program,
            lane,
            stalled,
            retries: claims.retries,
            lower_pending: nonces.map(|nonces| nonces.first().is_some_and(|lowest| *lowest < job.nonce())),
            onchain,
        };
        Ok(Round { evidence, lines, seen: shown })
    }

    fn describe_list(&self, list: &PendingNonces, lines: &mut Vec<String>) -> InList {
        let (nonce, consumer) = (self.job.nonce(), self.job.consumer());
        let (listing, line) = match list {
            PendingNonces::Known(nonces) => {
                let listed = nonces.contains(&nonce);
                let has = if listed { "has" } else { "does not have" };
                let line = format!("the list of {} pending jobs of {consumer} {has} nonce {nonce}", nonces.len());
                (if listed { InList::Listed } else { InList::Unlisted }, line)
            }
            PendingNonces::TaskDead => {
                let line = "CANCELLED, as all calls are whose consumer's task is dead";
                (InList::Dead(Confidence::Shown), line.to_owned())
            }
            PendingNonces::BreaksOff => {
                let line = "breaks off each time, and other calls do not";
                (InList::Dead(Confidence::Likely), line.to_owned())
            }
            PendingNonces::Hanging => {
                let line = format!("no answer within {:.1} s; the call goes on", self.patience.as_secs_f64());
                (InList::Hanging, line)
            }
            PendingNonces::None(why) => (InList::None, format!("no list to be had: {}", one_line(why))),
        };
        lines.push(format!("GetPendingJobs: {line}"));
        listing
    }

    async fn look(&self, lines: &mut Vec<String>) -> Result<(Seen, Claims)> {
        let Some(record) = record(&self.sources.node, self.job.id()).await? else {
            lines.push("GetResult: the node does not know the job".into());
            return Ok((Seen::NotFound, Claims::default()));
        };
        // Without an operator nothing that was executed can be proven, and that says nothing.
        // A pinned one is compared with the JobManager's by the chain's own part of the diagnosis.
        let pinned = self.sources.operator.pinned();
        let operator = match pinned {
            Some(pinned) => Some(pinned),
            None => self.sources.operator.get().await.ok().flatten(),
        };
        let mut sight = Sight::of(self.job, &record, operator.unwrap_or(Address::ZERO), None);
        // The JobManager may have named another one since.
        if let (Sight::Unproven(_), Some(known), None) = (&sight, operator, pinned)
            && record.signed_by().is_some_and(|signer| signer != known)
            && let Ok(Some(named)) = self.sources.operator.changed(known).await
        {
            sight = Sight::of(self.job, &record, named, None);
        }
        let verified = match &sight {
            Sight::Executed(verified) | Sight::Relayed(verified) => Some((**verified).clone()),
            _ => None,
        };
        let claims = Claims::of(&record, verified);
        let seen = match sight {
            Sight::NotFound => Seen::NotFound,
            Sight::Taken { field, .. } => Seen::Taken { field, status: record.status().clone() },
            Sight::Pending => Seen::Pending,
            Sight::Executed(_) => Seen::Executed { verified: true },
            Sight::Relayed(_) => Seen::Relayed { verified: true },
            Sight::Failed(reason) => Seen::Failed(reason),
            Sight::Unproven(error) if operator.is_some() => Seen::Unproven(error.to_string()),
            Sight::Unproven(_) if *record.status() == JobStatus::Relayed => Seen::Relayed { verified: false },
            Sight::Unproven(_) => Seen::Executed { verified: false },
        };
        let mut line = format!("GetResult: {}", record.status());
        match &seen {
            Seen::Taken { field, .. } => line += &format!(", of a job whose {field} differs"),
            Seen::Executed { verified: true } | Seen::Relayed { verified: true } => {
                line += if pinned.is_some() {
                    ", the result is signed by the pinned operator"
                } else {
                    ", the result is signed by the operator"
                };
            }
            Seen::Executed { .. } | Seen::Relayed { .. } => line += ", not verified, as no operator is known",
            Seen::Unproven(reason) => line += &format!(", and {}", one_line(reason)),
            Seen::NotFound | Seen::Pending | Seen::Failed(_) => {}
        }
        if record.retries() > 0 {
            line += &format!(", after {} tries to relay it", record.retries());
        }
        if let Some(hash) = record.relay_tx_hash() {
            line += &format!(", in transaction {hash}");
        }
        lines.push(line);
        Ok((seen, claims))
    }

    fn books(&self, lines: &mut Vec<String>) -> Books {
        let here = self.sources.submissions.on_hand(self.job);
        // The manager knows of the other clients that share it.
        let standing = self.sources.nonces.standing(self.job.consumer(), self.job.nonce());
        let elsewhere = !here.under_way && !here.other;
        let under_way = here.under_way || (elsewhere && standing == Some(NonceStanding::Leased { sent: true }));
        let other = here.other || (elsewhere && standing == Some(NonceStanding::Leased { sent: false }));
        let books = Books {
            under_way,
            other,
            open: here.open,
            stored: here.stored,
            seen_before: self.remembered.is_some_and(|(stage, _)| stage > Stage::Submitted),
        };
        let mut say = |holds: bool, line: &str| {
            if holds {
                lines.push(format!("this client: {line}"));
            }
        };
        say(under_way, "a submission of the job is under way");
        say(other, "another job has the nonce, and is being signed or of open fate");
        say(here.open && !under_way, "the job is in Client::unresolved: what became of its last submission is open");
        say(here.stored, "the node answered its submission that it could not read the consumer's nonce from the chain");
        books
    }

    async fn has_program(&self, lines: &mut Vec<String>) -> Option<bool> {
        let id = self.job.program_id();
        match self.sources.node.contains_program(id).await {
            Ok(has) => {
                let says = if has { "has" } else { "does not have" };
                lines.push(format!("ContainsProgram: the node {says} the program"));
                Some(has)
            }
            Err(error) => {
                lines.push(format!("ContainsProgram: no answer to be had: {}", one_line(&error.to_string())));
                None
            }
        }
    }

    /// What this client's waits see of a job, and what its handle remembers of earlier ones.
    fn history(&self, job: &SignedJob) -> Option<History> {
        let remembered = self.remembered.filter(|_| job == self.job);
        let remembered = remembered.map(|(stage, moved)| History { stage, moved, polls: 0, sent_again: 0 });
        match (self.sources.watchers.history(job), remembered) {
            // A wait that has just begun knows less than the handle.
            (Some(now), Some(before)) if now.stage == before.stage && now.sent_again == 0 => {
                Some(History { moved: now.moved.min(before.moved), ..now })
            }
            (now, before) => now.or(before),
        }
    }

    /// For how long the job has been in this stage, if long enough to say that it stalls.
    fn stalled_in(&self, job: &SignedJob, stage: Stage) -> Option<Duration> {
        let history = self.history(job).filter(|history| history.stage == stage)?;
        let still = Instant::now().saturating_duration_since(history.moved);
        (still >= self.stalled_after).then_some(still)
    }

    fn stalled(&self, seen: &Seen, lines: &mut Vec<String>) -> Option<Duration> {
        if let Some(history) = self.history(self.job) {
            let still = Instant::now().saturating_duration_since(history.moved).as_secs_f64();
            let History { stage, polls, sent_again, .. } = history;
            let answers = if polls > 0 { format!(", in {polls} answers") } else { String::new() };
            lines.push(format!("this client: {stage} for {still:.1} s{answers}; sent again {sent_again} times"));
        }
        match seen {
            Seen::Pending => self.stalled_in(self.job, Stage::Accepted),
            Seen::Executed { .. } => self.stalled_in(self.job, Stage::Executed),
            Seen::Relayed { .. } => {
                let final_once = || self.stalled_in(self.job, Stage::Finalized);
                self.stalled_in(self.job, Stage::Relayed).or_else(final_once)
            }
            _ => None,
        }
    }

    fn book(&self, nonce: u64, standing: Option<NonceStanding>) -> NeighbourBook {
        match self.known.get(&nonce) {
            Some(job) => NeighbourBook { known: true, unordered: job.relay_strategy() == RelayStrategy::Unordered },
            // A job that this client spent the nonce on was in the consumer's lane.
            None => {
                let unordered = standing == Some(NonceStanding::Spent { lane: Some(Lane::Unordered) });
                NeighbourBook { known: unordered, unordered }
            }
        }
    }

    /// Down the lane to a nonce that it is past; and the record of the next job to be relayed.
    async fn walk(
        &self,
        listed: Option<&BTreeSet<u64>>,
        lines: &mut Vec<String>,
    ) -> Result<(LaneBelow, Option<JobRecord>)> {
        let consumer = self.job.consumer();
        let in_list = |nonce: u64| listed.is_some_and(|listed| listed.contains(&nonce));
        let working = || NeighbourState::Working { executed: None, stalled: None };
        let mut below = BTreeMap::new();
        let (mut nonce, mut looks) = (self.job.nonce(), 0);
        let end = 'walk: loop {
            let most = if looks == 0 { 1 } else { AT_ONCE.min(MAX_LOOKS - looks) };
            let mut batch = Vec::new();
            // A contract's first nonce is 1.
            while nonce > 1 && batch.len() < most {
                nonce -= 1;
                if in_list(nonce) {
                    let book = self.book(nonce, self.sources.nonces.standing(consumer, nonce));
                    below.insert(nonce, Neighbour { state: working(), book });
                } else {
                    batch.push(nonce);
                }
            }
            if batch.is_empty() {
                break if nonce > 1 { WalkEnd::Bound { nonce: nonce - 1 } } else { WalkEnd::Bottom };
            }
            looks += batch.len();
            for Looked { nonce, look, book, .. } in self.looks(batch, listed.is_some()).await? {
                match look {
                    NeighbourLook::Passed => {
                        below = below.split_off(&nonce);
                        break 'walk WalkEnd::Passed { nonce, book };
                    }
                    NeighbourLook::Stands(state) => {
                        below.insert(nonce, Neighbour { state, book });
                    }
                }
            }
        };
        let mut lane = LaneBelow { below, end, overtaken: None };
        let head = self.look_at_next(&mut lane).await?;
        describe_lane(&lane, listed.is_some(), lines);
        if lane.below.values().all(|neighbour| neighbour.state == NeighbourState::Missing) {
            lane.overtaken = self.overtaken(lines).await?;
        }
        Ok((lane, head))
    }

    /// Looks at these nonces at once, and sorts the answers from the highest down.
    async fn looks(&self, nonces: Vec<u64>, unlisted: bool) -> Result<Vec<Looked>> {
        let consumer = self.job.consumer();
        let mut tasks = JoinSet::new();
        for nonce in nonces {
            let (node, nonces) = (Arc::clone(&self.sources.node), self.sources.nonces.clone());
            tasks.spawn(async move {
                let before = nonces.standing(consumer, nonce);
                let record = record(&node, JobId::derive(nonce, consumer)).await;
                let after = nonces.standing(consumer, nonce);
                record.map(|record| (nonce, record, before, after))
            });
        }
        let mut looks = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            let cut_off = |error| Error::new(ErrorKind::Closed, "a look was cut off").with_source(error);
            let (nonce, record, before, after) = joined.map_err(cut_off)??;
            let status = record.as_ref().map(JobRecord::status);
            let stalled = self.neighbour_stalled(nonce, status);
            let look = NeighbourLook::of(status, unlisted, before, after, stalled);
            looks.push(Looked { nonce, look, book: self.book(nonce, after), record });
        }
        looks.sort_unstable_by_key(|looked| std::cmp::Reverse(looked.nonce));
        Ok(looks)
    }

    fn neighbour_stalled(&self, nonce: u64, status: Option<&JobStatus>) -> Option<Duration> {
        let stage = if status?.is_executed() { Stage::Executed } else { Stage::Accepted };
        self.known.get(&nonce).and_then(|job| self.stalled_in(job, stage))
    }

    /// Reads the record of the nonce that is next to be relayed.
    async fn look_at_next(&self, lane: &mut LaneBelow) -> Result<Option<JobRecord>> {
        let Some((next, NeighbourState::Working { .. })) = lane.next() else { return Ok(None) };
        let Some(Looked { nonce, look, book, record }) = self.looks(vec![next], false).await?.pop() else {
            return Ok(None);
        };
        match look {
            // Meanwhile.
            NeighbourLook::Passed => {
                lane.below = lane.below.split_off(&(nonce + 1));
                lane.end = WalkEnd::Passed { nonce, book };
            }
            NeighbourLook::Stands(state @ NeighbourState::Working { .. }) => {
                lane.below.insert(nonce, Neighbour { state, book });
                return Ok(record);
            }
            // It was seen otherwise just now; the next round has both anew.
            NeighbourLook::Stands(_) => {}
        }
        Ok(None)
    }

    /// Whether a higher nonce was relayed, though this job is not yet when it is looked at again.
    async fn overtaken(&self, lines: &mut Vec<String>) -> Result<Option<Overtaken>> {
        let Some(by) = self.job.nonce().checked_add(1) else { return Ok(None) };
        let relayed = |record: &JobRecord| *record.status() == JobStatus::Relayed;
        let id = JobId::derive(by, self.job.consumer());
        if !record(&self.sources.node, id).await?.as_ref().is_some_and(relayed) {
            return Ok(None);
        }
        if record(&self.sources.node, self.job.id()).await?.as_ref().is_some_and(relayed) {
            return Ok(None);
        }
        let strategy = self.known.get(&by).map(|job| job.relay_strategy());
        if strategy == Some(RelayStrategy::Unordered) {
            return Ok(None);
        }
        lines.push(format!("GetResult of nonce {by}: RELAYED, before this job"));
        Ok(Some(Overtaken { by, ordered: strategy.is_some() }))
    }
}

/// A look at a lower nonce.
struct Looked {
    nonce: u64,
    look: NeighbourLook,
    book: NeighbourBook,
    record: Option<JobRecord>,
}

/// How many lines the nonces below may take.
const MAX_LINES: usize = 12;

/// One line for each run of nonces that stand alike, from the lowest up.
fn describe_lane(lane: &LaneBelow, has_list: bool, lines: &mut Vec<String>) {
    match lane.end {
        WalkEnd::Passed { nonce, book } => {
            let unordered = if book.unordered { "; this client knows it as Unordered" } else { "" };
            lines.push(format!("GetResult of nonce {nonce}: the lane is past it{unordered}"));
        }
        WalkEnd::Bottom => lines.push("GetResult: none of the nonces from 1 up to this one is relayed".into()),
        WalkEnd::Bound { nonce } => {
            lines.push(format!("GetResult: {MAX_LOOKS} lower nonces looked at; those up to {nonce} were not"));
        }
    }
    let mut runs: Vec<(u64, u64, String)> = Vec::new();
    for (&nonce, neighbour) in &lane.below {
        let words = describe(neighbour, has_list);
        match runs.last_mut() {
            Some((_, last, same)) if *same == words => *last = nonce,
            _ => runs.push((nonce, nonce, words)),
        }
    }
    for (first, last, words) in runs.iter().take(MAX_LINES) {
        let which = if first == last { format!("nonce {first}") } else { format!("nonces {first} to {last}") };
        lines.push(format!("{which}: {words}"));
    }
    if runs.len() > MAX_LINES {
        lines.push(format!("and so on: {} more groups of nonces below this one", runs.len() - MAX_LINES));
    }
}

fn describe(neighbour: &Neighbour, has_list: bool) -> String {
    let status = |executed: bool| if executed { "DONE" } else { "PENDING" };
    let mut words = match &neighbour.state {
        NeighbourState::Missing => "GetResult: not known to the node".into(),
        NeighbourState::Held => "this client is signing or sending it".into(),
        NeighbourState::Quarantined => "GetResult: not known to the node; in quarantine in this client".into(),
        NeighbourState::Failed(reason) => {
            format!("GetResult: {}", JobStatus::Failed { reason: reason.clone() })
        }
        NeighbourState::Lost { executed } => {
            format!("GetResult: {}, and not in the list of pending jobs", status(*executed))
        }
        NeighbourState::Working { executed: None, .. } => "in the list of pending jobs".into(),
        NeighbourState::Working { executed: Some(executed), .. } if has_list => {
            format!("GetResult: {}, and in the list of pending jobs", status(*executed))
        }
        NeighbourState::Working { executed: Some(executed), .. } => format!("GetResult: {}", status(*executed)),
    };
    if let NeighbourState::Working { stalled: Some(stalled), .. } = &neighbour.state {
        words += &format!(", and does not move for {:.1} s", stalled.as_secs_f64());
    }
    if neighbour.book.unordered {
        words += "; this client knows it as Unordered";
    }
    words
}
