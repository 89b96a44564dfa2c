//! Setting up a gRPC transport.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tonic::{
    service::Interceptor,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{GrpcTransport, Intercept, Shared};
use crate::error::{Error, ErrorKind, Result};

/// Builds a [`GrpcTransport`]; made by [`GrpcTransport::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct GrpcTransportBuilder {
    url: String,
    connections: usize,
    connect_timeout: Duration,
    call_timeout: Duration,
    submit_timeout: Duration,
    keep_alive: Duration,
    max_request: usize,
    max_response: usize,
    allow_plaintext: bool,
    tls: Option<ClientTlsConfig>,
    headers: Vec<(String, String)>,
    intercept: Option<Intercept>,
    user_agent: String,
}

impl GrpcTransportBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.trim().to_owned(),
            connections: 2,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            submit_timeout: Duration::from_secs(600),
            keep_alive: Duration::from_secs(15),
            max_request: 4 * 1024 * 1024,
            max_response: 16 * 1024 * 1024,
            allow_plaintext: false,
            tls: None,
            headers: Vec::new(),
            intercept: None,
            user_agent: concat!("infinityvm-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// How many connections calls are spread over. Default 2, at least 1.
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count.max(1);
        self
    }

    /// How long making a connection may take. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take that can be abandoned safely: GetResult, ContainsProgram, SubmitProgram. Default 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long SubmitJob and GetPendingJobs may take before they are abandoned. Default 10 minutes: abandoning them can
    /// kill the node's task for the consumer, so they are given more time than any healthy node needs.
    pub fn submit_timeout(mut self, timeout: Duration) -> Self {
        self.submit_timeout = timeout;
        self
    }

    /// The pause between HTTP/2 pings, which find dead connections. Default 15 s; an answer must come within 10 s.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// The largest request in bytes. Default 4 MiB, as much as a node takes.
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.max_request = bytes;
        self
    }

    /// The largest response in bytes; larger ones are refused before they are read. Default 16 MiB.
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// Allows `http://` to other hosts than this machine. Without TLS anyone on the way can change the relay strategy, which
    /// is not signed, and suppress or reorder jobs.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// TLS of your own: another CA, a client certificate, another name. Replaces the roots of the features.
    pub fn tls(mut self, config: ClientTlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// A header for every call, such as `authorization`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// An interceptor whose metadata is added to every call, for credentials that change.
    pub fn interceptor(mut self, interceptor: impl Interceptor + Clone + Send + Sync + 'static) -> Self {
        self.intercept = Some(Arc::new(move || {
            let request = interceptor.clone().call(tonic::Request::new(()))?;
            Ok(request.into_parts().0.into_headers())
        }));
        self
    }

    /// The user agent; tonic's own follows it. Default: this crate's name and version.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Sets the transport up. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a URL that is none, plain text to another machine without
    /// [`allow_plaintext`](Self::allow_plaintext), headers or TLS settings that are not valid, `https` without any roots, and
    /// outside of a Tokio runtime.
    pub fn build(self) -> Result<GrpcTransport> {
        let origin = self.origin()?;
        let headers = self.header_map()?;
        let endpoint = self.endpoint(&origin)?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(invalid("a gRPC transport needs a Tokio runtime")
                .with_hint("build it inside of the runtime, for instance in an async function"));
        }
        let channels = (0..self.connections).map(|_| endpoint.connect_lazy()).collect();
        Ok(self.finish(origin, channels, headers))
    }

    fn finish(self, origin: Uri, channels: Vec<Channel>, headers: HeaderMap) -> GrpcTransport {
        GrpcTransport {
            shared: Arc::new(Shared {
                endpoint: self.url,
                origin,
                channels,
                next: AtomicUsize::new(0),
                headers,
                intercept: self.intercept,
                call_timeout: self.call_timeout,
                submit_timeout: self.submit_timeout,
                max_request: self.max_request,
                max_response: self.max_response,
            }),
        }
    }

    fn origin(&self) -> Result<Uri> {
        let example = "write it as http://127.0.0.1:50051 or https://node.example.org";
        let uri: Uri = self.url.parse().map_err(|source| invalid("the node's URL is not one").with_source(source).with_hint(example))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("the node's URL has no host").with_hint(example))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(invalid("the node's URL holds credentials, which would show in logs")
                .with_hint("send them with `header` or `interceptor`"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(invalid("the node's URL has a path, and gRPC has none").with_hint(example));
        }
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.allow_plaintext || is_loopback(host) => Ok(uri),
            Some("http") => Err(invalid("plain text to another machine")
                .with_hint("use https; or, on a network you trust, call `allow_plaintext`: the relay strategy is not signed")),
            _ => Err(invalid("the node's URL starts with neither http nor https").with_hint(example)),
        }
    }

    fn header_map(&self) -> Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            // The value is not shown: it may be a credential.
            let (name, mut value) = parsed.ok_or_else(|| invalid("a header's name or value is not valid"))?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(map)
    }

    fn endpoint(&self, origin: &Uri) -> Result<Endpoint> {
        let refused = |error: tonic::transport::Error| invalid("the transport cannot be set up").with_source(error);
        let mut endpoint = Endpoint::from(origin.clone())
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(self.keep_alive))
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(64 * 1024)
            .user_agent(self.user_agent.as_str())
            .map_err(refused)?;
        if origin.scheme_str() == Some("https") {
            let roots = cfg!(feature = "webpki-roots") || cfg!(feature = "native-roots");
            let tls = match &self.tls {
                Some(config) => config.clone(),
                None if roots => ClientTlsConfig::new().with_enabled_roots(),
                None => {
                    return Err(invalid("https, and no certificate roots to check the node with")
                        .with_hint("enable the feature `webpki-roots` or `native-roots`, or give a CA with `tls`"));
                }
            };
            endpoint = endpoint.tls_config(tls.timeout(self.connect_timeout)).map_err(refused)?;
        }
        Ok(endpoint)
    }
}

impl GrpcTransport {
    /// Talks over a channel of yours, with its own deadlines for connecting, TLS and balancing; the other settings are the
    /// builder's defaults. `endpoint` is what errors show.
    #[must_use]
    pub fn from_channel(channel: Channel, endpoint: impl Into<String>) -> Self {
        let builder = GrpcTransportBuilder::new(&endpoint.into());
        // The channel puts its own origin in.
        builder.finish(Uri::from_static("http://node"), vec![channel], HeaderMap::new())
    }
}

impl fmt::Debug for GrpcTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransportBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
