//! A TCP proxy that spoils what passes through it: for whatever stands on TCP, gRPC and REST alike.
//!
//! A fault is decided for every chunk that is read, in either direction. The decisions of a connection and direction are a
//! fixed sequence that follows from the seed; where chunks begin and end is up to the kernel.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::harness::Random;

/// For how long a delayed chunk waits, and a swallowed connection stays open.
pub const PAUSE: Duration = Duration::from_millis(4);
/// Between two bytes of a slow chunk.
pub const DRIP: Duration = Duration::from_millis(1);
/// How many bytes of a slow chunk come one by one.
pub const DRIPS: usize = 16;

/// What can happen to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is swallowed, with all that comes after it in both directions; then the connection is closed.
    Drop,
    /// It comes late.
    Delay,
    /// It comes twice.
    Duplicate,
    /// Its first half comes, then the end of the stream. The other direction goes on.
    Truncate,
    /// The connection is reset to both sides.
    Reset,
    /// Nothing comes any more, in either direction, but the connection stays until one side ends it.
    HalfOpen,
    /// Its first bytes come one by one.
    SlowLoris,
    /// Some of its bytes are others.
    WrongBytes,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Drop,
        Self::Delay,
        Self::Duplicate,
        Self::Truncate,
        Self::Reset,
        Self::HalfOpen,
        Self::SlowLoris,
        Self::WrongBytes,
    ];
}

/// Which faults, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Each as likely as the others.
    pub kinds: &'static [Fault],
    /// The part of all chunks that are faulty, 0 to 1.
    pub rate: f64,
}

impl Faults {
    pub const NONE: Self = Self { kinds: &[], rate: 0.0 };
}

/// A sequence of decisions.
#[derive(Clone, Debug)]
pub struct Dice {
    random: Random,
    faults: Faults,
}

impl Dice {
    /// The sequence of one direction of a connection; connections are counted from 0.
    pub fn new(seed: u64, connection: u64, upwards: bool, faults: Faults) -> Self {
        // What lies close together must not begin alike.
        let seed = Random::new(seed).next() ^ connection;
        let seed = Random::new(seed).next() ^ u64::from(upwards);
        Self { random: Random::new(seed), faults }
    }

    /// What happens to the next chunk.
    pub fn next(&mut self) -> Option<Fault> {
        let kinds = self.faults.kinds;
        // 53 bits make a number from 0 to below 1.
        let happens = ((self.random.next() >> 11) as f64 / (1_u64 << 53) as f64) < self.faults.rate;
        (happens && !kinds.is_empty()).then(|| kinds[self.random.below(kinds.len())])
    }

    fn flip(&mut self, chunk: &mut [u8]) {
        for _ in 0..=self.random.below(4) {
            let at = self.random.below(chunk.len());
            // Never back to what it was.
            chunk[at] = chunk[at].wrapping_add(1);
        }
    }
}

/// How often each fault was injected.
type Counts = [usize; Fault::ALL.len()];

struct Shared {
    upstream: SocketAddr,
    seed: u64,
    faults: Faults,
    counts: watch::Sender<Counts>,
}

impl Shared {
    fn count(&self, fault: Fault) {
        self.counts.send_modify(|counts| counts[fault as usize] += 1);
    }
}

/// A proxy in this process. It ends, with its connections, when it is dropped; in a test that fails, it prints its seed.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: AbortHandle,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = *self.shared.counts.borrow();
        let injected: Vec<_> = Fault::ALL.iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        f.debug_struct("FaultProxy")
            .field("seed", &self.shared.seed)
            .field("faults", &self.shared.faults)
            .field("injected", &injected)
            .finish_non_exhaustive()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{self:?}");
        }
        self.listening.abort();
    }
}

impl FaultProxy {
    /// Starts a proxy before `upstream` on a free port of 127.0.0.1.
    pub async fn start(upstream: SocketAddr, seed: u64, faults: Faults) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { upstream, seed, faults, counts: watch::Sender::new(Counts::default()) });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared))).abort_handle();
        Self { shared, address, listening }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a fault was injected.
    pub fn injected(&self, fault: Fault) -> usize {
        self.shared.counts.borrow()[fault as usize]
    }

    /// How many faults were injected.
    pub fn injected_at_all(&self) -> usize {
        self.shared.counts.borrow().iter().sum()
    }

    /// Waits until a fault was injected so often.
    pub async fn until_injected(&self, fault: Fault, count: usize) {
        let mut counts = self.shared.counts.subscribe();
        // The sender is in `self`, so this cannot fail.
        let _ = counts.wait_for(|counts| counts[fault as usize] >= count).await;
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    // Aborts what is left in it when it is dropped.
    let mut connections = JoinSet::new();
    for number in 0.. {
        let client = loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        break client;
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        };
        connections.spawn(carry(client, number, Arc::clone(&shared)));
    }
}

/// How a connection ends before its time.
enum End {
    Swallowed,
    Reset,
    HalfOpen,
}

async fn carry(mut client: TcpStream, number: u64, shared: Arc<Shared>) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let dice = |upwards| Dice::new(shared.seed, number, upwards, shared.faults);
        let up = pump(from_client, to_server, dice(true), &shared);
        let down = pump(from_server, to_client, dice(false), &shared);
        tokio::pin!(up, down);
        tokio::select! {
            end = &mut up => match end { None => down.await, end => end },
            end = &mut down => match end { None => up.await, end => end },
        }
    };
    let (from_client, from_server) = (&mut client, &mut server);
    match end {
        None => {}
        Some(End::Swallowed) => tokio::select! {
            () = async { tokio::join!(discard(from_client), discard(from_server)); } => {}
            () = sleep(PAUSE) => {}
        },
        Some(End::HalfOpen) => tokio::select! {
            () = discard(from_client) => {}
            () = discard(from_server) => {}
        },
        Some(End::Reset) => {
            client.set_zero_linger()?;
            server.set_zero_linger()?;
        }
    }
    Ok(())
}

/// Reads to the end.
async fn discard(mut from: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}

/// Carries one direction to its end. What it returns concerns both directions.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut dice: Dice,
    shared: &Shared,
) -> Option<End> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let carried = async {
            let length = from.read(&mut buffer).await?;
            let chunk = &mut buffer[..length];
            if chunk.is_empty() {
                to.shutdown().await?;
                return Ok(Some(None));
            }
            let fault = dice.next();
            if let Some(fault) = fault {
                shared.count(fault);
            }
            match fault {
                Some(Fault::Drop) => return Ok(Some(Some(End::Swallowed))),
                Some(Fault::Reset) => return Ok(Some(Some(End::Reset))),
                Some(Fault::HalfOpen) => return Ok(Some(Some(End::HalfOpen))),
                Some(Fault::Truncate) => {
                    to.write_all(&chunk[..length / 2]).await?;
                    to.shutdown().await?;
                    discard(&mut from).await;
                    return Ok(Some(None));
                }
                Some(Fault::Delay) => sleep(PAUSE).await,
                Some(Fault::Duplicate) => to.write_all(chunk).await?,
                Some(Fault::WrongBytes) => dice.flip(chunk),
                Some(Fault::SlowLoris) => {
                    let (slow, rest) = chunk.split_at(length.min(DRIPS));
                    for byte in slow {
                        to.write_all(&[*byte]).await?;
                        sleep(DRIP).await;
                    }
                    to.write_all(rest).await?;
                    return Ok(None);
                }
                None => {}
            }
            to.write_all(chunk).await?;
            Ok::<_, io::Error>(None)
        };
        match carried.await {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            // The side that is gone already need not be told.
            Err(error) if error.kind() == ErrorKind::NotConnected => return None,
            // One side was reset, so the other is, too.
            Err(_) => return Some(End::Reset),
        }
    }
}
