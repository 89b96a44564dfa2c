//! What a person does about lanes and jobs.

use infinityvm_sdk::{
    ErrorKind, RelayStrategy, Revision,
    outbox::{EventKind, JobProgress, JobTicket},
};
use support::harness::within;

use crate::rig::{Rig, hear, told};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;

#[tokio::test]
async fn a_paused_lane_gives_out_no_nonces_and_each_act_is_recorded() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        assert!(outbox.pause(rig.consumer, "maintenance").await.unwrap());
        assert!(!outbox.pause(rig.consumer, "again").await.unwrap());
        let tickets = [
            outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap(),
            outbox.enqueue(rig.job(ORDERED, b"2")).await.unwrap(),
        ];
        let status = outbox.job(tickets[0]).await.unwrap().unwrap();
        assert_eq!((status.progress, status.nonce, status.job_id), (JobProgress::Queued, None, None));
        // A queued job can be given up; one that its worker has can not be acted upon.
        outbox.abandon(tickets[0], "the customer cancelled").await.unwrap();
        assert_eq!(outbox.abandon(tickets[0], "twice").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(outbox.retry(tickets[1], "why not").await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let unknown = JobTicket::from_number(999);
        assert_eq!(outbox.retry(unknown, "none").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(outbox.job(unknown).await.unwrap().is_none());
        assert!(outbox.resume(rig.consumer, "over").await.unwrap());
        assert!(!outbox.resume(rig.consumer, "again").await.unwrap());
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!((events[0].ticket(), told(&events[0])), (tickets[0], (EventKind::Abandoned, None)));
        assert_eq!((events[1].ticket(), events[1].nonce()), (tickets[1], Some(1)));
        let log = outbox.status().await.unwrap().lanes.remove(0).log;
        let log: Vec<_> = log.iter().rev().map(|entry| (entry.what.as_str(), entry.note.as_str())).collect();
        assert_eq!(log, [("halted", "maintenance"), ("held", "the customer cancelled"), ("resumed", "over")]);
        let error = outbox.skip_nonces(rig.consumer, 1, "back").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    })
    .await;
}
