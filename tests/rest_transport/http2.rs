//! Over HTTP/2: negotiated or not, one connection for all, and servers that refuse or leave.

use std::future::Future;

use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::authority::Authority;

/// Bodies of the requests that were read, and connections that were made.
#[derive(Clone, Default)]
pub struct Log {
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

/// An HTTP/2 server; the handler gets a request after it was read to its end.
pub async fn start<F, R>(tls: Option<TlsAcceptor>, handler: F) -> (std::net::SocketAddr, Log)
where
    F: Fn(http::request::Parts, SendResponse<Bytes>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = End> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let log = Log::default();
    let shared = log.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, handler, log) = (tls.clone(), handler.clone(), shared.clone());
            log.connections.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                match tls {
                    None => serve(socket, handler, log).await,
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            serve(socket, handler, log).await;
                        }
                    }
                }
            });
        }
    });
    (addr, log)
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Stay,
    /// GOAWAY, and no more of anything.
    GoAway(h2::Reason),
}

async fn serve<S, F, R>(socket: S, handler: F, log: Log)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(http::request::Parts, SendResponse<Bytes>) -> R,
    R: Future<Output = End> + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let (ends, mut ended) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            request = connection.accept() => {
                let Some(Ok((request, respond))) = request else { return };
                let (head, mut body) = request.into_parts();
                let (ends, requests) = (ends.clone(), Arc::clone(&log.requests));
                let answer = handler(head, respond);
                tokio::spawn(async move {
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    requests.fetch_add(1, SeqCst);
                    let _ = ends.send(answer.await);
                });
            }
            Some(end) = ended.recv() => match end {
                End::Stay => {}
                End::GoAway(reason) => connection.abrupt_shutdown(reason),
            },
        }
    }
}

pub fn ok(respond: &mut SendResponse<Bytes>) {
    let response = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
    respond.send_response(response, false).unwrap().send_data(Bytes::from_static(b"{}"), true).unwrap();
}

async fn answering(tls: Option<TlsAcceptor>) -> (std::net::SocketAddr, Log) {
    start(tls, |head, mut respond| async move {
        assert_eq!(head.version, http::Version::HTTP_2);
        assert_eq!(head.headers["content-length"], "2");
        ok(&mut respond);
        End::Stay
    })
    .await
}

#[tokio::test]
async fn the_version_is_negotiated() {
    let ca = Authority::new();
    for protocols in [&["h2", "http/1.1"][..], &["h2"]] {
        let (addr, log) = answering(Some(ca.acceptor("localhost", protocols))).await;
        let url = format!("https://localhost:{}", addr.port());
        let transport = RestTransport::builder(url).ca_certificate(ca.pem()).build().unwrap();
        for _ in 0..3 {
            assert_eq!(read(&transport).await.unwrap(), "{}");
        }
        assert_eq!((log.connections.load(SeqCst), log.requests.load(SeqCst)), (1, 3));
    }
    // A server that prefers HTTP/2 but is asked for HTTP/1.1 only.
    let server = tls::server(&ca, "localhost", &["h2", "http/1.1"], None).await;
    let url = format!("https://localhost:{}", server.addr.port());
    let transport = RestTransport::builder(url).ca_certificate(ca.pem()).http1_only().build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "{}");
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let gate = Arc::new(Semaphore::new(0));
    let all = Arc::new(AtomicUsize::new(0));
    let (addr, log) = start(None, move |_, mut respond| {
        let (gate, all) = (Arc::clone(&gate), Arc::clone(&all));
        async move {
            // Nobody is answered before everybody has arrived.
            if all.fetch_add(1, SeqCst) == 99 {
                gate.close();
            }
            let _closed = gate.acquire().await;
            ok(&mut respond);
            End::Stay
        }
    })
    .await;
    let transport = RestTransport::builder(format!("http://{addr}")).http2_prior_knowledge().build().unwrap();
    let transport = Arc::new(transport);
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let transport = Arc::clone(&transport);
        calls.spawn(async move { submit(&transport).await });
    }
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.unwrap().unwrap(), "{}");
    }
    assert_eq!((log.connections.load(SeqCst), log.requests.load(SeqCst)), (1, 100));
}

#[tokio::test]
async fn a_submission_is_not_sent_again_to_a_server_that_leaves_or_refuses() {
    for (end, reset, expected) in [
        (End::GoAway(h2::Reason::NO_ERROR), None, "Interrupted"),
        (End::GoAway(h2::Reason::ENHANCE_YOUR_CALM), None, "Interrupted"),
        (End::Stay, Some(h2::Reason::INTERNAL_ERROR), "Interrupted"),
        (End::Stay, Some(h2::Reason::CANCEL), "Interrupted"),
        // HAProxy says so, too, of requests that it had sent on.
        (End::Stay, Some(h2::Reason::REFUSED_STREAM), "Interrupted"),
    ] {
        let (addr, log) = start(None, move |head, mut respond| async move {
            if head.uri.path().ends_with("get_result") {
                ok(&mut respond);
                return End::Stay;
            }
            if let Some(reason) = reset {
                respond.send_reset(reason);
            }
            end
        })
        .await;
        let transport = RestTransport::builder(format!("http://{addr}")).http2_prior_knowledge().build().unwrap();
        read(&transport).await.unwrap();
        assert_failure(&submit(&transport).await, expected);
        // A second copy would come before this.
        read(&transport).await.unwrap();
        assert_eq!(log.requests.load(SeqCst), 3, "{reset:?}");
    }
}

/// Frames by hand: h2's server takes back what it has not written yet when a stream is reset.
#[tokio::test]
async fn a_reset_after_the_answer_began_is_no_proof_of_anything() {
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::REFUSED_STREAM] {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let settings = frame(4, 0, 0, &[]);
        // ":status 200" and "content-type", both from the static table.
        let headers = frame(1, 4, 1, &[&[0x88, 0x5f, 16], &b"application/json"[..]].concat());
        let data = frame(0, 0, 1, b"{");
        let reset = frame(3, 0, 1, &u32::from(reason).to_be_bytes());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(&settings).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(b"{}") {
                assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0);
            }
            socket.write_all(&[headers, data, reset].concat()).await.unwrap();
            while socket.read_buf(&mut received).await.is_ok_and(|count| count > 0) {}
        });
        let transport = RestTransport::builder(url).http2_prior_knowledge().build().unwrap();
        let error = submit(&transport).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
        assert_eq!(error.message, "the answer broke off");
    }
}

#[tokio::test]
async fn a_server_that_stops_to_answer_pings_is_given_up() {
    // It takes the request and then does nothing at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (_request, _respond) = connection.accept().await.unwrap().unwrap();
        notify.notify_one();
        std::future::pending::<()>().await;
        drop(connection);
    });
    let transport = RestTransport::builder(url).http2_prior_knowledge().build().unwrap();
    let call = tokio::spawn(async move { submit(&transport).await });
    arrived.notified().await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_failure(&call.await.unwrap(), "Interrupted");
    assert!(begun.elapsed() < Duration::from_secs(60), "long before its deadline of 10 minutes");
}
