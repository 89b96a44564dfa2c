//! The observer that counts, through the facade `metrics`.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit, with_recorder};

use super::{
    call::{FAILURES, failure_name},
    event::{ClientEvent, ObservedJob},
    observer::Observer,
};
use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{ProgramId, stage::Stage},
    rpc::Method,
};

const METADATA: Metadata<'static> = Metadata::new(super::TARGET, Level::INFO, Some(module_path!()));

const JOBS: &str = "infinityvm_jobs_total";
const STAGE_SECONDS: &str = "infinityvm_job_stage_seconds";
const LOOKS: &str = "infinityvm_job_looks";
const ATTEMPTS: &str = "infinityvm_submission_attempts";
const CALLS: &str = "infinityvm_calls_total";
const CALL_SECONDS: &str = "infinityvm_call_seconds";
const NOTICES: &str = "infinityvm_notices_total";
const OUTBOX_STEPS: &str = "infinityvm_outbox_steps_total";
const WAITING: &str = "infinityvm_jobs_waiting";
const OPEN: &str = "infinityvm_nonces_open";
const QUARANTINED: &str = "infinityvm_nonces_quarantined";
const BUDGET: &str = "infinityvm_retry_budget";
const CONNECTED: &str = "infinityvm_connected";
const LANES_OWNED: &str = "infinityvm_outbox_lanes_owned";

/// The stages that a job can come to, and that are counted.
const STAGES: [Stage; 4] = [Stage::Accepted, Stage::Executed, Stage::Relayed, Stage::Finalized];

/// The steps of an outbox's jobs.
const STEPS: [&str; 16] = [
    "numbered",
    "signed",
    "failed",
    "stalled",
    "result",
    "posting",
    "posted",
    "not_posted",
    "told",
    "told_of_none",
    "switched",
    "superseded",
    "renumbered",
    "released",
    "kept",
    "over",
];

/// How a submission can fail, and how a wait can.
const SUBMISSIONS: [&str; 4] = ["not_sent", "rejected", "unknown", "nonce_taken"];
const WAITS: [&str; 6] = ["failed", "nonce_taken", "unverified", "lost", "deadline", "other"];

/// The program of jobs whose program was not named.
const OTHER: &str = "other";

/// The observer that counts and times, through the facade [`metrics`] in version 0.24: give one to
/// [`ClientBuilder::observer`](crate::client::ClientBuilder::observer).
///
/// Install the exporter before this is made: what was registered before goes nowhere. The exporter must stand on
/// `metrics` 0.24, as this crate does; one of another version sees nothing. The
/// [guide](crate::guide::seeing_what_happens) has the table of all names, units and labels.
///
/// One of these is for one client. Gauges are added up over the clients of a process, and what a client has added is
/// taken back when it is dropped.
pub struct Metrics {
    /// Beside the last, which is for all others, or for all.
    programs: Vec<ProgramId>,
    jobs: Vec<JobMetrics>,
    calls: Vec<CallMetrics>,
    notices: Notices,
    steps: Vec<(&'static str, Counter)>,
    waiting: Sum,
    open: Sum,
    quarantined: Sum,
    budget: Sum,
    connected: Sum,
    lanes_owned: Sum,
}

/// Of the jobs of one program, or of all.
struct JobMetrics {
    stages: Vec<StageMetrics>,
    looks: Histogram,
    attempts: Histogram,
}

struct StageMetrics {
    reached: Counter,
    failed: Vec<(&'static str, Counter)>,
    seconds: Histogram,
}

struct CallMetrics {
    method: Method,
    ok: Counter,
    failed: Vec<(&'static str, Counter)>,
    seconds: Histogram,
}

struct Notices {
    repeated: Counter,
    sent_again: Counter,
    quarantined: Counter,
    released: Counter,
    lane_stalled: Counter,
    operator_changed: Counter,
    reorganisation: Counter,
    held: Counter,
    retracted: Counter,
    lane_halted: Counter,
    lane_resumed: Counter,
    nonces_skipped: Counter,
    write_fenced: Counter,
    reader_lags: Counter,
}

/// A gauge to which several clients add.
struct Sum {
    gauge: Gauge,
    /// What this one has added.
    own: AtomicI64,
}

impl Sum {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, own: AtomicI64::new(0) }
    }

    fn add(&self, change: i64) {
        if change != 0 {
            self.own.fetch_add(change, Relaxed);
            self.gauge.increment(change as f64);
        }
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        self.gauge.decrement(*self.own.get_mut() as f64);
    }
}

impl Metrics {
    /// Counts all jobs together.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Vec::new(), &[None])
    }

    /// Counts the jobs of each of these programs under the name that is given with it, and all others as `other`: what
    /// is said of jobs has a label `program` then. So many programs, so many times the series.
    #[must_use]
    pub fn by_program<N: Into<String>>(programs: impl IntoIterator<Item = (ProgramId, N)>) -> Self {
        let (ids, names): (Vec<_>, Vec<String>) = programs.into_iter().map(|(id, name)| (id, name.into())).unzip();
        let names: Vec<_> = names.into_iter().chain([OTHER.to_owned()]).map(Some).collect();
        Self::with(ids, &names)
    }

    fn with(programs: Vec<ProgramId>, names: &[Option<String>]) -> Self {
        with_recorder(|recorder| {
            describe(recorder);
            let gauge = |name| Sum::new(recorder.register_gauge(&Key::from_static_name(name), &METADATA));
            let notice = |name| counter(recorder, NOTICES, &[label("notice", name)]);
            Self {
                programs,
                jobs: names.iter().map(|program| JobMetrics::new(recorder, program.as_deref())).collect(),
                calls: Method::ALL.iter().map(|method| CallMetrics::new(recorder, *method)).collect(),
                notices: Notices {
                    repeated: notice("repeated"),
                    sent_again: notice("sent_again"),
                    quarantined: notice("quarantined"),
                    released: notice("released"),
                    lane_stalled: notice("lane_stalled"),
                    operator_changed: notice("operator_changed"),
                    reorganisation: notice("reorganisation"),
                    held: notice("held"),
                    retracted: notice("retracted"),
                    lane_halted: notice("lane_halted"),
                    lane_resumed: notice("lane_resumed"),
                    nonces_skipped: notice("nonces_skipped"),
                    write_fenced: notice("write_fenced"),
                    reader_lags: notice("reader_lags"),
                },
                steps: STEPS.map(|step| (step, counter(recorder, OUTBOX_STEPS, &[label("step", step)]))).into(),
                waiting: gauge(WAITING),
                open: gauge(OPEN),
                quarantined: gauge(QUARANTINED),
                budget: gauge(BUDGET),
                connected: gauge(CONNECTED),
                lanes_owned: gauge(LANES_OWNED),
            }
        })
    }

    /// The metrics of a job, by its program where that was asked for.
    fn of(&self, job: ObservedJob<'_>) -> Option<&JobMetrics> {
        let named = self.programs.iter().position(|program| program == job.program);
        self.jobs.get(named.unwrap_or(self.programs.len()))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Metrics {
    fn observe(&self, event: ClientEvent<'_>) {
        let notices = &self.notices;
        match event {
            ClientEvent::CallEnded { method, failure, time } => {
                if let Some(calls) = self.calls.iter().find(|calls| calls.method == method) {
                    match failure {
                        None => calls.ok.increment(1),
                        Some(failure) => increment(&calls.failed, failure_name(failure)),
                    }
                    calls.seconds.record(time.as_secs_f64());
                }
            }
            ClientEvent::SubmissionEnded { job, attempts, error } => {
                let Some(jobs) = self.of(job) else { return };
                jobs.attempts.record(f64::from(attempts));
                if let Some(error) = error {
                    jobs.failed(Stage::Accepted, submission_outcome(error));
                }
            }
            ClientEvent::StageReached { job, stage, time } => {
                if let Some(stage) = self.of(job).and_then(|jobs| jobs.at(stage)) {
                    stage.reached.increment(1);
                    stage.seconds.record(time.as_secs_f64());
                }
            }
            ClientEvent::WaitEnded { job, until, looks, error } => {
                let Some(jobs) = self.of(job) else { return };
                jobs.looks.record(f64::from(looks));
                if let Some(error) = error {
                    jobs.failed(until, wait_outcome(error));
                }
            }
            ClientEvent::CallRepeated { .. } => notices.repeated.increment(1),
            ClientEvent::SentAgain { .. } => notices.sent_again.increment(1),
            ClientEvent::Quarantined { .. } => notices.quarantined.increment(1),
            ClientEvent::Released { .. } => notices.released.increment(1),
            ClientEvent::LaneStalled { .. } => notices.lane_stalled.increment(1),
            ClientEvent::OperatorChanged { .. } => notices.operator_changed.increment(1),
            ClientEvent::Reorganised { .. } => notices.reorganisation.increment(1),
            ClientEvent::WaitingChanged { change } => self.waiting.add(change),
            ClientEvent::NoncesChanged { open, quarantined } => {
                self.open.add(open);
                self.quarantined.add(quarantined);
            }
            ClientEvent::BudgetChanged { change } => self.budget.add(change),
            ClientEvent::ConnectionChanged { connected } => self.connected.add(if connected { 1 } else { -1 }),
            ClientEvent::OutboxStep { step, .. } => increment(&self.steps, step),
            ClientEvent::JobHeld { .. } => notices.held.increment(1),
            ClientEvent::Retracted { .. } => notices.retracted.increment(1),
            ClientEvent::LaneHalted { .. } => notices.lane_halted.increment(1),
            ClientEvent::LaneResumed { .. } => notices.lane_resumed.increment(1),
            ClientEvent::NoncesSkipped { .. } => notices.nonces_skipped.increment(1),
            ClientEvent::WriteFenced { .. } => notices.write_fenced.increment(1),
            ClientEvent::OwnershipChanged { owned, .. } => self.lanes_owned.add(if owned { 1 } else { -1 }),
            ClientEvent::ReaderLags { .. } => notices.reader_lags.increment(1),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("programs", &self.programs).finish_non_exhaustive()
    }
}

impl JobMetrics {
    fn new(recorder: &dyn Recorder, program: Option<&str>) -> Self {
        let labels = |labels: &[Label]| {
            let program = program.map(|program| Label::new("program", program.to_owned()));
            labels.iter().cloned().chain(program).collect::<Vec<_>>()
        };
        let stages = STAGES.iter().map(|stage| {
            let (stage, failures) = (stage.name(), failures(*stage));
            let ending =
                |outcome| counter(recorder, JOBS, &labels(&[label("stage", stage), label("outcome", outcome)]));
            StageMetrics {
                reached: ending("ok"),
                failed: failures.iter().map(|outcome| (*outcome, ending(outcome))).collect(),
                seconds: histogram(recorder, STAGE_SECONDS, &labels(&[label("stage", stage)])),
            }
        });
        Self {
            stages: stages.collect(),
            looks: histogram(recorder, LOOKS, &labels(&[])),
            attempts: histogram(recorder, ATTEMPTS, &labels(&[])),
        }
    }

    fn at(&self, stage: Stage) -> Option<&StageMetrics> {
        self.stages.get(STAGES.iter().position(|known| *known == stage)?)
    }

    fn failed(&self, stage: Stage, outcome: &'static str) {
        if let Some(stage) = self.at(stage) {
            increment(&stage.failed, outcome);
        }
    }
}

impl CallMetrics {
    fn new(recorder: &dyn Recorder, method: Method) -> Self {
        let labels = [label("method", method.name())];
        let ending = |outcome| counter(recorder, CALLS, &[label("method", method.name()), label("outcome", outcome)]);
        Self {
            method,
            ok: ending("ok"),
            failed: FAILURES.iter().map(|failure| (*failure, ending(failure))).collect(),
            seconds: histogram(recorder, CALL_SECONDS, &labels),
        }
    }
}

fn describe(recorder: &dyn Recorder) {
    let counters = [
        (JOBS, "Jobs that came to a stage, or failed to"),
        (CALLS, "Calls to the node that ended"),
        (NOTICES, "What a service wants to know"),
        (OUTBOX_STEPS, "Steps of an outbox's jobs"),
    ];
    for (name, what) in counters {
        recorder.describe_counter(KeyName::from_const_str(name), Some(Unit::Count), what.into());
    }
    let histograms = [
        (STAGE_SECONDS, Unit::Seconds, "Time from the submission's begin to a stage"),
        (LOOKS, Unit::Count, "Looks at the node that a wait took"),
        (ATTEMPTS, Unit::Count, "Attempts that a submission took"),
        (CALL_SECONDS, Unit::Seconds, "Time that a call to the node took"),
    ];
    for (name, unit, what) in histograms {
        recorder.describe_histogram(KeyName::from_const_str(name), Some(unit), what.into());
    }
    let gauges = [
        (WAITING, "Jobs that are waited for"),
        (OPEN, "Nonces under which a job is being signed or sent"),
        (QUARANTINED, "Nonces in quarantine"),
        (BUDGET, "Retries that are left in the budget"),
        (CONNECTED, "Clients whose node was reached at the last attempt"),
        (LANES_OWNED, "Lanes of an outbox that this instance works on"),
    ];
    for (name, what) in gauges {
        recorder.describe_gauge(KeyName::from_const_str(name), Some(Unit::Count), what.into());
    }
}

fn label(name: &'static str, value: &'static str) -> Label {
    Label::from_static_parts(name, value)
}

fn counter(recorder: &dyn Recorder, name: &'static str, labels: &[Label]) -> Counter {
    recorder.register_counter(&Key::from_parts(name, labels.to_vec()), &METADATA)
}

fn histogram(recorder: &dyn Recorder, name: &'static str, labels: &[Label]) -> Histogram {
    recorder.register_histogram(&Key::from_parts(name, labels.to_vec()), &METADATA)
}

fn increment(counters: &[(&'static str, Counter)], name: &str) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == name) {
        counter.increment(1);
    }
}

fn failures(stage: Stage) -> &'static [&'static str] {
    if stage == Stage::Accepted { &SUBMISSIONS } else { &WAITS }
}

fn submission_outcome(error: &Error) -> &'static str {
    match (error.kind(), error.outcome()) {
        (ErrorKind::NonceTaken, _) => "nonce_taken",
        (_, Outcome::NotSent) => "not_sent",
        (_, Outcome::Rejected) => "rejected",
        (_, Outcome::Unknown | Outcome::Accepted) => "unknown",
    }
}

fn wait_outcome(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::JobFailed => "failed",
        ErrorKind::NonceTaken => "nonce_taken",
        ErrorKind::Verification => "unverified",
        ErrorKind::NotFound => "lost",
        ErrorKind::DeadlineExceeded => "deadline",
        _ => "other",
    }
}
