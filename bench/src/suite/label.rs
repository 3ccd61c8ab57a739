//! What the parts of a report are called.
//!
//! It never merges two parts: a benchmark that ran twice on one server is two of them.
//!
//! Invariants: a label is unique among the parts of one name.

use std::collections::BTreeMap;

use super::model::Part;

/// The subject of each part; a number behind it where the same benchmark ran on it before.
pub(super) fn labels(parts: &[Part]) -> Vec<String> {
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut labels = Vec::with_capacity(parts.len());
    for Part { name, subject, .. } in parts {
        let times = seen.entry((name, subject)).or_default();
        *times += 1;
        labels.push(match *times {
            1 => subject.clone(),
            times => format!("{subject} ({times})"),
        });
    }
    labels
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
    }
}
