//! A service that takes orders over HTTP and has each computed as an offchain job. It loses none and runs none twice,
//! however often it is killed.
//!
//! ```sh
//! cargo run --example orders -- orders.db           # with a development node that it starts itself
//! curl -X POST localhost:3000/orders/17 -d 1764     # an order: its number, and what to compute the square root of
//! curl localhost:3000/orders/17                     # how far it is, and its bill
//! ```
//!
//! The page at <http://localhost:3000/> shows the lanes, live. `curl -X POST localhost:3000/drain` ends the service. To
//! see that nothing is lost, kill it while orders come in:
//!
//! ```sh
//! for n in $(seq 1000); do curl -s -X POST localhost:3000/orders/$n -d $((n * n)) || sleep 1; done &
//! sleep 2; kill -9 $(lsof -t -i :3000 -s TCP:LISTEN); cargo run --example orders -- orders.db
//! ```
//!
//! Its node lives in a process of its own (`orders.db.node` keeps its key and its port), or the simulated chain would go
//! with the service. `--node http://127.0.0.1:50051 --key-file key.hex --consumer 0x… --operator 0x… --program 0x…` has a
//! running node do the work. `--listen 127.0.0.1:4000` takes the orders at another address.
//!
//! Several instances share a PostgreSQL database, and the page of each shows which one works on the lane, since when:
//!
//! ```sh
//! cargo run --example orders -- --postgres postgres://localhost/orders
//! cargo run --example orders -- --postgres postgres://localhost/orders --listen 127.0.0.1:3001
//! curl -X POST localhost:3000/drain                 # the other one goes on, at once; after a kill -9, within a minute
//! ```

use std::{env, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{Html, Sse, sse},
    routing::{get, post},
};
use infinityvm_sdk::{
    Client, OffchainJobRequest, ProgramId, RelayStrategy, Revision, Until,
    nonce::Given,
    outbox::{EventKind, LaneConfig, Outbox, OutboxEvent},
    primitives::{Address, SolValue, U256},
};
use tokio::sync::Notify;

use self::database::Database;

#[path = "orders_database/mod.rs"]
mod database;
#[path = "orders_node/mod.rs"]
mod node;

type AnyError = Box<dyn Error + Send + Sync>;

struct Service {
    outbox: Outbox,
    database: Database,
    consumer: Address,
    program: ProgramId,
    ends: Notify,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "node") {
        return node::serve(&arguments[1..]).await;
    }
    let file = arguments.first().filter(|first| !first.starts_with("--")).map_or("orders.db", String::as_str);
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let listen = value("--listen").unwrap_or("127.0.0.1:3000");
    let address: SocketAddr = listen.parse()?;
    let world = node::World::of(file, &arguments).await?;

    let client = Client::builder().grpc(&world.url).revision(Revision::Relay).signer(world.signer.clone());
    let client = client.operator(world.operator).nonces(Given).connect().await?;
    // The service's own tables are in the outbox's database.
    let (database, builder) = Database::open(file, value("--postgres"), client).await?;
    // Relayed is as far as a client without a chain sees: a reorganisation could still take back what is billed here. With
    // a chain, wait for Until::Finalized before you bill.
    let lane = LaneConfig::new(world.consumer, RelayStrategy::Ordered).with_until(Until::Relayed);
    let instance = value("--instance").unwrap_or(listen);
    let outbox = builder.network("example").instance(instance).lane(lane).start().await?;

    let (consumer, program) = (world.consumer, world.program.clone());
    let service = Arc::new(Service { outbox: outbox.clone(), database, consumer, program, ends: Notify::new() });
    tokio::spawn(bill_all(Arc::clone(&service)));
    let routes = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/live", get(live))
        .route("/orders/{id}", post(order).get(look))
        .route("/drain", post(drain))
        .with_state(Arc::clone(&service));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("takes orders at http://{}/", listener.local_addr()?);
    let ends = async move { service.ends.notified().await };
    axum::serve(listener, routes).with_graceful_shutdown(ends).await?;
    let left = outbox.drain(Duration::from_secs(20)).await?;
    println!("{} jobs wait for the next start", left.status.lanes.iter().map(|lane| lane.queued).sum::<u64>());
    Ok(())
}

/// An order. One that comes twice is the same order.
async fn order(
    State(service): State<Arc<Service>>,
    Path(id): Path<i64>,
    input: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let number: U256 = input.trim().parse().map_err(|_| (StatusCode::BAD_REQUEST, "not a number".to_owned()))?;
    // In a task, as a customer who hangs up must not cancel a transaction that has begun.
    let taken = tokio::spawn(async move { take(&service, id, number).await }).await;
    let taken = taken.unwrap_or_else(|error| Err(error.into()));
    let ticket = taken.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, format!("order {id} is ticket {ticket}\n")))
}

async fn take(service: &Service, id: i64, number: U256) -> Result<i64, AnyError> {
    let job = OffchainJobRequest::builder(service.consumer, service.program.clone())
        .max_cycles(32_000_000)
        .relay(RelayStrategy::Ordered)
        .onchain_input(number.abi_encode())
        .build()?;
    service.database.take(&service.outbox, id, number.to_string(), job).await
}

async fn bill_all(service: Arc<Service>) {
    let mut results = loop {
        match service.outbox.results("billing").await {
            Ok(results) => break results,
            Err(error) => again(&error).await,
        }
    };
    loop {
        let event = match results.next().await {
            Ok(event) => event,
            Err(error) => {
                again(&error).await;
                continue;
            }
        };
        // An event that is not acknowledged comes again only at the next start, so this one is tried until it is billed.
        while let Err(error) = bill(&service, &event).await {
            again(&*error).await;
        }
    }
}

async fn again(error: &(dyn Error + Sync)) {
    eprintln!("not billed: {error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn bill(service: &Service, event: &OutboxEvent) -> Result<(), AnyError> {
    let text = match (event.kind(), event.result()) {
        (EventKind::Result, Some(result)) => format!("the square root is {}", result.decode::<U256>()?),
        (kind, _) => format!("no result: {kind:?}, {}", event.reason().unwrap_or("for no reason")),
    };
    service.database.bill(event, &text).await
}

async fn look(State(service): State<Arc<Service>>, Path(id): Path<i64>) -> Result<Json<serde_json::Value>, StatusCode> {
    let bill = service.database.bill_of(id).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let job = service.outbox.job_by_key(service.consumer, &id.to_string()).await;
    let job = job.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(serde_json::json!({ "order": id, "bill": bill, "job": job })))
}

/// Takes no further orders. What is under way is let end; what is left waits for the next start.
async fn drain(State(service): State<Arc<Service>>) {
    service.ends.notify_one();
}

/// The lanes' state, twice a second, until the service ends.
async fn live(
    State(service): State<Arc<Service>>,
) -> Sse<impl futures_util::Stream<Item = Result<sse::Event, axum::Error>>> {
    Sse::new(futures_util::stream::unfold(service, |service| async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let event = match service.outbox.status().await {
            Ok(status) => sse::Event::default().json_data(status),
            Err(error) => Ok(sse::Event::default().data(format!("\"{}\"", error.kind().as_str()))),
        };
        Some((event, service))
    }))
}

const PAGE: &str = r#"<!doctype html><title>Orders</title><style>body{font:16px system-ui;margin:2rem;max-width:60rem}
td,th{padding:.2rem .8rem;text-align:right}th{font-weight:600}#halt{color:#b00020}</style>
<h1>Orders</h1><table><thead><tr><th>consumer<th>queued<th>numbered<th>under way<th>settling<th>over<th>held<th>next nonce<th>worked on by<th>since
</thead><tbody id=lanes></tbody></table><p id=halt></p><script>
new EventSource("/live").onmessage = event => {
  const lanes = JSON.parse(event.data).lanes ?? [];
  document.getElementById("lanes").replaceChildren(...lanes.map(lane => {
    const row = document.createElement("tr");
    for (const name of ["consumer", "queued", "numbered", "under_way", "settling", "over", "held", "next_nonce"])
      row.insertCell().textContent = lane[name];
    // Of several instances one works on a lane; nobody, for a moment, after that one was killed.
    row.insertCell().textContent = lane.owner?.instance ?? "–";
    row.insertCell().textContent = lane.owner ? new Date(lane.owner.since).toLocaleTimeString() : "–";
    return row;
  }));
  document.getElementById("halt").textContent =
    lanes.filter(lane => lane.halted).map(lane => `halted (${lane.halted.reason}): ${lane.halted.note}`).join("; ");
};
</script>"#;
