//! What is done next for a job that has a nonce, from what the store holds and what was seen of it. No I/O. What has no
//! nonce is the lane's to number, and what is held a person's.

mod words;

pub use self::words::{AfterFailure, HoldReason};
pub(crate) use self::words::{Announced, Saved};
use crate::job::Revision;

/// What was seen of a job last: in this process, by the client's flights and its watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sighted {
    /// Nothing yet.
    Nothing,
    /// A verified result, as far as the lane asks for.
    Reached,
    /// A result that nothing takes back any more.
    Final,
    /// The node failed it, and the chain has nothing under the nonce.
    Failed,
    /// The node's lane is past its nonce.
    Passed,
    /// An earlier payload of this very job, signed under the same nonce, is what node or chain have.
    Earlier,
    /// Somebody else's payload has the nonce. `free`: this payload cannot run under it any more, as the chain shows the
    /// nonce used up, or as its bytes never left.
    Taken { free: bool },
    /// Executed, and its relay does not come.
    Stalled,
    /// The same, and for so long that its result is to be posted; or transactions that post it may land.
    Unrelayed,
    /// The node has it, and does not run it, or does not answer for its consumer any more.
    Stuck,
    /// What was told of it does not stand: node and chain have that result no more.
    Gone,
    /// A result that proves nothing.
    Unproven,
    /// The signer or a preflight said no, before anything was sent.
    Refused,
    /// What may pass: the same call may succeed later.
    Trouble,
    /// This is not the world that the store's jobs are for.
    OtherWorld,
}

/// What the next step depends on, beside what was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) revision: Revision,
    pub(crate) ordered: bool,
    /// It has a signature, so its bytes may be anywhere. Otherwise it has a nonce only.
    pub(crate) signed: bool,
    pub(crate) told: Announced,
    /// The same bytes may be sent once more after a failure.
    pub(crate) again: bool,
    /// It has had as many payloads as the lane allows a job.
    pub(crate) spent: bool,
    pub(crate) after: AfterFailure,
    /// A job whose nonce was taken may go to the end of its Ordered lane.
    pub(crate) append: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NextStep {
    /// Have it signed, and store the signature.
    Sign,
    /// Send the stored bytes, or go on watching them.
    Send,
    /// Count a failure, and send the stored bytes once more.
    SendAgain,
    /// Post the result.
    Post,
    /// Tell the service the result.
    Tell,
    /// Tell the service that there is none.
    TellFailed,
    /// Tell the service that what it was told does not stand.
    Retract,
    /// Go on with the earlier payload.
    Switch,
    /// Store another payload under the same nonce.
    Replace,
    /// Tell that there is no result, and store a payload that fills the nonce.
    Fill,
    /// Store the payload under a new nonce.
    Renumber,
    /// It is over.
    Close,
    /// Leave it to a person.
    Hold(HoldReason),
    /// Leave the lane to a person. The job itself goes on being watched if it stalls, and is held otherwise.
    Stop(HoldReason),
    /// Look again after a pause.
    Rest,
}

/// The next step for a job that has a nonce, is not over, and is not left to a person.
pub(crate) fn decide(now: Situation, sighted: Sighted) -> NextStep {
    match sighted {
        Sighted::OtherWorld => NextStep::Stop(HoldReason::OtherWorld),
        Sighted::Trouble => NextStep::Rest,
        Sighted::Unrelayed if now.signed => NextStep::Post,
        _ if now.signed => match now.told {
            Announced::Nothing => now.untold(sighted),
            Announced::Result => now.told_result(sighted),
            Announced::NoResult => now.told_of_none(sighted),
        },
        Sighted::Refused => now.stand(HoldReason::Refused),
        // Nothing of it ever left, so it can move.
        Sighted::Taken { .. } => now.moved(true),
        _ => NextStep::Sign,
    }
}

impl Situation {
    fn untold(&self, sighted: Sighted) -> NextStep {
        match sighted {
            Sighted::Nothing | Sighted::Trouble | Sighted::OtherWorld | Sighted::Unrelayed => NextStep::Send,
            Sighted::Reached | Sighted::Final => NextStep::Tell,
            Sighted::Earlier => NextStep::Switch,
            Sighted::Failed => self.failed(),
            Sighted::Passed => self.stand(HoldReason::NoncePassed),
            Sighted::Taken { free } => self.moved(free),
            Sighted::Stalled => self.stalled(),
            Sighted::Stuck => self.stuck(),
            // Nothing was told, so nothing is taken back.
            Sighted::Gone => NextStep::Rest,
            Sighted::Unproven => self.stand(HoldReason::Unproven),
            Sighted::Refused => self.stand(HoldReason::Refused),
        }
    }

    fn failed(&self) -> NextStep {
        // A node of the State revision takes a nonce once, also that of a job that failed.
        if self.again && self.revision == Revision::Relay {
            return NextStep::SendAgain;
        }
        match self.after {
            // What fails under every payload ends as it does in a lane without this policy.
            AfterFailure::Replace if self.revision == Revision::Relay && self.spent && !self.ordered => {
                NextStep::TellFailed
            }
            // Those before it may run yet, so a person looks.
            AfterFailure::Replace | AfterFailure::Renumber if self.spent => self.stand(HoldReason::Failed),
            AfterFailure::Replace if self.revision == Revision::Relay => NextStep::Replace,
            AfterFailure::Fill if self.revision == Revision::Relay && self.ordered => NextStep::Fill,
            AfterFailure::Renumber if self.revision == Revision::State => NextStep::Renumber,
            AfterFailure::Tell if !self.ordered => NextStep::TellFailed,
            _ => self.stand(HoldReason::Failed),
        }
    }

    /// Its nonce is somebody else's.
    fn moved(&self, free: bool) -> NextStep {
        match (self.ordered, free) {
            (true, true) if self.append => NextStep::Renumber,
            (true, _) => NextStep::Stop(HoldReason::NonceTaken),
            (false, true) => NextStep::Renumber,
            (false, false) => NextStep::Rest,
        }
    }

    fn stalled(&self) -> NextStep {
        if self.ordered { NextStep::Stop(HoldReason::RelayStalled) } else { NextStep::Rest }
    }

    fn stuck(&self) -> NextStep {
        if self.ordered { NextStep::Stop(HoldReason::Stalled) } else { NextStep::Rest }
    }

    /// In an Ordered lane what stands still holds up what is behind it.
    fn stand(&self, reason: HoldReason) -> NextStep {
        if self.ordered { NextStep::Stop(reason) } else { NextStep::Hold(reason) }
    }

    fn told_result(&self, sighted: Sighted) -> NextStep {
        match sighted {
            Sighted::Final => NextStep::Close,
            Sighted::Nothing
            | Sighted::Reached
            | Sighted::Trouble
            | Sighted::OtherWorld
            | Sighted::Unrelayed
            | Sighted::Refused => NextStep::Send,
            Sighted::Stalled => self.stalled(),
            Sighted::Stuck => self.stuck(),
            Sighted::Gone
            | Sighted::Failed
            | Sighted::Passed
            | Sighted::Earlier
            | Sighted::Taken { .. }
            | Sighted::Unproven => NextStep::Retract,
        }
    }

    /// What is left is a nonce that the lane needs filled.
    fn told_of_none(&self, sighted: Sighted) -> NextStep {
        match sighted {
            Sighted::Final | Sighted::Taken { free: true } => NextStep::Close,
            Sighted::Nothing | Sighted::Reached | Sighted::Trouble | Sighted::OtherWorld | Sighted::Unrelayed => {
                NextStep::Send
            }
            // The job whose end was told landed after all.
            Sighted::Earlier => NextStep::Retract,
            Sighted::Failed if self.again && self.revision == Revision::Relay => NextStep::SendAgain,
            Sighted::Failed => self.stand(HoldReason::Failed),
            Sighted::Passed => self.stand(HoldReason::NoncePassed),
            Sighted::Taken { free: false } | Sighted::Gone => NextStep::Rest,
            Sighted::Stalled => self.stalled(),
            Sighted::Stuck => self.stuck(),
            Sighted::Unproven => self.stand(HoldReason::Unproven),
            Sighted::Refused => self.stand(HoldReason::Refused),
        }
    }
}

#[cfg(test)]
mod tests;
