//! What is asked over HTTP, as `API.md` says it.

use std::{str::FromStr, sync::Arc, time::Duration};

use alloy_primitives::{Address, FixedBytes};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, Uri},
    middleware,
    response::Response,
    routing::{get, post},
};
use clob_core::{Action, Cancel, Limit, SIGNATURE, Side, Token, Withdraw};
use infinityvm_sdk::Until;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use crate::{
    feed::{Stages, View},
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
        .route("/api/orders", post(ask))
        .route("/api/cancels", post(ask))
        .route("/api/withdrawals", post(ask))
        .route("/api/market", get(market))
        .route("/api/book", get(async |service: Shared| view(service, |view| view.book()).await))
        .route("/api/trades", get(async |service: Shared| view(service, |view| view.trades()).await))
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

async fn view(State(service): Shared, look: impl FnOnce(&mut View) -> Value) -> Reply {
    Ok(Json(service.feed.view(look).await?))
}

/// A number as a text of decimal digits, in their shortest form.
struct Digits<T>(T);

impl<'de, T: FromStr + ToString> Deserialize<'de> for Digits<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let number = text.parse().ok().filter(|number: &T| number.to_string() == text).map(Self);
        number.ok_or_else(|| D::Error::custom(format!("{text:?} is not decimal digits of a number that fits")))
    }
}

/// A body that its user has signed.
#[derive(Deserialize)]
struct Signed {
    user: Address,
    nonce: u64,
    expiry: u64,
    signature: FixedBytes<SIGNATURE>,
    #[serde(flatten)]
    what: Map<String, Value>,
}

/// What else is in it, by the last part of the path.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum What {
    Orders { side: Side, price: Digits<u64>, size: Digits<u64> },
    Cancels { order: u64 },
    Withdrawals { token: Token, amount: Digits<u128> },
}

async fn ask(State(service): Shared, uri: Uri, headers: HeaderMap, Json(signed): Json<Signed>) -> Reply {
    let Signed { user, nonce, expiry, signature, what } = signed;
    let kind = uri.path().trim_start_matches("/api/");
    let what = serde_json::from_value(json!({ kind: what })).map_err(|error| Refused::new("malformed", error))?;
    let action = match what {
        What::Orders { side, price: Digits(price), size: Digits(size) } => {
            Action::Limit(Limit { user, nonce, expiry, buy: side == Side::Buy, price, size })
        }
        What::Cancels { order } => Action::Cancel(Cancel { user, nonce, expiry, order }),
        What::Withdrawals { token, amount: Digits(amount) } => {
            Action::Withdraw(Withdraw { user, nonce, expiry, base: token == Token::Base, amount })
        }
    };
    // Whoever has no reply asks again with the same key, and gets the answer from then.
    let key = headers.get("idempotency-key").map(HeaderValue::to_str).transpose();
    let key = key.map_err(|error| Refused::new("malformed", error))?;
    Ok(Json(service.ask(action, signature.0, key).await?))
}

async fn market(State(service): Shared) -> Json<Value> {
    let mut about = service.market.about.clone();
    about["time"] = now().into();
    Json(about)
}

async fn account(service: Shared, Path(user): Path<Address>) -> Reply {
    view(service, |view| view.account(user)).await
}

async fn stages(State(service): Shared) -> Reply<Stages> {
    Ok(Json(Stages::of(&service.server).await?))
}

/// What a URL asks for.
#[derive(Deserialize)]
struct Asked {
    until: Option<String>,
    user: Option<Address>,
}

async fn settled(service: Shared, Path(place): Path<u64>, Query(asked): Query<Asked>) -> Reply<Stages> {
    let until = match asked.until.as_deref() {
        Some("executed") => Until::Executed,
        None | Some("settled") => Until::Relayed,
        Some("final") => Until::Finalized { confirmations: service.confirmations },
        Some(other) => return Err(Refused::new("malformed", format!("{other:?} is no stage"))),
    };
    let late = |_| Refused::new("unavailable", format!("place {place} is not so far yet: ask again"));
    tokio::time::timeout(WAIT, service.server.settled(place, until)).await.map_err(late)??;
    stages(service).await
}

async fn feed(State(service): Shared, Query(asked): Query<Asked>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MOST).on_upgrade(async move |socket| service.feed.serve(socket, asked.user).await)
}
