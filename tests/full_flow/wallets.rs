//! Contracts that sign (EIP-1271): a wallet of two owners, one that is not deployed yet, and one whose signer does not say so.

use alloy_sol_types::SolValue;
use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobSigner, LocalSigner, OffchainJobRequest, Outcome, PreflightReport, RelayStrategy,
    Revision, Severity, Until,
    chain::{Chain, ChainNonces, SignatureCheck},
    client::FindingKind,
    job::SignerKind,
    primitives::{Address, Bytes, U256},
    rpc::Method,
};

use crate::{
    contracts::{Consumer, deploy},
    rig::{Rig, both},
};

/// Both owners sign, and the wallet wants both signatures.
#[derive(Clone)]
struct Wallet {
    address: Address,
    owners: [LocalSigner; 2],
    kind: SignerKind,
    /// EIP-6492: who would deploy it, and how, around the signature.
    wrapped: bool,
}

#[async_trait]
impl JobSigner for Wallet {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        let signatures = self.owners.iter().map(|owner| owner.sign_message_sync(message));
        let signatures = signatures.collect::<Vec<_>>().concat();
        if !self.wrapped {
            return Ok(signatures.into());
        }
        let call = (Address::repeat_byte(0xfa), Bytes::from_static(b"create"), Bytes::from(signatures));
        Ok([call.abi_encode_params(), [0x64, 0x92].repeat(16)].concat().into())
    }

    fn kind(&self) -> SignerKind {
        self.kind
    }
}

struct Scene {
    consumer: Address,
    wallet: Wallet,
}

impl Scene {
    async fn new(rig: &Rig) -> Self {
        let owners = [rig.world.anvil.signer(6), rig.world.anvil.signer(7)];
        let arguments = (owners[0].address(), owners[1].address()).abi_encode_params();
        let address = deploy(&rig.world.rpc, rig.world.owner, "common/Wallet", &arguments).await;
        let consumer = rig.world.consumer("WalletConsumer", address, 0).await;
        Self { consumer, wallet: Wallet { address, owners, kind: SignerKind::Contract, wrapped: false } }
    }
}

async fn client(rig: &Rig, signer: Wallet) -> Client {
    let chain = Chain::connect(rig.world.anvil.http_url(), rig.world.job_manager).await.expect("a chain");
    let client = Client::builder().grpc(rig.node.grpc_url()).revision(rig.world.revision).signer(signer);
    let client = client.nonces(ChainNonces::new(chain.clone())).chain(chain).require_preflight(Severity::Error);
    client.connect().await.expect("connects")
}

fn job(rig: &Rig, consumer: Address) -> OffchainJobRequest {
    let job = OffchainJobRequest::builder(consumer, rig.square_root.clone()).max_cycles(1_000);
    let job = job.onchain_input(U256::from(144).abi_encode());
    let job = if rig.world.revision == Revision::Relay { job.relay(RelayStrategy::Ordered) } else { job };
    job.build().expect("a job")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_contract_signs_by_saying_that_it_is_one() {
    both(|rig| async move {
        let Scene { consumer, wallet } = Scene::new(&rig).await;
        let handle = client(&rig, wallet.clone()).await.submit(job(&rig, consumer)).await.expect("accepted");
        assert_eq!(handle.signed_job().signature().len(), 130);
        handle.wait(Until::Finalized { confirmations: 1 }).await.expect("on chain");
        let call = Consumer::getResultCall { jobID: handle.id().into() };
        let result = rig.world.view(consumer, &call).await;
        assert_eq!(<(U256, U256)>::abi_decode(&result).expect("two numbers"), (U256::from(144), U256::from(12)));

        // The wallet itself says no: one of its owners is another. Nothing is sent, and the nonce is free.
        let before = rig.node.stats().calls(Method::SubmitJob);
        let stranger = LocalSigner::random().expect("a key");
        let forged = Wallet { owners: [wallet.owners[0].clone(), stranger], ..wallet.clone() };
        let error = client(&rig, forged).await.submit(job(&rig, consumer)).await.expect_err("refused");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::NotSent), "{}", error.report());
        refused_signer(&error);

        // A signer that does not say that it is a contract: its two signatures are none of an account.
        let silent = Wallet { kind: SignerKind::Account, ..wallet.clone() };
        let error = client(&rig, silent).await.submit(job(&rig, consumer)).await.expect_err("refused");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{}", error.report());
        assert!(error.hint().expect("what next").contains("JobSigner::kind"), "{}", error.report());
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), before);

        let next = client(&rig, wallet).await.submit(job(&rig, consumer)).await.expect("accepted");
        assert_eq!((handle.signed_job().nonce(), next.signed_job().nonce()), (1, 2));
        next.wait(Until::Finalized { confirmations: 1 }).await.expect("on chain");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_wallet_that_is_not_deployed_yet_is_refused_as_the_contracts_would() {
    both(|rig| async move {
        let Scene { consumer: deployed, wallet } = Scene::new(&rig).await;
        let address = Address::repeat_byte(0xe1);
        let consumer = rig.world.consumer("WalletConsumer", address, 0).await;
        let chain = Chain::connect(rig.world.anvil.http_url(), rig.world.job_manager).await.expect("a chain");

        let wrapped = Wallet { address, wrapped: true, ..wallet.clone() };
        let error = client(&rig, wrapped.clone()).await.submit(job(&rig, consumer)).await.expect_err("refused");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{}", error.report());
        assert!(error.to_string().contains("EIP-6492") && error.hint().expect("what next").contains("deploy"));
        // Unwrapped it is in no form that is refused, and the consumer says so.
        let bare = Wallet { address, ..wallet.clone() };
        let error = client(&rig, bare).await.submit(job(&rig, consumer)).await.expect_err("refused");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::NotSent), "{}", error.report());
        refused_signer(&error);
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);

        // What the word why rests on: neither consumer takes the wrapped form, deployed or not.
        let unsigned = job(&rig, consumer).prepare(rig.world.revision, 1).expect("prepared");
        let signature = wrapped.sign_message(unsigned.signing_bytes()).await.expect("signs");
        for consumer in [consumer, deployed] {
            let check = chain.is_valid_signature(consumer, unsigned.eip191_hash(), signature.clone()).await;
            assert_eq!(check.expect("an answer"), SignatureCheck::Invalid);
        }
    })
    .await;
}

#[track_caller]
fn refused_signer(error: &Error) {
    let report = PreflightReport::of(error).expect("a report");
    let refused = |kind: &FindingKind| matches!(kind, FindingKind::SignerRefused { .. });
    assert!(report.findings().iter().any(|finding| refused(finding.kind())), "{report}");
}
