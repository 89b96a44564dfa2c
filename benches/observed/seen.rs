//! Those who listen.

use infinityvm_sdk::{client::ClientBuilder, observe::Metrics};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};

/// Sets up who listens in this mode.
pub fn seen(mode: &str, builder: ClientBuilder) -> ClientBuilder {
    match mode {
        "off" => builder,
        "noop" => with(NoOp { all: false }, builder),
        "noop-all" => with(NoOp { all: true }, builder),
        "metrics" => {
            PrometheusBuilder::new().install_recorder().expect("the first");
            builder.observer(Metrics::new())
        }
        _ => panic!("what is {mode}?"),
    }
}

fn with(subscriber: NoOp, builder: ClientBuilder) -> ClientBuilder {
    tracing::subscriber::set_global_default(subscriber).expect("the first");
    builder
}

/// Wants everything of this crate, or of all, and does nothing with it.
struct NoOp {
    all: bool,
}

impl Subscriber for NoOp {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        self.all || metadata.target() == "infinityvm_sdk"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
