//! Where the node listens.

use std::net::{Ipv4Addr, SocketAddr};

use infinityvm_sdk::{
    ErrorKind, Revision,
    devnode::{DevNode, DevNodeBuilder, JobState},
};

use crate::rig::*;

/// Two ports that were free a moment ago.
fn ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn unless_told_otherwise_on_two_free_ports_of_this_machine_alone() {
    let node = DevNode::builder(Revision::Relay).start().await.unwrap();
    let (grpc, rest) = (node.grpc_address(), node.rest_address());
    assert!(grpc.ip() == Ipv4Addr::LOCALHOST && rest.ip() == Ipv4Addr::LOCALHOST && grpc.port() != rest.port());
    assert_eq!((node.grpc_url(), node.rest_url()), (format!("http://{grpc}"), format!("http://{rest}")));
}

#[tokio::test]
async fn at_the_addresses_that_it_is_given_also_after_a_restart_and_in_another_node() {
    let [grpc, rest] = ports();
    for revision in Revision::ALL {
        let setup =
            |builder: DevNodeBuilder| builder.grpc_address(([127, 0, 0, 1], grpc)).rest_address(([127, 0, 0, 1], rest));
        let rig = Rig::<Grpc>::start(revision, setup).await;
        let node = &rig.node;
        assert_eq!(node.grpc_url(), format!("http://127.0.0.1:{grpc}"));
        assert_eq!(node.rest_url(), format!("http://127.0.0.1:{rest}"));
        rig.run(&rig.job(1), JobState::Relayed).await;
        node.restart();
        for client in [Grpc::connect(node).await, Rest::connect(node).await] {
            assert_eq!(client.get(rig.job(1).id().to_vec()).await.unwrap().status, RELAYED);
        }
        drop(rig);
        // The tasks that listen are gone as soon as the runtime has come around to them.
        for port in [grpc, rest] {
            within(async {
                while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn on_all_addresses_of_the_machine_for_clients_elsewhere() {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    for revision in Revision::ALL {
        let node = DevNode::builder(revision).grpc_address(any).rest_address(any).start().await.unwrap();
        assert!(node.grpc_address().ip().is_unspecified() && node.rest_address().ip().is_unspecified());
        assert_eq!(node.grpc_url(), format!("http://127.0.0.1:{}", node.grpc_address().port()));
        assert_eq!(node.rest_url(), format!("http://127.0.0.1:{}", node.rest_address().port()));
        // Another of this machine's addresses, as that of a container's host is.
        for port in [node.grpc_address().port(), node.rest_address().port()] {
            within(tokio::net::TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let holder = std::net::TcpListener::bind(taken).unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0)); // Of nobody (RFC 5737).
    for address in [taken, elsewhere] {
        let builder = || DevNode::builder(Revision::Relay);
        for (name, builder) in
            [("gRPC server", builder().grpc_address(address)), ("REST gateway", builder().rest_address(address))]
        {
            let error = builder.start().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            let text = format!("the dev node's {name} cannot listen on {address}");
            assert!(error.to_string().contains(&text), "{error}");
        }
    }
    drop(holder);
}
