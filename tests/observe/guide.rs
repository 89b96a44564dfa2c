//! The guide's page says what is exported, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use infinityvm_sdk::observe::Metrics;
use metrics::Unit;
use support::guide::{page, table};

use crate::{
    recorder::{Kind, Recorder},
    spans::lost_reply,
};

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

#[test]
fn every_name_in_a_query_is_exported() {
    let (recorder, page) = (exported(), page());
    let metrics = recorder.metrics();
    let queries: Vec<_> = page.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 3, "a block for each question");
    let (mut seen, mut matched) = (BTreeSet::new(), 0);
    for query in &queries {
        for rest in query.split("infinityvm_").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let of = format!("infinityvm_{name}");
            let base = of.strip_suffix("_bucket").unwrap_or(&of);
            let metric = metrics.get(base).unwrap_or_else(|| panic!("{base} is not exported"));
            assert!(base == of || metric.kind == Kind::Histogram, "{of}");
            seen.insert(base.to_owned());
            // In braces: labels and values that it has.
            let Some(labels) = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next()) else {
                continue;
            };
            let (label, value) = labels.split_once('=').expect("a label");
            let series = format!("{}={}", label.trim_end_matches('!'), value.trim_matches('"'));
            assert!(metric.series.keys().flatten().any(|known| *known == series), "{of} has no {series}");
            matched += 1;
        }
        for rest in query.split("sum by (").skip(1) {
            for label in rest.split(')').next().expect("labels").split(", ").filter(|label| *label != "le") {
                let known = metrics.values().flat_map(|metric| metric.series.keys()).flatten();
                assert!(known.into_iter().any(|known| known.starts_with(&format!("{label}="))), "no label {label}");
            }
        }
    }
    assert!(seen.len() >= 6 && matched == 3, "{seen:?}, {matched}");
}

#[tokio::test(start_paused = true)]
async fn the_trace_is_a_real_one() {
    let (_, tree) = lost_reply().await;
    let page = page();
    let shown = page.split("```text\norder\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the trace");
    assert_eq!(format!("order\n{shown}"), tree);
}
