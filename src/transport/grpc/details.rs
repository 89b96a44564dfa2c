//! The details of a gRPC status, which servers send in a header beside it (`google.rpc.Status`). Of these: how long
//! they want to be left alone.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::HeaderName};
use prost::Message;
use tonic::metadata::MetadataMap;

const HEADER: &str = "grpc-status-details-bin";
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// `google.rpc.Status`, without what stands in headers of its own.
#[derive(Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    each: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The pause that the details ask for; nothing where they do not, or cannot be read.
pub(super) fn retry_delay(headers: &HeaderMap) -> Option<Duration> {
    // Of several values each is a message of its own.
    let values = headers.get_all(HEADER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.filter_map(of_status).next()
}

fn of_status(value: &[u8]) -> Option<Duration> {
    let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
    let alone = MetadataMap::from_headers(HeaderMap::from_iter([(HeaderName::from_static(HEADER), value)]));
    let details = Details::decode(alone.get_bin(HEADER)?.to_bytes().ok()?).ok()?;
    let info = details.each.iter().find(|detail| detail.type_url.rsplit('/').next() == Some(RETRY_INFO))?;
    let RetryDelay { seconds, nanos } = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let pause = Duration::from_secs(u64::try_from(seconds).ok()?);
    Some(pause.saturating_add(Duration::from_nanos(u64::try_from(nanos).ok()?)))
}
