//! How refusals are written.

use std::time::{Duration, Instant};

use axum::{
    Json,
    body::to_bytes,
    extract::{MatchedPath, Request},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use infinityvm_sdk::{Error, ErrorKind, Outcome};
use serde_json::{Value, json};

/// Why a request was not carried out: code and message, and what else there is to say.
#[derive(Debug)]
pub struct Refused(pub Value);

impl Refused {
    pub fn new(code: &str, message: impl ToString) -> Self {
        Self(json!({ "code": code, "message": message.to_string() }))
    }

    /// In the core's words for a rejection or a refusal.
    pub fn of((code, message): (&str, &str)) -> Self {
        Self::new(code, message)
    }

    pub fn too_often(message: &str, wait: Duration) -> Self {
        Self::new("rate", message).with("retry_after", u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.0[name] = value.into();
        self
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match (error.kind(), error.outcome()) {
            // It may be in the journal, and then it will be carried out.
            (_, Outcome::Unknown) => "undecided",
            (ErrorKind::NotFound, _) => "unknown",
            (ErrorKind::InvalidInput, _) => "key",
            _ => "unavailable",
        };
        Self::new(code, error.report())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0["code"].as_str().unwrap_or_default() {
            "signature" => StatusCode::UNAUTHORIZED,
            "unknown" => StatusCode::NOT_FOUND,
            "expired" => StatusCode::GONE,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "zero" | "funds" | "order" | "orders" => StatusCode::UNPROCESSABLE_ENTITY,
            "rate" => StatusCode::TOO_MANY_REQUESTS,
            "unavailable" | "undecided" => StatusCode::SERVICE_UNAVAILABLE,
            "malformed" => StatusCode::BAD_REQUEST,
            _ => StatusCode::CONFLICT,
        };
        (status, Json(json!({ "error": self.0 }))).into_response()
    }
}

/// Counts what is answered, and says in our words what axum itself refuses.
pub async fn in_our_words(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or_else(|| "page".to_owned(), |path| path.as_str().into());
    let began = Instant::now();
    let mut response = next.run(request).await;
    let is_text = response.headers().get("content-type").is_some_and(|kind| kind == "text/plain; charset=utf-8");
    if response.status().is_client_error() && is_text {
        let code = if response.status() == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "malformed" };
        let text = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        response = Refused::new(code, String::from_utf8_lossy(&text)).into_response();
    }
    let labels = [("path", path), ("status", response.status().as_u16().to_string())];
    metrics::counter!("clob_requests_total", &labels).increment(1);
    metrics::histogram!("clob_request_seconds", &labels).record(began.elapsed().as_secs_f64());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_carried_out_has_a_code_of_its_own() {
        for (outcome, code) in [(Outcome::Unknown, "undecided"), (Outcome::NotSent, "unavailable")] {
            let refused = Refused::from(Error::new(ErrorKind::Store, "the store is away").with_outcome(outcome));
            assert_eq!(refused.0["code"], code);
            assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
