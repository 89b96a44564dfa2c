//! Programs that are commands, named on the command line.

use infinityvm_sdk::{OffchainJobRequest, Until, primitives::Bytes};

use crate::{rig::Folder, running::Running};

/// Speaks the protocol: its id is 0a0b, and its output is `!`, after 40 cycles.
const SPEAKS: &str = r"
case $(od -An -v -tx1 | tr -d ' \n') in
    000000020101) printf '\000\000\000\010\001\001\000\000\000\002\012\013' ;;
    *) printf '\000\000\000\017\001\002\000\000\000\000\000\000\000\050\000\000\000\001!' ;;
esac
";

async fn run(node: &Running, program: Bytes, cycles: u64) -> infinityvm_sdk::Result<Bytes> {
    let consumer = node.text("square_root_consumer").parse().unwrap();
    let job = OffchainJobRequest::builder(consumer, program).max_cycles(cycles).onchain_input(b"abc".to_vec());
    let client = node.client().connect().await?;
    client.run(job.build()?, Until::Executed).await.map(|result| result.output().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_asked_for_its_id_or_given_one() {
    let folder = Folder::new();
    folder.write("speaks.sh", SPEAKS);
    let node = Running::start(&folder, &["--program", "sh speaks.sh", "--program", "0x77=sh speaks.sh again"]);
    assert_eq!(node.program("sh speaks.sh"), Bytes::from_static(&[10, 11]));
    for id in [&[10_u8, 11][..], &[0x77]] {
        let id = Bytes::copy_from_slice(id);
        assert_eq!(run(&node, id.clone(), 40).await.unwrap(), Bytes::from_static(b"!"));
        assert!(run(&node, id, 39).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_command_is_a_filter() {
    let folder = Folder::new();
    let node = Running::start(&folder, &["--program", "0x77=tr a-c x", "--program", "0x78=false", "--raw"]);
    assert_eq!(run(&node, Bytes::from_static(&[0x77]), 1).await.unwrap(), Bytes::from_static(b"xxx"));
    assert!(run(&node, Bytes::from_static(&[0x78]), 1).await.is_err());
    let hangs = Running::start(&Folder::new(), &["--program", "0x77=sleep 1000", "--raw", "--program-timeout", "50ms"]);
    assert!(run(&hangs, Bytes::from_static(&[0x77]), 1).await.is_err());
}
