//! Values that remember what they were, block by block.

use serde::{Deserialize, Serialize};

/// A value, and what it was before. Its first block is that of its making.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Past<T>(Vec<(u64, T)>);

impl<T> Past<T> {
    pub(super) fn since(block: u64, value: T) -> Self {
        Self(vec![(block, value)])
    }

    /// What it was once this block was made; nothing before there was any.
    pub(super) fn at(&self, block: u64) -> Option<&T> {
        let known = self.0.partition_point(|(since, _)| *since <= block);
        self.0[..known].last().map(|(_, value)| value)
    }

    /// The same of what is made of the values.
    pub(super) fn map<'a, U: From<&'a T>>(&'a self, make: impl Fn(&'a T) -> U) -> Past<U> {
        Past(self.0.iter().map(|(since, value)| (*since, make(value))).collect())
    }

    /// What it is from this block on, which is no earlier than the last one.
    pub(super) fn set(&mut self, block: u64, value: T) {
        self.go_back(block.saturating_sub(1));
        self.0.push((block, value));
    }

    /// Goes back to what it was in this block. False if there was none.
    pub(super) fn go_back(&mut self, block: u64) -> bool {
        self.0.truncate(self.0.partition_point(|(since, _)| *since <= block));
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_was() {
        let mut past = Past::since(3, "a");
        past.set(5, "b");
        past.set(5, "c");
        assert_eq!(
            [2, 3, 4, 5, 9].map(|block| past.at(block).copied()),
            [None, Some("a"), Some("a"), Some("c"), Some("c")]
        );
        assert!(past.go_back(4));
        assert_eq!(past.at(9), Some(&"a"));
        assert!(!past.go_back(2));
        assert_eq!(past.at(9), None);
    }
}
