//! How an [`RpcReader`] is set up: every check that needs no network.

use std::{fmt, time::Duration};

use http::{HeaderValue, Uri};
use reqwest::Url;

use super::{
    RpcLimits, RpcReader,
    http::Http,
    poll::Polls,
    secrets::{Credentials, RESERVED, Secrets},
    ws,
};
use crate::{
    error::Result,
    http::{
        address::{self, AddressForm},
        client::{self, Clients},
        connect::Connector,
        probe::{Probe, Speaks},
        provider::{Provided, provider_setting},
        settings::{self, AGENT, invalid},
        tls,
    },
};

/// The poll intervals that a websocket waits for a block to be pushed, and the bounds of that.
const QUIET: u32 = 30;
const SHORTEST_QUIET: Duration = Duration::from_millis(250);
const LONGEST_QUIET: Duration = Duration::from_secs(86_400);

const FORM: AddressForm = AddressForm {
    builder: "RpcReader",
    hint: "http(s)://host[:port][/path][?query], or the same with ws(s)",
    schemes: &["http", "https", "ws", "wss"],
    paths: true,
    queries: true,
};

/// Builds an [`RpcReader`]; made by [`RpcReader::builder`].
#[derive(Clone)]
pub struct RpcReaderBuilder {
    url: String,
    limits: RpcLimits,
    poll_interval: Duration,
    connect_timeout: Duration,
    max_response: usize,
    allow_plaintext: bool,
    tls: tls::Settings,
    headers: Vec<(String, String)>,
    provider: Option<Provided>,
}

/// What is known of an address without asking anybody.
struct Plan {
    uri: Uri,
    url: Url,
    endpoint: String,
    encrypted: bool,
}

impl Plan {
    /// Looks what answers there.
    fn probe(&self) -> Probe {
        let port = self.url.port_or_known_default().unwrap_or(80);
        Probe::new(self.url.host_str().unwrap_or_default(), port, self.encrypted, Speaks::Http1)
    }
}

impl RpcReaderBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            limits: RpcLimits::default(),
            poll_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            max_response: 16 << 20,
            allow_plaintext: false,
            tls: tls::Settings::default(),
            headers: Vec::new(),
            provider: None,
        }
    }

    /// A header for every request, or for opening the websocket, such as `authorization`. The value is kept out of
    /// debug output.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long one round trip may take, connecting included. Default: 10 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// How often the latest block is looked at over HTTP while somebody waits for another, up to a tenth later: once
    /// for all who wait. Default: 1 second. A websocket is told of blocks: each word of one is a reason to look, and
    /// without any it looks after thirty intervals, as a subscription can end without a word. Where it did, the
    /// connection is opened again.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Allows `http://` and `ws://` to hosts other than this one. Whoever is on the way can then change what the chain
    /// seems to say: nonces, the operator, whether a result has landed.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// The longest answer as JSON, in bytes: of a request over HTTP, of a message over a websocket. Default: 16 MiB.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// The most questions in one request. Default: 100. RPCs bound it, too; what is more goes out in several requests
    /// at once.
    #[must_use]
    pub fn max_batch(mut self, questions: usize) -> Self {
        self.limits.max_batch = questions;
        self
    }

    tls::tls_settings!();
    provider_setting!();

    /// Sets the reader up: for `http(s)://` nothing is sent yet, for `ws(s)://` the connection is opened, on this
    /// runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for an address that is none, for plain text to a
    /// host other than this one, for TLS without roots or with certificates that cannot be read, for invalid or
    /// reserved headers, and for zeros. [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the websocket cannot be
    /// opened.
    pub async fn connect(self) -> Result<RpcReader> {
        let plan = self.plan()?;
        match plan.uri.scheme_str() {
            Some("ws" | "wss") => self.build_ws(plan).await,
            _ => self.build_http(plan),
        }
    }

    /// As [`connect`](Self::connect), and a websocket is opened with the first question only.
    pub(super) fn connect_later(self) -> Result<RpcReader> {
        let plan = self.plan()?;
        match plan.uri.scheme_str() {
            Some("ws" | "wss") => {
                let (way, endpoint) = self.way(plan)?;
                Ok(self.over_ws(ws::later(way), endpoint))
            }
            _ => self.build_http(plan),
        }
    }

    /// As [`connect`](Self::connect), for `http(s)://` only.
    pub(crate) fn http(self) -> Result<RpcReader> {
        let plan = self.plan()?;
        match plan.uri.scheme_str() {
            Some("ws" | "wss") => Err(invalid(
                "RpcReader::http() was given the address of a websocket",
                "use RpcReader::ws(url), or RpcReader::builder(url) with connect()",
            )),
            _ => self.build_http(plan),
        }
    }

    fn plan(&self) -> Result<Plan> {
        let uri = address::parse(&self.url, &FORM)?;
        // The host as it will be connected to; the parser may have read "2130706433" as an address.
        let url =
            Url::parse(&self.url).map_err(|_| invalid("not a URL", format!("give the address as {}", FORM.hint)))?;
        let host = url.host_str().or(uri.host()).unwrap_or_default();
        let encrypted = matches!(url.scheme(), "https" | "wss");
        if !encrypted && !self.allow_plaintext {
            address::check_plaintext(host, || {
                "use https:// or wss://: whoever is on the way could change what the chain seems to say. If the network itself \
                 is trusted: RpcReader::builder(url).allow_plaintext().connect()"
                    .to_owned()
            })?;
        }
        self.tls.check(encrypted)?;
        if self.limits.timeout.is_zero() || self.poll_interval.is_zero() {
            return Err(invalid("a time of zero", "set timeout() and poll_interval() to more than zero"));
        }
        if self.limits.max_batch == 0 || self.max_response == 0 {
            return Err(invalid("a limit of zero", "set max_batch() and max_response_bytes() to more than zero"));
        }
        // Without path and query, where services of RPCs put their keys.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let endpoint = format!("{}://{host}{port}", url.scheme());
        Ok(Plan { uri, url, endpoint, encrypted })
    }

    fn build_http(&self, plan: Plan) -> Result<RpcReader> {
        let secrets = Secrets::of(&plan.url, &self.headers);
        let headers = settings::headers(&self.headers, &RESERVED)?;
        let tls = tls::config(&self.tls, &["h2", "http/1.1"], plan.encrypted)?;
        let connect_timeout = self.connect_timeout;
        let set_up = move |_| {
            client::client(tls.clone(), HeaderValue::from_static(AGENT), connect_timeout)
                .pool_idle_timeout(Duration::from_secs(20))
        };
        let clients = Clients::new(set_up, None)?;
        let credentials =
            Credentials { headers, provider: self.provider.clone(), endpoint: plan.endpoint.clone(), secrets };
        let probe = plan.probe();
        let transport = Http::new(clients, plan.url, credentials, self.max_response, probe);
        Ok(RpcReader::over(transport, plan.endpoint, self.limits, Polls::new(self.interval(), None), false))
    }

    async fn build_ws(&self, plan: Plan) -> Result<RpcReader> {
        let (way, endpoint) = self.way(plan)?;
        let client = ws::connect(way).await.map_err(|error| error.with_endpoint(&endpoint))?;
        Ok(self.over_ws(client, endpoint))
    }

    /// How a websocket is opened, and where.
    fn way(&self, plan: Plan) -> Result<(ws::Way, String)> {
        let headers = settings::headers(&self.headers, &RESERVED)?;
        let tls = plan.encrypted.then(|| tls::config(&self.tls, &["http/1.1"], true)).transpose()?;
        // Both are added to the clock's time, which must not overflow.
        let timeout = settings::bounded(self.limits.timeout);
        let probe = plan.probe();
        let way = ws::Way {
            probe,
            connector: Connector::new(&plan.uri, None, tls, timeout)?,
            uri: plan.uri,
            credentials: Credentials {
                headers,
                provider: self.provider.clone(),
                endpoint: plan.endpoint.clone(),
                secrets: Secrets::of(&plan.url, &self.headers),
            },
            max_message: self.max_response,
            timeout,
        };
        Ok((way, plan.endpoint))
    }

    fn over_ws(&self, client: ws::WsClient, endpoint: String) -> RpcReader {
        let quiet = self.poll_interval.saturating_mul(QUIET).clamp(SHORTEST_QUIET, LONGEST_QUIET);
        let poll = Polls::new(self.interval(), Some((client.clone(), quiet)));
        RpcReader::over(client, endpoint, self.limits, poll, true)
    }

    fn interval(&self) -> Duration {
        settings::bounded(self.poll_interval)
    }
}

// By hand: the address and the headers' values may be secrets.
impl fmt::Debug for RpcReaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcReaderBuilder")
            .field("limits", &self.limits)
            .field("poll_interval", &self.poll_interval)
            .field("max_response", &self.max_response)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("headers", &settings::header_names(&self.headers))
            .finish_non_exhaustive()
    }
}
