//! Proofs of those whom a batch touches, and the root after it.
//!
//! The encoding, for the numbers of a batch in the order of their keys: for each number a byte, 0 if nobody waits for
//! it, or 1 and the user; then the ways to them. One way can prove several numbers. It is written as a byte, 0 if it
//! ends nowhere, or 1 and the leaf at its end; its depth; and its siblings from the root downwards, without those that
//! it shares with the way before it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use alloy_primitives::Address;
use infinityvm_stf::{ProgramError, Reader, put_varint};
use nomt_core::{
    proof::{PathProof, PathProofTerminal, PathUpdate, VerifiedPathProof, verify_update},
    trie::{KeyPath, LeafData, Node as Hash},
    trie_pos::TriePosition,
};

use crate::{
    rules::Waiting,
    tree::{Hasher, Tree, common_bits, hash},
};

/// What a number adds to the proofs, without the siblings: who waits; the leaf at the way's end; its depth.
pub(crate) const NUMBER_SIZE: usize = (1 + 20) + (1 + 64) + 2;

/// Where the user who waits for a number is in the tree.
#[must_use]
pub fn key_of(number: u64) -> KeyPath {
    hash(&number.to_be_bytes())
}

/// Each number once, in the order of their keys.
fn sorted(numbers: impl Iterator<Item = u64>) -> Vec<(KeyPath, u64)> {
    let once: BTreeSet<u64> = numbers.collect();
    let mut keys: Vec<_> = once.into_iter().map(|number| (key_of(number), number)).collect();
    keys.sort_unstable();
    keys
}

/// Appends the proofs of these numbers.
pub fn write(out: &mut Vec<u8>, tree: &Tree, waiting: &BTreeMap<u64, Address>, numbers: impl Iterator<Item = u64>) {
    let keys = sorted(numbers);
    for (_, number) in &keys {
        match waiting.get(number) {
            None => out.push(0),
            Some(user) => {
                out.push(1);
                out.extend_from_slice(user.as_slice());
            }
        }
    }
    let mut last: Option<(&KeyPath, usize)> = None;
    for (key, _) in &keys {
        let shared = last.map_or(0, |(last, _)| common_bits(last, key));
        if last.is_some_and(|(_, depth)| shared >= depth) {
            continue;
        }
        let way = tree.way(key);
        match &way.leaf {
            None => out.push(0),
            Some(leaf) => {
                out.push(1);
                out.extend_from_slice(&leaf.key_path);
                out.extend_from_slice(&leaf.value_hash);
            }
        }
        put_varint(out, way.siblings.len() as u64);
        way.siblings.iter().skip(shared).for_each(|sibling| out.extend_from_slice(sibling));
        last = Some((key, way.siblings.len()));
    }
}

/// What the guest knows: who waits for the numbers of a batch, and how the root follows from them.
pub struct Witness {
    before: BTreeMap<u64, Option<Address>>,
    now: BTreeMap<u64, Option<Address>>,
    /// Each way, with the numbers that it proves.
    ways: Vec<(VerifiedPathProof, Vec<(KeyPath, u64)>)>,
    root: Hash,
}

impl Witness {
    /// Reads the proofs of these numbers, and checks each against the root.
    ///
    /// # Errors
    ///
    /// That they do not prove it.
    pub fn read(reader: &mut Reader<'_>, root: Hash, numbers: impl Iterator<Item = u64>) -> Result<Self, ProgramError> {
        let keys = sorted(numbers);
        let mut before = BTreeMap::new();
        for (_, number) in &keys {
            let user = match reader.byte()? {
                0 => None,
                1 => Some(Address::from(reader.array::<20>()?)),
                _ => return Err("who waits is neither nobody nor a user".into()),
            };
            before.insert(*number, user);
        }
        let mut ways: Vec<(VerifiedPathProof, Vec<(KeyPath, u64)>)> = Vec::new();
        let mut last: Option<(KeyPath, Vec<Hash>)> = None;
        for (key, number) in keys {
            let mut siblings = Vec::new();
            if let Some((last, of_last)) = &last {
                let shared = common_bits(last, &key);
                if let Some(of_this) = of_last.get(..shared)
                    && shared < of_last.len()
                {
                    siblings.extend_from_slice(of_this);
                } else if let Some((_, proven)) = ways.last_mut() {
                    // The way before leads here, too.
                    proven.push((key, number));
                    continue;
                }
            }
            let way = read_way(reader, &key, root, siblings)?;
            last = Some((key, way.1));
            ways.push((way.0, [(key, number)].into()));
        }
        for (way, proven) in &ways {
            for (key, number) in proven {
                let holds = match before.get(number).copied().flatten() {
                    None => way.confirm_nonexistence(key),
                    Some(user) => way.confirm_value(&leaf(*key, user)),
                };
                if !matches!(holds, Ok(true)) {
                    return Err("a proof proves that another waits".into());
                }
            }
        }
        Ok(Self { now: before.clone(), before, ways, root })
    }

    /// The root after what was set.
    ///
    /// # Errors
    ///
    /// That the proofs do not lead to it, which does not happen with proofs that were checked.
    pub fn root(self) -> Result<Hash, ProgramError> {
        let (before, now) = (&self.before, &self.now);
        let updates: Vec<PathUpdate> = self
            .ways
            .into_iter()
            .filter_map(|(inner, proven)| {
                let changed = proven.iter().filter(|(_, number)| before.get(number) != now.get(number));
                let ops: Vec<_> = changed
                    .map(|(key, number)| (*key, now.get(number).copied().flatten().map(|user| hash(user.as_slice()))))
                    .collect();
                (!ops.is_empty()).then_some(PathUpdate { inner, ops })
            })
            .collect();
        verify_update::<Hasher>(self.root, &updates)
            .map_err(|error| alloc::format!("the proofs do not lead to a root: {error:?}").into())
    }
}

/// Numbers that are not in the batch are not asked for. Nobody waits for them here.
impl Waiting for Witness {
    fn get(&self, number: u64) -> Option<Address> {
        self.now.get(&number).copied().flatten()
    }

    fn set(&mut self, number: u64, user: Option<Address>) {
        if let Some(now) = self.now.get_mut(&number) {
            *now = user;
        }
    }
}

/// The leaf of a user who waits.
#[must_use]
pub fn leaf(key_path: KeyPath, user: Address) -> LeafData {
    LeafData { key_path, value_hash: hash(user.as_slice()) }
}

/// One way, whose first siblings are known.
fn read_way(
    reader: &mut Reader<'_>,
    key: &KeyPath,
    root: Hash,
    mut siblings: Vec<Hash>,
) -> Result<(VerifiedPathProof, Vec<Hash>), ProgramError> {
    let terminal = match reader.byte()? {
        0 => PathProofTerminal::Terminator(TriePosition::new()),
        1 => PathProofTerminal::Leaf(LeafData { key_path: reader.array()?, value_hash: reader.array()? }),
        _ => return Err("a way ends neither nowhere nor at a leaf".into()),
    };
    let depth = reader.varint()?;
    if depth > 256 || depth < siblings.len() as u64 {
        return Err("a way is longer than a key, or shorter than what it shares with the one before".into());
    }
    while (siblings.len() as u64) < depth {
        siblings.push(reader.array()?);
    }
    let proof = PathProof { terminal, siblings };
    let path = TriePosition::from_path_and_depth(*key, 256);
    let verified =
        proof.verify::<Hasher>(path.path(), root).map_err(|_| ProgramError::new("a proof is of another root"))?;
    Ok((verified, proof.siblings))
}
