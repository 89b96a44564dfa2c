//! How answers and refusals are written.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use clob_core::{Account, Fill, Funds, OrderLeft, OwnFill, Refusal, Rejection, Side};
use infinityvm_sdk::{Error, ErrorKind};
use serde_json::{Value, json};

/// Why a request was not carried out.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    /// With its code and its message, and what else there is to say.
    pub error: Value,
}

impl Refused {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: json!({ "code": code, "message": message.into() }) }
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, "malformed", message)
    }

    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(404, "unknown", message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "unavailable", message)
    }

    pub fn too_often(message: &str, wait: std::time::Duration) -> Self {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        Self::new(429, "rate", message).with("retry_after", wait)
    }

    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.error[name] = value.into();
        self
    }

    pub fn code(&self) -> &str {
        self.error["code"].as_str().unwrap_or_default()
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        let (code, message) = rejection.words();
        let status = match rejection {
            Rejection::Signature => 401,
            Rejection::Expired => 410,
            _ => 409,
        };
        Self::new(status, code, message)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (code, message) = refusal.words();
        Self::new(422, code, message)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::unknown(error.to_string()),
            ErrorKind::InvalidInput => Self::new(409, "key", error.to_string()),
            _ => Self::unavailable(error.report().to_string()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}

pub fn side(side: Side) -> &'static str {
    match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}

/// A user's nonce and balances.
pub fn account(account: Account) -> Value {
    let funds = |funds: Funds| json!({ "free": funds.free.to_string(), "locked": funds.locked.to_string() });
    json!({ "nonce": account.nonce, "base": funds(account.base), "quote": funds(account.quote) })
}

pub fn order(order: &OrderLeft) -> Value {
    let OrderLeft { id, side: of, price, left, .. } = order;
    json!({ "order": id, "side": side(*of), "price": price.to_string(), "size": left.to_string() })
}

pub fn own_fill(fill: &OwnFill) -> Value {
    let OwnFill { order, side: of, price, size, maker, .. } = fill;
    let (price, size) = (price.to_string(), size.to_string());
    json!({ "order": order, "side": side(*of), "price": price, "size": size, "maker": maker })
}

/// A trade of a new order.
pub fn fill(fill: &Fill) -> Value {
    json!({ "order": fill.order, "price": fill.price.to_string(), "size": fill.size.to_string() })
}
