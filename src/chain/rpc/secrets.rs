//! Keys that an address or a header holds. RPCs repeat them in what they say, and that is quoted in errors.

use std::borrow::Cow;

use alloy_json_rpc::{Response, ResponsePacket, ResponsePayload};
use http::HeaderMap;
use reqwest::Url;

use super::fault;
use crate::{error::Result, http::provider::Provided, retry::Party};

/// What is shorter is more likely a word than a key, in bytes.
const SHORTEST: usize = 12;
/// So much of a text is searched, and shown at most. Results are not shown, and so not searched.
const LONGEST_TEXT: usize = 4096;

/// What an RPC is shown of who asks, and what of that is not to be quoted.
pub(super) struct Credentials {
    pub(super) headers: HeaderMap,
    pub(super) provider: Option<Provided>,
    /// Whom they are for.
    pub(super) endpoint: String,
    pub(super) secrets: Secrets,
}

/// Headers of the reader, beside those of HTTP itself, and those that open a websocket.
pub(super) const RESERVED: [&str; 7] = [
    "accept",
    "accept-encoding",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
];

impl Credentials {
    /// The headers of a request, with those that change, and all that is not to be quoted then. `refused` is whether
    /// the RPC has just refused those before.
    pub(super) async fn now(&self, refused: bool) -> Result<(HeaderMap, Cow<'_, Secrets>)> {
        let mut headers = self.headers.clone();
        let Some(provider) = &self.provider else { return Ok((headers, Cow::Borrowed(&self.secrets))) };
        let provided = provider.add_to(&mut headers, &RESERVED, &self.endpoint, refused).await;
        let provided = provided.map_err(|error| {
            let failed = fault::chain("the header provider failed")
                .with_retryable(error.is_retryable())
                .with_hint("nothing was asked: see the cause")
                .with_detail(Party::Helper);
            let failed = match error.retry_after() {
                Some(pause) => failed.with_retry_after(pause),
                None => failed,
            };
            failed.with_source(error)
        })?;
        let mut secrets = self.secrets.clone();
        secrets.add(&provided);
        Ok((headers, Cow::Owned(secrets)))
    }

    /// Whether there may be others than those that were refused with this status: for want of credentials, of rights,
    /// or by a proxy.
    pub(super) fn may_differ(&self, status: u16) -> bool {
        matches!(status, 401 | 403 | 407) && self.provider.is_some()
    }

    /// The same by what was said, whatever the status.
    pub(super) fn may_differ_from(&self, answer: &ResponsePacket) -> bool {
        self.provider.is_some() && answer.iter_errors().any(fault::is_unknown_caller)
    }
}

#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// The parts of an address's path and query, and the values of headers.
    pub(super) fn of(url: &Url, headers: &[(String, String)]) -> Self {
        let path = url.path().split('/').map(Cow::from);
        let query = url.query_pairs().map(|(_, value)| value);
        let all = path.chain(query).filter(|text| text.len() >= SHORTEST);
        let mut secrets = Self(all.map(|text| text.into_owned().into_bytes()).collect());
        secrets.add(headers);
        secrets
    }

    /// The values of headers, too.
    fn add(&mut self, headers: &[(String, String)]) {
        let words = headers.iter().flat_map(|(_, value)| value.split_whitespace());
        self.0.extend(words.filter(|word| word.len() >= SHORTEST).map(|word| word.as_bytes().to_vec()));
    }

    /// What an answer says went wrong, without them.
    pub(super) fn hide_in(&self, answer: &mut Response) {
        if let ResponsePayload::Failure(error) = &mut answer.payload {
            error.message = String::from_utf8_lossy(&self.hide(error.message.as_bytes())).into_owned().into();
        }
    }

    /// The beginning of a text, without them.
    pub(super) fn hide<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut text = Cow::Borrowed(text.get(..LONGEST_TEXT).unwrap_or(text));
        for secret in &self.0 {
            let mut from = 0;
            while let Some(at) = text[from..].windows(secret.len()).position(|window| window == secret) {
                text.to_mut().splice(from + at..from + at + secret.len(), *b"***");
                from += at + 3;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_and_words_are_not() {
        let url = Url::parse("https://rpc.example.org/v3/0123456789abcdef?key=secret-of-mine").expect("a URL");
        let secrets = Secrets::of(&url, &[("authorization".into(), "Bearer abcdefghijkl".into())]);
        let hidden = |text: &str| String::from_utf8(secrets.hide(text.as_bytes()).into_owned()).expect("text");
        assert_eq!(hidden("no 0123456789abcdef, nor 0123456789abcdef"), "no ***, nor ***");
        assert_eq!(hidden("secret-of-mine and abcdefghijkl of v3"), "*** and *** of v3");
        assert_eq!(hidden(""), "");
        // Of what is long, only the beginning is shown.
        assert_eq!(hidden(&format!("{}{}", "a".repeat(LONGEST_TEXT), "secret-of-mine")), "a".repeat(LONGEST_TEXT));
    }
}
