//! The least a gRPC server can do: read a request, drop it, answer with a job id. In a process of its own.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

/// Set in the environment of the process that serves.
pub const ROLE: &str = "INFINITYVM_BENCH_SERVER";

pub struct Child {
    process: std::process::Child,
    pub port: u16,
}

impl Child {
    pub fn start() -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut process = Command::new(this).env(ROLE, "1").stdout(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        Self { process, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn run() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        println!("{}", listener.local_addr().expect("an address").port());
        loop {
            let (socket, _) = listener.accept().await.expect("accepts");
            socket.set_nodelay(true).expect("no delay");
            tokio::spawn(async move {
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
