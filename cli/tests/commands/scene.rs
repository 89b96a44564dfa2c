//! A development node in this process, and commands that talk to it.

use infinityvm_sdk::{
    LocalSigner, ProgramId, Revision,
    devnode::{ConsumerRules, DevNode, ProgramError, ProgramOutput},
    primitives::{Address, SolValue, U256, hex},
};

use crate::rig::{Done, Folder};

pub const CONSUMER: Address = Address::repeat_byte(7);
pub const KEY: [u8; 32] = [0x37; 32];

/// A node whose consumer accepts the key in `key.hex`.
pub struct Scene {
    pub node: DevNode,
    pub folder: Folder,
    /// Writes the root of a number, and a text.
    pub root: ProgramId,
}

impl Scene {
    pub async fn start(revision: Revision) -> Self {
        let signer = LocalSigner::from_bytes(KEY).expect("a key");
        let rules = ConsumerRules::signed_by(signer.address());
        Self::of(DevNode::builder(revision).consumer(CONSUMER, rules).start().await.expect("a node"))
    }

    pub fn of(node: DevNode) -> Self {
        let root = node.register_program(|input| match U256::abi_decode(input.onchain) {
            Ok(number) => {
                let output = (number.root(2), format!("the root of {number}")).abi_encode();
                Ok(ProgramOutput::new(output).with_cycles(number.try_into().unwrap_or(u64::MAX)))
            }
            Err(error) => Err(ProgramError::new(error.to_string())),
        });
        let folder = Folder::new();
        folder.write("key.hex", hex::encode(KEY));
        Self { node, folder, root: ProgramId::new(root) }
    }

    /// Runs a command that talks to the node over gRPC and believes its operator.
    pub fn ivm(&self, arguments: &[&str]) -> Done {
        let (node, operator) = (self.node.grpc_url(), self.node.operator().to_string());
        let mut command = self.folder.command(arguments);
        command.env("IVM_NODE", node).env("IVM_OPERATOR", operator);
        let output = tokio::task::block_in_place(|| command.output()).expect("runs");
        Done::of(arguments, output)
    }

    /// As [`ivm`](Self::ivm), for a line of words.
    pub fn line(&self, line: &str) -> Done {
        self.ivm(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Submits a job for the root of a number, and says no more than that it must be done.
    pub fn submitted(&self, number: u64, more: &str) -> Done {
        let root = &self.root;
        let done = self.line(&format!(
            "job submit --consumer {CONSUMER} --program {root} --max-cycles 1000 --onchain-input abi:uint256={number} \
             --private-key-file key.hex {more}"
        ));
        done.ok();
        done
    }
}
