//! What the parts of a report are called.
//!
//! It never merges two parts: a benchmark that ran twice on one server is two of them.
//!
//! Invariants: a label is unique among the parts of one name.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Part;

/// The subject of each part; a number behind it where the same benchmark ran on it before.
pub(super) fn labels(parts: &[Part]) -> Vec<String> {
    let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut taken: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut labels = Vec::with_capacity(parts.len());
    for Part { name, subject, .. } in parts {
        let times = times.entry((name, subject)).or_default();
        // A server may be called what another one's number makes of it.
        let label = loop {
            *times += 1;
            let label = match *times {
                1 => subject.clone(),
                times => format!("{subject} ({times})"),
            };
            if taken.insert((name, label.clone())) {
                break label;
            }
        };
        labels.push(label);
    }
    labels
}

/// The parts by name and label.
pub(super) fn by_label(parts: &[Part]) -> BTreeMap<(&str, String), &Part> {
    let places = parts.iter().zip(labels(parts));
    let places = places.map(|(part, label)| ((part.name.as_str(), label), part));
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parts_are_numbered() {
        let part = |name: &str, subject: &str| Part {
            name: name.to_owned(),
            subject: subject.to_owned(),
            ..Part::default()
        };
        let parts = [
            part("echo", "a"),
            part("echo", "b"),
            part("echo", "a"),
            part("fanout", "a"),
        ];
        assert_eq!(labels(&parts), ["a", "b", "a (2)", "a"]);
        let parts = [part("echo", "a"), part("echo", "a (2)"), part("echo", "a")];
        assert_eq!(labels(&parts), ["a", "a (2)", "a (3)"]);
        assert_eq!(by_label(&parts).len(), 3);
    }
}
