//! The fault proxy does to connections what it says, and is as silent as a wire where it is told to be.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{io::ErrorKind, net::SocketAddr};

use infinityvm_sdk::{Revision, devnode::DevNode, rpc::Method};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use self::{
    fault_proxy::{DRIP, DRIPS, Dice, Fault, FaultProxy, Faults, PAUSE},
    plain_client::relay::{GetResultRequest, coprocessor_node_client::CoprocessorNodeClient},
};

use support::{fault_proxy, harness::within, plain_client};

/// Takes one connection, says what it is told to say, and collects what comes until the end.
async fn upstream(says: &'static [u8]) -> (SocketAddr, JoinHandle<std::io::Result<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collected = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(says).await?;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await?;
        Ok(read)
    });
    (address, collected)
}

/// Sends bytes upstream through a proxy that spoils every chunk, ends its stream, and says what came through.
async fn sent(fault: &'static [Fault], bytes: &[u8]) -> (FaultProxy, std::io::Result<Vec<u8>>) {
    let (address, collected) = upstream(b"").await;
    let proxy = FaultProxy::start(address, 7, Faults { kinds: fault, rate: 1.0 }).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(bytes).await.unwrap();
    // What comes next must be a chunk of its own.
    within(proxy.until_injected(fault[0], 1)).await;
    let _ = client.shutdown().await;
    (proxy, within(collected).await.unwrap())
}

#[tokio::test]
async fn without_faults_it_is_a_wire_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            // The end comes through, too, and what is said after it.
            to.write_all(b"end").await.unwrap();
        }
    });
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    for faults in [Faults::NONE, Faults { kinds: &Fault::ALL, rate: 0.0 }] {
        let proxy = FaultProxy::start(address, 1, faults).await;
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut from, mut to) = client.split();
        let mut back = Vec::new();
        let send = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        within(async { tokio::join!(send, from.read_to_end(&mut back)) }).await.1.unwrap();
        assert!(back == [&sent[..], b"end"].concat());
        assert_eq!(proxy.injected_at_all(), 0);
    }
}

#[tokio::test]
async fn duplicated_chunks_come_twice() {
    let (proxy, came) = sent(&[Fault::Duplicate], b"hello").await;
    assert_eq!((came.unwrap(), proxy.injected(Fault::Duplicate)), (b"hellohello".to_vec(), 1));
}

#[tokio::test]
async fn of_a_truncated_chunk_the_first_half_comes_and_then_the_end() {
    let (proxy, came) = sent(&[Fault::Truncate], b"123456").await;
    assert_eq!((came.unwrap(), proxy.injected(Fault::Truncate)), (b"123".to_vec(), 1));
}

#[tokio::test]
async fn wrong_bytes_are_as_many_as_the_right_ones() {
    let (proxy, came) = sent(&[Fault::WrongBytes], &[0; 100]).await;
    let came = came.unwrap();
    let wrong = came.iter().filter(|byte| **byte != 0).count();
    assert!(came.len() == 100 && (1..=4).contains(&wrong), "{came:?}");
    assert_eq!(proxy.injected_at_all(), 1);
}

#[tokio::test]
async fn a_dropped_chunk_takes_the_connection_along() {
    let (address, collected) = upstream(b"").await;
    let proxy = FaultProxy::start(address, 7, Faults { kinds: &[Fault::Drop], rate: 1.0 }).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let mut back = Vec::new();
    within(client.read_to_end(&mut back)).await.unwrap();
    assert_eq!((back, within(collected).await.unwrap().unwrap()), (vec![], vec![]));
    assert_eq!(proxy.injected(Fault::Drop), 1);
}

#[tokio::test]
async fn a_reset_reaches_both_sides() {
    let (address, collected) = upstream(b"").await;
    let proxy = FaultProxy::start(address, 7, Faults { kinds: &[Fault::Reset], rate: 1.0 }).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let error = within(client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(within(collected).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_of_one_side_is_handed_to_the_other() {
    let (address, collected) = upstream(b"hello").await;
    let proxy = FaultProxy::start(address, 7, Faults::NONE).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    within(client.read_exact(&mut [0; 5])).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let error = within(collected).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_silent_in_both_directions_until_one_side_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let faults = Faults { kinds: &[Fault::HalfOpen], rate: 1.0 };
    let proxy = FaultProxy::start(listener.local_addr().unwrap(), 7, faults).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"lost").await.unwrap();
    proxy.until_injected(Fault::HalfOpen, 1).await;
    server.write_all(b"lost, too").await.unwrap();
    client.write_all(b"and more").await.unwrap();
    // Paused time goes on only when nothing else does.
    tokio::select! {
        read = client.read_u8() => panic!("{read:?}"),
        read = server.read_u8() => panic!("{read:?}"),
        () = tokio::time::sleep(PAUSE) => {}
    }
    drop(client);
    let mut read = Vec::new();
    server.read_to_end(&mut read).await.unwrap();
    assert_eq!((read, proxy.injected_at_all()), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn delayed_and_slow_chunks_come_whole_and_late() {
    for (fault, least) in [(&[Fault::Delay], PAUSE), (&[Fault::SlowLoris], DRIP * DRIPS as u32)] {
        let bytes: Vec<u8> = (0..100).collect();
        let (address, collected) = upstream(b"").await;
        let proxy = FaultProxy::start(address, 7, Faults { kinds: fault, rate: 1.0 }).await;
        let start = Instant::now();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(collected.await.unwrap().unwrap(), bytes);
        assert!(start.elapsed() >= least, "{:?}", start.elapsed());
        assert_eq!(proxy.injected(fault[0]), 1);
    }
}

#[tokio::test]
async fn answers_are_spoiled_like_requests() {
    let (address, _collected) = upstream(b"hello").await;
    let proxy = FaultProxy::start(address, 7, Faults { kinds: &[Fault::Truncate], rate: 1.0 }).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let mut back = Vec::new();
    within(client.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, b"he");
}

#[test]
fn decisions_follow_from_the_seed_the_connection_and_the_direction() {
    let faults = Faults { kinds: &Fault::ALL, rate: 0.3 };
    let sequence = |seed, connection, upwards| {
        let mut dice = Dice::new(seed, connection, upwards, faults);
        (0..10_000).map(|_| dice.next()).collect::<Vec<_>>()
    };
    let first = sequence(1, 0, true);
    assert_eq!(first, sequence(1, 0, true));
    for other in [sequence(2, 0, true), sequence(1, 1, true), sequence(1, 0, false), sequence(0, 1, true)] {
        assert!(first != other);
    }
    let faulty = first.iter().flatten().count();
    assert!((2_800..3_200).contains(&faulty), "{faulty}");
    for fault in Fault::ALL {
        let count = first.iter().flatten().filter(|known| **known == fault).count();
        assert!((280..470).contains(&count), "{fault:?}: {count}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_dropped_takes_its_connections_along() {
    let (address, collected) = upstream(b"hello").await;
    let proxy = FaultProxy::start(address, 7, Faults::NONE).await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    within(client.read_exact(&mut [0; 5])).await.unwrap();
    drop(proxy);
    assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(within(collected).await.unwrap().unwrap(), b"");
}

/// A call over gRPC and one over REST.
async fn both(grpc: &FaultProxy, rest: &FaultProxy) -> [Result<(), String>; 2] {
    let over_grpc = async {
        let channel = tonic::transport::Channel::from_shared(grpc.url()).unwrap().connect_lazy();
        let request = GetResultRequest { job_id: vec![1; 32] };
        let status = CoprocessorNodeClient::new(channel).get_result(request).await.unwrap_err();
        if status.message() == "job not found" { Ok(()) } else { Err(status.to_string()) }
    };
    let over_rest = async {
        let exchange = async {
            let mut stream = TcpStream::connect(rest.addr()).await?;
            let request = "POST /v1/coprocessor_node/get_result HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
                           content-type: application/json\r\ncontent-length: 13\r\n\r\n{\"jobId\":[1]}";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange.await.map_err(|error| error.to_string())?;
        if answer.ends_with(r#"{"message":"job ID must be 32 bytes in length","grpc_code":3}"#) {
            return Ok(());
        }
        Err(answer)
    };
    within(async { tokio::join!(over_grpc, over_rest) }).await.into()
}

#[tokio::test]
async fn calls_go_through_it_by_grpc_and_by_rest_and_fail_where_they_are_told_to() {
    let node = DevNode::builder(Revision::Relay).start().await.unwrap();
    let address = |url: String| url.trim_start_matches("http://").parse::<SocketAddr>().unwrap();
    let proxies = async |seed, faults| {
        let grpc = FaultProxy::start(address(node.grpc_url()), seed, faults).await;
        (grpc, FaultProxy::start(address(node.rest_url()), seed, faults).await)
    };
    let (grpc, rest) = proxies(1, Faults::NONE).await;
    assert_eq!(both(&grpc, &rest).await, [Ok(()), Ok(())]);
    let slow = Faults { kinds: &[Fault::Delay, Fault::SlowLoris], rate: 1.0 };
    let (grpc, rest) = proxies(2, slow).await;
    assert_eq!(both(&grpc, &rest).await, [Ok(()), Ok(())]);
    assert!(grpc.injected_at_all() > 0 && rest.injected_at_all() > 0);
    assert_eq!(node.stats().calls(Method::GetResult), 4);
    for kind in [&[Fault::Drop], &[Fault::Reset], &[Fault::Truncate]] {
        let (grpc, rest) = proxies(3, Faults { kinds: kind, rate: 1.0 }).await;
        let [by_grpc, by_rest] = both(&grpc, &rest).await;
        assert!(by_grpc.is_err() && by_rest.is_err(), "{kind:?}");
        assert!(grpc.injected(kind[0]) > 0 && rest.injected(kind[0]) > 0);
    }
    let (grpc, rest) = proxies(4, Faults::NONE).await;
    assert_eq!(both(&grpc, &rest).await, [Ok(()), Ok(())], "the node lives");
}
