//! Proxies: only where one is set.

use super::*;
use crate::authority::Authority;

#[tokio::test]
async fn a_proxy_gets_plain_calls_whole() {
    let proxy = Server::replying(json(200, "{}")).await;
    let url = format!("http://me:pass%20word@{}", proxy.addr);
    let transport = RestTransport::builder("http://localhost:1/base").proxy(url).build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
    let seen = proxy.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.line, "POST http://localhost:1/base/v1/coprocessor_node/get_result HTTP/1.1");
    // "me:pass word"
    assert_eq!(seen.header("proxy-authorization"), Some("Basic bWU6cGFzcyB3b3Jk"));
}

#[tokio::test]
async fn a_proxy_tunnels_calls_that_are_encrypted() {
    let ca = Authority::new();
    let server = tls::server(&ca, "localhost", &["http/1.1"], None).await;
    let target = server.addr;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (heads, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut head).await.unwrap(), 0);
            }
            heads.send(String::from_utf8(head).unwrap()).unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut node = TcpStream::connect(target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut socket, &mut node).await });
        }
    });
    let transport = RestTransport::builder(format!("https://localhost:{}", target.port()))
        .proxy(format!("http://{addr}"))
        .ca_certificate(ca.pem())
        .header("authorization", "secret")
        .build()
        .unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", target.port())), "{head}");
    assert!(!head.contains("secret") && !head.contains("coprocessor_node"), "{head}");
}

#[tokio::test]
async fn a_tunnel_that_is_refused_means_that_nothing_was_sent() {
    for status in [407, 403, 502] {
        let proxy = Server::replying(answer(status, "text/plain", "no")).await;
        let transport = RestTransport::builder("https://localhost:1").proxy(proxy.url()).build().unwrap();
        assert_failure(&submit(&transport).await, "NotSent");
    }
    // A call in plain text is given to the proxy, which says what it says.
    let proxy = Server::replying(answer(407, "text/plain", "no")).await;
    let transport = RestTransport::builder("http://localhost:1").proxy(proxy.url()).build().unwrap();
    assert_failure(&submit(&transport).await, "Http(407)");
}

const CHILD: &str = "INFINITYVM_TEST_CHILD";

/// Runs itself once more with an environment that leads nowhere.
#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    if std::env::var_os(CHILD).is_some() {
        assert!(std::env::var_os("HTTP_PROXY").is_some());
        let server = Server::replying(json(200, "{}")).await;
        assert_eq!(read(&transport(&server)).await.unwrap(), "{}");
        let ca = Authority::new();
        let server = tls::server(&ca, "localhost", &["h2", "http/1.1"], None).await;
        let url = format!("https://localhost:{}", server.addr.port());
        let transport = RestTransport::builder(url).ca_certificate(ca.pem()).http1_only().build().unwrap();
        assert_eq!(read(&transport).await.unwrap(), "{}");
        return;
    }
    let nowhere = "http://127.0.0.1:1";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxies::proxies_of_the_environment_are_ignored"]).env(CHILD, "1").env_remove("NO_PROXY");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, nowhere);
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
