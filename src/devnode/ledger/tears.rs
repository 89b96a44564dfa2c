//! Torn answers: a batch of which not every answer is of one block.

use std::{fmt, sync::Arc};

use alloy_primitives::keccak256;

use crate::chain::Question;

type Chosen = Arc<dyn Fn(&Question) -> bool + Send + Sync>;

/// A batch whose answers are of two blocks, as an RPC gives it while a block comes in, or whose servers are not all at
/// one block; for [`SimChain::tear`](crate::devnode::SimChain::tear).
///
/// The chosen answers are of an older block than their neighbours: one block older unless [set](Self::by), and block 0
/// where there is none so old. Of a question that is pinned to a block, by number or by hash, the answer is of a block
/// before that one. An older block knows neither the receipts, transactions and logs of later blocks, nor the later
/// blocks themselves.
///
/// ```
/// use infinityvm_sdk::devnode::Tear;
///
/// // The consumer's inputs are of before the block with the job, the JobManager's word of after it; in two batches.
/// let inputs = Tear::calls(["getOnchainInputForJob(bytes32)", "getOffchainInputHashForJob(bytes32)"]).batches(2);
/// // A block comes in after the third answer.
/// let late = Tear::first(3);
/// # let _ = (inputs, late);
/// ```
#[derive(Clone)]
pub struct Tear {
    which: Which,
    by: u64,
    batches: u64,
    after: u64,
}

#[derive(Clone)]
enum Which {
    Chosen(Chosen),
    First(usize),
    Random { seed: u64, drawn: u64 },
}

impl Tear {
    /// Tears the answers to calls of these functions, given by name and types, such as `getJobMetadata(bytes32)`.
    #[must_use]
    pub fn calls<'a>(signatures: impl IntoIterator<Item = &'a str>) -> Self {
        let selectors: Vec<_> = signatures.into_iter().map(|it| keccak256(it).0).collect();
        Self::questions(move |question| match question {
            Question::Call(call, _) => selectors.iter().any(|it| call.data.starts_with(&it[..4])),
            _ => false,
        })
    }

    /// Tears the answers to the questions that this says yes to.
    #[must_use]
    pub fn questions(which: impl Fn(&Question) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Which::Chosen(Arc::new(which)))
    }

    /// Tears the first so many answers, whatever was asked: a block comes in after them.
    #[must_use]
    pub fn first(count: usize) -> Self {
        Self::new(Which::First(count))
    }

    /// Tears every other answer about the contracts on average: calls and codes, by a random choice that this number
    /// repeats.
    #[must_use]
    pub fn at_random(seed: u64) -> Self {
        Self::new(Which::Random { seed, drawn: 0 })
    }

    fn new(which: Which) -> Self {
        Self { which, by: 1, batches: 1, after: 0 }
    }

    /// Sets how many blocks older the torn answers are. Default: 1.
    #[must_use]
    pub fn by(mut self, blocks: u64) -> Self {
        self.by = blocks;
        self
    }

    /// Sets how many batches are torn. Default: 1. Batches that hold nothing to be torn, or nothing else, do not count.
    #[must_use]
    pub fn batches(mut self, count: u64) -> Self {
        self.batches = count;
        self
    }

    /// Leaves so many batches whole before that, of those that count.
    #[must_use]
    pub fn after(mut self, batches: u64) -> Self {
        self.after = batches;
        self
    }

    /// Which answers of this batch are old; nothing if it is left whole.
    fn apply(&mut self, questions: &[Question]) -> Option<Vec<bool>> {
        let old: Vec<bool> = match &mut self.which {
            Which::Chosen(which) => questions.iter().map(|question| which(question)).collect(),
            Which::First(count) => (0..questions.len()).map(|index| index < *count).collect(),
            Which::Random { seed, drawn } => {
                let mut draw = |question: &Question| {
                    if !matches!(question, Question::Call(..) | Question::Code(..)) {
                        return false;
                    }
                    *drawn = drawn.wrapping_add(1);
                    keccak256([seed.to_be_bytes(), drawn.to_be_bytes()].concat())[0] & 1 == 1
                };
                questions.iter().map(&mut draw).collect()
            }
        };
        if self.batches == 0 || old.iter().all(|old| *old) || !old.contains(&true) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        self.batches -= 1;
        Some(old)
    }
}

impl fmt::Debug for Tear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, batches, after, .. } = self;
        f.debug_struct("Tear").field("by", by).field("batches", batches).field("after", after).finish_non_exhaustive()
    }
}

/// The tear that is under way, and how many batches were torn so far.
#[derive(Default)]
pub(super) struct Tears {
    tear: Option<Tear>,
    torn: u64,
}

impl Tears {
    pub(super) fn set(&mut self, tear: Option<Tear>) {
        self.tear = tear;
    }

    pub(super) fn torn(&self) -> u64 {
        self.torn
    }

    /// Which answers of a batch are old, and by how many blocks; nothing if the batch is left whole.
    pub(super) fn apply(&mut self, questions: &[Question]) -> Option<(Vec<bool>, u64)> {
        let tear = self.tear.as_mut()?;
        let old = tear.apply(questions)?;
        self.torn += 1;
        Some((old, tear.by))
    }
}
