//! What is asked over HTTP, as `API.md` says it.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue},
    middleware,
    response::Response,
    routing::{get, post},
};
use clob_core::{Asked, AskedCancel, AskedLimit, AskedWithdraw, View};
use infinityvm_sdk::Until;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    feed::Stages,
    page,
    reply::{self, Refused},
    service::{Service, now},
};

/// The largest body, in bytes.
const MOST: usize = 4 * 1024;
/// How long somebody who waits for a stage is kept waiting.
const WAIT: Duration = Duration::from_secs(30);

type Reply<T = Value> = Result<Json<T>, Refused>;
type Shared = State<Arc<Service>>;

/// Everything that the server answers, and more.
pub fn routes(service: Arc<Service>, more: Router) -> Router {
    Router::new()
        .route("/api/orders", post(ask::<AskedLimit>))
        .route("/api/cancels", post(ask::<AskedCancel>))
        .route("/api/withdrawals", post(ask::<AskedWithdraw>))
        .route("/api/market", get(market))
        .route("/api/book", get(async |service: Shared| view(service, |view| json!(view.book())).await))
        .route("/api/trades", get(async |service: Shared| view(service, |view| json!(view.trades())).await))
        .route("/api/accounts/{user}", get(account))
        .route("/api/stages", get(stages))
        .route("/api/settled/{place}", get(settled))
        .route("/api/status", get(async |State(service): Shared| Reply::Ok(Json(service.server.status().await?))))
        .route("/api/feed", get(feed))
        .fallback(page::file)
        .with_state(service)
        .merge(more)
        .layer(DefaultBodyLimit::max(MOST))
        .layer(middleware::from_fn(reply::in_our_words))
}

async fn view(State(service): Shared, look: impl FnOnce(&View) -> Value) -> Reply {
    Ok(Json(service.feed.view(look).await?))
}

async fn ask<T: Into<Asked>>(State(service): Shared, headers: HeaderMap, Json(asked): Json<T>) -> Reply {
    // Whoever has no reply asks again with the same key, and gets the answer from then.
    let key = headers.get("idempotency-key").map(HeaderValue::to_str).transpose();
    let key = key.map_err(|error| Refused::new("malformed", error))?;
    let (action, signature) = asked.into();
    Ok(Json(service.ask(action, signature, key).await?))
}

async fn market(State(service): Shared) -> Json<Value> {
    let mut about = service.market.about.clone();
    about["time"] = now().into();
    Json(about)
}

async fn account(service: Shared, Path(user): Path<Address>) -> Reply {
    view(service, |view| json!(view.account(user))).await
}

async fn stages(State(service): Shared) -> Reply<Stages> {
    Ok(Json(Stages::of(&service.server).await?))
}

/// What a URL asks for.
#[derive(Deserialize)]
struct Wanted {
    until: Option<String>,
    user: Option<Address>,
}

async fn settled(service: Shared, Path(place): Path<u64>, Query(wanted): Query<Wanted>) -> Reply<Stages> {
    let until = match wanted.until.as_deref() {
        Some("executed") => Until::Executed,
        None | Some("settled") => Until::Relayed,
        Some("final") => Until::Finalized { confirmations: service.confirmations },
        Some(other) => return Err(Refused::new("malformed", format!("{other:?} is no stage"))),
    };
    let late = |_| Refused::new("unavailable", format!("place {place} is not so far yet: ask again"));
    tokio::time::timeout(WAIT, service.server.settled(place, until)).await.map_err(late)??;
    stages(service).await
}

async fn feed(State(service): Shared, Query(wanted): Query<Wanted>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MOST).on_upgrade(async move |socket| _ = service.feed.serve(socket, wanted.user).await)
}
