//! TLS: whom the transport trusts, what it shows, and that it needs nothing of the process.

use tokio_rustls::rustls;

use super::*;
use crate::authority::{Authority, acceptor, self_signed};

/// A server with a certificate of `ca`; `clients` is who must have signed the clients' certificates.
pub async fn server(ca: &Authority, name: &str, protocols: &[&str], clients: Option<&Authority>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = acceptor(ca.issue(name), protocols, clients, rustls::ALL_VERSIONS);
    Server::start_on(listener, Some(acceptor), |_| std::future::ready(json(200, "{}")))
}

#[tokio::test]
async fn servers_are_checked() {
    let (ca, other) = (Authority::new(), Authority::new());
    let server = server(&ca, "localhost", &["http/1.1"], None).await;
    let port = server.addr.port();
    let builder = || RestTransport::builder(format!("https://localhost:{port}"));

    assert_eq!(read(&builder().ca_certificate(ca.pem()).build().unwrap()).await.unwrap(), "{}");
    // One of several, in one text or in several.
    let both = format!("{}{}", other.pem(), ca.pem());
    assert_eq!(read(&builder().ca_certificate(both).build().unwrap()).await.unwrap(), "{}");
    let both = builder().ca_certificate(other.pem()).ca_certificate(ca.pem());
    assert_eq!(read(&both.build().unwrap()).await.unwrap(), "{}");

    let unknown = builder();
    let wrong_ca = builder().ca_certificate(other.pem());
    let wrong_name = RestTransport::builder(format!("https://127.0.0.1:{port}")).ca_certificate(ca.pem());
    let requests = server.requests();
    for (builder, expected) in
        [(unknown, "UnknownIssuer"), (wrong_ca, "BadSignature|UnknownIssuer"), (wrong_name, "not valid for name")]
    {
        let error = submit(&builder.build().unwrap()).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        let chain = chain(&error);
        assert!(expected.split('|').any(|expected| chain.contains(expected)), "{chain}");
    }
    // Plain text to a TLS port.
    let plain = RestTransport::builder(format!("http://localhost:{port}")).build().unwrap();
    assert_failure(&read(&plain).await, "Misconfigured");
    assert_eq!(server.requests(), requests);
}

#[tokio::test]
async fn certificates_that_are_expired_or_not_signed_by_anybody_are_refused() {
    let ca = Authority::new();
    let expired = ca.issue_expired("localhost");
    for (issued, expected) in [(expired, "expired"), (self_signed("localhost"), "UnknownIssuer")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = acceptor(issued, &["http/1.1"], None, rustls::ALL_VERSIONS);
        let server = Server::start_on(listener, Some(acceptor), |_| std::future::ready(json(200, "{}")));
        let url = format!("https://localhost:{}", server.addr.port());
        let transport = RestTransport::builder(url).ca_certificate(ca.pem()).build().unwrap();
        let error = submit(&transport).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let server = server(&ca, "localhost", &["http/1.1"], Some(&clients)).await;
    let builder =
        || RestTransport::builder(format!("https://localhost:{}", server.addr.port())).ca_certificate(ca.pem());
    let (certificate, key) = clients.issue("client");
    let transport = builder().client_identity(certificate.pem(), key.serialize_pem()).build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
    assert_eq!(server.requests(), 1);

    // In TLS 1.3 the server's refusal comes after the handshake, when the request may be on its way.
    let (certificate, key) = ca.issue("client");
    let wrong = builder().client_identity(certificate.pem(), key.serialize_pem());
    for builder in [builder(), wrong] {
        let error = submit(&builder.build().unwrap()).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::Interrupted | CallFailure::NotSent), "{error:?}");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn both_versions_of_tls_work() {
    let ca = Authority::new();
    for version in rustls::ALL_VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = acceptor(ca.issue("localhost"), &[], None, &[version]);
        let server = Server::start_on(listener, Some(acceptor), |_| std::future::ready(json(200, "{}")));
        let url = format!("https://localhost:{}", server.addr.port());
        let transport = RestTransport::builder(url).ca_certificate(ca.pem()).build().unwrap();
        assert_eq!(read(&transport).await.unwrap(), "{}", "{version:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole_only_if_tls_says_so() {
    // Without a length, whoever can cut the connection could shorten the answer.
    let ca = Authority::new();
    let acceptor = ca.acceptor("localhost", &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        for proper in [true, false] {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = acceptor.accept(socket).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{}";
            socket.write_all(answer).await.unwrap();
            socket.flush().await.unwrap();
            if proper {
                socket.shutdown().await.unwrap();
            } else {
                socket.into_inner().0.shutdown().await.unwrap();
            }
        }
    });
    let transport = RestTransport::builder(url).ca_certificate(ca.pem()).build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
    assert_failure(&read(&transport).await, "Interrupted");
}

#[tokio::test]
async fn no_crypto_provider_is_needed_nor_installed() {
    let ca = Authority::new();
    let server = server(&ca, "localhost", &["http/1.1"], None).await;
    let url = format!("https://localhost:{}", server.addr.port());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    let transport = RestTransport::builder(url).ca_certificate(ca.pem()).build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
    RestTransport::builder("https://localhost:1").build().unwrap();
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn a_prepared_tls_configuration_is_used_as_it_is() {
    let ca = Authority::new();
    let server = server(&ca, "localhost", &["http/1.1"], None).await;
    let at = || RestTransport::builder(format!("https://localhost:{}", server.addr.port()));
    assert_eq!(read(&at().tls_config(ca.prepared()).build().unwrap()).await.unwrap(), "{}");
    let other = at().tls_config(Authority::new().prepared()).build().unwrap();
    assert!(matches!(read(&other).await.unwrap_err().failure, CallFailure::NotSent));
    assert_invalid(at().tls_config(ca.prepared()).ca_certificate(ca.pem()), "two TLS settings");
}
