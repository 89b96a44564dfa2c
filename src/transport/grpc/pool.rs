//! The connections of a [`GrpcTransport`](super::GrpcTransport): a few for each runtime, over which calls take turns.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::{
    http::{
        connect::{Connector, Stream},
        keep_alive::{Doublings, KeepAlive, Paced},
    },
    runtime::PerRuntime,
};

/// Where a transport's channels come from.
pub(super) enum Pool {
    /// The user's own. Its tasks are of the runtime on which it was made, and end with it.
    #[cfg(feature = "tonic")]
    Given(Channel),
    Own(Box<Own>),
}

/// A fixed number of channels for each runtime. tonic's need one when made, so each is made by the first call that uses
/// it.
pub(super) struct Own {
    pub(super) endpoint: Endpoint,
    pub(super) connector: Connector,
    pub(super) keep_alive: KeepAlive,
    pub(super) connections: usize,
    pub(super) channels: PerRuntime<Arc<Channels>>,
}

pub(super) struct Channels {
    slots: Box<[Paced<Channel>]>,
    next: AtomicUsize,
}

impl Pool {
    /// The next channel in turn, and the pace of its pings if those are ours; nothing where there is no runtime.
    pub(super) fn channel(&self) -> Option<(Channel, Option<Doublings>)> {
        let own = match self {
            #[cfg(feature = "tonic")]
            Self::Given(channel) => return Some((channel.clone(), None)),
            Self::Own(own) => own,
        };
        let make = || {
            let slots = (0..own.connections).map(|_| Paced::default()).collect();
            Ok::<_, Infallible>(Arc::new(Channels { slots, next: AtomicUsize::new(0) }))
        };
        let Ok(channels) = own.channels.here(make)?;
        let turn = channels.next.fetch_add(1, Ordering::Relaxed) % channels.slots.len().max(1);
        let pace = own.keep_alive.pace();
        let Ok(channel) = channels.slots.get(turn)?.at(pace, || Ok::<_, Infallible>(own.connect(pace)));
        Some((channel, Some(pace)))
    }

    /// Takes note of why a call over such a channel failed.
    pub(super) fn heed(&self, pace: Option<Doublings>, error: &(dyn std::error::Error + 'static)) {
        if let (Self::Own(own), Some(pace)) = (self, pace) {
            own.keep_alive.heed(pace, error);
        }
    }

    /// How many connections it keeps for a runtime.
    pub(super) fn len(&self) -> usize {
        match self {
            #[cfg(feature = "tonic")]
            Self::Given(_) => 1,
            Self::Own(own) => own.connections,
        }
    }
}

impl Own {
    fn connect(&self, pace: Doublings) -> Channel {
        let mut endpoint = self.endpoint.clone();
        if let Some((interval, timeout)) = self.keep_alive.times(pace) {
            endpoint =
                endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
        }
        endpoint.connect_with_connector_lazy(Dial(self.connector.clone()))
    }
}

/// How tonic's channels connect.
#[derive(Clone)]
struct Dial(Connector);

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let opening = self.0.clone().open();
        Box::pin(async move { Ok(TokioIo::new(opening.await?)) })
    }
}
