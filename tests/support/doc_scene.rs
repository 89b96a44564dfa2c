// What examples in the documentation stand on, included by their hidden lines: a development node, a client of it that reads its
// simulated chain and may post there, and a job.
mod doc {
    use infinityvm_sdk::{
        Client, JobHandle, LocalSigner, OffchainJobRequest, ProgramId, Revision,
        devnode::{ConsumerRules, DevNode},
        nonce::Sequential,
        primitives::Address,
    };

    pub type Outcome = Result<(), Box<dyn std::error::Error>>;

    pub struct Scene {
        pub node: DevNode,
        pub client: Client,
        pub job: OffchainJobRequest,
    }

    impl Scene {
        #[allow(dead_code, reason = "each example uses a part of it")]
        pub async fn submitted(&self, jobs: usize) -> Vec<JobHandle> {
            let mut handles = Vec::new();
            for _ in 0..jobs {
                handles.push(self.client.submit(self.job.clone()).await.expect("submitted"));
            }
            handles
        }
    }

    pub async fn scene() -> Scene {
        let (signer, consumer) = (LocalSigner::random().expect("a key"), Address::repeat_byte(7));
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await.expect("a node");
        let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
        let client = Client::builder()
            .grpc(node.grpc_url())
            .signer(signer)
            .nonces(Sequential::starting_at(1))
            .chain(node.chain().to_chain())
            .relayer(node.chain().account(Address::repeat_byte(8)))
            .connect()
            .await
            .expect("a client");
        let job = OffchainJobRequest::builder(consumer, ProgramId::new(echo)).max_cycles(1_000).onchain_input(vec![5]);
        Scene { node, client, job: job.build().expect("a job") }
    }
}
