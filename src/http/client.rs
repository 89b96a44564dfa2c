//! The HTTP client that does nothing of its own accord, even if another crate enables more features of reqwest's.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;

use super::{
    MAX_HEADER_LIST,
    keep_alive::{Doublings, KeepAlive, Paced},
    settings,
};
use crate::{
    error::{Error, Result},
    runtime::{PerRuntime, require_runtime},
};

/// No retries, redirects, proxies of the environment or decompression; with TCP's own keep-alive.
pub(crate) fn client(tls: ClientConfig, agent: HeaderValue, connect_timeout: Duration) -> ClientBuilder {
    let client = Client::builder()
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

/// The interval and the timeout of HTTP/2 pings, if there are to be any.
pub(crate) type Pings = Option<(Duration, Duration)>;

/// A client for each runtime, all set up alike: connections belong to the runtime on which they were opened.
pub(crate) struct Clients {
    set_up: Box<dyn Fn(Pings) -> ClientBuilder + Send + Sync>,
    keep_alive: KeepAlive,
    clients: PerRuntime<Arc<Paced<Client>>>,
}

impl Clients {
    /// Fails if what is set up like this cannot be built.
    pub(crate) fn new(
        set_up: impl Fn(Pings) -> ClientBuilder + Send + Sync + 'static,
        keep_alive: Pings,
    ) -> Result<Self> {
        build(set_up(keep_alive))?;
        let keep_alive = KeepAlive::new(keep_alive);
        Ok(Self { set_up: Box::new(set_up), keep_alive, clients: PerRuntime::default() })
    }

    /// The client of this runtime, and the pace of its pings.
    pub(crate) fn here(&self) -> Result<(Client, Doublings)> {
        require_runtime()?;
        let pace = self.keep_alive.pace();
        let make = || build((self.set_up)(self.keep_alive.times(pace)));
        let client = match self.clients.here(|| Ok::<_, Error>(Arc::default())).transpose()? {
            Some(clients) => clients.at(pace, make)?,
            None => make()?,
        };
        Ok((client, pace))
    }

    /// Takes note of why a call with a client of this pace failed.
    #[cfg(feature = "rest")]
    pub(crate) fn heed(&self, pace: Doublings, error: &(dyn std::error::Error + 'static)) {
        self.keep_alive.heed(pace, error);
    }
}

/// The client, or what is wrong with its settings.
pub(crate) fn build(client: ClientBuilder) -> Result<Client> {
    client.build().map_err(|error| {
        let hint = "this is a fault of the settings; the cause names it";
        settings::invalid("the HTTP client cannot be set up", hint).with_source(error.without_url())
    })
}
