//! How a [`GrpcTransport`] is set up: every check that needs no network.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tonic::{
    service::Interceptor,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{GrpcTransport, Intercept, Pool};
use crate::error::{Error, ErrorKind, Result};

/// Headers that this crate or HTTP/2 itself sets, or that must not be set at all (`grpc-timeout`).
const RESERVED: [&str; 13] = [
    "te",
    "content-type",
    "content-length",
    "user-agent",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
];

const MAX_CONNECTIONS: usize = 64;

/// Builds a [`GrpcTransport`]; made by [`GrpcTransport::builder`].
#[derive(Clone)]
pub struct GrpcTransportBuilder {
    url: String,
    pub(super) limits: Limits,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    connections: usize,
    allow_plaintext: bool,
    tls: Option<ClientTlsConfig>,
    user_agent: Option<String>,
    headers: Vec<(String, String)>,
    intercept: Option<Intercept>,
}

/// What bounds a single call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) call_timeout: Duration,
    pub(super) submit_timeout: Duration,
    pub(super) max_request: usize,
    pub(super) max_response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(30),
            submit_timeout: Duration::from_secs(10 * 60),
            max_request: 4 << 20,
            max_response: 8 << 20,
        }
    }
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

    /// How long the TCP connection may take, and how long the TLS handshake after it. Default: 5 seconds each.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call that only reads may take, connecting included. Default: 30 seconds.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call_timeout = timeout;
        self
    }

    /// The hard bound for every other call: those that change something, and those that
    /// [must run to their end](crate::rpc::Method::must_run_to_end), as giving up on one of these can stop the node's work for
    /// the whole consumer. Default: 10 minutes. Callers that wait for less stop waiting, and leave the call running.
    #[must_use]
    pub fn submit_timeout(mut self, timeout: Duration) -> Self {
        self.limits.submit_timeout = timeout;
        self
    }

    /// HTTP/2 pings, also while no call is under way: how often, and how long the answer may take until the connection
    /// counts as broken. Default: every 15 seconds, 10 seconds.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keep_alive = Some((interval, timeout));
        self
    }

    /// No HTTP/2 pings, for servers that take them as abuse. TCP's own keep-alive (one minute) stays.
    #[must_use]
    pub fn no_keep_alive(mut self) -> Self {
        self.keep_alive = None;
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

    /// Allows `http://` to hosts other than this one. Such traffic can be read and changed on its way; parts of a
    /// request, such as the relay strategy, are not covered by the signature.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
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

    /// A header for every call, such as `authorization`. The value is kept out of debug output and of HTTP/2's
    /// compression tables. Names of the protocol's own headers are refused by [`build`](Self::build).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
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
    /// [`ErrorKind::InvalidConfig`] for a URL that is not `http(s)://host[:port]`, for plain text to a host other than
    /// this one, for TLS without roots or with broken certificates, for invalid or reserved headers, for zero timeouts
    /// and sizes, and for a number of connections out of range.
    pub fn build(self) -> Result<GrpcTransport> {
        let uri = parse_url(&self.url)?;
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
    /// [`ErrorKind::InvalidConfig`] for invalid or reserved headers, and for zero timeouts and sizes.
    pub fn build_on(self, channel: Channel) -> Result<GrpcTransport> {
        let name = self.url.clone();
        self.finish(Pool::of(channel), name)
    }

    fn finish(self, pool: Pool, name: String) -> Result<GrpcTransport> {
        let limits = self.limits;
        if limits.call_timeout.is_zero() || limits.submit_timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(invalid("a timeout of zero", "set the timeouts to more than zero, or leave them out"));
        }
        if limits.max_request == 0 || limits.max_response == 0 {
            return Err(invalid("a message size limit of zero", "set max_request() and max_response() in bytes"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let hint = "header() takes an HTTP header name and a value of printable ASCII";
            let name = HeaderName::try_from(name)
                .map_err(|error| invalid(format!("invalid header name {name:?}"), hint).with_source(error))?;
            if RESERVED.contains(&name.as_str()) {
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
        Ok(GrpcTransport { pool, name, limits, headers, intercept: self.intercept })
    }

    fn endpoint(&self, uri: &Uri) -> Result<Endpoint> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        if !tls && self.tls.is_some() {
            return Err(invalid("TLS settings for a plain http URL", "use https:// or leave tls() out"));
        }
        if !tls && !self.allow_plaintext && !is_loopback(host) {
            return Err(invalid(
                format!("plain text to {host}"),
                "use https://; requests are not signed in full (the relay strategy is not), so whoever is on the way could \
                 change them. If the network itself is trusted: \
                 ClientBuilder::transport(GrpcTransport::builder(url).allow_plaintext().build()?)",
            ));
        }
        let agent = self.user_agent.as_deref();
        let agent = agent.unwrap_or(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        let mut endpoint = Endpoint::from(uri.clone())
            .user_agent(agent)
            .map_err(|error| invalid("invalid user agent", "user_agent() takes printable ASCII").with_source(error))?
            .connect_timeout(self.connect_timeout)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            // Off, it costs 25 times the rate of small calls.
            .tcp_nodelay(true);
        if let Some((interval, timeout)) = self.keep_alive {
            if interval.is_zero() || timeout.is_zero() {
                return Err(invalid("a keep-alive of zero", "to turn it off: no_keep_alive()"));
            }
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
        endpoint.tls_config(config.timeout(self.connect_timeout)).map_err(|error| {
            invalid("the TLS settings do not work", "check certificates, key and names given to tls()")
                .with_source(error)
        })
    }
}

// By hand: headers, certificates and code are not for printing.
impl fmt::Debug for GrpcTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("GrpcTransportBuilder")
            .field("limits", &self.limits)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("connections", &self.connections)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message.into()).with_hint(hint.into())
}

/// The URL without the parts that a gRPC server's address does not have. Messages do not repeat it: it may hold a password.
fn parse_url(url: &str) -> Result<Uri> {
    let fail = |what: String| invalid(what, "give the address as http://host:port or https://host[:port]");
    let uri: Uri = url.parse().map_err(|error| fail("not a URL".to_owned()).with_source(error))?;
    let Some(authority) = uri.authority() else {
        return Err(fail("the URL has no scheme or no host".to_owned()));
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(fail(format!("the scheme {other} is not one of gRPC"))),
        None => return Err(fail("the URL has no scheme".to_owned())),
    }
    if authority.as_str().contains('@') {
        return Err(fail("the URL holds credentials".to_owned())
            .with_hint("send them with GrpcTransport::builder(url).header(name, value) or .interceptor(…)"));
    }
    if authority.host().is_empty() {
        return Err(fail("the URL has no host".to_owned()));
    }
    // An empty or too large port is no parse error, it merely is not there.
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(fail("the URL's port is not one".to_owned()));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || url.contains('#') {
        return Err(fail("the URL has a path".to_owned()));
    }
    Ok(uri)
}

/// Whether traffic to the host stays on this machine. Only what certainly does: no names are looked up.
fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}
