//! The server of the matching game: it answers at once, and proves its answers in batches.
//!
//! ```sh
//! cargo run -p matching-game
//! curl -X POST localhost:3000/submit/0x00000000000000000000000000000000000000aa/7   # {"place":1,"waiting":true}
//! curl -X POST localhost:3000/submit/0x00000000000000000000000000000000000000bb/7   # {"place":2,"partner":"0x…aa"}
//! curl localhost:3000/settled/2     # answers once the pair is on chain
//! curl localhost:3000/status        # the server and its batches
//! ```
//!
//! Kill it whenever you like and start it again: it goes on where it was. `README.md` has the flags.

use std::{error, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use infinityvm_sdk::{
    Client, Error, ErrorKind, Until,
    app::{self, AppServer},
    chain::Chain,
    nonce::Given,
    outbox::{Outbox, sqlite::SqliteStore},
    primitives::Address,
};
use matching_game_program::{Act, Game, Rejection, Request, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

mod world;

use world::{Options, World};

type AnyError = Box<dyn error::Error + Send + Sync>;
type Reply = Result<Json<Value>, (StatusCode, String)>;

struct Service {
    server: AppServer<Game>,
    ends: Notify,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let options = Options::read(std::env::args().skip(1))?;
    if options.is_node {
        return world::serve(&options).await;
    }
    let world = World::of(&options).await?;

    let client = Client::builder().grpc(&world.node).revision(options.revision()).signer(world.signer()?);
    let client = match &options.rpc {
        Some(rpc) => client.chain(Chain::connect(rpc, world.job_manager).await?),
        None => client.operator(world.operator),
    };
    let client = client.nonces(Given).connect().await?;
    let store = SqliteStore::open(&options.file).await?;
    let lane = app::lane(world.consumer, options.revision());
    let outbox = Outbox::builder(client, store).network("matching game").lane(lane).start().await?;
    let server = AppServer::builder(outbox.clone(), world.consumer, world.program);
    let server = server.name("matching-game").initial(Game::new(options.form)).start().await?;

    let service = Arc::new(Service { server: server.clone(), ends: Notify::new() });
    let ending = Arc::clone(&service);
    let routes = Router::new()
        .route("/submit/{user}/{number}", post(submit))
        .route("/cancel/{user}/{number}", post(cancel))
        .route("/numbers/{number}", get(number))
        .route("/settled/{place}", get(settled))
        .route("/status", get(status))
        .route("/drain", post(drain))
        .with_state(service);
    let listener = TcpListener::bind(options.listen).await?;
    println!("plays at http://{}/", listener.local_addr()?);
    axum::serve(listener, routes).with_graceful_shutdown(async move { ending.ends.notified().await }).await?;
    let left = server.drain(Duration::from_secs(30)).await?;
    outbox.drain(Duration::from_secs(10)).await?;
    println!("{} of {} answers are in no batch yet", left.last_place - left.batched, left.last_place);
    Ok(())
}

async fn submit(State(service): State<Arc<Service>>, path: Path<(Address, u64)>, headers: HeaderMap) -> Reply {
    play(&service, Act::Submit, path, &headers).await
}

async fn cancel(State(service): State<Arc<Service>>, path: Path<(Address, u64)>, headers: HeaderMap) -> Reply {
    play(&service, Act::Cancel, path, &headers).await
}

/// One who has no reply asks again with the same `Idempotency-Key`, and gets the answer from then.
async fn play(service: &Service, act: Act, Path((user, number)): Path<(Address, u64)>, headers: &HeaderMap) -> Reply {
    let mut request = service.server.request(Request { act, user, number });
    if let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) {
        request = request.key(key);
    }
    let answer = request.await.map_err(failed)?;
    let place = answer.place;
    match answer.outcome {
        Ok(Response::Waiting) => Ok(Json(json!({ "place": place, "waiting": true }))),
        Ok(Response::Matched { partner }) => Ok(Json(json!({ "place": place, "partner": partner }))),
        Ok(Response::Cancelled) => Ok(Json(json!({ "place": place, "cancelled": true }))),
        Err(Rejection::AlreadyWaiting) => Err((StatusCode::CONFLICT, "you wait for this number already".to_owned())),
        Err(Rejection::NotWaiting) => Err((StatusCode::CONFLICT, "you do not wait for this number".to_owned())),
    }
}

/// Who waits for a number.
async fn number(State(service): State<Arc<Service>>, Path(number): Path<u64>) -> Reply {
    let user = service.server.read(|game| game.waiting(number)).await.map_err(failed)?;
    Ok(Json(json!({ "number": number, "user": user })))
}

/// Waits until what was answered at this place is on chain.
async fn settled(State(service): State<Arc<Service>>, Path(place): Path<u64>) -> Reply {
    service.server.settled(place, Until::Relayed).await.map_err(failed)?;
    Ok(Json(json!({ "place": place, "on_chain": true })))
}

async fn status(State(service): State<Arc<Service>>) -> Reply {
    Ok(Json(json!(service.server.status().await.map_err(failed)?)))
}

/// Takes no further requests, and brings to an end what it has.
async fn drain(State(service): State<Arc<Service>>) {
    service.ends.notify_one();
}

fn failed(error: Error) -> (StatusCode, String) {
    let status = match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidInput | ErrorKind::TooLarge => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.report().to_string())
}
