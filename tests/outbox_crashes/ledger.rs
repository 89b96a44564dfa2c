//! What must hold at the end: from the service's tables, the chain, the node's records, and what passed between service
//! and node. It shares no code with the SDK.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{
    ConnectOptions, Row,
    postgres::{PgConnectOptions, PgRow},
    sqlite::SqliteConnectOptions,
};

use crate::{
    life::World,
    node_process::Report,
    orders::{self, After},
    recorder::{Sent, onchain_input},
};

/// The service's rows.
#[derive(Debug, Default)]
pub struct Rows {
    pub orders: BTreeSet<String>,
    /// Order, output and nonce, in the order in which they were billed.
    pub bills: Vec<(String, Option<String>, u64)>,
}

impl Rows {
    pub async fn read(store: &str) -> Self {
        if store.starts_with("postgres:") {
            return Self::read_postgres(store).await;
        }
        let mut conn = SqliteConnectOptions::new().filename(store).connect().await.unwrap();
        let orders = sqlx::query("SELECT id FROM orders").fetch_all(&mut conn).await.unwrap();
        let bills =
            sqlx::query("SELECT id, output, nonce FROM bills ORDER BY rowid").fetch_all(&mut conn).await.unwrap();
        let bill = |row: &sqlx::sqlite::SqliteRow| {
            let output: Option<Vec<u8>> = row.get(1);
            (row.get(0), output.map(|output| String::from_utf8(output).unwrap()), row.get::<i64, _>(2) as u64)
        };
        Self { orders: orders.iter().map(|row| row.get(0)).collect(), bills: bills.iter().map(bill).collect() }
    }

    async fn read_postgres(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let mut conn = options.connect().await.unwrap();
        let made = "SELECT to_regclass('orders') IS NOT NULL AND to_regclass('bills') IS NOT NULL";
        if !sqlx::query_scalar::<_, bool>(made).fetch_one(&mut conn).await.unwrap() {
            // No service came so far as to make them, which is no clean run.
            return Self::default();
        }
        let orders = sqlx::query("SELECT id FROM orders").fetch_all(&mut conn).await.unwrap();
        let bills =
            sqlx::query("SELECT id, output, nonce FROM bills ORDER BY number").fetch_all(&mut conn).await.unwrap();
        let bill = |row: &PgRow| {
            let output: Option<Vec<u8>> = row.get(1);
            (row.get(0), output.map(|output| String::from_utf8(output).unwrap()), row.get::<i64, _>(2) as u64)
        };
        Self { orders: orders.iter().map(|row| row.get(0)).collect(), bills: bills.iter().map(bill).collect() }
    }
}

impl Rows {
    /// Those of one of so many lanes.
    pub fn of_lane(&self, lane: usize, lanes: usize) -> Self {
        let ours = |id: &str| orders::task_of(id) as usize % lanes == lane;
        let orders = self.orders.iter().filter(|id| ours(id)).cloned().collect();
        Self { orders, bills: self.bills.iter().filter(|(id, ..)| ours(id)).cloned().collect() }
    }
}

/// What a run came to. All lists must be empty.
#[derive(Debug, Default)]
pub struct Findings {
    pub orders: usize,
    /// Stored, or said to be, and not on chain.
    pub lost: Vec<String>,
    /// On chain more than once, or under two nonces.
    pub doubled: Vec<String>,
    /// On chain, and nobody asked for it.
    pub strangers: Vec<String>,
    pub unbilled: Vec<String>,
    pub billed_twice: Vec<String>,
    /// Billed with another output than the order's.
    pub misbilled: Vec<String>,
    /// Nonces that nothing landed under, in an Ordered lane.
    pub gaps: Vec<u64>,
    /// Bills that come before one of a lower nonce, in an Ordered lane.
    pub out_of_order: Vec<u64>,
    /// Nonces under which more was sent than the plan forces.
    pub two_payloads: Vec<u64>,
    /// Payloads that were sent with two signatures.
    pub two_signatures: Vec<u64>,
    /// Orders that had more nonces than the node has failed or forgotten of theirs, and one.
    pub moved: Vec<String>,
    /// What the counts say that must be equal, and are not.
    pub unequal: Vec<String>,
    /// Different payloads that were sent.
    pub submissions: usize,
    pub replaced: usize,
    pub filled: usize,
    pub renumbered: usize,
    /// Nonces whose jobs a node of the State revision has forgotten.
    pub forgotten: usize,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        let texts = [&self.lost, &self.doubled, &self.strangers, &self.unbilled, &self.billed_twice];
        let more = [&self.misbilled, &self.moved, &self.unequal];
        let numbers = [&self.gaps, &self.out_of_order, &self.two_payloads, &self.two_signatures];
        texts.iter().chain(&more).all(|list| list.is_empty()) && numbers.iter().all(|list| list.is_empty())
    }

    /// Those of another lane beside these.
    pub fn add(&mut self, mut other: Self) {
        for (all, more) in [
            (&mut self.lost, &mut other.lost),
            (&mut self.doubled, &mut other.doubled),
            (&mut self.strangers, &mut other.strangers),
            (&mut self.unbilled, &mut other.unbilled),
            (&mut self.billed_twice, &mut other.billed_twice),
            (&mut self.misbilled, &mut other.misbilled),
            (&mut self.moved, &mut other.moved),
            (&mut self.unequal, &mut other.unequal),
        ] {
            all.append(more);
        }
        for (all, more) in [
            (&mut self.gaps, &mut other.gaps),
            (&mut self.out_of_order, &mut other.out_of_order),
            (&mut self.two_payloads, &mut other.two_payloads),
            (&mut self.two_signatures, &mut other.two_signatures),
        ] {
            all.append(more);
        }
        self.orders += other.orders;
        self.submissions += other.submissions;
        self.replaced += other.replaced;
        self.filled += other.filled;
        self.renumbered += other.renumbered;
        self.forgotten += other.forgotten;
    }

    /// What counts where the service cannot know all that it has sent: every order landed once, and was billed once.
    pub fn came_to_its_end(&self) -> bool {
        let texts = [&self.lost, &self.doubled, &self.strangers, &self.unbilled, &self.billed_twice, &self.misbilled];
        texts.iter().all(|list| list.is_empty()) && self.gaps.is_empty() && self.out_of_order.is_empty()
    }
}

fn more_than_once<'a>(of: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    of.for_each(|id| *counts.entry(id).or_default() += 1);
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id.to_owned()).collect()
}

/// `told`: orders that the service said it had stored.
pub fn check(
    world: &World,
    rows: &Rows,
    told: &BTreeSet<String>,
    sent: &Sent,
    report: &Report,
    restarts: usize,
) -> Findings {
    let mut found = Findings { orders: rows.orders.len(), ..Findings::default() };
    settled(world, rows, told, report, &mut found);
    passed(world, rows, sent, report, restarts, &mut found);
    found
}

/// What became of the orders.
fn settled(world: &World, rows: &Rows, told: &BTreeSet<String>, report: &Report, found: &mut Findings) {
    let orders = &rows.orders;
    let landed: BTreeSet<&str> = report.landed.iter().map(|(_, text)| text.as_str()).collect();
    let wanted: BTreeSet<String> = orders.iter().map(|id| orders::landing(id, world.after)).collect();
    found.lost = wanted.iter().filter(|text| !landed.contains(text.as_str())).cloned().collect();
    found.lost.extend(told.difference(orders).cloned());
    found.strangers = landed.iter().filter(|text| !wanted.contains(**text)).map(|text| (*text).to_owned()).collect();
    found.doubled = more_than_once(report.landed.iter().map(|(_, text)| orders::order_of(text)));
    let billed: BTreeSet<&str> = rows.bills.iter().map(|(id, ..)| id.as_str()).collect();
    found.unbilled = orders.iter().filter(|id| !billed.contains(id.as_str())).cloned().collect();
    found.billed_twice = more_than_once(rows.bills.iter().map(|(id, ..)| id.as_str()));
    for (id, output, _) in &rows.bills {
        let none = orders::fails(id) && world.after == After::Fill;
        if output.as_deref() != (!none).then_some(id.as_str()) {
            found.misbilled.push(id.clone());
        }
    }
    if world.ordered {
        let nonces: BTreeSet<u64> = report.landed.iter().map(|(nonce, _)| *nonce).collect();
        let last = nonces.last().copied().unwrap_or(0);
        found.gaps = (1..last).filter(|nonce| !nonces.contains(nonce)).collect();
        let pairs = rows.bills.windows(2);
        found.out_of_order = pairs.filter(|pair| pair[0].2 >= pair[1].2).map(|pair| pair[1].2).collect();
    }
}

/// What passed between service and node.
fn passed(world: &World, rows: &Rows, sent: &Sent, report: &Report, restarts: usize, found: &mut Findings) {
    let mut nonces: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (nonce, payloads) in sent {
        found.submissions += payloads.len();
        if payloads.values().any(|signatures| signatures.len() != 1) {
            found.two_signatures.push(*nonce);
        }
        let inputs: BTreeSet<String> = payloads.keys().map(|request| onchain_input(request)).collect();
        for input in &inputs {
            nonces.entry(orders::order_of(input).to_owned()).or_default().insert(*nonce);
        }
        // One payload, or where the plan forces it the one that fails and the one that takes its place.
        let first = inputs.iter().map(|input| orders::order_of(input)).next().unwrap_or_default();
        let mut forced = BTreeSet::from([orders::input(first)]);
        if orders::fails(first) && world.after != After::Renumber {
            forced.insert(orders::landing(first, world.after));
        }
        if payloads.len() != inputs.len() || !inputs.is_subset(&forced) {
            found.two_payloads.push(*nonce);
        } else if inputs.len() == 2 {
            match world.after {
                After::Replace => found.replaced += 1,
                _ => found.filled += 1,
            }
        }
    }
    let failing = rows.orders.iter().filter(|id| orders::fails(id)).count();
    let mut expect = |what: &str, is: usize, forced: usize| {
        if is != forced {
            found.unequal.push(format!("{what}: {is}, and the plan forces {forced}"));
        }
    };
    let in_place = |after| if world.after == after { failing } else { 0 };
    expect("replaced", found.replaced, in_place(After::Replace));
    expect("filled", found.filled, in_place(After::Fill));
    // Only a node of the State revision shows failed and forgotten jobs at the end, whose nonces it takes no more.
    let state = |nonce: &u64| report.records.get(nonce).map_or("unknown", String::as_str);
    let mut failed = 0;
    for (id, nonces) in &nonces {
        let over = nonces.iter().filter(|nonce| state(nonce) == "failed").count();
        let forgotten = nonces.iter().filter(|nonce| matches!(state(nonce), "pending" | "done")).count();
        let relayed = nonces.iter().filter(|nonce| state(nonce) == "relayed").count();
        failed += over;
        found.forgotten += forgotten;
        found.renumbered += nonces.len() - 1;
        if relayed != 1 || nonces.len() != 1 + over + forgotten || over > usize::from(orders::fails(id)) {
            found.moved.push(format!("{id} {nonces:?}"));
        }
    }
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            found.unequal.push(format!("{what}: {failed} failed, {} forgotten, {restarts} restarts", found.forgotten));
        }
    };
    expect("forgotten without a restart", found.forgotten == 0 || world.state && restarts > 0);
    expect("failed records", failed <= in_place(After::Renumber));
    // One that was forgotten while it ran has failed unseen.
    expect("renumbered", failed + found.forgotten >= in_place(After::Renumber));
}
