//! What a chain is needed for, on anvil: nonces, preflights, finality, posts.

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{
        DEV_OPERATOR, DevNode, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{Address, SolValue, U256, hex},
};
use serde_json::json;
use support::anvil::Anvil;

use crate::{
    rig::{Done, Folder},
    scene::KEY,
};

/// A node that relays to a chain, and the contracts there.
pub struct ChainScene {
    anvil: Anvil,
    node: DevNode,
    pub folder: Folder,
    job_manager: Address,
    consumer: Address,
    root: String,
}

impl ChainScene {
    pub async fn start(revision: Revision) -> Self {
        let anvil = Anvil::start();
        let signer = LocalSigner::from_bytes(KEY).expect("a key");
        let deployer = Deployer::new(anvil.http_url(), ANVIL_KEYS[0]).expect("a deployer");
        let job_manager = deployer.job_manager(revision, DEV_OPERATOR).await.expect("deployed");
        let consumer = deployer.square_root(revision, job_manager, signer.address()).await.expect("deployed");
        let relay = RealChain::new(anvil.http_url(), ANVIL_KEYS[1], job_manager);
        let node = DevNode::builder(revision).relay_to(relay).start().await.expect("a node");
        let root = node.register_program(|input| {
            let number = U256::abi_decode(input.onchain).unwrap_or_default();
            Ok((number, number.root(2)).abi_encode())
        });
        let folder = Folder::new();
        folder.write("key.hex", hex::encode(KEY));
        folder.write("payer.hex", hex::encode(ANVIL_KEYS[2]));
        Self { anvil, node, folder, job_manager, consumer, root: root.to_string() }
    }

    /// Runs a line of words. The operator is read from the chain.
    fn line(&self, line: &str) -> Done {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let mut command = self.folder.command(&arguments);
        command.envs(self.variables());
        Done::of(&arguments, tokio::task::block_in_place(|| command.output()).expect("runs"))
    }

    /// What the guide's page says is set.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("IVM_NODE", self.node.grpc_url()),
            ("ETH_RPC_URL", self.anvil.http_url()),
            ("IVM_JOB_MANAGER", self.job_manager.to_string()),
            ("CONSUMER", self.consumer.to_string()),
            ("PROGRAM", self.root.clone()),
        ]
    }

    fn job(&self, number: u64) -> String {
        let (consumer, root) = (self.consumer, &self.root);
        format!("--consumer {consumer} --program {root} --max-cycles 1000000 --onchain-input abi:uint256={number}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_job_is_numbered_by_the_chain_checked_and_final() {
    for revision in Revision::ALL {
        let scene = ChainScene::start(revision).await;
        let consumer = scene.consumer;
        let nonce = scene.line(&format!("nonce {consumer} --json")).json();
        assert_eq!((&nonce["next_nonce"], &nonce["max_nonce"]), (&json!(1), &json!(0)));
        let ordered = if revision == Revision::Relay { "--relay ordered" } else { "--nonce 1" };
        let done = scene.line(&format!(
            "job submit {} {ordered} --private-key-file key.hex --preflight --wait finalized:1 --decode (uint256,uint256) --json",
            scene.job(144)
        ));
        let done = done.json();
        assert_eq!((&done["nonce"], &done["result"]["decoded"]), (&json!(1), &json!(["144", "12"])));
        assert!(done["result"]["finality"]["block_number"].as_u64() > Some(0), "{done}");
        let nonce = scene.line(&format!("nonce {consumer}"));
        assert!(nonce.ok().contains("next nonce    2"), "{}", nonce.out);
        let info = scene.line("node info --json").json();
        assert_eq!(info["chain"]["job_manager"], json!(scene.job_manager));
        assert_eq!(info["chain"]["chain_id"], json!(31337));
        assert!(scene.line("node info").ok().contains("chain id"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_preflight_says_what_will_not_land() {
    let scene = ChainScene::start(Revision::Relay).await;
    scene.folder.write("other.hex", "42".repeat(32));
    scene.line(&format!("job build {} --nonce 1 --out job.json", scene.job(9))).ok();
    scene.line("job sign job.json --revision relay --private-key-file key.hex --out good.json").ok();
    scene.line("job sign job.json --revision relay --private-key-file other.hex --out bad.json").ok();
    assert_eq!(scene.line("job preflight good.json --json").json()["will_land"], json!(true));
    let bad = scene.line("job preflight bad.json");
    assert_eq!((bad.code, bad.out.contains("it will not land")), (1, true), "{}{}", bad.out, bad.err);
    let refused = scene.line("job send bad.json --preflight");
    assert!(refused.fails(1).contains("nothing has run"), "{}", refused.err);
    scene.line("job send good.json --preflight --wait relayed").ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_result_that_nobody_relays_is_posted() {
    let scene = ChainScene::start(Revision::Relay).await;
    scene.node.faults().stall_relays(true);
    let submit = format!(
        "job submit {} --nonce 1 --private-key-file key.hex --wait executed --proof proof.json --save job.json",
        scene.job(400)
    );
    scene.line(&submit).ok();
    let posted = scene.line("job post proof.json --private-key-file payer.hex --json").json();
    assert_eq!(posted["already"], json!(false), "{posted}");
    let posted = scene.line("job post proof.json --private-key-file payer.hex");
    assert!(posted.ok().contains("somebody else"), "{}", posted.out);
    let done = scene.line("job wait job.json --until finalized:1 --decode (uint256,uint256) --json").json();
    assert_eq!(done["result"]["decoded"][1], json!("20"));
    // What is no JobManager is told of before anything is sent, and not after the wait's end.
    let (consumer, build) = (scene.consumer, format!("job build {} --nonce 2 --out next.json", scene.job(9)));
    scene.line(&build).ok();
    let submit = format!("job submit next.json --private-key-file key.hex --wait finalized:1 --job-manager {consumer}");
    assert!(scene.line(&submit).fails(1).contains("check the contract's address"));
    assert_eq!(scene.node.stats().submissions(infinityvm_sdk::JobId::derive(2, consumer).into()), 0);
    // The operator is read from the chain; another's word is not believed.
    scene.line("job verify proof.json").ok();
    let other = Address::repeat_byte(1);
    let refused = scene.line(&format!("job verify proof.json --operator {other}"));
    assert!(refused.fails(1).contains("verification failed"), "{}", refused.err);
}
