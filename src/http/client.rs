//! The HTTP client that does nothing of its own accord, even if another crate enables more features of reqwest's.

use std::time::Duration;

use http::HeaderValue;
use reqwest::ClientBuilder;
use rustls::ClientConfig;

use super::{MAX_HEADER_LIST, settings};
use crate::error::Result;

/// No retries, redirects, proxies of the environment or decompression; with TCP's own keep-alive.
pub(crate) fn client(tls: ClientConfig, agent: HeaderValue, connect_timeout: Duration) -> ClientBuilder {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(agent)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .no_hickory_dns()
        .connect_timeout(settings::bounded(connect_timeout))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_keepalive_interval(Duration::from_secs(15))
        .tcp_keepalive_retries(3)
        .http2_max_header_list_size(MAX_HEADER_LIST);
    // Half-open connections: what was sent and is not acknowledged.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let client = client.tcp_user_timeout(Duration::from_secs(30));
    client
}

/// The client, or what is wrong with its settings.
pub(crate) fn build(client: ClientBuilder) -> Result<reqwest::Client> {
    client.build().map_err(|error| {
        let hint = "this is a fault of the settings; the cause names it";
        settings::invalid("the HTTP client cannot be set up", hint).with_source(error.without_url())
    })
}
