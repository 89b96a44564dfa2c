//! A person beside the service: looks at its store while it runs, and acts on it while it is stopped.

use infinityvm_sdk::{
    ErrorKind, RelayStrategy, Revision,
    outbox::{EventKind, HoldReason, JobProgress, JobTicket, LaneConfig, Outbox, StoreView},
    primitives::Address,
};
use support::harness::within;

use crate::rig::{FAILS, Rig, hear};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;

/// Looks until a job is held.
async fn held(view: &StoreView, ticket: JobTicket) {
    while view.job(ticket).await.unwrap().is_none_or(|job| job.held.is_none()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_store_is_looked_at_while_its_service_runs_and_acted_on_while_it_does_not() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let service = rig.outbox(rig.lane(ORDERED)).await;
        let failing = service.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
        let behind = service.enqueue(rig.job(ORDERED, b"behind")).await.unwrap();
        let view = StoreView::of(rig.store().await);
        held(&view, failing).await;

        let lane = view.status().await.unwrap().lanes.remove(0);
        assert_eq!((lane.consumer, lane.revision, lane.ordered, lane.held), (rig.consumer, Revision::Relay, true, 1));
        let jobs = view.unfinished(rig.consumer, None, 10).await.unwrap();
        assert_eq!((jobs[0].ticket, jobs[0].consumer, jobs[0].nonce), (failing, rig.consumer, Some(1)));
        assert_eq!(view.unfinished(Address::ZERO, None, 10).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(view.job(JobTicket::from_number(999)).await.unwrap().is_none());

        // The service has the store.
        let attend = async |lane: LaneConfig| {
            let client = infinityvm_sdk::Client::builder().grpc(rig.node.grpc_url()).revision(Revision::Relay);
            let client = client.nonces(infinityvm_sdk::nonce::Given).connect().await.unwrap();
            Outbox::builder(client, rig.store().await).lane(lane).attend().await
        };
        let error = attend(rig.lane(ORDERED)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        drop(service);

        // A client without chain and signer, as nothing is sent.
        let other = LaneConfig::new(Address::repeat_byte(8), ORDERED);
        assert_eq!(attend(other).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        assert_eq!(view.status().await.unwrap().lanes.len(), 1, "no lane is made");
        let filler = rig.job(ORDERED, b"filler");
        let outbox = attend(rig.lane(ORDERED).with_filler(move |_| Ok(filler.clone()))).await.unwrap();
        assert!(!outbox.pause(rig.consumer, "halted already").await.unwrap());
        outbox.abandon(failing, "it will not work").await.unwrap();
        assert!(outbox.resume(rig.consumer, "gone on with").await.unwrap());
        let job = outbox.job(failing).await.unwrap().unwrap();
        assert_eq!((job.progress, job.held), (JobProgress::Filling, None));
        assert_eq!(rig.landed(), [], "nothing is sent");
        drop(outbox);

        let service = rig.outbox(rig.lane(ORDERED)).await;
        let mut results = service.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!((events[0].ticket(), events[0].kind()), (failing, EventKind::Abandoned));
        assert_eq!((events[1].ticket(), events[1].kind()), (behind, EventKind::Result));
        assert_eq!(rig.landed(), [(1, b"filler".to_vec()), (2, b"behind".to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_went_back_is_told_of_although_a_person_came_first() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let ended = async || {
            drop(rig.outbox(rig.lane(ORDERED)).await);
            // The connections end in tasks of their own, and the last one removes the log.
            let logs = ["-wal", "-shm"].map(|end| rig.path().with_file_name(format!("outbox.db{end}")));
            while logs.iter().any(|log| log.exists()) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        ended().await;
        let copy = std::fs::read(rig.path()).unwrap();
        ended().await;
        std::fs::write(rig.path(), copy).unwrap();
        let client = rig.client().await;
        let attended = Outbox::builder(client, rig.store().await).lane(rig.lane(ORDERED)).attend().await.unwrap();
        drop(attended);
        let service = rig.outbox(rig.lane(ORDERED)).await;
        let lane = service.status().await.unwrap().lanes.remove(0);
        assert_eq!(lane.halted.map(|halt| halt.reason), Some(HoldReason::Restored));
    })
    .await;
}
