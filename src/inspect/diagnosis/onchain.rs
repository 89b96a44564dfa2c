//! What the chain shows of a job: one round trip, the relay tried in it.

use alloy_primitives::{Address, B256};

use super::evidence::{Onchain, Operators, Signer, Trial};
use crate::{
    chain::{Answers, Batch, Block, Chain, ChainStanding, Revert, SignatureCheck, StandingTickets, Ticket},
    error::Result,
    inspect::words::status_words,
    job::{JobRecord, SignedJob, Verified, eip191_hash, one_line, recover_signer},
};

/// What the node's record gives the chain to judge.
#[derive(Default)]
pub(super) struct Claims {
    pub verified: Option<Verified>,
    /// Who signed the result that it shows.
    pub signed_by: Option<Address>,
    /// How often the node has tried to relay the result.
    pub retries: u32,
    pub tx_hash: Option<B256>,
}

impl Claims {
    pub(super) fn of(record: &JobRecord, verified: Option<Verified>) -> Self {
        let signed_by = record
            .has_result()
            .then(|| recover_signer(&record.result_with_metadata, &record.operator_signature).ok())
            .flatten();
        Self { verified, signed_by, retries: record.retries(), tx_hash: record.relay_tx_hash() }
    }
}

/// Asks the chain, and says in words what it showed, and which block is the latest. Nothing if it cannot be read. With
/// the tip of an earlier round it is a second look, about that block or a later one.
pub(super) async fn onchain(
    chain: &Chain,
    job: &SignedJob,
    claims: &Claims,
    pinned: Option<Address>,
    seen: Option<Block>,
    lines: &mut Vec<String>,
) -> Option<(Onchain, Block)> {
    match ask(chain, job, claims, pinned, seen).await {
        Ok((onchain, next_nonce, tip)) => {
            describe(&onchain, claims, next_nonce, lines);
            Some((onchain, tip))
        }
        Err(error) => {
            lines.push(format!("chain: not read: {}", one_line(&error.to_string())));
            None
        }
    }
}

async fn ask(
    chain: &Chain,
    job: &SignedJob,
    claims: &Claims,
    pinned: Option<Address>,
    seen: Option<Block>,
) -> Result<(Onchain, Option<u64>, Block)> {
    let consumer = job.consumer();
    let ask = |batch: &mut Batch| {
        (
            StandingTickets::ask(batch, job),
            batch.operator(),
            (batch.next_nonce(consumer), batch.max_nonce(consumer)),
            batch.is_valid_signature(consumer, eip191_hash(job.request()), job.signature().clone()),
            batch.offchain_signer(consumer),
            batch.latest_state(consumer, job.revision()),
            claims.tx_hash.map(|hash| batch.receipt(hash)),
            claims.verified.as_ref().map(|verified| batch.raw_call(chain.post_call(verified, None))),
        )
    };
    let snapshot = match seen {
        None => chain.at_latest(ask).await?,
        Some(seen) => chain.again(seen, ask).await?,
    };
    let (tip, mut answers) = (snapshot.tip, snapshot.answers);
    let (standing, operator, (next_nonce, max_nonce), valid, named, latest, claimed, trial) = snapshot.asked;

    // The JobManager must be there; what a consumer does not answer is not known, which may be how it is written.
    let (standing, operator) = (standing.take(&mut answers, job)?, answers.take(operator)?);
    // Where the consumer does not show whose job it is, perhaps the transaction does.
    let transactions = claims.tx_hash.into_iter().collect();
    let standing = standing.settled(chain, job, transactions, claims.verified.as_ref()).await.unwrap_or(standing);
    let max_nonce = answers.take(max_nonce).ok();
    let latest = answers.take(latest).ok().flatten();
    let state = job.input_state().zip(latest).filter(|(input, latest)| input != latest);
    let operators =
        claims.signed_by.filter(|signed_by| *signed_by != operator || pinned.is_some_and(|it| it != operator));
    let claimed = claimed.map(|ticket| answers.take(ticket));
    let receipt = claimed.as_ref().and_then(|claimed| claimed.as_ref().ok()?.as_ref());
    let onchain = Onchain {
        standing,
        max_nonce,
        signer: signer(&mut answers, job, valid, named, max_nonce.is_some()),
        state,
        operators: operators.map(|signed_by| Operators { signed_by, pinned, named: operator }),
        trial: trial.and_then(|ticket| answers.take(ticket).ok()).map_or(Trial::NotMade, |tried| match tried {
            Ok(_) => Trial::Lands,
            Err(data) => {
                let revert = Revert::decode(&data);
                Trial::Reverts { cause: revert.cause(), reason: revert.to_string() }
            }
        }),
        reverted: receipt.is_some_and(|receipt| !receipt.succeeded),
        absent: matches!(claimed, None | Some(Ok(None))),
    };
    Ok((onchain, answers.take(next_nonce).ok(), tip))
}

fn signer(
    answers: &mut Answers,
    job: &SignedJob,
    valid: Ticket<SignatureCheck>,
    named: Ticket<Option<Address>>,
    is_consumer: bool,
) -> Signer {
    match answers.take(valid) {
        Ok(SignatureCheck::Valid) => Signer::Accepted,
        // What is no consumer has said nothing.
        Ok(_) if is_consumer => {
            Signer::Refused { recovered: job.recover().ok(), named: answers.take(named).ok().flatten() }
        }
        Ok(_) | Err(_) => Signer::Unknown,
    }
}

fn describe(onchain: &Onchain, claims: &Claims, next_nonce: Option<u64>, lines: &mut Vec<String>) {
    let mut say = |line: String| lines.push(format!("chain: {line}"));
    say(match onchain.standing {
        ChainStanding::Unseen => "getJobMetadata: the chain has no job under this nonce".into(),
        ChainStanding::Complete => "getJobMetadata: this very job is complete".into(),
        ChainStanding::Unclear => {
            "getJobMetadata: a job is complete under this nonce, and nothing shows that it is another than this one"
                .into()
        }
        ChainStanding::Taken(status) => format!("getJobMetadata: another job has the nonce, {}", status_words(status)),
    });
    match (onchain.max_nonce, next_nonce) {
        (Some(max), Some(next)) => say(format!("maxNonce() of the consumer is {max}, getNextNonce() {next}")),
        (Some(max), None) => say(format!("maxNonce() of the consumer is {max}")),
        (None, _) => {
            say("the consumer does not answer maxNonce(): there is no such contract, or it has another form".into())
        }
    }
    if let Signer::Refused { recovered, named } = onchain.signer {
        let by =
            |address: Option<Address>| address.map_or("an account that it does not name".into(), |it| it.to_string());
        let who = recovered.map_or("the signature".into(), |it| format!("the signature of {it}"));
        say(format!("isValidSignature refuses {who}; the consumer accepts {}", by(named)));
    }
    if let Some((input, latest)) = onchain.state {
        say(format!("the job starts from the state {input}, the consumer's latest is {latest}"));
    }
    if let Some(Operators { signed_by, named, .. }) = onchain.operators {
        say(format!("getCoprocessorOperator() is {named}; the result is signed by {signed_by}"));
    }
    match &onchain.trial {
        Trial::NotMade => {}
        Trial::Lands => say("posting the result, tried in a call, would succeed".into()),
        Trial::Reverts { reason, .. } => {
            say(format!("posting the result, tried in a call, reverts: {}", one_line(reason)))
        }
    }
    if claims.tx_hash.is_some() && onchain.absent {
        say("the transaction that the node names is in no block".into());
    }
    if onchain.reverted {
        say("the transaction that the node names has reverted".into());
    }
}
