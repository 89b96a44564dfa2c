//! What the chain shows of a job, made of the contracts' answers.

use alloy_primitives::{Address, B256};

use super::evidence::{Onchain, Operators};
use crate::{
    chain::{Chain, ChainStanding, Revert},
    error::{Error, Result},
    inspect::{
        facts::{AtNode, Read, SeenAt, Sent, Signer, sent},
        lane::Refused,
        sources::Sources,
        trial::Trial,
        words::status_words,
    },
    job::{JobRecord, SignedJob, Verified, recover_signer},
    text::one_line,
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
    /// The record of the job at the head of the lane, if this one waits for it.
    pub head: Option<JobRecord>,
}

impl Claims {
    pub(super) fn of(record: &JobRecord, verified: Option<Verified>) -> Self {
        let signed_by = record
            .has_result()
            .then(|| recover_signer(&record.result_with_metadata, &record.operator_signature).ok())
            .flatten();
        Self { verified, signed_by, retries: record.retries(), tx_hash: record.relay_tx_hash(), head: None }
    }
}

/// Asks the chain, and says in words what it showed, and where a second look goes on. Nothing if it cannot be read.
/// After an earlier round it is a second look, about the block that was the latest then or a later one.
pub(super) async fn onchain(
    sources: &Sources,
    chain: &Chain,
    job: &SignedJob,
    claims: &Claims,
    seen: Option<&SeenAt>,
    lines: &mut Vec<String>,
) -> Option<(Onchain, SeenAt)> {
    let read = async {
        let Claims { verified, tx_hash, head, .. } = claims;
        let shown = AtNode { transaction: *tx_hash, result: verified.as_ref(), head: head.as_ref() };
        let Read { facts, seen, .. } = sent(sources, chain, job, &shown, seen).await?;
        Ok::<_, Error>((interpret(facts, sources.operator.pinned(), &seen, job, claims).await?, seen))
    };
    match read.await {
        Ok((onchain, seen)) => {
            describe(&onchain, claims, lines);
            Some((onchain, seen))
        }
        Err(error) => {
            lines.push(format!("chain: not read: {}", one_line(&error.to_string())));
            None
        }
    }
}

async fn interpret(
    facts: Sent,
    pinned: Option<Address>,
    seen: &SeenAt,
    job: &SignedJob,
    claims: &Claims,
) -> Result<Onchain> {
    let SeenAt { tip, rpc } = seen;
    // What is no consumer has said nothing.
    let signer = if facts.job.max_nonce.is_ok() { facts.job.signer(job).ok() } else { None };
    // The JobManager must be there; what a consumer does not answer is not known, which may be how it is written.
    let standing = ChainStanding::of(job, &facts.job.metadata?, &facts.job.inputs)?;
    let operator = facts.job.operator?;
    // Where the consumer does not show whose job it is, perhaps the transaction does.
    let transactions = claims.tx_hash.into_iter().collect();
    let standing = standing.settled(rpc, job, transactions, claims.verified.as_ref()).await.unwrap_or(standing);
    let latest = facts.job.latest_state.ok().flatten();
    let state = job.input_state().zip(latest).filter(|(input, latest)| input != latest);
    let operators =
        claims.signed_by.filter(|signed_by| *signed_by != operator || pinned.is_some_and(|it| it != operator));
    // It is at the head of the lane if the chain has all before it.
    let is_next =
        |head: &&JobRecord| facts.job.max_nonce.as_ref().is_ok_and(|max| max.saturating_add(1) >= head.nonce());
    let head = match (facts.head, claims.head.as_ref().filter(is_next)) {
        (Some(of), Some(head)) => of.refused(rpc, head, latest, *tip).await,
        _ => None,
    };
    let receipt = facts.receipt.as_ref().and_then(|receipt| receipt.as_ref().ok()?.as_ref());
    Ok(Onchain {
        standing,
        max_nonce: facts.job.max_nonce.ok(),
        next_nonce: facts.job.next_nonce.ok(),
        signer,
        state,
        operators: operators.map(|signed_by| Operators { signed_by, pinned, named: operator }),
        trial: Trial::of(rpc, facts.trial, *tip).await.0,
        head,
        reverted: receipt.is_some_and(|receipt| !receipt.succeeded),
        absent: matches!(facts.receipt, None | Some(Ok(None))),
    })
}

fn describe(onchain: &Onchain, claims: &Claims, lines: &mut Vec<String>) {
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
    match (onchain.max_nonce, onchain.next_nonce) {
        (Some(max), Some(next)) => say(format!("maxNonce() of the consumer is {max}, getNextNonce() {next}")),
        (Some(max), None) => say(format!("maxNonce() of the consumer is {max}")),
        (None, _) => {
            say("the consumer does not answer maxNonce(): there is no such contract, or it has another form".into())
        }
    }
    match &onchain.signer {
        Some(Signer::Refused { recovered, named }) => {
            let by = named.map_or("an account that it does not name".into(), |it| it.to_string());
            let who = recovered.map_or("the signature".into(), |it| format!("the signature of {it}"));
            say(format!("isValidSignature refuses {who}; the consumer accepts {by}"));
        }
        Some(Signer::Nobody { accepts: false }) => {
            say("isValidSignature refuses the signature; the consumer's signer is the zero address".into());
        }
        Some(Signer::CheckReverts(reason)) => say(format!("isValidSignature reverts: {}", Revert::decode(reason))),
        Some(Signer::Accepted | Signer::Nobody { accepts: true }) | None => {}
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
    if let Some(Refused { nonce, reason, .. }) = &onchain.head {
        say(format!("nonce {nonce} is the next to land, and would be refused: {}", one_line(reason)));
    }
    if claims.tx_hash.is_some() && onchain.absent {
        say("the transaction that the node names is in no block".into());
    }
    if onchain.reverted {
        say("the transaction that the node names has reverted".into());
    }
}
