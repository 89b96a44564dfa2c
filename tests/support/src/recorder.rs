//! A recorder of `metrics` that keeps every series, with its description, unit and values.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One series of a metric: the sum of a counter or gauge; of a histogram every value.
#[derive(Debug, Default)]
pub struct Series(Mutex<Vec<f64>>);

#[derive(Debug)]
pub struct Metric {
    pub kind: Kind,
    pub unit: Option<Unit>,
    pub description: String,
    /// By their labels, as `name=value` in the order of the names.
    pub series: BTreeMap<Vec<String>, Arc<Series>>,
}

#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<String, Metric>>>);

impl Series {
    fn add(&self, value: f64) {
        let mut values = self.0.lock().expect("no panic");
        let sum: f64 = values.drain(..).sum::<f64>() + value;
        values.push(sum);
    }

    pub fn values(&self) -> Vec<f64> {
        self.0.lock().expect("no panic").clone()
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, _value: u64) {
        unreachable!("counters are only incremented")
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, _value: f64) {
        unreachable!("gauges of several clients are added up")
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.0.lock().expect("no panic").push(value);
    }
}

impl Recorder {
    pub fn metrics(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        self.0.lock().expect("no panic")
    }

    /// The values of a series.
    pub fn values(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let metrics = self.metrics();
        let metric = metrics.get(name).unwrap_or_else(|| panic!("no metric {name}"));
        let series = metric.series.get(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>());
        series.unwrap_or_else(|| panic!("no series {labels:?} of {name}")).values()
    }

    /// The sum of a series.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    fn describe(&self, kind: Kind, key: KeyName, unit: Option<Unit>, description: SharedString) {
        let metric = Metric { kind, unit, description: description.to_string(), series: BTreeMap::new() };
        self.metrics().entry(key.as_str().to_owned()).or_insert(metric);
    }

    fn series(&self, kind: Kind, key: &Key) -> Arc<Series> {
        let mut metrics = self.metrics();
        let metric = metrics.get_mut(key.name()).unwrap_or_else(|| panic!("{} is not described", key.name()));
        assert_eq!(metric.kind, kind, "{}", key.name());
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        Arc::clone(metric.series.entry(labels).or_default())
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(Kind::Counter, key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(Kind::Gauge, key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(Kind::Histogram, key, unit, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(Kind::Counter, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(Kind::Gauge, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(Kind::Histogram, key))
    }
}
