//! The page, from files that are part of the program.

use axum::{
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use crate::reply::Refused;

/// Path, content type and text of each file; `/` is the page itself.
const FILES: &[(&str, &str, &str)] = &[];
/// Nothing comes from elsewhere.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Whatever is not the interface.
pub async fn file(uri: Uri) -> Response {
    let found = FILES.iter().find(|(path, ..)| *path == uri.path());
    match found {
        Some((_, kind, text)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CONTENT_SECURITY_POLICY, POLICY)], *text).into_response()
        }
        None if uri.path() == "/" => Refused::unknown("there is no page: see /api/market and API.md").into_response(),
        None => Refused::unknown(format!("there is no {}", uri.path())).into_response(),
    }
}
