//! The server's state, and the bridge to the guest.

use alloc::{collections::BTreeMap, string::ToString, vec::Vec};

use alloy_primitives::{Address, keccak256};
use alloy_sol_types::{SolValue, sol};
use infinityvm_stf::{
    Batch, Codec as _, Context, Cost, Inputs, ProgramError, Reader, RestoreError, Root, StateTransition,
    decode_stateful, encode_stateful, put_bytes, put_varint,
};

use crate::{
    proofs::{self, NUMBER_SIZE, Witness, key_of, leaf},
    rules::{Rejection, Request, Response, Waiting, play},
    tree::{Tree, common_bits, hash},
};

sol! {
    /// A pair: who had waited for the number, and who asked for it then.
    #[derive(Debug, PartialEq, Eq)]
    struct Match { uint64 number; address first; address second; }
}

/// Which revision's jobs the game makes. It decides where the root goes, and what the contract keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// The root of the tree is in the onchain input, and the contract keeps it as it is.
    Relay = 1,
    /// The root of the tree is the state that is sent along, and the contract keeps its hash.
    State = 2,
}

impl Form {
    /// What the contract keeps when the tree has this root.
    #[must_use]
    pub fn root(self, tree: [u8; 32]) -> Root {
        match self {
            Self::Relay => tree,
            Self::State => keccak256(tree).0,
        }
    }
}

/// Everybody who waits, and the tree of them.
#[derive(Debug)]
pub struct Game {
    form: Form,
    waiting: BTreeMap<u64, Address>,
    tree: Tree,
}

// Counted on RV32IM, an instruction a cycle, with SHA-256 in software (`tests/riscv`), and rounded up. A zkVM's own circuit
// for SHA-256 takes far less.
/// Allocator, ABI, and in the State revision the Keccak of the roots.
const START_CYCLES: u64 = 150_000;
/// Decoding, the rules, the maps, and the pair that is written, for one request.
const REQUEST_CYCLES: u64 = 15_000;
/// SHA-256 of 64 bytes, which are two blocks with their padding.
const HASH_CYCLES: u64 = 9_500;
/// The first byte of a snapshot.
const SNAPSHOT: u8 = 1;

impl Game {
    /// A game in which nobody waits.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, waiting: BTreeMap::new(), tree: Tree::new(Vec::new()) }
    }

    /// Who waits for this number.
    #[must_use]
    pub fn waiting(&self, number: u64) -> Option<Address> {
        self.waiting.get(&number).copied()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Waiting for Game {
    fn get(&self, number: u64) -> Option<Address> {
        self.waiting(number)
    }

    fn set(&mut self, number: u64, user: Option<Address>) {
        self.tree.set(key_of(number), user.map(|user| hash(user.as_slice())));
        match user {
            Some(user) => self.waiting.insert(number, user),
            None => self.waiting.remove(&number),
        };
    }
}

impl StateTransition for Game {
    type Request = Request;
    type Response = Response;
    type Rejection = Rejection;

    fn apply(&mut self, request: &Request, _: &Context) -> Result<Response, Rejection> {
        play(self, request)
    }

    fn root(&self) -> Root {
        self.form.root(self.tree.root())
    }

    fn inputs(&self, batch: &Batch<Request>) -> Inputs {
        let root = self.tree.root();
        let mut offchain = Vec::new();
        put_bytes(&mut offchain, &batch.encode());
        let numbers = batch.entries.iter().map(|(_, request)| request.number);
        proofs::write(&mut offchain, &self.tree, &self.waiting, numbers);
        match self.form {
            Form::Relay => Inputs { onchain: encode_stateful(&root, &[]), offchain, state: None },
            Form::State => Inputs { onchain: Vec::new(), offchain, state: Some(root.into()) },
        }
    }

    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
        let (form, root) = match &inputs.state {
            Some(state) => (Form::State, Root::decode(state)?),
            None => (Form::Relay, decode_stateful(&inputs.onchain)?.0),
        };
        let mut reader = Reader::new(&inputs.offchain);
        let batch = Batch::<Request>::decode(reader.bytes()?)?;
        if batch.before != form.root(root) {
            return Err("the batch begins with another root".into());
        }
        let numbers = batch.entries.iter().map(|(_, request)| request.number);
        let mut waiting = Witness::read(&mut reader, root, numbers)?;
        reader.end()?;
        let mut pairs: Vec<Match> = Vec::new();
        for (_, request) in &batch.entries {
            if let Ok(Response::Matched { partner }) = play(&mut waiting, request) {
                pairs.push(Match { number: request.number, first: partner, second: request.user });
            }
        }
        let next = form.root(waiting.root()?);
        Ok(encode_stateful(&next, &pairs.abi_encode()))
    }

    fn output_root(output: &[u8]) -> Option<Root> {
        decode_stateful(output).ok().map(|(root, _)| root)
    }

    fn cost(&self, request: &Request) -> Cost {
        // The batch begins with an earlier state, whose ways were no longer than the longest so far.
        let longest = self.tree.deepest();
        // The leaf that is here may come to stand deeper, beside a new one.
        let key = key_of(request.number);
        let beside = self.tree.way(&key).leaf.filter(|leaf| leaf.key_path != key);
        let deepest = beside.map_or(0, |leaf| common_bits(&leaf.key_path, &key) + 1).max(longest);
        // The way is hashed once for its proof and once for the next root; and key, value and leaves.
        let hashes = 2 * deepest as u64 + 8;
        Cost {
            offchain: Batch::<Request>::entry_size(Request::SIZE) + NUMBER_SIZE + 32 * longest,
            cycles: REQUEST_CYCLES + hashes * HASH_CYCLES,
            ..Cost::ZERO
        }
    }

    fn overhead(&self) -> Cost {
        // Before the batch is its length.
        let offchain = 10 + Batch::<Request>::HEADER;
        match self.form {
            Form::Relay => Cost { onchain: 4 * 32, offchain, cycles: START_CYCLES, ..Cost::ZERO },
            Form::State => Cost { onchain: 0, offchain, state: 32, cycles: START_CYCLES, ..Cost::ZERO },
        }
    }

    /// A byte for the version and one for the form; how many wait; and for each, by number, the number and the user.
    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + 28 * self.waiting.len());
        out.extend_from_slice(&[SNAPSHOT, self.form as u8]);
        put_varint(&mut out, self.waiting.len() as u64);
        for (number, user) in &self.waiting {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(user.as_slice());
        }
        out
    }

    fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let form = match reader.array()? {
            [SNAPSHOT, 1] => Form::Relay,
            [SNAPSHOT, 2] => Form::State,
            [version, form] => return Err(alloc::format!("version {version}, form {form} is not known").into()),
        };
        let count = reader.varint()?;
        let mut waiting = BTreeMap::new();
        for _ in 0..count {
            let number = u64::from_be_bytes(reader.array()?);
            if waiting.last_key_value().is_some_and(|(last, _)| *last >= number) {
                return Err("the numbers do not grow".into());
            }
            waiting.insert(number, Address::from(reader.array::<20>()?));
        }
        reader.end().map_err(|error| error.to_string())?;
        let tree = Tree::new(waiting.iter().map(|(number, user)| leaf(key_of(*number), *user)).collect());
        Ok(Self { form, waiting, tree })
    }
}
