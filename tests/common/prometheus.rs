//! Prometheus' text format 0.0.4, read strictly: what its own parser would refuse, or silently take for something else,
//! is a panic with the line.

use std::collections::{BTreeMap, BTreeSet};

/// A page of `/metrics`.
pub struct Scrape {
    /// Name → kind and help.
    pub families: BTreeMap<String, (String, String)>,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

pub fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line has an end");
    let mut scrape = Scrape { families: BTreeMap::new(), samples: Vec::new() };
    let (mut open, mut help) = (String::new(), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            help = Some((name.to_string(), text.to_string()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no kind: {line}"));
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let (of, text) = help.take().unwrap_or_else(|| panic!("no help before {line}"));
            assert_eq!(of, name, "help and kind are of one metric");
            open = name.to_string();
            let before = scrape.families.insert(open.clone(), (kind.into(), text));
            assert!(before.is_none(), "{name} is there twice, apart");
        } else if !line.is_empty() && !line.starts_with('#') {
            let sample = sample(line);
            let (kind, _) = scrape.families.get(&open).unwrap_or_else(|| panic!("no kind before {line}"));
            let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.iter().any(|part| sample.name == format!("{open}{part}")), "{line} stands under {open}");
            assert!(kind != "counter" || (open.ends_with("_total") && sample.value >= 0.0), "{line}");
            scrape.samples.push(sample);
        }
    }
    scrape.check();
    scrape
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.replace("+Inf", "inf").parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, labels) = match head.split_once('{') {
        None => (head, BTreeMap::new()),
        Some((name, labels)) => (name, self::labels(labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))),
    };
    assert!(is_name(name), "{line}");
    Sample { name: name.into(), labels, value }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label in {text}"));
        assert!(is_name(name) && !name.contains(':'), "{text}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("an open value in {text}")) {
                (end, '"') => break end,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    _ => panic!("an unknown escape in {text}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_string(), value).is_none(), "{name} twice in {text}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
}

impl Scrape {
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for Sample { name, labels, .. } in &self.samples {
            assert!(seen.insert((name, labels)), "{name}{labels:?} is there twice");
        }
        for (name, _) in self.families.iter().filter(|(_, (kind, _))| kind == "histogram") {
            for count in self.samples.iter().filter(|sample| sample.name == format!("{name}_count")) {
                self.check_histogram(name, count);
            }
        }
    }

    /// Buckets ascend, and the last is the count.
    fn check_histogram(&self, name: &str, count: &Sample) {
        let without_le = |sample: &Sample| {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le").map(|le| le.replace("+Inf", "inf").parse::<f64>().expect("le is a number"));
            (labels, le)
        };
        let buckets = self.samples.iter().filter(|sample| sample.name == format!("{name}_bucket"));
        let buckets: Vec<(f64, f64)> = buckets
            .filter(|bucket| without_le(bucket).0 == count.labels)
            .map(|bucket| (without_le(bucket).1.expect("a bucket has a bound"), bucket.value))
            .collect();
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count.value)), "{name}");
    }

    /// The sum over all samples of this name that have these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            let has = |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// The values of a label that occur under this name.
    pub fn values_of(&self, name: &str, label: &str) -> BTreeSet<String> {
        let of_name = self.samples.iter().filter(|sample| sample.name == name);
        of_name.filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }
}
