//! What a transport can be told, and what is refused.

use super::*;

#[tokio::test]
async fn headers() {
    let server = Server::replying(json(200, "{}")).await;
    let transport = RestTransport::builder(server.url())
        .header("X-Tenant", "acme")
        .header("x-tenant", "acme-2")
        .header("authorization", "Bearer secret-1")
        .user_agent("app/1");
    let builder = format!("{transport:?}");
    let transport = transport.build().unwrap();
    read(&transport).await.unwrap();
    let seen = server.seen.lock().unwrap().pop().unwrap();
    let tenants: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "x-tenant").map(|(_, value)| value).collect();
    assert_eq!(tenants, ["acme", "acme-2"]);
    assert_eq!(seen.header("authorization"), Some("Bearer secret-1"));
    assert_eq!(seen.header("user-agent"), Some("app/1"));
    for text in [builder, format!("{transport:?}"), format!("{transport:#?}")] {
        assert!(text.contains("authorization"), "{text}");
        assert!(!text.contains("secret") && !text.contains("acme"), "{text}");
    }
}

#[test]
fn keys_and_passwords_are_not_printed() {
    let identity = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let key = identity.signing_key.serialize_pem();
    let builder = RestTransport::builder("https://localhost")
        .proxy("http://me:hunter2@localhost:1")
        .client_identity(identity.cert.pem(), key.clone());
    let before = format!("{builder:?}");
    let after = format!("{:?}", builder.build().unwrap());
    let bytes = format!("{:?}", key.as_bytes());
    for text in [before, after] {
        assert!(!text.contains("hunter2") && !text.contains("PRIVATE") && !text.contains(&bytes[1..40]), "{text}");
    }
}

#[test]
fn plain_text_stays_on_this_machine() {
    // The last two are 127.0.0.1 in other notations: it is the parsed address that is connected to.
    let local = [
        "127.0.0.1",
        "127.1.2.3:8080",
        "[::1]:1",
        "localhost",
        "LocalHost:8080",
        "[::ffff:127.0.0.1]:1",
        "2130706433:1",
        "127.1:1",
    ];
    for host in local {
        RestTransport::builder(format!("http://{host}/path")).build().expect(host);
    }
    let remote = [
        "10.0.0.1",
        "0.0.0.0:8080",
        "192.168.1.1:1",
        "128.0.0.1",
        "[::]:1",
        "[2001:db8::1]:1",
        "[::ffff:10.0.0.1]:1",
        "node.example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "notlocalhost",
    ];
    for host in remote {
        let builder = || RestTransport::builder(format!("http://{host}"));
        assert_invalid(builder(), host);
        let error = builder().build().unwrap_err();
        assert!(error.hint().unwrap().contains("RestTransport::builder(url).allow_plaintext"), "{error:?}");
        builder().allow_plaintext().build().expect(host);
        RestTransport::builder(format!("https://{host}")).build().expect(host);
    }
    // A proxy elsewhere takes the plain text along.
    let local = || RestTransport::builder("http://localhost:1");
    local().proxy("http://127.0.0.1:2").build().unwrap();
    assert_invalid(local().proxy("http://proxy.example.org"), "a proxy elsewhere");
    assert_invalid(local().proxy("https://proxy.example.org"), "a proxy elsewhere");
    local().proxy("http://proxy.example.org").allow_plaintext().build().unwrap();
    // By a tunnel nothing is plain.
    RestTransport::builder("https://node.example.org").proxy("http://proxy.example.org").build().unwrap();
}

#[test]
fn bad_settings_are_refused() {
    let bad = [
        "",
        "localhost",
        "localhost:8080",
        "127.0.0.1:8080",
        "/path",
        "http://",
        "http://:8080",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:70000",
        "http://localhost:x",
        "http://localhost:1?query",
        "http://localhost:1/path?query=1",
        "http://localhost:1/#fragment",
        "http://user:hunter2@localhost:1",
        "ftp://localhost:1",
        "unix:///tmp/socket",
        "http://local host:1",
        " http://localhost:1",
        "http://[::1",
        "http://999.1.1.1",
    ];
    for url in bad {
        assert_invalid(RestTransport::builder(url), url);
        let error = RestTransport::builder(url).build().unwrap_err();
        assert!(!error.report().to_string().contains("hunter2"));
    }
    let local = || RestTransport::builder("http://localhost:1/");
    assert_eq!(local().build().unwrap().endpoint(), "http://localhost:1");
    assert_invalid(local().call_timeout(Duration::ZERO), "call timeout");
    assert_invalid(local().submit_timeout(Duration::ZERO), "submit timeout");
    assert_invalid(local().connect_timeout(Duration::ZERO), "connect timeout");
    assert_invalid(local().keep_alive(Duration::ZERO, Duration::from_secs(1)), "keep-alive");
    assert_invalid(local().keep_alive(Duration::from_secs(1), Duration::ZERO), "keep-alive");
    local().no_keep_alive().build().unwrap();
    assert_invalid(local().max_request(0), "request size");
    assert_invalid(local().max_response(0), "response size");
    for name in ["Content-Type", "accept", "Accept-Encoding", "host", "content-length", "transfer-encoding", "expect"] {
        assert_invalid(local().header(name, "x"), name);
    }
    assert_invalid(local().header("no name", "x"), "name");
    assert_invalid(local().header("x", "line\nbreak"), "value");
    assert_invalid(local().header("x", "é"), "value");
    assert_invalid(local().user_agent("line\nbreak"), "user agent");
    assert_invalid(local().ca_certificate("x"), "TLS for http");
    for proxy in ["", "localhost:1", "socks5://localhost:1", "ftp://x", "http://localhost/path", "http://a:hunter2@"] {
        assert_invalid(local().proxy(proxy), proxy);
        assert!(!local().proxy(proxy).build().unwrap_err().report().to_string().contains("hunter2"));
    }

    let secure = || RestTransport::builder("https://localhost");
    let identity = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let (cert, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    assert_invalid(secure().ca_certificate(""), "no certificate");
    assert_invalid(secure().ca_certificate(key.clone()), "a key as certificate");
    assert_invalid(secure().ca_certificate("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "broken");
    assert_invalid(secure().client_identity("", key.clone()), "no certificate");
    assert_invalid(secure().client_identity(cert.clone(), ""), "no key");
    assert_invalid(secure().client_identity(cert.clone(), cert.clone()), "a certificate as key");
    assert_invalid(secure().client_identity(cert.clone(), other.signing_key.serialize_pem()), "the key of another");
    secure().client_identity(cert, key).build().unwrap();
}

/// Without end, as far as the clock is concerned.
#[tokio::test]
async fn times_may_be_as_long_as_one_likes() {
    let plain = Server::replying(json(200, "{}")).await;
    let (addr, _) = http2::start(None, |_, mut respond| async move {
        http2::ok(&mut respond);
        http2::End::Stay
    })
    .await;
    for (url, http2) in [(plain.url(), false), (format!("http://{addr}"), true)] {
        let builder = RestTransport::builder(url)
            .connect_timeout(Duration::MAX)
            .call_timeout(Duration::MAX)
            .submit_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .keep_alive(Duration::MAX, Duration::MAX);
        let transport = if http2 { builder.http2_prior_knowledge() } else { builder }.build().unwrap();
        for _ in 0..3 {
            read(&transport).await.unwrap();
        }
    }
}
