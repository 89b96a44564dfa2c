//! The page, from files that are part of the program.

use axum::{
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use crate::reply::Refused;

macro_rules! files {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../../page", $path)))),*] };
}

/// Path and text of each file.
const FILES: &[(&str, &str)] = files![
    "/index.html" "/icon.svg" "/style.css" "/tables.css"
    "/api.js" "/feed.js" "/main.js" "/market.js" "/own.js" "/sign.js" "/trader.js" "/units.js" "/wallet.js"
    "/vendor/micro-eth-signer.js"
    "/views/account.js" "/views/book.js" "/views/dom.js" "/views/orders.js" "/views/ticket.js" "/views/trades.js"
];
/// Nothing comes from elsewhere.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Whatever is not the interface.
pub async fn file(uri: Uri) -> Response {
    let path = if uri.path() == "/" { "/index.html" } else { uri.path() };
    let Some((_, text)) = FILES.iter().find(|(known, _)| *known == path) else {
        return Refused::new("unknown", format!("there is no {path}")).into_response();
    };
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // After an update of the server, no file of the one before.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, *text).into_response()
}
