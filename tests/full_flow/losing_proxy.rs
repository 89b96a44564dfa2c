//! A proxy before a chain's RPC that passes a request on and loses its answer, once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct LosingProxy {
    port: u16,
    lost: Arc<AtomicUsize>,
}

impl LosingProxy {
    pub async fn start(chain: u16, method: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let lost = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, chain, method, Arc::clone(&count)));
            }
        });
        Self { port, lost }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn lost(&self) -> usize {
        self.lost.load(SeqCst)
    }
}

async fn carry(mut client: TcpStream, chain: u16, method: &str, lost: Arc<AtomicUsize>) {
    let mut server = TcpStream::connect(("127.0.0.1", chain)).await.expect("the chain");
    let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                // Small requests come in one piece over loopback.
                let asks = up[..read].windows(method.len()).any(|part| part == method.as_bytes());
                if asks && lost.fetch_update(SeqCst, SeqCst, |lost| (lost == 0).then_some(1)).is_ok() {
                    losing = true;
                }
                if server.write_all(&up[..read]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                // The chain has answered, so it has the transaction; both connections close.
                if losing || client.write_all(&down[..read]).await.is_err() { return }
            }
        }
    }
}
