//! Dev node.
