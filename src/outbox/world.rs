//! Which network, and what is found at start that the store does not know.

use std::{collections::BTreeMap, ops::Range};

use alloy_primitives::Address;
use tokio::task::JoinSet;

use super::{
    clock::now,
    config::LaneConfig,
    decide::HoldReason,
    news::{ActNews, LaneVoice},
    store::{Act, Fence, Halt, LaneRow, LaneSpec, Storage},
};
use crate::{
    chain::OnchainStatus,
    client::Client,
    error::{Error, ErrorKind, Result},
    job::{JobId, RelayStrategy},
};

/// At least so many nonces from the lane's counter on are looked at when a worker starts, and as many as the lane has
/// under way at once: its window may have been wider before.
const LEAST_PROBED: u32 = 256;
/// Nonces that are looked at at once.
const AT_ONCE: u64 = 32;
/// So many of the lane's last jobs are looked at for who has signed them.
const SIGNERS: u32 = 16;
/// Nonces in use that are listed. Beyond them no more are looked for.
const LISTED: usize = 16;

/// The network as the store names it: signed bytes hold no chain id, so what was signed for one chain is good on any
/// other.
pub(super) async fn network(client: &Client, name: Option<&str>) -> Result<String> {
    match (client.chain(), name) {
        (Some(chain), _) => {
            let identity = chain.identity().await?;
            Ok(format!("{}:{}:{}", identity.chain_id, identity.genesis_hash, chain.job_manager()))
        }
        (None, Some(name)) => Ok(format!("named:{name}")),
        (None, None) => Err(Error::new(ErrorKind::InvalidConfig, "the client has no chain, and the network no name")
            .with_hint(
                "give the client a chain, so that the outbox knows its jobs' network; or name it with OutboxBuilder::network",
            )),
    }
}

/// The store's lane for a configuration, made if there is none; refused if it is not the same lane.
pub(super) async fn open(
    storage: &dyn Storage,
    client: &Client,
    network: &str,
    config: &LaneConfig,
    known: &[LaneRow],
) -> Result<LaneRow> {
    let revision = client.revision();
    config.check(revision)?;
    let consumer = config.consumer();
    if let Some(binding) = client.binding() {
        binding.check_consumer(consumer)?;
    }
    if let Some(other) = known.iter().find(|row| row.spec.network != network) {
        let what =
            format!("the store's jobs are for the network {}, and the client is on {network}", other.spec.network);
        return Err(Error::new(ErrorKind::WrongChain, what)
            .with_endpoint(storage.place())
            .with_hint("use the client of that network, or a store of its own for this one"));
    }
    let made = known.iter().find(|row| row.spec.consumer == consumer);
    let first_nonce = match (made, config.first_nonce()) {
        (Some(made), _) => made.spec.first_nonce,
        (None, Some(first)) => first,
        (None, None) => match client.chain() {
            Some(chain) => chain.next_nonce(consumer).await?,
            None => 1,
        },
    };
    if i64::try_from(first_nonce).is_err() {
        return Err(Error::new(ErrorKind::Nonce, format!("the outbox cannot count nonces from {first_nonce} on"))
            .with_hint("its nonces are below 2^63"));
    }
    let spec = LaneSpec { network: network.to_owned(), consumer, revision, ordered: config.is_ordered(), first_nonce };
    let row = storage.open_lane(spec).await?;
    if row.spec.revision != revision {
        let what =
            format!("the lane's jobs are for the {} revision, and the client speaks {revision}", row.spec.revision);
        return Err(Error::new(ErrorKind::WrongRevision, what)
            .with_endpoint(storage.place())
            .with_hint("use a client of that revision"));
    }
    if row.spec.ordered != config.is_ordered() {
        let name = if row.spec.ordered { "Ordered" } else { "Unordered" };
        return Err(Error::new(ErrorKind::InvalidConfig, format!("the lane of {consumer} is {name} in the store"))
            .with_endpoint(storage.place())
            .with_hint("a consumer has one strategy for good: nodes count Ordered nonces, and Unordered ones do not advance them"));
    }
    Ok(row)
}

/// Refuses a client that signs with another account than the lane's last one did, as far as its jobs are not over.
pub(super) async fn check_signer(storage: &dyn Storage, client: &Client, lane: &LaneRow) -> Result<()> {
    let account = client.signing_account()?;
    let last = lane.next_nonce.checked_sub(u64::from(SIGNERS) + 1);
    for job in storage.unfinished(lane.id, last, SIGNERS).await? {
        let signed = storage.payload(job.payload).await?.and_then(|payload| payload.signed);
        let Some((signer, _)) = signed.filter(|(signer, _)| *signer != account) else { continue };
        let what =
            format!("the job of ticket {} is signed by {signer}, and the client signs with {account}", job.ticket);
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_endpoint(storage.place()).with_hint(
            "use the store's signer; or, if the consumer takes both or another one now, set OutboxBuilder::any_signer",
        ));
    }
    Ok(())
}

/// Nonces from the lane's counter on that node or chain show in use: the store does not know of them, so it may have
/// gone back in time, or somebody else uses the consumer. What neither shows cannot be found.
pub(super) async fn strangers(client: &Client, config: &LaneConfig, next_nonce: u64) -> Result<Vec<String>> {
    let consumer = config.consumer();
    let mut found = Vec::new();
    if let Some(chain) = client.chain() {
        let on_chain = chain.next_nonce(consumer).await?;
        if on_chain > next_nonce {
            found.push(format!("the chain's next nonce is {on_chain}, and the store's {next_nonce}"));
        }
    }
    // No job is sent before all but a window of those below have come to their end, which shows. So if any nonce from
    // the counter on is in use, then one of these is.
    let end = next_nonce.saturating_add(config.window().max(LEAST_PROBED).into());
    let mut nonce = next_nonce;
    while nonce < end && found.len() < LISTED {
        let next = nonce.saturating_add(AT_ONCE).min(end);
        found.extend(in_use(client, consumer, nonce..next).await?);
        nonce = next;
    }
    if found.len() > LISTED {
        found.truncate(LISTED);
        found.push("and more".to_owned());
    }
    Ok(found)
}

/// Which of these nonces node or chain show in use, in their order.
async fn in_use(client: &Client, consumer: Address, nonces: Range<u64>) -> Result<Vec<String>> {
    let ids: Vec<_> = nonces.map(|nonce| (nonce, JobId::derive(nonce, consumer))).collect();
    let mut found = BTreeMap::new();
    if let Some(chain) = client.chain() {
        let mut batch = chain.batch();
        let tickets: Vec<_> = ids.iter().map(|(_, id)| batch.job_metadata(*id)).collect();
        let mut answers = batch.send().await?;
        for ((nonce, id), ticket) in ids.iter().zip(tickets) {
            let status = answers.take(ticket)?.status;
            if status != OnchainStatus::Unknown {
                found.insert(*nonce, format!("nonce {nonce}: on chain as {status:?} (job {id})"));
            }
        }
    }
    let mut looks = JoinSet::new();
    for (nonce, id) in ids.into_iter().filter(|(nonce, _)| !found.contains_key(nonce)) {
        let client = client.clone();
        looks.spawn(async move { (nonce, id, client.get_result(id).await) });
    }
    while let Some(looked) = looks.join_next().await {
        let cut_off = |error| Error::new(ErrorKind::Closed, "a look at the node was cut off").with_source(error);
        match looked.map_err(cut_off)? {
            (nonce, id, Ok(record)) => {
                found.insert(nonce, format!("nonce {nonce}: at the node as {} (job {id})", record.status()));
            }
            (_, _, Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (_, _, Err(error)) => return Err(error),
        }
    }
    Ok(found.into_values().collect())
}

/// Halts a lane whose store may have gone back in time.
pub(super) async fn halt_if_restored(
    storage: &dyn Storage,
    client: &Client,
    fence: Fence,
    row: &LaneRow,
    mut found: Vec<String>,
    went_back: bool,
) -> Result<()> {
    if went_back {
        found.insert(0, "the store is an older one, or another, than the last worker had".to_owned());
    }
    if found.is_empty() {
        return Ok(());
    }
    let note = format!("nonces from {} on may be in use: {}", row.next_nonce, found.join("; "));
    let halt = Halt { reason: HoldReason::Restored, ticket: None, note };
    let act = Act::Halt { halt, now: now() };
    let news = ActNews::of(&act);
    let acted = storage.act(fence, act).await?;
    let strategy = if row.spec.ordered { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    LaneVoice { client, consumer: row.spec.consumer, strategy }.tell(&news, None, &acted);
    Ok(())
}
