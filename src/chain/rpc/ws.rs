//! Websockets: what a connection needs.
#![allow(dead_code, reason = "the connection is to follow")]

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Uri};

pub(super) struct Connector {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) max_message: usize,
    pub(super) timeout: Duration,
}
