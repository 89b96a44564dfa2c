//! A binary Merkle trie with the nodes of `nomt-core`, in memory: the state of the example apps.
//!
//! A leaf stands at the shortest path that no other leaf shares, so the tree of a set of leaves depends on nothing else.
//! `nomt-core` has no such tree, only its hashes and the proofs; the database that is made of it (`nomt`) would be a
//! second one beside the server's journal. The README of `examples/matching_game` says why it is `nomt-core`.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};

pub use nomt_core::trie::{KeyPath, LeafData, Node as Hash};
use nomt_core::{
    hasher::{NodeHasher as _, Sha2Hasher, ValueHasher as _},
    trie::{InternalData, TERMINATOR, ValueHash},
};

/// How leaves and nodes are hashed: SHA-256, for which zkVMs have circuits of their own.
pub type Hasher = Sha2Hasher;

/// The hash of a key or a value.
#[must_use]
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Hasher::hash_value(bytes)
}

/// How many bits two keys begin with in common.
#[must_use]
pub fn common_bits(one: &KeyPath, other: &KeyPath) -> usize {
    let mut bits = 0;
    for (one, other) in one.iter().zip(other) {
        let differing = (one ^ other).leading_zeros() as usize;
        bits += differing;
        if differing < 8 {
            break;
        }
    }
    bits
}

fn bit(key: &KeyPath, depth: usize) -> bool {
    key.get(depth / 8).is_some_and(|byte| byte & (0x80 >> (depth % 8)) != 0)
}

/// Leaves by their keys, and the root of them all.
#[derive(Debug, Clone)]
pub struct Tree {
    top: Node,
    deepest: usize,
}

#[derive(Debug, Default, Clone)]
enum Node {
    #[default]
    Empty,
    Leaf(LeafData, Hash),
    Branch(Box<Branch>),
}

#[derive(Debug, Clone)]
struct Branch {
    left: Node,
    right: Node,
    hash: Hash,
}

/// The way from the root to a key.
#[derive(Debug)]
pub struct Way {
    /// What stands beside it at each depth, from the root downwards.
    pub siblings: Vec<Hash>,
    /// The leaf at its end: the key's, or the one that stands where the key's would. `None` if none is there.
    pub leaf: Option<LeafData>,
}

impl Tree {
    /// The tree of these leaves. Of two with one key the later counts.
    #[must_use]
    pub fn new(mut leaves: Vec<LeafData>) -> Self {
        leaves.sort_by_key(|leaf| leaf.key_path);
        leaves.reverse();
        leaves.dedup_by_key(|leaf| leaf.key_path);
        leaves.reverse();
        let mut deepest = 0;
        let top = Node::of(&leaves, 0, &mut deepest);
        Self { top, deepest }
    }

    /// The root: 32 zero bytes if there is no leaf.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.top.hash()
    }

    /// The depth of the deepest leaf that there has been. No way is longer.
    #[must_use]
    pub const fn deepest(&self) -> usize {
        self.deepest
    }

    /// Puts a leaf there, or replaces it; without a value, takes it away.
    pub fn set(&mut self, key_path: KeyPath, value: Option<ValueHash>) {
        match value {
            Some(value_hash) => {
                let depth = self.top.put(LeafData { key_path, value_hash }, 0);
                self.deepest = self.deepest.max(depth);
            }
            None => self.top.remove(&key_path, 0),
        }
    }

    /// The way to a key, whether or not the key has a leaf.
    #[must_use]
    pub fn way(&self, key: &KeyPath) -> Way {
        let (mut node, mut siblings) = (&self.top, Vec::new());
        loop {
            match node {
                Node::Empty => return Way { siblings, leaf: None },
                Node::Leaf(leaf, _) => return Way { siblings, leaf: Some(leaf.clone()) },
                Node::Branch(branch) => {
                    let right = bit(key, siblings.len());
                    let (next, sibling) =
                        if right { (&branch.right, &branch.left) } else { (&branch.left, &branch.right) };
                    siblings.push(sibling.hash());
                    node = next;
                }
            }
        }
    }
}

impl Node {
    const fn hash(&self) -> Hash {
        match self {
            Self::Empty => TERMINATOR,
            Self::Leaf(_, hash) => *hash,
            Self::Branch(branch) => branch.hash,
        }
    }

    fn leaf(leaf: LeafData) -> Self {
        let hash = Hasher::hash_leaf(&leaf);
        Self::Leaf(leaf, hash)
    }

    fn branch(left: Self, right: Self) -> Self {
        let mut branch = Branch { left, right, hash: TERMINATOR };
        branch.rehash();
        Self::Branch(Box::new(branch))
    }

    /// Of leaves that are sorted by their keys, and share the first `depth` bits.
    fn of(leaves: &[LeafData], depth: usize, deepest: &mut usize) -> Self {
        match leaves {
            [] => Self::Empty,
            [leaf] => {
                *deepest = depth.max(*deepest);
                Self::leaf(leaf.clone())
            }
            _ => {
                let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key_path, depth)));
                Self::branch(Self::of(left, depth + 1, deepest), Self::of(right, depth + 1, deepest))
            }
        }
    }

    /// Returns how deep the leaf stands.
    fn put(&mut self, leaf: LeafData, depth: usize) -> usize {
        match self {
            Self::Empty => *self = Self::leaf(leaf),
            Self::Leaf(other, _) if other.key_path == leaf.key_path => *self = Self::leaf(leaf),
            Self::Leaf(other, _) => {
                let mut leaves = [other.clone(), leaf];
                leaves.sort_by_key(|leaf| leaf.key_path);
                let mut deepest = depth;
                *self = Self::of(&leaves, depth, &mut deepest);
                return deepest;
            }
            Self::Branch(branch) => {
                let deepest = branch.side(&leaf.key_path, depth).put(leaf, depth + 1);
                branch.rehash();
                return deepest;
            }
        }
        depth
    }

    fn remove(&mut self, key: &KeyPath, depth: usize) {
        match self {
            Self::Empty => {}
            Self::Leaf(leaf, _) => {
                if leaf.key_path == *key {
                    *self = Self::Empty;
                }
            }
            Self::Branch(branch) => {
                branch.side(key, depth).remove(key, depth + 1);
                // A leaf that is alone stands higher.
                match (&mut branch.left, &mut branch.right) {
                    (Self::Empty, only @ (Self::Leaf(..) | Self::Empty)) | (only @ Self::Leaf(..), Self::Empty) => {
                        *self = core::mem::take(only);
                    }
                    _ => branch.rehash(),
                }
            }
        }
    }
}

impl Branch {
    fn side(&mut self, key: &KeyPath, depth: usize) -> &mut Node {
        if bit(key, depth) { &mut self.right } else { &mut self.left }
    }

    fn rehash(&mut self) {
        self.hash = Hasher::hash_internal(&InternalData { left: self.left.hash(), right: self.right.hash() });
    }
}
