//! The least a server can do: read a request, drop it, answer with a job id. It says its port; gRPC and REST on one port.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use support::measure;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

pub fn run() {
    measure::runtime().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        println!("{}", listener.local_addr().expect("an address").port());
        loop {
            let (socket, _) = listener.accept().await.expect("accepts");
            socket.set_nodelay(true).expect("no delay");
            tokio::spawn(async move {
                let mut first = [0; 3];
                if !matches!(socket.peek(&mut first).await, Ok(3)) || first != *b"PRI" {
                    return rest(BufReader::with_capacity(64 * 1024, socket)).await.unwrap_or_default();
                }
                let mut builder = h2::server::Builder::new();
                // As hyper, and so a node, has them by default.
                builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
                let Ok(mut connection) = builder.handshake(socket).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request.into_body(), respond));
                }
            });
        }
    });
}

async fn answer(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    let mut message = vec![0, 0, 0, 0, 34, 0x0a, 32];
    message.extend_from_slice(&[9; 32]);
    let response = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    let _ = stream.send_data(message.into(), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = stream.send_trailers(trailers);
}

/// HTTP/1.1, as far as the two clients speak it.
async fn rest(mut connection: BufReader<TcpStream>) -> std::io::Result<()> {
    let body = format!("{{\"jobId\":{:?}}}", [9; 32]);
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or_default();
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        tokio::io::copy_buf(&mut (&mut connection).take(length), &mut tokio::io::sink()).await?;
        connection.get_mut().write_all(answer.as_bytes()).await?;
    }
}
