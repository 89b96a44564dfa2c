//! Lanes that a person acts on, where several instances share the store: no instance takes them meanwhile.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    time::interval,
};

use super::{
    keeper::{RENEWALS, stopped},
    store::{Claimed, Fence, Storage, Tenant},
};
use crate::error::{Error, ErrorKind, Result};

pub(super) struct Attendance {
    storage: Arc<dyn Storage>,
    tenant: Tenant,
    fences: mpsc::UnboundedSender<Fence>,
}

impl Attendance {
    /// Prolongs the leases of the lanes that are claimed until it is told to stop, or whoever could tell it is gone;
    /// then gives the lanes back, at once.
    pub(super) fn begin(storage: Arc<dyn Storage>, tenant: Tenant, stop: watch::Receiver<bool>) -> Self {
        let (fences, claimed) = mpsc::unbounded_channel();
        tokio::spawn(attend(Arc::clone(&storage), tenant.clone(), claimed, stop));
        Self { storage, tenant, fences }
    }

    pub(super) async fn claim(&self, lane: i64) -> Result<Fence> {
        match self.storage.claim(lane, &self.tenant).await? {
            Claimed::Taken { fence, .. } => {
                _ = self.fences.send(fence);
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
    mut claimed: mpsc::UnboundedReceiver<Fence>,
    mut stop: watch::Receiver<bool>,
) {
    let mut fences = Vec::new();
    let mut ticks = interval(tenant.lease / RENEWALS);
    loop {
        tokio::select! {
            biased;
            Some(fence) = claimed.recv() => fences.push(fence),
            () = stopped(&mut stop) => break,
            _ = ticks.tick() => {
                for fence in &fences {
                    // A lane that another has taken meanwhile says so at the next act.
                    _ = storage.renew(*fence, &tenant).await;
                }
            }
        }
    }
    for fence in fences {
        // What cannot be told now ends by itself.
        _ = storage.release(fence).await;
    }
}
