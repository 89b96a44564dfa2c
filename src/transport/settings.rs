//! What the transports are told in the same words: limits, keep-alive, and the methods of both builders.

use std::time::Duration;

use crate::{
    error::Result,
    http::{
        address,
        settings::{bounded, invalid},
    },
    rpc::{CallError, CallFailure, Method},
};

/// What bounds a single call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimits {
    pub(super) call_timeout: Duration,
    pub(super) submit_timeout: Duration,
    pub(super) max_request: usize,
    pub(super) max_response: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(30),
            submit_timeout: Duration::from_secs(10 * 60),
            max_request: 4 << 20,
            max_response: 8 << 20,
        }
    }
}

impl CallLimits {
    pub(super) fn check(&self, connect_timeout: Duration) -> Result<()> {
        if self.call_timeout.is_zero() || self.submit_timeout.is_zero() || connect_timeout.is_zero() {
            return Err(invalid("a timeout of zero", "set the timeouts to more than zero, or leave them out"));
        }
        if self.max_request == 0 || self.max_response == 0 {
            return Err(invalid("a message size limit of zero", "set max_request() and max_response() in bytes"));
        }
        Ok(())
    }

    /// How long a call may take as a whole.
    pub(super) fn deadline(&self, method: Method) -> Duration {
        let read = method.is_read() && !method.must_run_to_end();
        if read { self.call_timeout } else { self.submit_timeout }
    }

    /// What can be said before anything is sent: that the message is short enough, and that there is a runtime.
    pub(super) fn admit(&self, len: usize) -> Result<(), CallError> {
        let limit = self.max_request;
        if len > limit {
            let message = format!("the request has {len} bytes, the limit is {limit} (max_request)");
            return Err(CallError::new(CallFailure::RequestTooLarge, message));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(CallError::new(CallFailure::NotSent, "calls need a tokio runtime"));
        }
        Ok(())
    }

    /// The answer, of this length if it said so, is too long.
    pub(super) fn too_large(&self, announced: Option<u64>) -> CallError {
        let limit = self.max_response;
        let message = match announced {
            Some(len) => format!("the answer has {len} bytes, the limit is {limit} (max_response)"),
            None => format!("the answer has more than {limit} bytes, which is the limit (max_response)"),
        };
        CallError::new(CallFailure::ResponseTooLarge, message)
    }
}

/// Refuses plain text, unless it stays on this machine.
pub(super) fn check_plaintext(host: &str, transport: &str) -> Result<()> {
    address::check_plaintext(host, || {
        format!(
            "use https://; requests are not signed in full (the relay strategy is not), so whoever is on the way could \
             change them. If the network itself is trusted: \
             ClientBuilder::transport({transport}::builder(url).allow_plaintext().build()?)"
        )
    })
}

/// The keep-alive's two times, if there is to be one.
pub(super) fn keep_alive(keep_alive: Option<(Duration, Duration)>) -> Result<Option<(Duration, Duration)>> {
    match keep_alive {
        Some((interval, timeout)) if interval.is_zero() || timeout.is_zero() => {
            Err(invalid("a keep-alive of zero", "to turn it off: no_keep_alive()"))
        }
        times => Ok(times.map(|(interval, timeout)| (bounded(interval), bounded(timeout)))),
    }
}

/// The settings that both transports' builders have, as methods of the builder. It has the fields `limits`,
/// `keep_alive`, `allow_plaintext` and `headers`.
macro_rules! common_settings {
    () => {
        /// How long a call that only reads may take, connecting included. Default: 30 seconds.
        #[must_use]
        pub fn call_timeout(mut self, timeout: Duration) -> Self {
            self.limits.call_timeout = timeout;
            self
        }

        /// The hard bound for every other call: those that change something, and those that [must run to their
        /// end](crate::rpc::Method::must_run_to_end), as giving up on one of these can stop the node's work for the
        /// whole consumer. Default: 10 minutes. Callers that wait for less stop waiting, and leave the call running.
        #[must_use]
        pub fn submit_timeout(mut self, timeout: Duration) -> Self {
            self.limits.submit_timeout = timeout;
            self
        }

        /// HTTP/2 pings, also while no call is under way: how often, and how long the answer may take until the
        /// connection counts as broken. Default: every 15 seconds, 10 seconds. HTTP/1.1 has no pings; there TCP's own
        /// keep-alive finds out within a minute.
        #[must_use]
        pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
            self.keep_alive = Some((interval, timeout));
            self
        }

        /// No HTTP/2 pings, for servers that take them as abuse. TCP's own keep-alive stays.
        #[must_use]
        pub fn no_keep_alive(mut self) -> Self {
            self.keep_alive = None;
            self
        }

        /// Allows `http://` to hosts other than this one. Such traffic can be read and changed on its way; parts of a
        /// request, such as the relay strategy, are not covered by the signature.
        #[must_use]
        pub fn allow_plaintext(mut self) -> Self {
            self.allow_plaintext = true;
            self
        }

        /// A header for every call, such as `authorization`. The value is kept out of debug output and of HTTP/2's
        /// compression tables. Names of the protocol's own headers are refused by [`build`](Self::build).
        #[must_use]
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.headers.push((name.into(), value.into()));
            self
        }
    };
}
pub(super) use common_settings;
