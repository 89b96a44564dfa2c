//! Who owns which lane, where several instances share a store.
//!
//! The database's clock says only whether a lane may be taken. Whether a write counts, its fence says.

use std::time::Duration;

use super::{
    apply::{UNCHECKED, hold_lane, take},
    parameters::signed,
    session::{Fetched, SqlSession, get, query},
    values::{maybe_number, number},
};
use crate::outbox::store::{Claimed, Fence, LaneOwner, Tenant};

fn millis(time: Duration) -> i64 {
    signed(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The database's clock. Read after the lane's row is held: it is no time for which somebody waited.
async fn now(conn: &mut dyn SqlSession) -> Fetched<i64> {
    let text = conn.dialect().now;
    get(&query(text).fetch_one(conn).await?, "now")
}

/// Which cluster and timeline the database is on.
async fn history(conn: &mut dyn SqlSession) -> Fetched<String> {
    let text = conn.dialect().history;
    get(&query(text).fetch_one(conn).await?, "history")
}

/// Takes a lane that nobody has, or whose owner's lease has ended. Nothing if there is no such lane.
pub(super) async fn claim(conn: &mut dyn SqlSession, lane: i64, tenant: &Tenant) -> Fetched<Option<Claimed>> {
    if hold_lane(conn, lane).await?.is_none() {
        return Ok(None);
    }
    let text = "SELECT owner, owned_since, lease_until, longest_call, history FROM ivm_lanes WHERE lane = $1";
    let row = query(text).bind(lane).fetch_one(&mut *conn).await?;
    let (now, here) = (now(conn).await?, history(conn).await?);
    let owner: Option<String> = get(&row, "owner")?;
    let ours = owner.as_ref().is_some_and(|owner| *owner == tenant.instance);
    let lease: Option<i64> = get(&row, "lease_until")?;
    if owner.is_some() && !ours && lease.is_some_and(|until| until > now) {
        return Ok(Some(Claimed::Held));
    }
    // What the last owner was sending when its lease ended may still be on its way. One that handed the lane over has
    // waited for that itself, and left what it had to wait for those before it. What this instance sends it knows.
    let before = Duration::from_millis(maybe_number(&row, "longest_call")?.unwrap_or(0));
    let wait = if ours { Duration::ZERO } else { before };
    let longest = tenant.longest_call.max(before);
    let since = maybe_number(&row, "owned_since")?.filter(|_| ours).map_or(now, signed);
    let known: Option<String> = get(&row, "history")?;
    let went_back = known.is_some_and(|known| known != here);
    let here = if went_back { format!("{UNCHECKED}{here}") } else { here };
    let Some(fence) = take(conn, lane).await? else { return Ok(None) };
    let text = "UPDATE ivm_lanes SET owner = $2, owned_since = $3, lease_until = $4, longest_call = $5, history = $6 \
                WHERE lane = $1";
    query(text)
        .bind(lane)
        .bind(tenant.instance.clone())
        .bind(since)
        .bind(now.saturating_add(millis(tenant.lease)))
        .bind(millis(longest))
        .bind(here)
        .execute(conn)
        .await?;
    Ok(Some(Claimed::Taken { fence, wait, went_back }))
}

/// Prolongs a lease. False if the lane is somebody else's, or if the database is on another timeline than when it was
/// taken: then it is to be taken anew.
pub(super) async fn renew(conn: &mut dyn SqlSession, fence: Fence, tenant: &Tenant) -> Fetched<bool> {
    if hold_lane(conn, fence.lane).await? != Some(fence.token) {
        return Ok(false);
    }
    let (now, here) = (now(conn).await?, history(conn).await?);
    let text = "UPDATE ivm_lanes SET lease_until = $2 WHERE lane = $1 AND owner = $3 AND history IN ($4, $5)";
    let renewed = query(text).bind(fence.lane).bind(now.saturating_add(millis(tenant.lease)));
    let unchecked = format!("{UNCHECKED}{here}");
    Ok(renewed.bind(tenant.instance.clone()).bind(here).bind(unchecked).execute(conn).await? == 1)
}

/// Gives a lane back, of which nothing of the caller's is under way any more. `wait`: so long, what owners before it
/// were sending may be.
pub(super) async fn release(conn: &mut dyn SqlSession, fence: Fence, wait: Duration) -> Fetched<bool> {
    if hold_lane(conn, fence.lane).await? != Some(fence.token) {
        return Ok(false);
    }
    // With a new fence: what its worker may still write does not count.
    let text = "UPDATE ivm_lanes SET owner = NULL, owned_since = NULL, lease_until = NULL, longest_call = $2, \
                token = token + 1 WHERE lane = $1";
    let wait = Some(millis(wait)).filter(|wait| *wait > 0);
    Ok(query(text).bind(fence.lane).bind(wait).execute(conn).await? == 1)
}

/// Notes that an instance is there. Those that were heard of within half a lease, by their names.
pub(super) async fn beat(conn: &mut dyn SqlSession, tenant: &Tenant) -> Fetched<Vec<String>> {
    let now = now(conn).await?;
    let text = "INSERT INTO ivm_instances (instance, alive_until) VALUES ($1, $2) \
                ON CONFLICT (instance) DO UPDATE SET alive_until = $2";
    let until = now.saturating_add(millis(tenant.lease));
    query(text).bind(tenant.instance.clone()).bind(until).execute(&mut *conn).await?;
    let text = "DELETE FROM ivm_instances WHERE alive_until < $1";
    query(text).bind(now.saturating_sub(millis(tenant.lease))).execute(&mut *conn).await?;
    let heard = now.saturating_add(millis(tenant.lease / 2));
    let alive = query("SELECT instance FROM ivm_instances WHERE alive_until > $1").bind(heard).fetch_all(conn).await?;
    let mut alive: Vec<String> = alive.iter().map(|row| get(row, "instance")).collect::<Fetched<_>>()?;
    // Not in the database's order, which depends on its language: an instance compares its own name, too.
    alive.sort_unstable();
    Ok(alive)
}

/// An instance ends.
pub(super) async fn leave(conn: &mut dyn SqlSession, instance: &str) -> Fetched<bool> {
    let text = "DELETE FROM ivm_instances WHERE instance = $1";
    Ok(query(text).bind(instance.to_owned()).execute(conn).await? == 1)
}

/// Who owns which lane.
pub(super) async fn owners(conn: &mut dyn SqlSession) -> Fetched<Vec<LaneOwner>> {
    let now = now(conn).await?;
    let text = "SELECT lane, owner, owned_since, lease_until FROM ivm_lanes WHERE owner IS NOT NULL ORDER BY lane";
    let rows = query(text).fetch_all(conn).await?;
    let owner = |row| {
        let lives = get::<Option<i64>>(row, "lease_until")?.is_some_and(|until| until > now);
        let (lane, instance) = (get(row, "lane")?, get(row, "owner")?);
        Ok(LaneOwner { lane, instance, since: number(row, "owned_since")?, lives })
    };
    rows.iter().map(owner).collect()
}
