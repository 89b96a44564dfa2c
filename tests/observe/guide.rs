//! The guide's page says what is exported, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use infinityvm_sdk::observe::Metrics;
use metrics::Unit;

use crate::{
    recorder::{Kind, Recorder},
    spans::lost_reply,
};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/seeing_what_happens.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The rows of the table that has this head, as their cells.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows = page.split(head).nth(1).unwrap_or_else(|| panic!("no table {head}"));
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().replace('`', "");
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

fn exported() -> Recorder {
    let recorder = Recorder::default();
    drop(metrics::with_local_recorder(&recorder, Metrics::new));
    recorder
}

#[test]
fn the_table_of_metrics_is_what_is_exported() {
    let recorder = exported();
    let mut told = BTreeMap::new();
    for row in table(&page(), "\n| metric | kind | unit | labels | what it says |") {
        let [name, kind, unit, labels, _] = row.try_into().expect("five cells");
        let labels: BTreeSet<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        told.insert(name, (kind, unit, labels));
    }
    let mut real = BTreeMap::new();
    for (name, metric) in recorder.metrics().iter() {
        let (kind, total) = match metric.kind {
            Kind::Counter => ("counter", true),
            Kind::Gauge => ("gauge", false),
            Kind::Histogram => ("histogram", false),
        };
        assert_eq!(name.ends_with("_total"), total, "{name}");
        let unit = match metric.unit {
            Some(Unit::Seconds) => "seconds",
            Some(Unit::Count) => "",
            unit => panic!("{name}: {unit:?}"),
        };
        assert_eq!(name.ends_with("_seconds"), unit == "seconds", "{name}");
        assert!(!metric.description.is_empty() && !metric.series.is_empty(), "{name}");
        let label = |label: &String| label.split('=').next().expect("a name").to_owned();
        let labels: BTreeSet<_> = metric.series.keys().flatten().map(label).collect();
        real.insert(name.clone(), (kind.to_owned(), unit.to_owned(), labels));
    }
    assert_eq!(told, real);
}

#[test]
fn the_values_of_labels_are_listed() {
    let recorder = exported();
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for label in recorder.metrics().values().flat_map(|metric| metric.series.keys()).flatten() {
        let (name, value) = label.split_once('=').expect("a value");
        real.entry(name.to_owned()).or_default().insert(value.to_owned());
    }
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table(&page(), "\n| label | of | values |") {
        let values = row[2].split(", ").map(str::to_owned);
        told.entry(row[0].clone()).or_default().extend(values);
    }
    assert_eq!(told, real);
}

#[tokio::test(start_paused = true)]
async fn the_trace_is_a_real_one() {
    let (_, tree) = lost_reply().await;
    let page = page();
    let shown = page.split("```text\norder\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the trace");
    assert_eq!(format!("order\n{shown}"), tree);
}
