//! From what was sent, what the poster said, and what the chain and the pool show, to the next step: the one place that
//! decides, without any I/O.
//!
//! That a result has landed, that its nonce is taken, or that it would revert is believed of the chain alone
//! (`look.rs`, at two looks if it is bad). That nothing was sent is believed of one's own memory alone. Nothing is
//! signed while a transaction of one's own may land, unless the poster gives it the same account nonce, or cannot look
//! after what it has sent and no pool has shown that for long. Even then the outcome stays open for as long as an
//! earlier transaction may land.

use crate::chain::ChainStanding;

/// What one remembers of one's own transactions for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnTx {
    /// None that may land.
    Nothing,
    /// One was signed, no pool has shown it, and it is too early to give it up.
    Fresh,
    /// The same, and for long.
    Stale,
    /// The same, and the poster cannot look after it. It may land; another may be signed beside it.
    Adrift,
    /// A pool has shown one.
    Pooled,
}

/// What the poster said at its last attempt, if that has certainly sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// There was none, or something may have been sent.
    Open,
    /// Its own trial reverts.
    Reverts,
    /// That has happened too often.
    RevertsStill,
    /// Its own trial reverts because the job is there already. On chain it is not: somebody's result is in the pool.
    InPool,
    /// It failed.
    Failed,
}

/// What a look finds of all transactions of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    Nowhere,
    Pool,
    Succeeded,
    Reverted,
}

/// What the chain says of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialCall {
    /// It would land.
    Passes,
    /// It would revert.
    Reverts,
    /// The chain does not have the job, and refuses the result because it has: it tries it on what its pool holds.
    InPool,
}

/// What is known before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub sent: OwnTx,
    pub attempt: Attempt,
    /// No look was made since this post began.
    pub first: bool,
    /// The look before has shown the job complete.
    pub complete_before: bool,
    /// The time is up.
    pub over: bool,
}

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shows {
    pub job: ChainStanding,
    pub ours: Ours,
    pub trial: TrialCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostStep {
    /// A transaction of one's own has brought the result.
    Landed,
    /// The result is there.
    Already,
    /// The nonce is another job's.
    Taken,
    /// The contracts refuse the result.
    Refused,
    /// A transaction of one's own has reverted, and the result is not there.
    Reverted,
    /// Whose job is there is not to be found out.
    Doubt,
    /// What the poster failed with is to be told.
    Failed,
    /// The poster finds a revert that the chain does not show.
    Unexplained,
    /// Sign a transaction, and send it.
    Send,
    /// Have the poster look after what was sent; sign another only if it says that nothing of it can land.
    Care,
    /// Wait for the next block, and look again.
    Wait,
    /// Tell that it is open whether it lands.
    GiveUp,
    /// Tell that the time is up.
    Late,
}

pub(super) fn decide(known: Memory, shown: Shows) -> PostStep {
    match shown.ours {
        Ours::Succeeded => return PostStep::Landed,
        Ours::Reverted => {
            return match shown.job {
                ChainStanding::Complete => PostStep::Already,
                ChainStanding::Taken(_) => PostStep::Taken,
                ChainStanding::Unseen | ChainStanding::Unclear => PostStep::Reverted,
            };
        }
        Ours::Pool | Ours::Nowhere => {}
    }
    let nowhere = shown.ours == Ours::Nowhere;
    let nothing = known.sent == OwnTx::Nothing && nowhere;
    let another = nothing || known.sent == OwnTx::Adrift && nowhere;
    match shown.job {
        // Of one's own the receipt may only be late.
        ChainStanding::Complete if nothing || known.complete_before || known.over => PostStep::Already,
        ChainStanding::Complete => PostStep::Wait,
        ChainStanding::Taken(_) => PostStep::Taken,
        // Nothing is posted on a doubt.
        ChainStanding::Unclear if another => PostStep::Doubt,
        ChainStanding::Unseen if another => unsent(known, shown.trial),
        ChainStanding::Unclear | ChainStanding::Unseen if known.over => PostStep::Late,
        ChainStanding::Unclear | ChainStanding::Unseen => match (known.sent, shown.ours) {
            (OwnTx::Stale, Ours::Nowhere) if !known.first => PostStep::GiveUp,
            _ => PostStep::Care,
        },
    }
}

/// Another transaction may be signed, and the chain does not have the job.
fn unsent(known: Memory, trial: TrialCall) -> PostStep {
    match (known.attempt, trial) {
        (_, TrialCall::Reverts) => PostStep::Refused,
        (Attempt::Failed, _) => PostStep::Failed,
        _ if known.over => PostStep::Late,
        // It lands by itself. A transaction beside it would be paid for in vain.
        (_, TrialCall::InPool) => PostStep::Wait,
        (Attempt::RevertsStill, TrialCall::Passes) => PostStep::Unexplained,
        (Attempt::Open | Attempt::Reverts | Attempt::InPool, TrialCall::Passes) => PostStep::Send,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::OnchainStatus;

    const SENT: [OwnTx; 5] = [OwnTx::Nothing, OwnTx::Fresh, OwnTx::Stale, OwnTx::Adrift, OwnTx::Pooled];
    const ATTEMPTS: [Attempt; 5] =
        [Attempt::Open, Attempt::Reverts, Attempt::RevertsStill, Attempt::InPool, Attempt::Failed];
    const OURS: [Ours; 4] = [Ours::Nowhere, Ours::Pool, Ours::Succeeded, Ours::Reverted];
    const TRIALS: [TrialCall; 3] = [TrialCall::Passes, TrialCall::Reverts, TrialCall::InPool];
    const JOBS: [ChainStanding; 4] = [
        ChainStanding::Unseen,
        ChainStanding::Complete,
        ChainStanding::Unclear,
        ChainStanding::Taken(OnchainStatus::Completed),
    ];

    fn known(sent: OwnTx, bits: u8) -> Memory {
        let bit = |at: u8| bits >> at & 1 == 1;
        Memory { sent, attempt: Attempt::Open, first: bit(0), complete_before: bit(1), over: bit(2) }
    }

    fn letter(step: PostStep) -> char {
        match step {
            PostStep::Landed => 'l',
            PostStep::Already => 'a',
            PostStep::Taken => 't',
            PostStep::Refused => 'r',
            PostStep::Reverted => 'v',
            PostStep::Doubt => 'd',
            PostStep::Failed => 'f',
            PostStep::Unexplained => 'u',
            PostStep::Send => 's',
            PostStep::Care => 'c',
            PostStep::Wait => 'w',
            PostStep::GiveUp => 'g',
            PostStep::Late => '.',
        }
    }

    /// Rows: what was sent. Columns: what the chain has. Each cell: the transactions of one's own are nowhere, in the
    /// pool, succeeded, reverted. Four tables: at a later look, at the first one, after one that showed the job
    /// complete, and when the time is up.
    #[test]
    fn the_table() {
        let table = |bits| -> Vec<String> {
            let cell = |sent, job| -> String {
                let step = |ours| decide(known(sent, bits), Shows { job, ours, trial: TrialCall::Passes });
                OURS.map(|ours| letter(step(ours))).iter().collect()
            };
            SENT.iter().map(|sent| JOBS.map(|job| cell(*sent, job)).join(" ")).collect()
        };
        // unseen complete unclear taken
        #[rustfmt::skip]
        assert_eq!(table(0), [
            "sclv awla dclv ttlt", // nothing
            "cclv wwla cclv ttlt", // fresh
            "gclv wwla gclv ttlt", // stale
            "sclv wwla dclv ttlt", // adrift
            "cclv wwla cclv ttlt", // pooled
        ]);
        #[rustfmt::skip]
        assert_eq!(table(1), [
            "sclv awla dclv ttlt",
            "cclv wwla cclv ttlt",
            "cclv wwla cclv ttlt",
            "sclv wwla dclv ttlt",
            "cclv wwla cclv ttlt",
        ]);
        #[rustfmt::skip]
        assert_eq!(table(2), [
            "sclv aala dclv ttlt",
            "cclv aala cclv ttlt",
            "gclv aala gclv ttlt",
            "sclv aala dclv ttlt",
            "cclv aala cclv ttlt",
        ]);
        #[rustfmt::skip]
        assert_eq!(table(4), [
            "..lv aala d.lv ttlt",
            "..lv aala ..lv ttlt",
            "..lv aala ..lv ttlt",
            "..lv aala d.lv ttlt",
            "..lv aala ..lv ttlt",
        ]);
    }

    /// Nothing was sent, and the chain does not have the job. Rows: what the poster said. Columns: the chain's trial
    /// passes, reverts, shows that the result is in the pool; in time, and when the time is up.
    #[test]
    fn the_table_of_attempts() {
        let table: Vec<String> = ATTEMPTS
            .iter()
            .map(|attempt| {
                let step = |trial, bits| {
                    let known = Memory { attempt: *attempt, ..known(OwnTx::Nothing, bits) };
                    letter(decide(known, Shows { job: ChainStanding::Unseen, ours: Ours::Nowhere, trial }))
                };
                let row = |bits| -> String { TRIALS.map(|trial| step(trial, bits)).iter().collect() };
                format!("{} {}", row(0), row(4))
            })
            .collect();
        #[rustfmt::skip]
        assert_eq!(table, [
            "srw .r.", // none, or open
            "srw .r.", // reverts
            "urw .r.", // reverts still
            "srw .r.", // in the pool
            "frf frf", // failed
        ]);
    }

    /// Whatever is combined: 9,600 cases.
    #[test]
    fn certainty_is_the_chains_or_ones_own() {
        for (sent, attempt) in SENT.iter().flat_map(|sent| ATTEMPTS.map(|attempt| (*sent, attempt))) {
            for bits in 0..8 {
                let known = Memory { attempt, ..known(sent, bits) };
                for (job, ours) in JOBS.iter().flat_map(|job| OURS.map(|ours| (*job, ours))) {
                    for trial in TRIALS {
                        let step = decide(known, Shows { job, ours, trial });
                        let case = format!("{known:?} {job:?} {ours:?} {trial:?}: {step:?}");
                        let may_land = sent != OwnTx::Nothing || ours == Ours::Pool;
                        let adrift = sent == OwnTx::Adrift && ours == Ours::Nowhere;
                        match step {
                            PostStep::Send
                            | PostStep::Refused
                            | PostStep::Failed
                            | PostStep::Unexplained
                            | PostStep::Doubt => {
                                assert!(!may_land || adrift, "{case}");
                            }
                            PostStep::Taken => assert!(matches!(job, ChainStanding::Taken(_)), "{case}"),
                            PostStep::Landed => assert_eq!(ours, Ours::Succeeded, "{case}"),
                            PostStep::Already => assert_eq!(job, ChainStanding::Complete, "{case}"),
                            PostStep::Reverted => assert_eq!(ours, Ours::Reverted, "{case}"),
                            PostStep::GiveUp | PostStep::Care => assert!(may_land, "{case}"),
                            PostStep::Wait | PostStep::Late => {}
                        }
                        // It ends with the time.
                        if known.over {
                            assert!(!matches!(step, PostStep::Send | PostStep::Care | PostStep::Wait), "{case}");
                        }
                    }
                }
            }
        }
    }
}
