//! The names of the metrics and their labels, by which dashboards and alerts find them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use semel::metrics::Metrics;

use crate::support;

/// Metrics that have all been counted once, with something in every label.
fn counted() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.requests.with_label_values(&["r", "m", "a"]).inc();
    metrics.request_duration.with_label_values(&["r", "a"]).observe(0.1);
    metrics.claims.with_label_values(&["r", "v"]).inc();
    metrics.attempts.with_label_values(&["u", "o"]).inc();
    metrics.attempt_duration.with_label_values(&["u"]).observe(0.1);
    metrics.lookups.with_label_values(&["u", "f"]).inc();
    metrics.in_flight.with_label_values(&["r"]).inc();
    metrics.in_doubt.with_label_values(&["r"]).inc();
    metrics.prevented.with_label_values(&["r", "b"]).inc();
    metrics.store_duration.with_label_values(&["o"]).observe(0.1);
    metrics.store_errors.with_label_values(&["k"]).inc();
    metrics.store_headroom.with_label_values::<&str>(&[]).set(0.5);
    metrics.reconciled.with_label_values(&["r"]).inc();
    String::from_utf8(metrics.render()).unwrap()
}

/// One line per metric: its name, labels, type and help.
fn names(text: &str) -> String {
    let mut kinds = BTreeMap::new();
    let mut helps = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            kinds.insert(name, kind);
        } else if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|l| l.split_once(' '))
        {
            helps.insert(name, help);
        } else if let Some((name, rest)) = line.split_once('{') {
            let pairs = rest.split_once('}').unwrap().0.split(',');
            let own: Vec<_> = pairs
                .filter_map(|pair| pair.split_once('=').map(|(name, _)| name))
                .filter(|name| *name != "le")
                .collect();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| kinds.contains_key(name)))
                .unwrap_or(name);
            labels.insert(name, own.join(","));
        }
    }
    kinds.iter().fold(String::new(), |mut all, (name, kind)| {
        let labels = labels.get(name).map(|own| format!("{{{own}}}")).unwrap_or_default();
        writeln!(all, "{name}{labels} {kind}: {}", helps[name]).unwrap();
        all
    })
}

#[test]
fn the_metrics_are_the_published_ones() {
    support::assert_golden("tests/golden/metrics.txt", &names(&counted()));
}

#[test]
fn a_store_without_a_limit_does_not_look_full() {
    let text = String::from_utf8(Metrics::new().unwrap().render()).unwrap();
    assert!(!text.contains("semel_store_headroom_ratio"), "{text}");
}
