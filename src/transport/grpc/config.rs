//! How a [`GrpcTransport`] is set up: every check that needs no network.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::Duration,
};

use http::Uri;
use tonic::{
    service::Interceptor,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{GrpcTransport, Intercept, Pool};
use crate::{
    error::Result,
    transport::{
        address,
        answer::MAX_HEADER_LIST,
        settings::{self, AGENT, Limits, invalid},
    },
};

/// Headers of gRPC itself, or that must not be set at all (`grpc-timeout`).
const RESERVED: [&str; 3] = ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"];

const FORM: address::Form = address::Form {
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
    limits: Limits,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    connections: usize,
    allow_plaintext: bool,
    tls: Option<ClientTlsConfig>,
    user_agent: Option<String>,
    headers: Vec<(String, String)>,
    intercept: Option<Intercept>,
}

impl GrpcTransportBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(5),
            keep_alive: Some((Duration::from_secs(15), Duration::from_secs(10))),
            connections: 2,
            allow_plaintext: false,
            tls: None,
            user_agent: None,
            headers: Vec::new(),
            intercept: None,
        }
    }

    settings::common_settings!();

    /// How long the TCP connection may take, and how long the TLS handshake after it. Default: 5 seconds each.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest request message, in bytes. Default: 4 MiB, which is the most a node takes; longer ones are refused here.
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

    /// TLS settings in place of the default ones (the roots of the features `webpki-roots` and `native-roots`): another
    /// CA, a client certificate, another name. Its handshake timeout is replaced by [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn tls(mut self, config: ClientTlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// The `User-Agent`, to which tonic appends its own. Default: this crate's name and version.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Code that sees the metadata of every call before it is sent and can add to it, for instance a token that changes,
    /// or refuse the call, which is then reported as not sent. It runs on a clone of `interceptor`, and must not block.
    /// Headers of the protocol itself, and deadlines, are not its to set: they are overwritten or removed.
    #[must_use]
    pub fn interceptor(mut self, interceptor: impl Interceptor + Clone + Send + Sync + 'static) -> Self {
        self.intercept = Some(Arc::new(move |request| interceptor.clone().call(request)));
        self
    }

    /// Checks the settings. Nothing is sent, and no runtime is needed yet: connections are opened by the first calls, on
    /// the tokio runtime these run on, which must outlive the transport.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) for a URL that is not `http(s)://host[:port]`, for plain text to a host other than
    /// this one, for TLS without roots or with broken certificates, for invalid or reserved headers, for zero timeouts
    /// and sizes, and for a number of connections out of range.
    pub fn build(self) -> Result<GrpcTransport> {
        let uri = address::parse(&self.url, &FORM)?;
        let endpoint = self.endpoint(&uri)?;
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let message = format!("{} connections", self.connections);
            return Err(invalid(message, format!("connections() takes 1 to {MAX_CONNECTIONS}")));
        }
        let slots = (0..self.connections).map(|_| OnceLock::new()).collect();
        let name = uri.to_string().trim_end_matches('/').to_owned();
        self.finish(Pool { slots, next: AtomicUsize::new(0), endpoint: Some(endpoint) }, name)
    }

    /// Like [`build`](Self::build), on a channel of your own, for instance over a Unix socket. The URL only names it in
    /// messages; connect timeout, keep-alive, connections, TLS, user agent and the rule on plain text are the channel's
    /// affair.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) for invalid or reserved headers, and for zero timeouts and sizes.
    pub fn build_on(self, channel: Channel) -> Result<GrpcTransport> {
        let name = self.url.clone();
        self.finish(Pool::of(channel), name)
    }

    fn finish(self, pool: Pool, name: String) -> Result<GrpcTransport> {
        let limits = self.limits;
        limits.check(self.connect_timeout)?;
        let headers = settings::headers(&self.headers, &RESERVED)?;
        Ok(GrpcTransport { pool, name, limits, headers, intercept: self.intercept })
    }

    fn endpoint(&self, uri: &Uri) -> Result<Endpoint> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        if !tls && self.tls.is_some() {
            return Err(invalid("TLS settings for a plain http URL", "use https:// or leave tls() out"));
        }
        if !tls && !self.allow_plaintext {
            address::check_plaintext(host, "GrpcTransport")?;
        }
        let keep_alive = settings::keep_alive(self.keep_alive)?;
        let mut endpoint = Endpoint::from(uri.clone())
            .user_agent(self.user_agent.as_deref().unwrap_or(AGENT))
            .map_err(|error| invalid("invalid user agent", "user_agent() takes printable ASCII").with_source(error))?
            .connect_timeout(settings::bounded(self.connect_timeout))
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            // Off, it costs 25 times the rate of small calls.
            .tcp_nodelay(true);
        if let Some((interval, timeout)) = keep_alive {
            endpoint =
                endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
        }
        if !tls {
            return Ok(endpoint);
        }
        let config = match &self.tls {
            Some(config) => config.clone(),
            None if cfg!(any(feature = "webpki-roots", feature = "native-roots")) => {
                ClientTlsConfig::new().with_enabled_roots()
            }
            None => {
                return Err(invalid(
                    "no TLS roots to check the server with",
                    "enable the feature webpki-roots or native-roots, or give tls() a CA certificate",
                ));
            }
        };
        endpoint.tls_config(config.timeout(settings::bounded(self.connect_timeout))).map_err(|error| {
            invalid("the TLS settings do not work", "check certificates, key and names given to tls()")
                .with_source(error)
        })
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
