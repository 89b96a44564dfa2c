//! Lanes that a person acts on, where several instances share the store: no instance takes them meanwhile.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval},
};

use super::{
    keeper::{RENEWALS, stopped},
    store::{Claimed, Fence, Storage, Tenant},
};
use crate::error::{Error, ErrorKind, Result};

pub(super) struct Attendance {
    storage: Arc<dyn Storage>,
    tenant: Tenant,
    claims: mpsc::UnboundedSender<Claim>,
}

/// A lane that is had, and until when what owners before sent may be on its way.
type Claim = (Fence, Instant);

impl Attendance {
    /// Prolongs the leases of the lanes that are claimed until it is told to stop, or whoever could tell it is gone;
    /// then gives the lanes back, at once.
    pub(super) fn begin(storage: Arc<dyn Storage>, tenant: Tenant, stop: watch::Receiver<bool>) -> Self {
        let (claims, claimed) = mpsc::unbounded_channel();
        tokio::spawn(attend(Arc::clone(&storage), tenant.clone(), claimed, stop));
        Self { storage, tenant, claims }
    }

    pub(super) async fn claim(&self, lane: i64) -> Result<Fence> {
        match self.storage.claim(lane, &self.tenant).await? {
            Claimed::Taken { fence, wait, .. } => {
                _ = self.claims.send((fence, Instant::now() + wait));
                Ok(fence)
            }
            Claimed::Held => Err(Error::new(ErrorKind::Store, "an instance of the service has the lane")
                .with_retryable(true)
                .with_endpoint(self.storage.place())
                .with_hint("act on that instance, which the lane's status names, or stop the service")),
        }
    }
}

async fn attend(
    storage: Arc<dyn Storage>,
    tenant: Tenant,
    mut claimed: mpsc::UnboundedReceiver<Claim>,
    mut stop: watch::Receiver<bool>,
) {
    let mut claims = Vec::new();
    let mut ticks = interval(tenant.lease / RENEWALS);
    loop {
        tokio::select! {
            biased;
            Some(claim) = claimed.recv() => claims.push(claim),
            () = stopped(&mut stop) => break,
            _ = ticks.tick() => {
                for (fence, _) in &claims {
                    // A lane that another has taken meanwhile says so at the next act.
                    _ = storage.renew(*fence, &tenant).await;
                }
            }
        }
    }
    for (fence, quiet) in claims {
        // What cannot be told now ends by itself.
        _ = storage.release(fence, quiet.saturating_duration_since(Instant::now())).await;
    }
}
