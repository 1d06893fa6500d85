//! The metrics page, read.

use std::collections::BTreeMap;

/// One sample: name, labels, value.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// One reading of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Sample>);

impl Metrics {
    /// Reads the text format; a line that is none fails the test.
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect())
    }

    /// The sum of all samples called `name` that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.0.iter().filter(|sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|&(label, value)| sample.labels.get(label).map(String::as_str) == Some(value))
        });
        matching.map(|sample| sample.value).sum()
    }

    /// Whether any sample is called `name`, or is part of a histogram called so.
    pub fn has(&self, name: &str) -> bool {
        let parts = ["", "_bucket", "_sum", "_count"];
        self.0.iter().any(|sample| parts.iter().any(|part| sample.name == format!("{name}{part}")))
    }

    /// Every label name in use, but for those of `sidetrack_build_info`.
    pub fn labels(&self) -> Vec<String> {
        let samples = self.0.iter().filter(|sample| sample.name != "sidetrack_build_info");
        let mut names: Vec<String> = samples.flat_map(|sample| sample.labels.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Every value of one label.
    pub fn values_of(&self, label: &str) -> Vec<String> {
        let mut values: Vec<String> =
            self.0.iter().filter_map(|sample| sample.labels.get(label).cloned()).collect();
        values.sort();
        values.dedup();
        values
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.0.len()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
    };
    let labels = labels.split("\",").filter(|pair| !pair.is_empty()).map(|pair| {
        let (label, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
}
