//! How a [`GrpcTransport`] is set up: every check that needs no network.

use std::{fmt, time::Duration};

use http::Uri;
use tonic::transport::Endpoint;

use super::{
    GrpcTransport, Intercept,
    pool::{Own, Pool},
};
use crate::{
    error::Result,
    http::{
        MAX_HEADER_LIST, address,
        connect::Connector,
        keep_alive::KeepAlive,
        probe::{Probe, Speaks},
        provider::{Provided, provider_setting},
        settings::{self, AGENT, invalid},
        tls,
    },
    runtime::PerRuntime,
    transport::{
        peer::Peer,
        settings::{CallLimits, check_plaintext, common_settings, keep_alive},
    },
};

/// Headers of gRPC itself, or that must not be set at all (`grpc-timeout`).
const RESERVED: [&str; 3] = ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"];

const FORM: address::AddressForm = address::AddressForm {
    builder: "GrpcTransport",
    hint: "http://host:port or https://host[:port]",
    schemes: &["http", "https"],
    paths: false,
    queries: false,
};

const MAX_CONNECTIONS: usize = 64;

/// Builds a [`GrpcTransport`]; made by [`GrpcTransport::builder`].
#[derive(Clone)]
pub struct GrpcTransportBuilder {
    url: String,
    limits: CallLimits,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    connections: usize,
    allow_plaintext: bool,
    tls: tls::Settings,
    server_name: Option<String>,
    user_agent: Option<String>,
    headers: Vec<(String, String)>,
    provider: Option<Provided>,
    intercept: Option<Intercept>,
}

impl GrpcTransportBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            limits: CallLimits::default(),
            connect_timeout: Duration::from_secs(5),
            keep_alive: Some((Duration::from_secs(15), Duration::from_secs(10))),
            connections: 2,
            allow_plaintext: false,
            tls: tls::Settings::default(),
            server_name: None,
            user_agent: None,
            headers: Vec::new(),
            provider: None,
            intercept: None,
        }
    }

    common_settings!();
    tls::tls_settings!();
    provider_setting!();

    /// How long the TCP connection may take, and how long the TLS handshake after it. Default: 5 seconds each.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest request message, in bytes. Default: 4 MiB, which is the most a node takes; longer ones are refused
    /// here.
    #[must_use]
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.limits.max_request = bytes;
        self
    }

    /// The longest answer, in bytes. Default: 8 MiB. Nodes do not bound what they send: a record holds the job's inputs
    /// and its output.
    #[must_use]
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.limits.max_response = bytes;
        self
    }

    /// How many connections to keep, 1 to 64; calls take turns. Default: 2, where one reached 83 % of its rate in small
    /// calls. They are opened when first used and reopened when they broke.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The name that the server's certificate must be for. Default: the URL's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The `User-Agent`, to which tonic appends its own. Default: this crate's name and version.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Code that sees the metadata of every call before it is sent and can add to it, for instance a token that
    /// changes, or refuse the call, which is then reported as not sent. It runs on a clone of `interceptor`, and must
    /// not block. Headers of the protocol itself, and deadlines, are not its to set: they are overwritten or removed.
    #[cfg(feature = "tonic")]
    #[must_use]
    pub fn interceptor(
        mut self,
        interceptor: impl tonic::service::Interceptor + Clone + Send + Sync + 'static,
    ) -> Self {
        self.intercept = Some(std::sync::Arc::new(move |request| interceptor.clone().call(request)));
        self
    }

    /// Checks the settings. Nothing is sent, and no runtime is needed yet: connections are opened by the first calls on
    /// a tokio runtime, and belong to that one. Calls on another runtime open their own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) for a URL that is not
    /// `http(s)://host[:port]`, for plain text to a host other than this one, for TLS without roots or with broken
    /// certificates, for invalid or reserved headers, for zero timeouts and sizes, and for a number of connections out
    /// of range.
    pub fn build(self) -> Result<GrpcTransport> {
        let uri = address::parse(&self.url, &FORM)?;
        let (endpoint, connector) = self.endpoint(&uri)?;
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let message = format!("{} connections", self.connections);
            return Err(invalid(message, format!("connections() takes 1 to {MAX_CONNECTIONS}")));
        }
        let keep_alive = KeepAlive::new(keep_alive(self.keep_alive)?);
        let (connections, channels) = (self.connections, PerRuntime::default());
        let name = uri.to_string().trim_end_matches('/').to_owned();
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let probe = Probe::new(uri.host().unwrap_or_default(), port, encrypted, Speaks::Http2);
        let own = Own { endpoint, connector, keep_alive, connections, channels };
        self.finish(Pool::Own(Box::new(own)), name, Some(probe))
    }

    /// Like [`build`](Self::build), on a channel of your own, for instance over a Unix socket. The URL only names it in
    /// messages; connect timeout, keep-alive, connections, TLS, user agent and the rule on plain text are the channel's
    /// affair. It works as long as the runtime on which the channel was made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) for invalid or reserved headers, and for
    /// zero timeouts and sizes.
    #[cfg(feature = "tonic")]
    pub fn build_on(self, channel: tonic::transport::Channel) -> Result<GrpcTransport> {
        let name = self.url.clone();
        self.finish(Pool::Given(channel), name, None)
    }

    fn finish(self, pool: Pool, name: String, probe: Option<Probe>) -> Result<GrpcTransport> {
        let limits = self.limits;
        limits.check(self.connect_timeout)?;
        let headers = settings::headers(&self.headers, &RESERVED)?;
        let peer = Peer { name, headers, provider: self.provider, reserved: &RESERVED, probe };
        Ok(GrpcTransport { pool, peer, limits, intercept: self.intercept })
    }

    fn endpoint(&self, uri: &Uri) -> Result<(Endpoint, Connector)> {
        let encrypted = uri.scheme_str() == Some("https");
        self.tls.check(encrypted)?;
        if !encrypted && !self.allow_plaintext {
            check_plaintext(uri.host().unwrap_or_default(), "GrpcTransport")?;
        }
        let tls = encrypted.then(|| tls::config(&self.tls, &["h2"], true)).transpose()?;
        let connector = Connector::new(uri, self.server_name.as_deref(), tls, self.connect_timeout)?;
        // The connection is made, and encrypted, by the connector: a channel that is asked for https would do so once more.
        let endpoint = Endpoint::from(connector.address().clone())
            .origin(uri.clone())
            .user_agent(self.user_agent.as_deref().unwrap_or(AGENT))
            .map_err(|error| invalid("invalid user agent", "user_agent() takes printable ASCII").with_source(error))?
            .http2_max_header_list_size(MAX_HEADER_LIST);
        Ok((endpoint, connector))
    }
}

// By hand: headers, certificates and code are not for printing.
impl fmt::Debug for GrpcTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransportBuilder")
            .field("limits", &self.limits)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("connections", &self.connections)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("headers", &settings::header_names(&self.headers))
            .finish_non_exhaustive()
    }
}
