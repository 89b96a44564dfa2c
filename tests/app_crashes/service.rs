//! The server that is killed: it reads numbers of orders, a line each, and writes the answers.

use std::{
    io::{BufRead, Write},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use infinityvm_sdk::{
    Client, LocalSigner, PollPolicy, ProgramId, Revision,
    app::{self, AppServer, BatchPolicy, ChainInputs, stf::Codec},
    chain::{Chain, RpcReader},
    nonce::Given,
    outbox::{Outbox, sqlite::SqliteStore},
    primitives::{Address, B256, address, hex, keccak256},
};

use crate::{
    ledger::{Ledger, Order},
    replay::Asked,
};

pub const CONSUMER: Address = Address::repeat_byte(7);
/// Where the JobManager of every simulated chain is.
const JOB_MANAGER: Address = address!("00000000000000000000000000000000006a6f62");

/// The event that is an order for the app.
pub fn deposit() -> B256 {
    keccak256("Deposit(bytes)")
}

/// What is answered is on chain by then: in the State revision a batch waits for the one before.
pub const DRAIN: Duration = Duration::from_secs(900);

/// `store url revision key operator program point times rpc`
pub fn run(arguments: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if arguments[2] == "relay" {
        runtime.block_on(serve::<true>(arguments));
    } else {
        runtime.block_on(serve::<false>(arguments));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone needs to hear nothing.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says that it has come there, and does nothing more until it is killed.
fn stand(point: &str) {
    say(&format!("at {point}"));
    loop {
        std::thread::park();
    }
}

async fn serve<const RELAY: bool>(arguments: &[String]) {
    let [store, url, _, key, operator, program, point, times, rpc] = arguments else { panic!("{arguments:?}") };
    let (point, times, passed) = (point.clone(), times.parse::<usize>().unwrap(), AtomicUsize::new(0));
    let at = std::sync::Arc::new(move |name: &'static str| {
        if name == point && passed.fetch_add(1, SeqCst) + 1 == times {
            stand(name);
        }
    });
    let revision = if RELAY { Revision::Relay } else { Revision::State };
    let often = PollPolicy::default().with_tick(Duration::from_millis(10)).with_most(Duration::from_millis(100));
    let reader = RpcReader::builder(rpc).poll_interval(Duration::from_millis(20)).connect().await.unwrap();
    let client = Client::builder()
        .grpc(url)
        .chain(Chain::new(reader, JOB_MANAGER))
        .revision(revision)
        .signer(key.parse::<LocalSigner>().unwrap())
        .operator(operator.parse().unwrap())
        .nonces(Given)
        .polling(often)
        .connect()
        .await
        .unwrap();
    let lane = app::lane(CONSUMER, revision).with_finality(1).with_keep(Duration::from_millis(200));
    let at_outbox = at.clone();
    let outbox = Outbox::builder(client, SqliteStore::open(store).await.unwrap())
        .network("crashes")
        .lane(lane)
        .at_points(move |name| at_outbox(name))
        .start()
        .await
        .unwrap();
    let policy = BatchPolicy::default().with_count(25).with_delay(Duration::from_millis(10)).with_snapshots(60);
    let server = AppServer::builder(outbox, CONSUMER, ProgramId::new(hex::decode(program).unwrap()))
        .initial(Ledger::<RELAY>::default())
        .batches(policy)
        .chain_inputs(ChainInputs::since(1, |log| Order::decode(&log.data).ok()).with_events([deposit()]))
        .at_points(move |name| at(name))
        .start()
        .await
        .unwrap();
    let (lines, mut read) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    while let Some(line) = read.recv().await {
        if let Some(block) = line.strip_prefix("drain ") {
            let block = Some(block.parse().unwrap());
            while server.status().await.unwrap().chain_inputs.unwrap().read < block {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let left = server.drain(DRAIN).await.unwrap();
            say(&format!("drained {} {:?}", left.waiting, left.state));
            return;
        }
        let (server, number) = (server.clone(), line.parse::<u64>().unwrap());
        tokio::spawn(async move {
            let order = Order::decode(&Asked::of(number).bytes()).unwrap();
            match server.request(order).key(format!("order {number}")).await {
                Ok(answer) => {
                    let outcome = answer.outcome.map_or_else(|_| "no".to_owned(), |balance| balance.to_string());
                    say(&format!("answer {number} {} {} {outcome}", answer.place, answer.time));
                }
                Err(error) => say(&format!("error {number} {error:?}").replace('\n', " ")),
            }
        });
    }
}
