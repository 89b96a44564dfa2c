//! An outbox's store: looked at beside its service, and acted on while no instance of that has the lane.

use std::time::Duration;

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, PollPolicy, RelayStrategy, Revision,
    nonce::Given,
    outbox::{
        EventKind, JobTicket, LaneConfig, Outbox, OutboxStore, StoreView, postgres::PostgresStore, sqlite::SqliteStore,
    },
    primitives::{SolValue, U256},
};
use serde_json::json;
use support::harness::within;

use crate::scene::{CONSUMER, KEY, Scene};

/// The scene's service, whose store is `outbox.db`.
async fn service(scene: &Scene, strategy: RelayStrategy) -> Outbox {
    service_on(store(scene).await, scene, strategy).await
}

async fn service_on(store: impl OutboxStore, scene: &Scene, strategy: RelayStrategy) -> Outbox {
    let client = Client::builder()
        .grpc(scene.node.grpc_url())
        .signer(LocalSigner::from_bytes(KEY).expect("a key"))
        .operator(scene.node.operator())
        .polling(PollPolicy::default().with_tick(Duration::from_millis(25)).with_most(Duration::from_millis(250)))
        .nonces(Given);
    let client = client.revision(scene.node.revision()).connect().await.expect("a client");
    let lane = LaneConfig::new(CONSUMER, strategy).with_repetitions(0);
    let lane = lane.with_after_failure(infinityvm_sdk::outbox::AfterFailure::Hold);
    Outbox::builder(client, store).network("test").lane(lane).start().await.expect("started")
}

async fn store(scene: &Scene) -> SqliteStore {
    SqliteStore::open(scene.folder.path().join("outbox.db")).await.expect("a store")
}

/// A job that takes as many cycles as the number is, of which it may take 1000.
fn job(scene: &Scene, number: u64, strategy: RelayStrategy) -> OffchainJobRequest {
    let job = OffchainJobRequest::builder(CONSUMER, scene.root.clone()).max_cycles(1000);
    job.onchain_input(U256::from(number).abi_encode()).relay(strategy).build().expect("a job")
}

/// Lets the service run until a job is held, and stops it.
async fn stopped_once_held(scene: &Scene, service: Outbox, ticket: JobTicket) {
    until_held(&StoreView::of(store(scene).await), ticket).await;
    service.drain(Duration::from_secs(60)).await.expect("drained");
}

async fn until_held(view: &StoreView, ticket: JobTicket) {
    while view.job(ticket).await.expect("read").is_none_or(|job| job.held.is_none()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_jobs_are_seen_and_acted_upon() {
    within(async {
        let (scene, ordered) = (Scene::start(Revision::Relay).await, RelayStrategy::Ordered);
        let outbox = service(&scene, ordered).await;
        let mut tickets = Vec::new();
        for number in [9, 5000, 16] {
            tickets.push(outbox.enqueue(job(&scene, number, ordered)).await.expect("enqueued"));
        }
        let (failing, at) = (tickets[1], "--store outbox.db");
        stopped_once_held(&scene, outbox, failing).await;

        // While it runs, it is looked at, and nothing else.
        let outbox = service(&scene, ordered).await;
        let lane = scene.line("outbox status --store sqlite:outbox.db --json").json()["lanes"][0].clone();
        assert_eq!(
            (&lane["held"], &lane["network"], &lane["ordered"]),
            (&json!(1), &json!("named:test"), &json!(true))
        );
        let text = scene.line(&format!("outbox status {at}"));
        assert!(text.ok().contains("HALTED") && text.out.contains("1 held"), "{}", text.out);
        let held = scene.line(&format!("outbox list --held {at} --json")).json();
        assert_eq!((&held["jobs"][0]["ticket"], held["jobs"].as_array().map(Vec::len)), (&json!(failing), Some(1)));
        let one = scene.line(&format!("outbox list {failing} {at}"));
        assert!(one.ok().contains("HELD"), "{}", one.out);
        let refused = scene.line(&format!("outbox retry {failing} {at}"));
        assert!(refused.fails(5).contains("stop the service"), "{}", refused.err);
        outbox.drain(Duration::from_secs(60)).await.expect("drained");
        drop(outbox);

        // As it is it fails again; another payload does not.
        let retried = scene.line(&format!("outbox retry {failing} {at} --reason again --json")).json();
        assert_eq!(retried["job"]["held"], json!(null));
        assert!(scene.line(&format!("outbox retry {failing} {at}")).fails(2).contains("not held"));
        assert_eq!(scene.line(&format!("outbox resume {CONSUMER} {at} --json")).json()["changed"], json!(true));
        stopped_once_held(&scene, service(&scene, ordered).await, failing).await;
        let less = serde_json::to_string(&job(&scene, 25, ordered)).expect("JSON");
        scene.folder.write("less.json", less);
        scene.line(&format!("outbox replace {failing} less.json {at} --reason fewer")).ok();
        assert!(scene.line(&format!("outbox resume {CONSUMER} {at}")).ok().ends_with("goes on"));
        assert!(scene.line(&format!("outbox pause {CONSUMER} {at} --reason night")).ok().ends_with("paused"));
        assert!(scene.line(&format!("outbox pause {CONSUMER} {at}")).ok().ends_with("was halted already"));
        assert!(scene.line(&format!("outbox status {at}")).ok().contains("night"));
        scene.line(&format!("outbox resume {CONSUMER} {at}")).ok();

        let outbox = service(&scene, ordered).await;
        let mut results = outbox.results("bill").await.expect("a reader");
        let mut roots = Vec::new();
        for _ in 0..3 {
            let event = results.next().await.expect("an event");
            roots.push(event.result().expect("a result").decode::<(U256, String)>().expect("a root").0);
            event.ack().await.expect("acknowledged");
        }
        assert_eq!(roots, [3, 5, 4].map(U256::from));
        drop(results);

        // What is given up has its nonce filled.
        let failing = outbox.enqueue(job(&scene, 6000, ordered)).await.expect("enqueued");
        stopped_once_held(&scene, outbox, failing).await;
        let bare = scene.line(&format!("outbox abandon {failing} {at}"));
        assert!(bare.fails(2).contains("filler"), "{}", bare.err);
        scene.line(&format!("outbox abandon {failing} {at} --filler less.json --json")).json();
        scene.line(&format!("outbox resume {CONSUMER} {at}")).ok();
        let outbox = service(&scene, ordered).await;
        let event = outbox.results("bill").await.expect("a reader").next().await.expect("an event");
        assert_eq!((event.ticket(), event.kind()), (failing, EventKind::Abandoned));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_job_gets_another_nonce() {
    within(async {
        let (scene, unordered) = (Scene::start(Revision::Relay).await, RelayStrategy::Unordered);
        let outbox = service(&scene, unordered).await;
        let ticket = outbox.enqueue(job(&scene, 5000, unordered)).await.expect("enqueued");
        stopped_once_held(&scene, outbox, ticket).await;
        let moved = scene.line(&format!("outbox renumber {ticket} --store outbox.db --json")).json();
        assert_eq!((&moved["job"]["nonce"], &moved["job"]["held"]), (&json!(2), &json!(null)), "{moved}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn on_postgresql_a_lane_is_acted_on_that_no_instance_has() {
    within(async {
        let (scene, unordered) = (Scene::start(Revision::Relay).await, RelayStrategy::Unordered);
        let url = support::postgres::database();
        scene.folder.write("store.url", format!("{url}\n"));
        let at = "--store @store.url";
        // Looking makes no tables, so they are missing the second time as well.
        for _ in 0..2 {
            let nothing = scene.line(&format!("outbox status {at}"));
            assert!(nothing.fails(2).contains("nothing was made"), "{}", nothing.err);
        }

        let store = PostgresStore::connect(&url).await.expect("a store");
        let view = StoreView::of(store.clone());
        let outbox = service_on(store.clone(), &scene, unordered).await;
        let ticket = outbox.enqueue(job(&scene, 5000, unordered)).await.expect("enqueued");
        until_held(&view, ticket).await;
        let status = scene.line(&format!("outbox status {at} --json")).json();
        let instance = status["lanes"][0]["owner"]["instance"].as_str().expect("an owner").to_owned();
        let text = scene.line(&format!("outbox status {at}"));
        assert!(text.ok().contains(&format!("instance {instance} acts for it")), "{}", text.out);
        let held = scene.line(&format!("outbox list --held {at} --json")).json();
        assert_eq!(held["jobs"][0]["ticket"], json!(ticket));
        // The instance goes by what it has in memory, too.
        let refused = scene.line(&format!("outbox renumber {ticket} {at}"));
        assert!(refused.fails(5).contains(&instance) && refused.err.contains("stop the service"), "{}", refused.err);
        outbox.drain(Duration::from_secs(60)).await.expect("drained");
        drop(outbox);

        // One act after the other, and then the service: none waits for a lease of the one before.
        assert!(scene.line(&format!("outbox pause {CONSUMER} {at}")).ok().ends_with("paused"));
        assert!(scene.line(&format!("outbox resume {CONSUMER} --store {url}")).ok().ends_with("goes on"));
        assert!(scene.line(&format!("outbox retry 99 {at}")).fails(1).contains("no job of the ticket"));
        let moved = scene.line(&format!("outbox renumber {ticket} {at} --json")).json();
        assert_eq!((&moved["job"]["held"], &moved["job"]["nonce"]), (&json!(null), &json!(2)), "{moved}");
        let outbox = service_on(store, &scene, unordered).await;
        until_held(&view, ticket).await;
        assert_eq!(view.job(ticket).await.expect("read").expect("a job").nonce, Some(2));
        drop(outbox);

        // A password in the arguments is told of, and not told.
        let (scheme, rest) = url.split_once("postgres@").expect("a user");
        let shown = scene.line(&format!("outbox status --store {scheme}postgres:hunter2@{rest}"));
        assert!(shown.ok().contains("held") && shown.err.contains("PGPASSWORD"), "{}", shown.err);
        assert!(!shown.err.contains("hunter2") && !shown.out.contains("hunter2"), "{}{}", shown.out, shown.err);
    })
    .await;
}
