//! What is asked over HTTP, as `API.md` says it.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, WebSocketUpgrade, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
    routing::{get, post},
};
use clob_core::{Action, Cancel, Limit, Outcome, SIGNATURE, Withdraw};
use infinityvm_sdk::{
    Until,
    primitives::{self, Address},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    page,
    reply::{self, Refused},
    service::{Service, now},
};

/// The largest body, in bytes.
const MOST: usize = 4 * 1024;
/// How long somebody who waits for a stage is kept waiting.
const WAIT: Duration = Duration::from_secs(30);

type Reply = Result<Json<Value>, Refused>;
type Body = Result<Bytes, BytesRejection>;
type Shared = State<Arc<Service>>;

/// Everything that the server answers.
pub fn routes(service: Arc<Service>) -> Router {
    let limit =
        async |State(service): Shared, headers: HeaderMap, body: Body| ask(&service, &headers, body, limit).await;
    let cancel =
        async |State(service): Shared, headers: HeaderMap, body: Body| ask(&service, &headers, body, cancel).await;
    let withdraw =
        async |State(service): Shared, headers: HeaderMap, body: Body| ask(&service, &headers, body, withdraw).await;
    Router::new()
        .route("/api/orders", post(limit))
        .route("/api/cancels", post(cancel))
        .route("/api/withdrawals", post(withdraw))
        .route("/api/faucet", post(faucet))
        .route("/api/market", get(market))
        .route("/api/book", get(async |State(service): Shared| service.feed.view(|view| view.book()).await.map(Json)))
        .route(
            "/api/trades",
            get(async |State(service): Shared| service.feed.view(|view| view.trades()).await.map(Json)),
        )
        .route("/api/accounts/{user}", get(account))
        .route("/api/stages", get(async |State(service): Shared| Json(json!(service.feed.stages()))))
        .route("/api/settled/{place}", get(settled))
        .route(
            "/api/status",
            get(async |State(service): Shared| Reply::Ok(Json(json!(service.server.status().await?)))),
        )
        .route("/api/feed", get(feed))
        .route("/metrics", get(async |State(service): Shared| service.metrics()))
        .fallback(page::file)
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(service)
}

/// The fields of a body. Each is taken once, and none may be left.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(body: Body) -> Result<Self, Refused> {
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refused::new(413, "too_large", format!("a body has at most {MOST} bytes")),
            _ => Refused::malformed(error.body_text()),
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| Refused::malformed(error.to_string()))
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Refused> {
        let value = self.0.remove(name).ok_or_else(|| Refused::malformed(format!("{name} is missing")))?;
        serde_json::from_value(value).map_err(|error| Refused::malformed(format!("{name}: {error}")))
    }

    /// Decimal digits in a text, in their shortest form.
    fn digits<T: FromStr>(&mut self, name: &str) -> Result<T, Refused> {
        let text: String = self.take(name)?;
        let shortest = text == "0" || !text.starts_with('0');
        if text.is_empty() || !shortest || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refused::malformed(format!("{name}: {text:?} is no number in decimal digits")));
        }
        text.parse().map_err(|_| Refused::malformed(format!("{name}: {text} is too large")))
    }

    /// Whether it is the first of two words.
    fn first_of(&mut self, name: &str, words: [&str; 2]) -> Result<bool, Refused> {
        let text: String = self.take(name)?;
        let found = words.iter().position(|word| *word == text);
        found.map(|at| at == 0).ok_or_else(|| Refused::malformed(format!("{name}: {text:?} is none of {words:?}")))
    }

    fn end(self) -> Result<(), Refused> {
        self.0.keys().next().map_or(Ok(()), |name| Err(Refused::malformed(format!("{name:?} is no field of this"))))
    }
}

fn limit(from: &mut Fields) -> Result<Action, Refused> {
    let (user, nonce, expiry) = (from.take("user")?, from.take("nonce")?, from.take("expiry")?);
    let (buy, price, size) = (from.first_of("side", ["buy", "sell"])?, from.digits("price")?, from.digits("size")?);
    Ok(Action::Limit(Limit { user, nonce, expiry, buy, price, size }))
}

fn cancel(from: &mut Fields) -> Result<Action, Refused> {
    let (user, nonce, expiry) = (from.take("user")?, from.take("nonce")?, from.take("expiry")?);
    Ok(Action::Cancel(Cancel { user, nonce, expiry, order: from.take("order")? }))
}

fn withdraw(from: &mut Fields) -> Result<Action, Refused> {
    let (user, nonce, expiry) = (from.take("user")?, from.take("nonce")?, from.take("expiry")?);
    let (base, amount) = (from.first_of("token", ["base", "quote"])?, from.digits("amount")?);
    Ok(Action::Withdraw(Withdraw { user, nonce, expiry, base, amount }))
}

async fn ask(
    service: &Service,
    headers: &HeaderMap,
    body: Body,
    action: fn(&mut Fields) -> Result<Action, Refused>,
) -> Reply {
    let mut fields = Fields::of(body)?;
    let action = action(&mut fields)?;
    let signature: primitives::Bytes = fields.take("signature")?;
    let signature = <[u8; SIGNATURE]>::try_from(signature.as_ref());
    let signature = signature.map_err(|_| Refused::malformed(format!("signature: it has {SIGNATURE} bytes")))?;
    fields.end()?;
    // Whoever has no reply asks again with the same key, and gets the answer from then.
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap_or_default());
    if key.is_some_and(|key| !(1..=200).contains(&key.len())) {
        return Err(Refused::malformed("an idempotency key has 1 to 200 visible characters"));
    }
    let answer = service.ask(action, signature, key).await?;
    let mut said = match &answer.outcome {
        Outcome::Taken { fills, resting, cancelled } => {
            let fills: Vec<_> = fills.iter().map(reply::fill).collect();
            json!({ "fills": fills, "resting": resting.to_string(), "cancelled": cancelled.to_string() })
        }
        Outcome::Cancelled { size } => json!({ "size": size.to_string() }),
        _ => json!({}),
    };
    (said["place"], said["time"], said["repeated"]) = (answer.place.into(), answer.time.into(), answer.repeated.into());
    Ok(Json(said))
}

async fn faucet(State(service): Shared, body: Body) -> Reply {
    let mut fields = Fields::of(body)?;
    let user = fields.take("user")?;
    fields.end()?;
    let faucet = service.faucet.as_ref().ok_or_else(|| Refused::unknown("there is no faucet on this chain"))?;
    Ok(Json(faucet.give(user).await?))
}

async fn market(State(service): Shared) -> Json<Value> {
    let (mut market, limit) = (service.market.json(), service.limits.limit);
    market["limit"] = json!({ "per_second": limit.per_second, "burst": limit.burst });
    (market["faucet"], market["time"]) = (service.faucet.is_some().into(), now().into());
    Json(market)
}

async fn account(State(service): Shared, Path(user): Path<String>) -> Reply {
    let user = user.parse().map_err(|_| Refused::malformed(format!("{user:?} is no address")))?;
    service.feed.view(|view| view.account(user)).await.map(Json)
}

/// What a URL says about something; nothing that needs an escape.
fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.split_once('=').filter(|(known, _)| *known == name)).map(|pair| pair.1)
}

async fn settled(State(service): Shared, Path(place): Path<String>, uri: Uri) -> Reply {
    let place = place.parse().map_err(|_| Refused::malformed(format!("{place:?} is no place")))?;
    let until = match query(&uri, "until") {
        Some("executed") => Until::Executed,
        None | Some("settled") => Until::Relayed,
        Some("final") => Until::Finalized { confirmations: service.confirmations },
        Some(other) => return Err(Refused::malformed(format!("{other:?} is no stage"))),
    };
    let late = || Refused::unavailable(format!("place {place} is not so far yet: ask again"));
    tokio::time::timeout(WAIT, service.server.settled(place, until)).await.map_err(|_| late())??;
    Ok(Json(json!(service.feed.look(&service.server).await?)))
}

async fn feed(State(service): Shared, uri: Uri, upgrade: WebSocketUpgrade) -> Result<Response, Refused> {
    let user = query(&uri, "user").map(Address::from_str).transpose();
    let user = user.map_err(|error| Refused::malformed(format!("user: {error}")))?;
    Ok(upgrade.max_message_size(MOST).on_upgrade(async move |socket| service.feed.serve(socket, user).await))
}
