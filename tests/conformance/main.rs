//! The conformance suite, on every transport and revision there is.
#![cfg(all(feature = "unstable-conformance", feature = "grpc", feature = "rest"))]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Revision,
    conformance::{Suite, cases},
    rpc::{CallError, Capabilities, Encoding, Method, RequestBody},
    transport::{GrpcTransport, RestTransport, Transport},
};

fn grpc() -> Suite {
    Suite::new(|node| Ok(Arc::new(GrpcTransport::builder(node.grpc_url()).build()?)))
}

fn rest() -> Suite {
    Suite::new(|node| Ok(Arc::new(RestTransport::builder(node.rest_url()).build()?)))
}

async fn holds(suite: &Suite, revision: Revision) {
    let report = suite.run(revision).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert!(report.cases().eq(cases::ALL.iter().map(|case| case.name)), "no case is left out");
}

#[tokio::test]
async fn grpc_state() {
    holds(&grpc(), Revision::State).await;
}

#[tokio::test]
async fn grpc_relay() {
    holds(&grpc(), Revision::Relay).await;
}

#[tokio::test]
async fn rest_state() {
    holds(&rest(), Revision::State).await;
}

#[tokio::test]
async fn rest_relay() {
    holds(&rest(), Revision::Relay).await;
}

/// Every public function of the cases is in the table that the suite runs, and every cell is a test above.
#[test]
fn the_matrix_is_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance/cases");
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                written.insert(rest.split('(').next().unwrap().to_owned());
            }
        }
    }
    let run: BTreeSet<_> = cases::ALL.iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(written, run);
    assert_eq!(run.len(), cases::ALL.len(), "a case is listed twice");

    let own = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/main.rs")).unwrap();
    for transport in ["grpc", "rest"] {
        for revision in Revision::ALL {
            let cell = format!("async fn {transport}_{}()", revision.to_string().to_lowercase());
            assert!(own.contains(&cell), "{cell} is missing");
        }
    }
}

/// A transport whose answers never come.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Transport for Silent {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "silence"
    }

    async fn call(&self, _: Method, _: RequestBody) -> Result<Bytes, CallError> {
        std::future::pending().await
    }
}

/// Its node and its transport go when nobody waits for it any more.
#[tokio::test]
async fn a_case_that_is_dropped_leaves_nothing_behind() {
    let held = Arc::new(Silent);
    let given = Arc::clone(&held);
    let setup = Suite::new(move |_| Ok(given.clone())).setup(Revision::Relay);
    let case = cases::ALL.iter().find(|case| case.name == "unknown_jobs_are_not_found").unwrap();
    let before = Arc::strong_count(&held);
    {
        let mut run = Box::pin(case.run(&setup));
        while Arc::strong_count(&held) == before {
            tokio::select! {
                _ = &mut run => panic!("silence is no answer"),
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
            }
        }
    }
    for _ in 0..100 {
        if Arc::strong_count(&held) == before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the case goes on");
}
