//! Looks at all RPCs: which chain most of them are of, and which of them can be used.

use std::sync::Arc;

use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout},
};

use super::shared::{Introduction, MeantChain, RpcSet};
use crate::error::{Error, ErrorKind, Result};

/// How long a look of somebody else's is waited for, who may be on a runtime that stands still.
const PATIENCE: Duration = Duration::from_secs(5);

/// The chain that most of them are of; found out once. An RPC that does not answer has no voice.
///
/// # Errors
/// [`ErrorKind::WrongChain`] if no chain has more of them than any other; [`ErrorKind::Chain`] if none answers.
pub(super) async fn chain_of_most(rpcs: &Arc<RpcSet>) -> Result<MeantChain> {
    if let Some(found) = *rpcs.found.lock() {
        return Ok(found);
    }
    let _finding = timeout(PATIENCE, rpcs.finding.lock()).await;
    if let Some(found) = *rpcs.found.lock() {
        return Ok(found);
    }
    let (mut asks, mut heard, mut failure) = (introductions(rpcs, 0..rpcs.readers.len()), Vec::new(), None);
    while let Some((index, said)) = next(&mut asks).await {
        match said {
            Ok(said) => heard.push((index, said)),
            Err(error) => {
                let error = error.with_endpoint(rpcs.endpoint(index));
                rpcs.failed(index, &error);
                failure = Some(error);
            }
        }
        if groups(&heard).first().is_some_and(|(_, voices)| voices * 2 > rpcs.readers.len()) {
            break;
        }
    }
    let groups = groups(&heard);
    let found = match &groups[..] {
        [] => return Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Chain, "no RPC was asked"))),
        [(_, voices), (_, as_many), ..] if voices == as_many => return Err(divided(rpcs, &heard)),
        [(meant, _), ..] => *meant,
    };
    *rpcs.found.lock() = Some(found);
    rpcs.health.lock().looked_at_all(Instant::now());
    take_in(rpcs, found, heard);
    Ok(found)
}

/// The chains that they are of, those of most of them first.
fn groups(heard: &[(usize, Introduction)]) -> Vec<(MeantChain, usize)> {
    let mut groups: Vec<(MeantChain, usize)> = Vec::new();
    for (_, said) in heard {
        match groups.iter_mut().find(|(meant, _)| said.is_of(*meant)) {
            Some((meant, voices)) => {
                meant.genesis = meant.genesis.or(said.genesis);
                *voices += 1;
            }
            None => groups.push((MeantChain { chain_id: said.chain_id, genesis: said.genesis }, 1)),
        }
    }
    groups.sort_by_key(|(_, voices)| std::cmp::Reverse(*voices));
    groups
}

fn divided(rpcs: &RpcSet, heard: &[(usize, Introduction)]) -> Error {
    let each = heard.iter().map(|(index, said)| format!("{} is on chain {}", rpcs.endpoint(*index), said.chain_id));
    let what = format!("the RPCs are not of one chain: {}", each.collect::<Vec<_>>().join(", "));
    Error::new(ErrorKind::WrongChain, what).with_hint(
        "say which chain is meant, by Chain::with_chain_id or ClientBuilder::bind; if they have one id, their block 0 differs",
    )
}

/// Looks at those that it is time for, in a task that nobody waits for.
pub(super) fn tend(rpcs: &Arc<RpcSet>, meant: MeantChain, unused: bool) {
    let due = rpcs.health.lock().due(unused, Instant::now());
    if due.is_empty() {
        return;
    }
    let over = Over(Arc::clone(rpcs));
    tokio::spawn(async move {
        survey(&over.0, meant, due).await;
    });
}

/// A look at some of them is over, also if its runtime ends.
struct Over(Arc<RpcSet>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.health.lock().surveyed();
        self.0.changed.notify_waiters();
    }
}

async fn survey(rpcs: &Arc<RpcSet>, meant: MeantChain, some: Vec<usize>) {
    let (mut asks, mut heard) = (introductions(rpcs, some), Vec::new());
    while let Some((index, said)) = next(&mut asks).await {
        match said {
            Ok(said) => heard.push((index, said)),
            Err(error) => rpcs.failed(index, &error.with_endpoint(rpcs.endpoint(index))),
        }
    }
    take_in(rpcs, meant, heard);
}

/// What they have said of themselves.
fn take_in(rpcs: &RpcSet, meant: MeantChain, heard: Vec<(usize, Introduction)>) {
    let mut heads = Vec::new();
    for (index, said) in heard {
        if said.is_of(meant) {
            rpcs.health.lock().verify(index);
            heads.push((index, said.head));
        } else {
            _ = rpcs.on_another_chain(index, said.chain_id, meant);
        }
    }
    let lagging = rpcs.health.lock().compare(&heads, Instant::now());
    for (index, blocks) in lagging {
        _ = rpcs.lags(index, super::health::Behind { blocks, lags: true });
    }
}

type Asks = JoinSet<(usize, Result<Introduction>)>;

fn introductions(rpcs: &Arc<RpcSet>, some: impl IntoIterator<Item = usize>) -> Asks {
    let mut asks = JoinSet::new();
    for index in some {
        if let Ok(reader) = rpcs.reader(index).cloned() {
            asks.spawn(async move { (index, Introduction::of(&*reader).await) });
        }
    }
    asks
}

/// The next one that has answered. One whose reader panicked says nothing.
async fn next(asks: &mut Asks) -> Option<(usize, Result<Introduction>)> {
    loop {
        if let Ok(said) = asks.join_next().await? {
            return Some(said);
        }
    }
}
