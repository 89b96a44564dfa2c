//! The same jobs with a chain: until the chain shows them landed, and until three confirmations.

use std::time::Duration;

use infinityvm_sdk::{
    Client, Until,
    chain::{Chain, RpcReader},
    transport::{GrpcTransport, RestTransport},
};
use support::measure::say;

use crate::{Bench, RATE, Row, TICK, Times, part, print, watch_all};

/// Between two looks at the head: blocks cannot be seen to come faster.
const BLOCK: Duration = Duration::from_secs(1);
const UNTIL: [(&str, Until); 2] =
    [("relayed", Until::Relayed), ("3 confirmations", Until::Finalized { confirmations: 3 })];

pub async fn compare(bench: &mut Bench) {
    let said = bench.node.ask("chain");
    let [rpc, job_manager] = *said.split(' ').collect::<Vec<_>>() else { panic!("{said}") };
    let job_manager = job_manager.parse().expect("an address");
    let trip = trip(rpc).await;
    let mut rows = Vec::new();
    for (transport, is_rest) in [("gRPC", false), ("REST", true)] {
        for (name, until) in UNTIL {
            // Each client has an RPC reader of its own, as services have.
            let reader = RpcReader::builder(rpc).poll_interval(BLOCK).connect().await.expect("an RPC");
            let chain = Chain::new(reader, job_manager);
            let (client, times): (Client, Times) = if is_rest {
                bench.connect(RestTransport::builder(&bench.rest).build().expect("a transport"), Some(chain)).await
            } else {
                bench.connect(GrpcTransport::builder(&bench.grpc).build().expect("a transport"), Some(chain)).await
            };
            let row = bench.measure(&client, &times, |handles| watch_all(&client, handles, until)).await;
            rows.push((format!("{transport}, {name}"), row));
        }
    }
    let named: Vec<(&str, &Row)> = rows.iter().map(|(name, row)| (&**name, row)).collect();
    print(&named);
    for (name, row) in named {
        let (requests, most) = (row.busy_requests as f64 / crate::JOBS as f64, BLOCK * 11 / 10 + trip * 2);
        let what = format!("{name}: at most 0.3 requests a job to node and RPC, from the first completion on");
        say(&what, requests <= 0.3, format!("{requests:.2}"));
        let late = row.latency(99);
        let what = format!("{name}: 99 of 100 seen within a block and two round trips");
        say(&what, late <= most, format!("{late:.1?} of {most:.1?}"));
    }
    println!("of the node's list every {TICK:?}, at most {RATE} looks a second, the chain's head every {BLOCK:?}");
}

/// Of the RPC, while nothing else is under way.
async fn trip(rpc: &str) -> Duration {
    let reader = RpcReader::builder(rpc).connect().await.expect("an RPC");
    let chain = Chain::new(reader, Default::default());
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = std::time::Instant::now();
        chain.identity().await.expect("answers");
        times.push(begun.elapsed());
    }
    times.sort();
    part(&times, 50)
}
