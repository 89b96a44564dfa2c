//! What `devnode::contracts` gives to users' tests.

use alloy_sol_types::{SolCall, SolValue};
use infinityvm_sdk::{
    Client, ErrorKind, LocalSigner, OffchainJobRequest, ProgramId, Revision, Until,
    chain::Chain,
    devnode::{
        DEV_OPERATOR, DevNode, ProgramOutput, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{Address, B256, U256, hex},
};

use crate::{
    anvil::Anvil,
    contracts::{Consumer, JobManager, bytecode},
    rig::within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn an_apps_test_needs_anvil_and_this_crate() {
    for revision in Revision::ALL {
        let (anvil, signer) = (Anvil::start(), LocalSigner::random().expect("a key"));
        let deployer = Deployer::new(anvil.http_url(), ANVIL_KEYS[0]).expect("a deployer");
        let job_manager = deployer.job_manager(revision, DEV_OPERATOR).await.expect("deployed");
        let consumer =
            deployer.stateful_sum(revision, job_manager, signer.address(), B256::ZERO).await.expect("deployed");
        let real = RealChain::new(anvil.http_url(), ANVIL_KEYS[1], job_manager);
        let node = DevNode::builder(revision).relay_to(real).start().await.expect("starts");
        assert_eq!(node.operator(), DEV_OPERATOR);
        let chain = Chain::connect(anvil.http_url(), job_manager).await.expect("a chain");
        assert_eq!(chain.operator().await.expect("read"), DEV_OPERATOR);

        // Moves from the zero state: the Relay revision's input says so itself; in the State revision the job is stale.
        let program = node.register_program(|_| Ok(ProgramOutput::stateful(B256::repeat_byte(1), vec![7])));
        let client = Client::builder().grpc(node.grpc_url()).revision(revision).signer(signer).chain(chain);
        let client = client.connect().await.expect("connects");
        if revision == Revision::Relay {
            let job = OffchainJobRequest::builder(consumer, ProgramId::new(program)).max_cycles(1_000);
            let job = job.stateful_onchain_input(B256::ZERO, vec![]).build().expect("a job");
            let handle = client.submit(job).await.expect("accepted");
            within(handle.wait(Until::Finalized { confirmations: 1 })).await.expect("finalized");
            let read = deployer.read(consumer, Consumer::getLatestResultCall {}.abi_encode()).await.expect("read");
            assert_eq!(Consumer::getLatestResultCall::abi_decode_returns(&read).expect("bytes").as_ref(), [7]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn contracts_of_ones_own_are_deployed_and_called() {
    let anvil = Anvil::start();
    let deployer = Deployer::new(anvil.http_url(), ANVIL_KEYS[0]).expect("a deployer");
    let job_manager = deployer.job_manager(Revision::Relay, DEV_OPERATOR).await.expect("deployed");
    // As forge writes artifacts.
    let json =
        format!(r#"{{"bytecode":{{"object":"{}"}}}}"#, hex::encode_prefixed(bytecode("relay/RevertingConsumer")));
    let arguments = (job_manager, deployer.address(), 4_u64).abi_encode_params();
    let consumer = deployer.deploy_artifact(&json, &arguments).await.expect("deployed");
    let next = deployer.read(consumer, Consumer::getNextNonceCall {}.abi_encode()).await.expect("read");
    assert_eq!(U256::from_be_slice(&next), U256::from(5));

    let appoint = JobManager::setCoprocessorOperatorCall { next: deployer.address() }.abi_encode();
    deployer.call(job_manager, appoint.clone()).await.expect("the deployer owns it");
    let stranger = Deployer::new(anvil.http_url(), ANVIL_KEYS[2]).expect("a deployer");
    let error = stranger.call(job_manager, appoint).await.expect_err("reverts");
    assert!(error.kind() == ErrorKind::Chain && error.to_string().contains("caller is not the owner"), "{error}");
    let error = deployer.deploy(vec![0xfe], []).await.expect_err("an invalid instruction");
    assert_eq!(error.kind(), ErrorKind::Chain, "{error}");
    let error = deployer.read(Address::ZERO, vec![]).await.expect("nothing is there");
    assert!(error.is_empty());
    drop(anvil);
    let error = deployer.read(consumer, vec![]).await.expect_err("the chain is gone");
    // Or the connection that was kept from before is used, if its end was not seen yet.
    let gone = ["could not connect to the RPC", "the connection to the RPC broke"];
    assert!(error.kind() == ErrorKind::Chain && gone.iter().any(|it| error.to_string().contains(it)), "{error}");
}
