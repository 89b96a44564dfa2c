//! How a [`RestTransport`] is set up: every check that needs no network.

use std::{fmt, time::Duration};

use http::{HeaderValue, header};
use reqwest::{ClientBuilder, Proxy, Url};

use super::{RestTransport, response::JSON};
use crate::{
    error::Result,
    http::{
        address,
        client::{self, Clients, Pings},
        probe::{Probe, Speaks},
        provider::{Provided, provider_setting},
        settings::{self, AGENT, invalid},
        tls,
    },
    transport::{
        peer::Peer,
        settings::{CallLimits, check_plaintext, common_settings, keep_alive},
    },
};

/// Headers of this transport, beside those of HTTP itself.
const RESERVED: [&str; 3] = ["accept", "accept-encoding", "proxy-authorization"];

/// The most that a node takes, and the most of an answer by default, is as JSON at most this long: numbers of three
/// digits with commas, or hex, and the names of the fields.
const MAX_BODY: usize = 17 << 20;

const FORM: address::AddressForm = address::AddressForm {
    builder: "RestTransport",
    hint: "http(s)://host[:port][/path]",
    schemes: &["http", "https"],
    paths: true,
    queries: false,
};

/// HTTP/2: what a server may send of an answer before it was read, in bytes.
const WINDOW: u32 = 512 << 10;

/// Builds a [`RestTransport`]; made by [`RestTransport::builder`].
#[derive(Clone)]
pub struct RestTransportBuilder {
    url: String,
    limits: CallLimits,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    idle_timeout: Duration,
    idle_connections: usize,
    version: Version,
    allow_plaintext: bool,
    proxy: Option<String>,
    tls: tls::Settings,
    user_agent: Option<String>,
    headers: Vec<(String, String)>,
    provider: Option<Provided>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Negotiated,
    Http1,
    Http2,
}

impl RestTransportBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            limits: CallLimits { max_request: MAX_BODY, max_response: MAX_BODY, ..CallLimits::default() },
            connect_timeout: Duration::from_secs(5),
            keep_alive: Some((Duration::from_secs(15), Duration::from_secs(10))),
            idle_timeout: Duration::from_secs(20),
            idle_connections: 32,
            version: Version::Negotiated,
            allow_plaintext: false,
            proxy: None,
            tls: tls::Settings::default(),
            user_agent: None,
            headers: Vec::new(),
            provider: None,
        }
    }

    common_settings!();
    tls::tls_settings!();
    provider_setting!();

    /// How long connecting may take: looking up the name, TCP, a proxy's tunnel and TLS together. Default: 5 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an unused connection is kept. Default: 20 seconds. Set it below the server's own time: a connection
    /// that the server closes in the very moment a call takes it leaves open what became of the call.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How many unused connections are kept. Default: 32. It does not bound those in use: with HTTP/1.1 every call
    /// under way has its own.
    #[must_use]
    pub fn idle_connections(mut self, connections: usize) -> Self {
        self.idle_connections = connections;
        self
    }

    /// The longest request message as JSON, in bytes. Default: 17 MiB, which is what 4 MiB, the most a node takes, can
    /// become in JSON; longer ones are refused here.
    #[must_use]
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.limits.max_request = bytes;
        self
    }

    /// The longest answer as JSON, in bytes. Default: 17 MiB. Nodes do not bound what they send: a record holds the
    /// job's inputs and its output, in hex.
    #[must_use]
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.limits.max_response = bytes;
        self
    }

    /// HTTP/1.1 only. Default: what the server prefers in the TLS handshake, and HTTP/1.1 without TLS.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.version = Version::Http1;
        self
    }

    /// HTTP/2 only, also without TLS. Default: what the server prefers in the TLS handshake, and HTTP/1.1 without TLS.
    #[must_use]
    pub fn http2_prior_knowledge(mut self) -> Self {
        self.version = Version::Http2;
        self
    }

    /// Goes through the proxy at `http(s)://[user:password@]host[:port]`: by a tunnel to a gateway at `https://`, so
    /// that the proxy sees nothing of it; with `http://` the proxy sees everything. Default: none, whatever the
    /// environment says.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// The `User-Agent`. Default: this crate's name and version.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Checks the settings. Nothing is sent, and no runtime is needed yet; with the feature `native-roots` the system's
    /// certificates are read from its files.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) for a URL that is not
    /// `http(s)://host[:port][/path]`, for plain text to a host other than this one, for TLS without roots or with
    /// certificates and keys that cannot be read, for invalid or reserved headers, for an invalid proxy, and for zero
    /// timeouts and sizes.
    pub fn build(self) -> Result<RestTransport> {
        let uri = address::parse(&self.url, &FORM)?;
        let hint = "give the address as http(s)://host[:port][/path]";
        let base = Url::parse(&self.url).map_err(|error| invalid("not a URL", hint).with_source(error))?;
        let encrypted = base.scheme() == "https";
        let proxy = self.proxy.as_deref().map(parse_proxy).transpose()?;
        if !encrypted && !self.allow_plaintext {
            // As it will be connected to; the parser may have read "2130706433" as an address.
            check_plaintext(base.host_str().or(uri.host()).unwrap_or_default(), "RestTransport")?;
            if let Some((url, _)) = &proxy {
                check_plaintext(url.host_str().unwrap_or_default(), "RestTransport")?;
            }
        }
        let tls = encrypted || proxy.as_ref().is_some_and(|(url, _)| url.scheme() == "https");
        self.tls.check(tls)?;
        self.limits.check(self.connect_timeout)?;
        let mut headers = settings::headers(&self.headers, &RESERVED)?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(header::ACCEPT, HeaderValue::from_static(JSON));
        let clients = Clients::new(self.client(proxy.map(|(_, proxy)| proxy), tls)?, keep_alive(self.keep_alive)?)?;
        let spoken = if self.version == Version::Http2 { Speaks::Http2 } else { Speaks::Http1 };
        // Through a proxy nothing is to be seen of what answers.
        let probe = match self.proxy {
            None => {
                let port = base.port_or_known_default().unwrap_or(80);
                Some(Probe::new(base.host_str().unwrap_or_default(), port, encrypted, spoken))
            }
            Some(_) => None,
        };
        let name = base.as_str().trim_end_matches('/').to_owned();
        let peer = Peer { name, headers, provider: self.provider, reserved: &RESERVED, probe };
        Ok(RestTransport { clients, base, peer, limits: self.limits })
    }

    /// How a client is set up.
    fn client(&self, proxy: Option<Proxy>, tls: bool) -> Result<impl Fn(Pings) -> ClientBuilder + Send + Sync + use<>> {
        let version = self.version;
        let protocols: &[&str] = match version {
            Version::Negotiated => &["h2", "http/1.1"],
            Version::Http1 => &["http/1.1"],
            Version::Http2 => &["h2"],
        };
        let agent = HeaderValue::from_str(self.user_agent.as_deref().unwrap_or(AGENT))
            .map_err(|error| invalid("invalid user agent", "user_agent() takes printable ASCII").with_source(error))?;
        let tls = tls::config(&self.tls, protocols, tls)?;
        let (connect_timeout, idle_connections) = (self.connect_timeout, self.idle_connections);
        let idle_timeout = settings::bounded(self.idle_timeout);
        Ok(move |pings: Pings| {
            let mut client = client::client(tls.clone(), agent.clone(), connect_timeout)
                .pool_idle_timeout(idle_timeout)
                .pool_max_idle_per_host(idle_connections)
                .http2_initial_stream_window_size(WINDOW)
                .http2_initial_connection_window_size(2 * WINDOW);
            if let Some((interval, timeout)) = pings {
                client = client
                    .http2_keep_alive_interval(interval)
                    .http2_keep_alive_timeout(timeout)
                    .http2_keep_alive_while_idle(true);
            }
            client = match version {
                Version::Negotiated => client,
                Version::Http1 => client.http1_only(),
                Version::Http2 => client.http2_prior_knowledge(),
            };
            match &proxy {
                Some(proxy) => client.proxy(proxy.clone()),
                None => client,
            }
        })
    }
}

/// The proxy, and its URL for checks. Errors keep no cause: it could quote the password.
fn parse_proxy(url: &str) -> Result<(Url, Proxy)> {
    let fail = |what| invalid(what, "give the proxy as http(s)://[user:password@]host[:port]");
    let parsed = Url::parse(url).map_err(|_| fail("the proxy's address is not a URL"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(fail("the proxy's scheme is neither http nor https"));
    }
    if parsed.path() != "/" || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(fail("the proxy's URL has a path"));
    }
    let proxy = Proxy::all(parsed.clone()).map_err(|_| fail("the proxy's address is not a URL"))?;
    Ok((parsed, proxy))
}

// By hand: headers, certificates, keys and the proxy's password are not for printing.
impl fmt::Debug for RestTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestTransportBuilder")
            .field("limits", &self.limits)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("idle_timeout", &self.idle_timeout)
            .field("idle_connections", &self.idle_connections)
            .field("version", &self.version)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("headers", &settings::header_names(&self.headers))
            .finish_non_exhaustive()
    }
}
