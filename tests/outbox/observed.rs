//! What the client's observers are told of an outbox, and its spans.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{
    JobId, RelayStrategy, Revision, Until,
    observe::{ClientEvent, ObservedTicket, Observer},
    outbox::{AfterFailure, LaneConfig, Outbox},
};
use support::{harness::within, traces::Traces};

use crate::rig::{FAILS, Rig, hear};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;

/// What is told of the outbox, each event as its name and what it is about.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<ToldEvent>>>);

type ToldEvent = (String, Option<ObservedTicket>);

impl Observer for Told {
    fn observe(&self, event: ClientEvent<'_>) {
        let told = match event {
            ClientEvent::OutboxStep { job, step, .. } => (step.to_owned(), Some(job)),
            ClientEvent::JobHeld { job, reason, .. } => (format!("held: {reason}"), Some(job)),
            ClientEvent::Retracted { job, .. } => ("retracted".to_owned(), Some(job)),
            ClientEvent::LaneHalted { ticket, reason, .. } => (format!("halted: {reason} {ticket:?}"), None),
            ClientEvent::LaneResumed { consumer, .. } => (format!("resumed: {consumer}"), None),
            ClientEvent::NoncesSkipped { next_nonce, .. } => (format!("skipped: {next_nonce}"), None),
            ClientEvent::OwnershipChanged { owned, .. } => (format!("owned: {owned}"), None),
            ClientEvent::ReaderLags { reader, waiting, lag, .. } => {
                assert!(lag >= LAG, "{lag:?}");
                (format!("{reader} lags: {waiting}"), None)
            }
            _ => return,
        };
        self.0.lock().unwrap().push(told);
    }
}

const LAG: Duration = Duration::from_millis(300);

impl Told {
    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    async fn until(&self, name: &str) {
        while !self.names().iter().any(|told| told == name) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn outbox(rig: &Rig, told: &Told, lane: LaneConfig) -> Outbox {
    let client = rig.client_builder().observer(told.clone()).connect().await.unwrap();
    Outbox::builder(client, rig.store().await).lane(lane).start().await.unwrap()
}

#[tokio::test]
async fn every_step_of_a_job_is_told_and_its_span_is_the_parent_of_what_the_client_does() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (traces, _guard) = Traces::here();
        let told = Told::default();
        let outbox = outbox(&rig, &told, rig.lane(ORDERED)).await;
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        told.until("over").await;
        assert_eq!(told.names(), ["numbered", "signed", "result", "told", "over"]);
        for (_, job) in &*told.0.lock().unwrap() {
            let job = job.unwrap();
            assert_eq!((job.ticket, job.consumer, job.strategy), (ticket.number(), rig.consumer, ORDERED));
            assert_eq!((job.nonce, job.id), (Some(1), Some(JobId::derive(1, rig.consumer))));
        }
        let span = traces.named("outbox_job").remove(0);
        for (field, value) in [
            ("infinityvm.ticket", ticket.to_string()),
            ("infinityvm.job.id", JobId::derive(1, rig.consumer).to_string()),
            ("infinityvm.consumer", rig.consumer.to_string()),
            ("infinityvm.nonce", "1".to_owned()),
            ("infinityvm.lane", ORDERED.to_string()),
        ] {
            assert_eq!(span.fields.get(field), Some(value.as_str()), "{field}");
        }
        for name in ["submit", "wait"] {
            assert_eq!(traces.named(name)[0].parent, Some(span.id), "{name}");
        }
        let steps = traces.said("outbox step: the store has it");
        let steps: Vec<_> = steps.iter().map(|line| line.fields.get("infinityvm.step").unwrap().to_owned()).collect();
        assert_eq!(steps, told.names());
    })
    .await;
}

#[tokio::test]
async fn what_needs_a_person_is_told() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let told = Told::default();
        let lane = rig.lane(ORDERED).with_until(Until::Relayed).with_finality(3).with_lag(LAG);
        let outbox = outbox(&rig, &told, lane.with_patience(Duration::from_millis(500))).await;
        // A reader that acknowledges nothing lags, and is told of once.
        let mut results = outbox.results("bill").await.unwrap();
        outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        told.until("bill lags: 1").await;
        tokio::time::sleep(3 * LAG).await;
        assert_eq!(told.names().iter().filter(|name| name.contains("lags")).count(), 1);
        hear(&mut results, 1).await;
        // Somebody else's request has the nonce after a reorganisation.
        rig.node.chain().reorganise(1);
        assert_eq!(rig.node.chain().take_nonce(rig.consumer), Some(1));
        rig.node.chain().mine(5);
        told.until("retracted").await;
        told.until("held: nonce_taken").await;
        assert!(told.names().contains(&"halted: nonce_taken Some(1)".to_owned()), "{:?}", told.names());

        let rig = Rig::new(Revision::Relay).await;
        let told = Told::default();
        let outbox = self::outbox(&rig, &told, rig.lane(ORDERED)).await;
        outbox.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
        told.until("held: failed").await;
        let steps = ["numbered", "signed", "failed", "held: failed", "halted: failed Some(1)"];
        assert_eq!(told.names(), steps);
        assert!(
            outbox.resume(rig.consumer, "mended").await.unwrap()
                && outbox.pause(rig.consumer, "by hand").await.unwrap()
        );
        assert_eq!(told.names()[5..], [format!("resumed: {}", rig.consumer), "halted: manual None".to_owned()]);
    })
    .await;
}

/// Each act by hand, with its span; and what comes of it.
#[tokio::test]
async fn what_a_person_does_is_told() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (traces, _guard) = Traces::here();
        let told = Told::default();
        let lane = rig.lane(UNORDERED).with_repetitions(0).with_after_failure(AfterFailure::Hold);
        let outbox = outbox(&rig, &told, lane).await;
        let held = async |times: usize| {
            while told.names().iter().filter(|name| *name == "held: failed").count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ticket = outbox.enqueue(rig.job(UNORDERED, &[FAILS])).await.unwrap();
        held(1).await;
        assert_eq!(rig.node.stats().executions(rig.id(1)), 1);
        // Once, though nothing is repeated by itself.
        outbox.retry(ticket, "the program was mended").await.unwrap();
        held(2).await;
        assert_eq!(rig.node.stats().executions(rig.id(1)), 2);
        outbox.renumber(ticket, "elsewhere").await.unwrap();
        held(3).await;
        outbox.abandon(ticket, "no use").await.unwrap();
        outbox.pause(rig.consumer, "to look").await.unwrap();
        assert!(!outbox.pause(rig.consumer, "it is paused").await.unwrap());
        outbox.skip_nonces(rig.consumer, 9, "used").await.unwrap();
        assert!(outbox.skip_nonces(rig.consumer, 8, "back").await.is_err());
        outbox.resume(rig.consumer, "looked").await.unwrap();
        let resumed = format!("resumed: {}", rig.consumer);
        let once = ["numbered", "signed", "held: failed", "released", "failed", "held: failed"];
        let elsewhere = ["renumbered", "released", "signed", "held: failed", "told_of_none"];
        let lane = ["halted: manual None", "skipped: 9", &resumed];
        assert_eq!(told.names(), [&once[..], &elsewhere, &lane].concat());
        let acts = traces.named("outbox_act");
        let field = |name: &str| acts.iter().map(|act| act.fields.get(name).map(str::to_owned)).collect::<Vec<_>>();
        let names = ["retry", "renumber", "abandon", "pause", "pause", "skip", "skip", "resume"];
        assert_eq!(field("infinityvm.act"), names.map(|name| Some(name.to_owned())));
        let fine: Vec<_> = field("infinityvm.outcome").iter().map(|outcome| outcome.as_deref() == Some("ok")).collect();
        assert_eq!(fine, [true, true, true, true, true, true, false, true]);
        assert!(acts.iter().all(|act| act.fields.get("infinityvm.consumer") == Some(&rig.consumer.to_string())));
        assert_eq!(field("infinityvm.ticket")[..3], [(); 3].map(|()| Some(ticket.to_string())));
        assert_eq!(field("infinityvm.nonce")[2], Some("2".to_owned()));
        for (act, text) in [(3, "lane halted"), (5, "nonces skipped"), (7, "lane resumed")] {
            let lines = traces.said(text);
            assert_eq!(lines.iter().map(|line| line.span).collect::<Vec<_>>(), [Some(acts[act].id)], "{text}");
        }
    })
    .await;
}
