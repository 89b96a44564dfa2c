//! What is set in the same words wherever HTTP is spoken: headers, the user agent, bounds of times.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorKind, Result};

/// The default `User-Agent`.
pub(crate) const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Headers that this crate or HTTP itself sets on every transport.
const RESERVED: [&str; 13] = [
    "te",
    "content-type",
    "content-length",
    "content-encoding",
    "user-agent",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "expect",
    "trailer",
];

pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message.into()).with_hint(hint.into())
}

/// The most that is handed to hyper, which adds times to the clock's and panics where that overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST)
}

/// The user's headers, marked as sensitive. `reserved` are names that only this transport sets.
pub(crate) fn headers(pairs: &[(String, String)], reserved: &[&str]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let hint = "header() takes an HTTP header name and a value of printable ASCII";
        let name = HeaderName::try_from(name)
            .map_err(|error| invalid(format!("invalid header name {name:?}"), hint).with_source(error))?;
        if RESERVED.contains(&name.as_str()) || reserved.contains(&name.as_str()) {
            return Err(invalid(format!("the header {name} belongs to the protocol"), "leave it out"));
        }
        if !value.is_ascii() {
            return Err(invalid(format!("invalid value of header {name}"), hint));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|error| invalid(format!("invalid value of header {name}"), hint).with_source(error))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// The names of the user's headers, which is all of them that may be printed.
pub(crate) fn header_names(pairs: &[(String, String)]) -> Vec<&str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect()
}
