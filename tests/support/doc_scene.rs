// What examples in the documentation stand on, included by their hidden lines. `parts` is a development node and what a
// client needs to work for it. `scene` is more: a client that reads the simulated chain and may post there, and a job.
mod doc {
    use infinityvm_sdk::{
        Client, JobHandle, LocalSigner, OffchainJobRequest, ProgramId, Revision,
        devnode::{ConsumerRules, DevNode, ProgramError},
        nonce::Sequential,
        primitives::{Address, SolValue, U256},
    };

    pub type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[allow(dead_code, reason = "each example uses a part of it")]
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

    #[allow(dead_code, reason = "each example uses a part of it")]
    pub struct Parts {
        pub node: DevNode,
        pub signer: LocalSigner,
        pub consumer: Address,
        pub program: ProgramId,
    }

    /// The program computes the square root of an ABI-encoded number, rounded down.
    #[allow(dead_code, reason = "most examples need a scene")]
    pub async fn parts(revision: Revision) -> Parts {
        let (signer, consumer) = (LocalSigner::random().expect("a key"), Address::repeat_byte(7));
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(revision).consumer(consumer, rules).start().await.expect("a node");
        let program = node.register_program(|input| match U256::abi_decode(input.onchain) {
            Ok(number) => Ok(number.root(2).abi_encode()),
            Err(error) => Err(ProgramError::new(error.to_string())),
        });
        Parts { node, signer, consumer, program: ProgramId::new(program) }
    }

    #[allow(dead_code, reason = "some examples need the parts only")]
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
            .poster(node.chain().account(Address::repeat_byte(8)))
            .connect()
            .await
            .expect("a client");
        let job = OffchainJobRequest::builder(consumer, ProgramId::new(echo)).max_cycles(1_000).onchain_input(vec![5]);
        Scene { node, client, job: job.build().expect("a job") }
    }
}
