//! What must hold at the end, from the tables, the chain and what passed between service and node. It shares no code with
//! the outbox.

use std::collections::{BTreeMap, BTreeSet};

use infinityvm_sdk::{Revision, devnode::DevNode};
use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

use crate::{child::fails, recorder::Sent};

/// What a run came to.
#[derive(Debug, Default)]
pub struct Findings {
    pub orders: usize,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub unbilled: Vec<String>,
    pub billed_twice: Vec<String>,
    pub gaps: Vec<u64>,
    /// Submissions that were seen.
    pub submissions: usize,
    /// Nonces under which more was sent than one payload with one signature, and that are not of an order that was
    /// replaced, each once.
    pub two_payloads: Vec<u64>,
    /// Orders that were replaced.
    pub replaced: usize,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        let Self { lost, doubled, unbilled, billed_twice, gaps, two_payloads, .. } = self;
        lost.is_empty()
            && doubled.is_empty()
            && unbilled.is_empty()
            && billed_twice.is_empty()
            && gaps.is_empty()
            && two_payloads.is_empty()
    }
}

/// `told`: orders that the service said it had stored. `sent`: what left for the node.
pub async fn check(store: &str, node: &DevNode, told: &BTreeSet<String>, sent: &Sent, ordered: bool) -> Findings {
    let mut conn = SqliteConnectOptions::new().filename(store).connect().await.unwrap();
    let orders = sqlx::query("SELECT id FROM orders").fetch_all(&mut conn).await.unwrap();
    let orders: BTreeSet<String> = orders.iter().map(|row| row.get(0)).collect();
    let mut billed: BTreeMap<String, usize> = BTreeMap::new();
    for row in sqlx::query("SELECT id, output FROM bills").fetch_all(&mut conn).await.unwrap() {
        let (id, output): (String, Vec<u8>) = (row.get(0), row.get(1));
        assert_eq!(id.as_bytes(), output, "a bill of another order's output");
        *billed.entry(id).or_default() += 1;
    }
    let mut landed: BTreeMap<String, usize> = BTreeMap::new();
    let mut nonces = BTreeSet::new();
    for job in node.chain().all_completed() {
        *landed.entry(String::from_utf8(job.result.to_vec()).unwrap()).or_default() += 1;
        nonces.insert(job.nonce);
    }
    let without = |of: &BTreeMap<String, usize>| orders.iter().filter(|id| !of.contains_key(*id)).cloned().collect();
    let twice =
        |of: &BTreeMap<String, usize>| of.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.clone()).collect();
    let mut lost: Vec<String> = without(&landed);
    // What the service said it had stored, and has not.
    lost.extend(told.difference(&orders).cloned());
    // The plan forces a second payload on each order that fails, in the revision that replaces, and on no other.
    let forced = if node.revision() == Revision::Relay { orders.iter().filter(|id| fails(id)).count() } else { 0 };
    let several: Vec<u64> = sent.iter().filter(|(_, payloads)| payloads.len() > 1).map(|(nonce, _)| *nonce).collect();
    let two = sent.values().filter(|payloads| payloads.len() == 2).count();
    let replaced = several.len();
    let two_payloads = if replaced == forced && two == forced { Vec::new() } else { several };
    let gaps = (1..nonces.last().copied().unwrap_or(0)).filter(|nonce| !nonces.contains(nonce));
    Findings {
        orders: orders.len(),
        submissions: sent.values().map(BTreeSet::len).sum(),
        lost,
        doubled: twice(&landed),
        unbilled: without(&billed),
        billed_twice: twice(&billed),
        gaps: gaps.filter(|_| ordered).collect(),
        two_payloads,
        replaced,
    }
}
