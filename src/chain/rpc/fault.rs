//! What went wrong on the way to an RPC, in this crate's words. Nothing that an address or a header holds is quoted.

use std::{error::Error as StdError, time::Duration};

use alloy_json_rpc::{ErrorPayload, RpcError};
use alloy_transport::{TransportError, TransportErrorKind};

use crate::{
    error::{Error, ErrorKind},
    http::{find, probe::Speaks, retry_after::spelled},
    text::clean,
};

/// The longest text of a peer that is quoted, in bytes.
const QUOTED: usize = 300;

/// What a failure says of how much was asked at once. It is kept with the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// By its own words it was too much.
    TooMany,
    /// Something was refused: the questions, or how they came.
    Refused,
    /// The RPC limits how much it is asked in a time.
    Limited,
    /// The answer is longer than is read.
    TooLong,
    /// It may have been too much, and any other fault as well.
    Doubt,
    /// Nothing: whoever asks is not let in, or is sent elsewhere.
    Barred,
}

/// What a failure says of how much was asked at once, if it says anything.
pub(super) fn sign(error: &Error) -> Option<Sign> {
    error.detail().copied()
}

/// Whether it is the RPC that failed, or refused, so that another one may do.
pub(in crate::chain) fn is_of_the_rpc(error: &Error) -> bool {
    error.is_retryable() || sign(error).is_some()
}

pub(super) fn chain(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Chain, message.into())
}

/// Something that may well work later.
pub(super) fn passing(message: impl Into<String>, hint: &'static str) -> Error {
    chain(message).with_retryable(true).with_hint(hint)
}

pub(super) fn late(limit: Duration) -> Error {
    let hint = "try again, or set a longer timeout() on RpcReader::builder(url)";
    passing(format!("the RPC did not answer within {limit:?}"), hint).with_detail(Sign::Doubt)
}

pub(super) fn unreachable(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    passing("could not connect to the RPC", "check the address, and that the RPC runs; then try again").with_source(why)
}

/// Something else is spoken at the address than its scheme says.
pub(super) fn misspoken(spoken: Speaks, encrypted: bool, websocket: bool) -> Error {
    let scheme = |plain, secure| if websocket { secure } else { plain };
    let (what, hint) = match spoken {
        Speaks::Tls => ("the server speaks TLS", scheme("use https://", "use wss://")),
        _ if encrypted => ("the server speaks plain text", scheme("use http://", "use ws://")),
        _ => (
            "what answers speaks HTTP/2 only, as a coprocessor node's gRPC server does",
            "give the address of the chain's RPC",
        ),
    };
    chain(format!("could not ask the RPC: {what}")).with_hint(hint).with_detail(Sign::Barred)
}

/// Whether by these words whoever asks is not known, or not any more. Some say so in place of status 401.
pub(super) fn is_unknown_caller(payload: &ErrorPayload) -> bool {
    const WORDS: [&str; 8] = [
        "unauthorized",
        "unauthorised",
        "unauthenticated",
        "not authenticated",
        "must be authenticated",
        "must authenticate",
        "invalid token",
        "invalid credentials",
    ];
    let text = payload.message.to_ascii_lowercase();
    // A contract's word.
    if payload.code == 3 || text.contains("revert") {
        return false;
    }
    let expired =
        ["token", "jwt", "credential", "session"].iter().any(|word| text.contains(word)) && text.contains("expired");
    payload.code == 401 || expired || WORDS.iter().any(|words| text.contains(words))
}

pub(super) fn broken(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    passing("the connection to the RPC broke", "try again").with_source(why).with_detail(Sign::Doubt)
}

pub(super) fn too_large(limit: usize) -> Error {
    chain(format!("the RPC's answer has more than {limit} bytes, which is the limit (max_response_bytes)"))
        .with_hint("ask for less at once, for instance for logs of fewer blocks, or raise max_response_bytes()")
        .with_detail(Sign::TooLong)
}

/// What was sent makes no sense.
pub(super) fn nonsense(what: impl Into<String>) -> Error {
    passing(what, "check that the address is that of a JSON-RPC of an Ethereum node")
}

pub(super) fn not_json(raw: &[u8]) -> Error {
    let shown = match raw.trim_ascii() {
        [] => "nothing".to_owned(),
        raw => format!("{:?}", clean(raw, QUOTED)),
    };
    no_answers(format!("what answers does not speak JSON-RPC: it sent {shown}"))
}

/// What came is nothing that several questions could be answered with.
pub(super) fn no_answers(what: impl Into<String>) -> Error {
    nonsense(what).with_detail(Sign::Refused)
}

/// Text of a peer that is to be quoted in a status's error.
pub(super) fn quoted(raw: &[u8]) -> String {
    clean(raw.trim_ascii(), QUOTED)
}

fn status(status: u16, body: &str, pause: Option<Duration>) -> Error {
    let body = clean(body.as_bytes(), QUOTED);
    let text = if body.is_empty() { String::new() } else { format!(": {body:?}") };
    let error = chain(format!("the RPC answered with HTTP status {status}{text}"));
    let error = match pause {
        Some(pause) => error.with_retry_after(pause),
        None => error,
    };
    let error = match status {
        _ if names_batch(&body) => error.with_detail(Sign::TooMany),
        // Who has no key may ask nothing, and elsewhere there is somebody else.
        401 | 407 | 300..=399 => error.with_detail(Sign::Barred),
        408 | 425 | 502..=504 => error.with_detail(Sign::Doubt),
        _ => error.with_detail(Sign::Refused),
    };
    match status {
        429 => limited(error),
        401 | 403 | 407 => {
            error.with_hint("check the RPC's key: in the address, or by header() on RpcReader::builder(url)")
        }
        // It does not know what it was asked to do, and will not.
        501 => error.with_hint("check the RPC's address"),
        408 | 425 | 500..=599 => error.with_retryable(true).with_hint("try again"),
        413 => error.with_hint("ask for less at once: max_batch() on RpcReader::builder(url)"),
        _ => error.with_hint("check the RPC's address"),
    }
}

/// The RPC asked for a pause that is not over, or is asked by so many that this one would wait for too long.
pub(super) fn asked_to_wait(wait: Duration) -> Error {
    let what = "the RPC limits how much it is asked, and it is not this question's turn for a while";
    passing(what, LIMITED).with_retry_after(wait)
}

/// What to do about a limit.
const LIMITED: &str = "the RPC limits how much it is asked: wait, ask less often, or use another RPC";

fn limited(error: Error) -> Error {
    let many = sign(&error) == Some(Sign::TooMany);
    let error = if many { error } else { error.with_detail(Sign::Limited) };
    error.with_retryable(true).with_hint(LIMITED)
}

/// Whether a text speaks of several questions at once.
fn names_batch(text: &str) -> bool {
    text.to_ascii_lowercase().contains("batch")
}

/// Whether a text speaks of an answer that is too long.
fn names_length(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("response") && ["too large", "too big", "too long", "size exceed"].iter().any(|it| text.contains(it))
}

/// Whether one of several questions was refused for those that came with it, which were answered.
pub(super) fn is_for_the_others(error: &Error) -> bool {
    matches!(sign(error), Some(Sign::TooMany | Sign::TooLong)) || is_cut_short(error)
}

/// Whether the RPC had no time left: geth gives so many questions at once five seconds in all (-32002).
pub(super) fn is_cut_short(error: &Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    error.is_retryable() && (text.contains("with error -32002") || text.contains("timed out"))
}

/// What the RPC said instead of a result.
pub(super) fn said(payload: &ErrorPayload) -> Error {
    let text = clean(payload.message.as_bytes(), QUOTED);
    let sign = match () {
        () if names_batch(&text) => Sign::TooMany,
        () if names_length(&text) => Sign::TooLong,
        () => Sign::Refused,
    };
    let error = chain(format!("the RPC answered with error {}: {text:?}", payload.code)).with_detail(sign);
    if is_limit(payload) {
        let error = limited(error);
        return match asked_pause(payload) {
            Some(pause) => error.with_retry_after(pause),
            None => error,
        };
    }
    if is_behind(payload) {
        return error.with_retryable(true).with_hint("try again");
    }
    match payload.code {
        -32601 => error.with_hint("the RPC has no such method: use that of a full node"),
        _ => error.with_hint("the RPC refused this question; others may do"),
    }
}

/// The same of a question for the logs of several blocks. An RPC that bounds those may say so with the code of a limit:
/// of -32005 EIP-1474 says "request exceeds defined limit", and some say no more than that.
pub(super) fn said_of_logs(payload: &ErrorPayload) -> Error {
    const OF_A_RATE: [&str; 3] = ["request", "second", "too many"];
    let text = payload.message.to_ascii_lowercase();
    let bare = payload.code == -32005 && asked_pause(payload).is_none();
    let bare = bare && !names_rate(&text) && !OF_A_RATE.iter().any(|word| text.contains(word));
    if !is_limit(payload) || !bare && !names_range(&text) {
        return said(payload);
    }
    let text = clean(payload.message.as_bytes(), QUOTED);
    fewer_blocks(format!("the RPC answered with error {}: {text:?}", payload.code))
}

/// What questions were refused with, among which are such for the logs of several blocks: by a limit, or as if it were
/// overloaded. If its words are of how much was asked for, waiting changes nothing, and fewer blocks do.
pub(super) fn of_logs(error: Error) -> Error {
    let told = error.to_string();
    let said = told.split_once(": ").map_or(&*told, |(_, said)| said);
    match sign(&error) {
        Some(Sign::Limited | Sign::Doubt | Sign::Refused) if names_range(&said.to_ascii_lowercase()) => {
            fewer_blocks(said.to_owned())
        }
        _ => error,
    }
}

fn fewer_blocks(message: String) -> Error {
    chain(message).with_detail(Sign::Refused).with_hint("the RPC refused so many blocks; fewer may do")
}

/// Whether a text in small letters speaks of blocks, or of what is found in them.
fn names_range(text: &str) -> bool {
    const WIDE: [&str; 5] = ["range", "ranges", "results", "blocks", "wide"];
    const NAMED: [&str; 4] = ["result", "block", "log", "logs"];
    // The method's name says nothing of what is wrong.
    let text = text.replace("eth_getlogs", "");
    has_word(&text, &WIDE) || has_word(&text, &NAMED) && !names_rate(&text)
}

/// Whether a text in small letters speaks of how much is asked in a time.
fn names_rate(text: &str) -> bool {
    const PHRASES: [&str; 18] = [
        "rate limit",
        "rate-limit",
        "ratelimit",
        "rate exceeded",
        "request rate",
        "request limit",
        "requests limit",
        "requests per",
        "too many requests",
        "concurrent requests",
        "per second",
        "throttl",
        "credits",
        "compute unit",
        "throughput",
        "quota",
        "daily request",
        "slow down",
    ];
    PHRASES.iter().any(|phrase| text.contains(phrase))
}

fn has_word(text: &str, words: &[&str]) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| words.contains(&word))
}

/// The pause that an RPC asks for in the body: in data (`rate.backoff_seconds`, `retry_after`), or in words ("try again
/// in 4ms", "retry after 2 seconds").
pub(super) fn asked_pause(payload: &ErrorPayload) -> Option<Duration> {
    let data = payload.data.as_deref().and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok());
    if let Some(seconds) = data.as_ref().and_then(pause_in) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let text = payload.message.to_ascii_lowercase();
    let words = ["try again in ", "retry in ", "try again after ", "retry after ", "retry-after: ", "retry again in "];
    let (_, asked) = words.iter().find_map(|words| text.split_once(words))?;
    Duration::try_from_secs_f64(spelled(asked)?).ok()
}

/// Seconds, as services put them into an error's data.
fn pause_in(data: &serde_json::Value) -> Option<f64> {
    if let Some(seconds) = data["rate"]["backoff_seconds"].as_f64() {
        return Some(seconds);
    }
    let named = |names: &[&str]| {
        names.iter().find_map(|name| data[*name].as_f64().or_else(|| data[*name].as_str()?.trim().parse().ok()))
    };
    let millis = || named(&["retry_after_ms", "retryAfterMs", "backoff_ms"]).map(|millis| millis / 1000.0);
    named(&["backoff_seconds", "retry_after", "retryAfter", "retry_after_seconds", "retryAfterSeconds"]).or_else(millis)
}

/// Whether the same question may be answered a moment later. Of an RPC with several nodes behind it, one can be behind
/// the others, and each node has words of its own for a block that it does not have yet.
pub(super) fn is_behind(payload: &ErrorPayload) -> bool {
    const LATER: [&str; 16] = [
        "timeout",
        "timed out",
        "header not found",
        "header for hash not found",
        "block not found",
        "unknown block",
        "unable to find block",
        "could not find block",
        // Nethermind, with the number before it; anvil.
        "could not be found",
        "blockoutofrange",
        "world state unavailable",
        "state not available",
        "state is not available",
        "unavailable",
        "overloaded",
        "try again",
    ];
    let text = payload.message.to_ascii_lowercase();
    // "block <hash> not found".
    let missing = text.starts_with("block ") && text.ends_with(" not found");
    !is_limit(payload) && (payload.code == -32002 || missing || LATER.iter().any(|known| text.contains(known)))
}

/// Whether it says in an error what is said by null elsewhere: that there is no such transaction, or none of it in a
/// block. An index that is not made yet, and what was thrown away, say nothing of that.
pub(super) fn is_absent(payload: &ErrorPayload) -> bool {
    const NAMED: [&str; 5] = ["transaction", "tx", "receipt", "resource", "transactionhash"];
    const ABSENT: [&str; 5] = ["not found", "not exist", "doesn't exist", "no such", "unknown transaction"];
    const OTHER: [&str; 9] =
        ["method", "block", "header", "index", "prune", "history", "available", "again", "unsupported"];
    let text = payload.message.to_ascii_lowercase();
    has_word(&text, &NAMED)
        && ABSENT.iter().any(|words| text.contains(words))
        && !OTHER.iter().any(|word| text.contains(word))
        && !is_limit(payload)
        && payload.code != -32601
}

/// Whether it is the number of questions in a time that the RPC refuses.
pub(super) fn is_limit(payload: &ErrorPayload) -> bool {
    let text = payload.message.to_ascii_lowercase();
    // Such words are about what was asked for, or about a block that it does not have yet, whatever the code.
    let other = has_word(&text, &["result", "results", "range", "ranges", "block", "blocks"])
        || ["response size", "header not found"].iter().any(|words| text.contains(words));
    let other = payload.code != 429 && other;
    // What a contract reverted with, if another question's answer has it.
    if payload.code == 3 {
        return false;
    }
    !other && (payload.is_retry_err() || names_rate(&text)) || text.contains("too many requests")
}

/// Whether by these words several questions at once are never taken, however few they are.
pub(super) fn takes_no_batches(error: &Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    let said = text.split_once(": ").map_or("", |(_, said)| said);
    let statuses = ["http status 405", "http status 415", "http status 501"];
    let never = ["not support", "unsupported", "not allow", "not enabled", "disabled", "not permitted"];
    // A number says how many are.
    let said = said.trim_start_matches(|c: char| c != '"');
    statuses.iter().any(|status| text.contains(status))
        || never.iter().any(|word| said.contains(word)) && !said.contains(|c: char| c.is_ascii_digit())
}

/// What a transport says, whoever wrote it.
pub(super) fn of(error: TransportError) -> Error {
    told(&error)
}

pub(super) fn told(error: &TransportError) -> Error {
    match error {
        RpcError::ErrorResp(payload) => said(payload),
        RpcError::DeserError { text, .. } => not_json(text.as_bytes()),
        RpcError::Transport(kind) => {
            let pause = kind.retry_after();
            if let Some(http) = kind.as_http_error() {
                return status(http.status, &http.body, pause);
            }
            match kind {
                TransportErrorKind::Custom(custom) => match custom.downcast_ref::<Error>() {
                    Some(ours) => ours.clone(),
                    None => foreign(&**custom),
                },
                other => foreign(other),
            }
        }
        other => foreign(other),
    }
}

/// An error of somebody else's transport. Its texts may hold the address with all it holds, so only those without one
/// are kept.
fn foreign(error: &(dyn StdError + 'static)) -> Error {
    if let Some(ours) = find::<Error>(error) {
        return ours.clone();
    }
    let mut why = None;
    let mut cause = Some(error);
    while let Some(it) = cause {
        let text = it.to_string();
        if !text.contains("://") {
            why = Some(clean(text.as_bytes(), QUOTED));
        }
        cause = it.source();
    }
    let error = passing("the RPC could not be asked", "try again");
    match why {
        Some(why) => error.with_source(why),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(code: i64, message: &'static str) -> ErrorPayload {
        ErrorPayload { code, message: message.into(), data: None }
    }

    /// In the words of services that bound both: how many blocks a question spans, and how often one is asked.
    #[test]
    fn a_range_is_told_from_a_rate() {
        for (code, text, limit, of_range) in [
            (429, "Too Many Requests", true, false),
            (-32005, "limit exceeded", true, true),
            (-32005, "query returned more than 10000 results", false, true),
            (429, "query returned more than 10000 results", true, true),
            (429, "block range limit exceeded", true, true),
            // The name of the method, and words that hold others.
            (-32005, "eth_getLogs rate limit exceeded", true, false),
            (-32000, "rate limit reached for eth_getLogs: slow down", true, false),
            (429, "You have been blocked for too many requests", true, false),
            (429, "see our blog on request limits", true, false),
            (-32000, "Rate limit exceeded", true, false),
            (-32000, "RATE LIMIT: 25 requests per second", true, false),
            (-32000, "Your app has exceeded its compute units per second capacity", true, false),
            (-32001, "Quota exceeded for this key", true, false),
            (-32097, "Request was throttled", true, false),
            (-32000, "rate limit: no logs are read for a while", true, false),
            (-32016, "rate limit: eth_getLogs takes a range of 10 blocks", false, true),
            (-32000, "header not found", false, false),
            (-32602, "missing value for required argument 0", false, false),
        ] {
            let payload = payload(code, text);
            assert_eq!(is_limit(&payload), limit, "{text}");
            let told = said_of_logs(&payload);
            let waits = sign(&told) == Some(Sign::Limited);
            assert_eq!(waits, limit && !of_range, "{text}: {told:?}");
            // The same by a status.
            let status = of_logs(status(429, text, Some(Duration::from_secs(9))));
            let waits = sign(&status) == Some(Sign::Limited);
            assert_eq!(waits, !of_range || text == "limit exceeded", "{text}: {status:?}");
            assert_eq!(status.retry_after().is_some(), waits, "{text}");
        }
    }

    #[test]
    fn who_is_not_known_is_told_from_what_is_refused() {
        for (code, text, unknown) in [
            (-32000, "Unauthorized: You must authenticate your request with an API key", true),
            (-32001, "jwt expired", true),
            (-32603, "The token has expired", true),
            (401, "no", true),
            (-32000, "invalid token", true),
            (-32000, "filter expired", false),
            (-32000, "execution reverted: ERC20: token not allowed", false),
            (-32000, "execution reverted: Ownable: caller is unauthorized", false),
            (3, "unauthorized", false),
            (-32601, "the method does not exist", false),
        ] {
            assert_eq!(is_unknown_caller(&payload(code, text)), unknown, "{text}");
        }
    }
}
