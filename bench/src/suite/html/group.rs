//! Parts of one name together: what can be compared.
//!
//! It changes no figure and drops no part.
//!
//! Invariants: a server has the same look in every plot of a page.

use crate::suite::label::labels;
use crate::suite::model::Part;

/// The parts of one name.
pub(crate) struct Group<'a> {
    /// Their name.
    pub(crate) name: &'a str,
    /// In the order of the report.
    pub(crate) members: Vec<Member<'a>>,
}

/// A part, and how it is shown.
pub(crate) struct Member<'a> {
    /// The part.
    pub(crate) part: &'a Part,
    /// Its server, told apart from others of the group.
    pub(crate) label: String,
    /// The look of that server's lines and bars.
    pub(crate) look: usize,
}

impl<'a> Group<'a> {
    /// All of a report, in its order.
    pub(crate) fn all(parts: &'a [Part]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (part, label) in parts.iter().zip(labels(parts)) {
            let known = seen.iter().position(|other| *other == label);
            let look = known.unwrap_or(seen.len());
            if known.is_none() {
                seen.push(label.clone());
            }
            let member = Member { part, label, look };
            match groups.iter_mut().find(|group| group.name == part.name) {
                Some(group) => group.members.push(member),
                None => groups.push(Self {
                    name: &part.name,
                    members: vec![member],
                }),
            }
        }
        groups
    }

    /// Whether there are several to compare.
    pub(crate) fn is_comparison(&self) -> bool {
        self.members.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_looks_the_same_everywhere() {
        let part = |name: &str, subject: &str| Part {
            name: name.to_owned(),
            subject: subject.to_owned(),
            ..Part::default()
        };
        let parts = [
            part("echo", "a"),
            part("echo", "b"),
            part("idle", "b"),
            part("echo", "a"),
        ];
        let groups = Group::all(&parts);
        let looks: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.members.iter().map(|member| member.look).collect())
            .collect();
        assert_eq!(looks, [vec![0, 1, 2], vec![1]]);
        assert!(groups[0].is_comparison() && !groups[1].is_comparison());
    }
}
