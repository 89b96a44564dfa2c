//! What answers at an address, looked at where a call failed as it would if that spoke another protocol: TLS where
//! plain text was sent, plain text where TLS was wanted, another version of HTTP.
//!
//! Only a failure that another protocol would explain is followed by a probe, as servers answer the wrong protocol with
//! an alert, a page, or nothing. The probe has its own connection. What it finds replaces the failure only where
//! nothing was sent, or the call only reads; to a submission that may have arrived it is only added as a hint.

use std::{
    error::Error as StdError,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{any_cause, tls};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a server of HTTP answers to, if it speaks plain text.
const REQUEST: &[u8] = b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4), with a SETTINGS frame that sets nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The protocol of what answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Tls,
    /// HTTP/1.1 in plain text.
    Http1,
    /// The same, with status 400: also servers of TLS refuse plain text so.
    Refusal,
    /// HTTP/2 in plain text.
    Http2,
}

/// When an error struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    /// Before there was a connection to call over.
    Connecting,
    /// The same, as it took too long.
    #[cfg(any(feature = "rest", feature = "chain"))]
    ConnectingTooLong,
    Calling,
}

/// Looks at one address, as long as nothing of the expected protocol was heard from it.
pub(crate) struct Probe {
    host: String,
    port: u16,
    encrypted: bool,
    /// What the transport speaks, beneath TLS if there is any.
    expected: Speaks,
    heard: AtomicBool,
}

impl Probe {
    /// `encrypted` is whether the transport's own connections have TLS.
    pub(crate) fn new(host: &str, port: u16, encrypted: bool, expected: Speaks) -> Self {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        Self { host, port, encrypted, expected, heard: AtomicBool::new(false) }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Notes that the right protocol is spoken: failures from now on have other causes.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Relaxed);
    }

    /// Whether it is worth a look after this error, which struck then.
    pub(crate) fn is_wanted(&self, struck: Struck, error: &(dyn StdError + 'static)) -> bool {
        let worth = match struck {
            Struck::Calling => !self.encrypted,
            // In plain text a connection that cannot be made says nothing of what is spoken there.
            Struck::Connecting => self.encrypted && broke_in_handshake(error),
            // Perhaps the server waits for the end of a line.
            #[cfg(any(feature = "rest", feature = "chain"))]
            Struck::ConnectingTooLong => self.encrypted,
        };
        worth && !self.heard.load(Relaxed)
    }

    /// Whether an answer in plain text that is none of what was asked is worth a look.
    #[cfg(feature = "chain")]
    pub(crate) fn is_open(&self) -> bool {
        !self.encrypted && !self.heard.load(Relaxed)
    }

    /// The protocol, if it can be told, is another than the transport's, and the transport's own is not spoken there,
    /// too: some ports take both TLS and plain text.
    pub(crate) async fn look(&self) -> Option<Speaks> {
        let hello = client_hello();
        if self.encrypted {
            let plain = self.ask(REQUEST).await.filter(|speaks| *speaks != Speaks::Tls)?;
            let takes_tls = match hello {
                Some(hello) => self.ask(&hello).await == Some(Speaks::Tls),
                None => false,
            };
            return (!takes_tls).then_some(plain);
        }
        match (self.ask(&hello?).await, self.expected) {
            (Some(Speaks::Tls), Speaks::Http2) if self.ask(PREFACE).await == Some(Speaks::Http2) => None,
            (Some(Speaks::Tls), Speaks::Http1) if self.ask(REQUEST).await == Some(Speaks::Http1) => None,
            (Some(Speaks::Tls), _) => Some(Speaks::Tls),
            // It may take for HTTP/1.1 whatever is no HTTP/2, and speak both.
            (_, Speaks::Http2) => self.ask(PREFACE).await.filter(|speaks| is_http1(*speaks)),
            (Some(Speaks::Refusal), _) => None,
            (speaks, expected) => speaks.filter(|speaks| *speaks != expected),
        }
    }

    async fn ask(&self, greeting: &[u8]) -> Option<Speaks> {
        tokio::time::timeout(PATIENCE, self.greet(greeting)).await.ok().flatten()
    }

    async fn greet(&self, greeting: &[u8]) -> Option<Speaks> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await.ok()?;
        stream.write_all(greeting).await.ok()?;
        let (mut first, mut len) = ([0; 12], 0);
        while len < first.len() && !matches!(speaks(&first[..len]), Some(Speaks::Tls | Speaks::Http2)) {
            match stream.read(&mut first[len..]).await {
                Ok(more) if more > 0 => len += more,
                _ => break,
            }
        }
        speaks(&first[..len])
    }
}

fn is_http1(speaks: Speaks) -> bool {
    matches!(speaks, Speaks::Http1 | Speaks::Refusal)
}

/// By the first bytes of an answer.
fn speaks(first: &[u8]) -> Option<Speaks> {
    match first {
        // A record of TLS: an alert, or a part of the handshake.
        [0x15 | 0x16, 0x03, ..] => Some(Speaks::Tls),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'4', b'0', b'0'] => Some(Speaks::Refusal),
        [b'H', b'T', b'T', b'P', b'/', b'1', ..] => Some(Speaks::Http1),
        // A frame of the whole connection: SETTINGS or GOAWAY, which is what a server begins or ends with.
        [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => Some(Speaks::Http2),
        _ => None,
    }
}

/// What a client of TLS sends first; nothing where there is no provider of cryptography.
fn client_hello() -> Option<Vec<u8>> {
    let config = tls::config(&tls::Settings::default(), &["h2", "http/1.1"], false).ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut hello).ok()?;
    Some(hello)
}

/// Whether there was a connection, and the handshake of TLS failed over what the server sent, or at its end.
fn broke_in_handshake(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind as Kind;
    any_cause(error, &mut |cause| match (cause.downcast_ref::<rustls::Error>(), cause.downcast_ref::<io::Error>()) {
        (Some(rustls), _) => matches!(rustls, rustls::Error::InvalidMessage(_)),
        (_, Some(io)) => {
            let kinds =
                [Kind::UnexpectedEof, Kind::ConnectionReset, Kind::ConnectionAborted, Kind::BrokenPipe, Kind::TimedOut];
            kinds.contains(&io.kind())
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_their_first_bytes() {
        for (first, wanted) in [
            (&b"\x15\x03\x03\0\x02\x02\x32"[..], Some(Speaks::Tls)),
            (b"\x16\x03\x03\0\x7a\x02\0\0\x76", Some(Speaks::Tls)),
            (b"HTTP/1.1 ", Some(Speaks::Http1)),
            (b"HTTP/1.1 404", Some(Speaks::Http1)),
            (b"HTTP/1.1 400", Some(Speaks::Refusal)),
            (b"HTTP/1.0 ", Some(Speaks::Http1)),
            (b"\0\0\x12\x04\0\0\0\0\0", Some(Speaks::Http2)),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0", Some(Speaks::Http2)),
            (b"\0\0\x08\x07\0\0\0\0\0", Some(Speaks::Http2)),
            (b"\0\0\x08\x07\0\0\0\0\x01", None),
            (b"SSH-2.0-O", None),
            (b"HTTP", None),
            (b"", None),
        ] {
            assert_eq!(speaks(first), wanted, "{first:?}");
        }
    }

    #[test]
    fn only_a_handshake_that_failed_over_what_came_is_worth_a_look() {
        use rustls::InvalidMessage;
        let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        for worth in [
            tls(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"),
            io::Error::from(io::ErrorKind::ConnectionReset),
            io::Error::from(io::ErrorKind::TimedOut),
        ] {
            assert!(broke_in_handshake(&worth), "{worth:?}");
            assert!(broke_in_handshake(&io::Error::other(worth)));
        }
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        for other in [tls(certificate), io::ErrorKind::ConnectionRefused.into()] {
            assert!(!broke_in_handshake(&other), "{other:?}");
        }
    }
}
