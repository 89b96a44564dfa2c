//! A service that takes orders over HTTP and has each computed as an offchain job. It loses none and runs none twice,
//! however often it is killed.
//!
//! ```sh
//! cargo run --example orders -- orders.db           # with a development node that it starts itself
//! curl -X POST localhost:3000/orders/17 -d 1764     # an order: its number, and what to compute the square root of
//! curl localhost:3000/orders/17                     # how far it is, and its bill
//! ```
//!
//! The page at <http://localhost:3000/> shows the lanes, live. `curl -X POST localhost:3000/drain` ends the service. To see that nothing is lost, kill it while orders come in:
//!
//! ```sh
//! for n in $(seq 1000); do curl -s -X POST localhost:3000/orders/$n -d $((n * n)) || sleep 1; done &
//! sleep 2; kill -9 $(lsof -t -i :3000 -s TCP:LISTEN); cargo run --example orders -- orders.db
//! ```
//!
//! Its node lives in a process of its own (`orders.db.node` keeps its key and its port), or the simulated chain would go
//! with the service. `--node http://127.0.0.1:50051 --key-file key.hex --consumer 0x… --operator 0x… --program 0x…` has a
//! running node do the work. `--listen 127.0.0.1:4000` takes the orders at another address.

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
    outbox::{EventKind, LaneConfig, Outbox, OutboxEvent, sqlite::SqliteStore},
    primitives::{Address, SolValue, U256},
};
use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Notify;

#[path = "orders_node/mod.rs"]
mod node;

type AnyError = Box<dyn Error + Send + Sync>;

struct Service {
    outbox: Outbox,
    database: SqlitePool,
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
    let file = arguments.first().cloned().unwrap_or_else(|| "orders.db".to_owned());
    let listen = arguments.iter().position(|argument| argument == "--listen").and_then(|at| arguments.get(at + 1));
    let address: SocketAddr = listen.map_or("127.0.0.1:3000", String::as_str).parse()?;
    let world = node::World::of(&file, &arguments).await?;

    // The service's own tables are in the outbox's file. The outbox has it in WAL mode; FULL is for each connection to set.
    let store = SqliteStore::open(&file).await?;
    let options = SqliteConnectOptions::new().filename(&file).synchronous(SqliteSynchronous::Full);
    let database = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
    for table in [
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, input TEXT NOT NULL, ticket INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS bills (id INTEGER PRIMARY KEY REFERENCES orders, text TEXT NOT NULL)",
    ] {
        sqlx::query(table).execute(&database).await?;
    }

    let client = Client::builder().grpc(&world.url).revision(Revision::Relay).signer(world.signer.clone());
    let client = client.operator(world.operator).nonces(Given).connect().await?;
    // A client with a chain would wait for Until::Finalized.
    let lane = LaneConfig::new(world.consumer, RelayStrategy::Ordered).with_until(Until::Relayed);
    let outbox = Outbox::builder(client, store).network("example").lane(lane).start().await?;

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

/// An order: its row and its job, in one transaction. One that comes twice is the same order.
async fn order(
    State(service): State<Arc<Service>>,
    Path(id): Path<i64>,
    input: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let number: U256 = input.trim().parse().map_err(|_| (StatusCode::BAD_REQUEST, "not a number".to_owned()))?;
    let ticket =
        take(&service, id, number).await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, format!("order {id} is ticket {ticket}\n")))
}

async fn take(service: &Service, id: i64, number: U256) -> Result<i64, AnyError> {
    let job = OffchainJobRequest::builder(service.consumer, service.program.clone())
        .max_cycles(32_000_000)
        .relay(RelayStrategy::Ordered)
        .onchain_input(number.abi_encode())
        .build()?;
    let mut connection = service.database.acquire().await?;
    let mut order = connection.begin_with("BEGIN IMMEDIATE").await?;
    let ticket = service.outbox.enqueue_in(&mut order, job).idempotency_key(id.to_string()).await?.number();
    let insert = sqlx::query("INSERT INTO orders VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING");
    insert.bind(id).bind(number.to_string()).bind(ticket).execute(&mut *order).await?;
    order.commit().await?;
    Ok(ticket)
}

async fn bill_all(service: Arc<Service>) {
    let Ok(mut results) = service.outbox.results("billing").await else { return };
    loop {
        let billed = match results.next().await {
            Ok(event) => bill(&service, &event).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = billed {
            eprintln!("not billed: {error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A bill, and the acknowledgement of its event, in one transaction: so it is written exactly once.
async fn bill(service: &Service, event: &OutboxEvent) -> Result<(), AnyError> {
    let text = match (event.kind(), event.result()) {
        (EventKind::Result, Some(result)) => format!("the square root is {}", result.decode::<U256>()?),
        (kind, _) => format!("no result: {kind:?}, {}", event.reason().unwrap_or("for no reason")),
    };
    let mut connection = service.database.acquire().await?;
    let mut bill = connection.begin_with("BEGIN IMMEDIATE").await?;
    event.ack_in(&mut bill).await?;
    write_bill(&mut bill, event.key().unwrap_or_default().parse()?, &text).await?;
    bill.commit().await?;
    Ok(())
}

async fn write_bill(bill: &mut SqliteConnection, id: i64, text: &str) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO bills VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET text = ?2");
    insert.bind(id).bind(text).execute(bill).await.map(drop)
}

async fn look(State(service): State<Arc<Service>>, Path(id): Path<i64>) -> Result<Json<serde_json::Value>, StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let bill = sqlx::query("SELECT text FROM bills WHERE id = ?1").bind(id).fetch_optional(&service.database).await;
    let bill = bill.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.map(|row| row.get::<String, _>(0));
    let job = service.outbox.job_by_key(service.consumer, &id.to_string()).await.map_err(failed)?;
    let job = job.ok_or(StatusCode::NOT_FOUND)?;
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
<h1>Orders</h1><table><thead><tr><th>consumer<th>queued<th>numbered<th>under way<th>settling<th>over<th>held<th>next nonce
</thead><tbody id=lanes></tbody></table><p id=halt></p><script>
new EventSource("/live").onmessage = event => {
  const lanes = JSON.parse(event.data).lanes ?? [];
  document.getElementById("lanes").replaceChildren(...lanes.map(lane => {
    const row = document.createElement("tr");
    for (const name of ["consumer", "queued", "numbered", "under_way", "settling", "over", "held", "next_nonce"])
      row.insertCell().textContent = lane[name];
    return row;
  }));
  document.getElementById("halt").textContent =
    lanes.filter(lane => lane.halted).map(lane => `halted (${lane.halted.reason}): ${lane.halted.note}`).join("; ");
};
</script>"#;
