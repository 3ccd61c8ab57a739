//! The simulated disk's directories: what they hold now, and what a crash would leave of it.
//!
//! It knows no file's content.
//!
//! Invariants: a change is durable once a directory that it touches was synced; of the others a
//! crash keeps a prefix, as a journal does, or any subset, as file systems without one do; a
//! rename is one change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draw::Draw;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
struct Change {
    removes: Option<PathBuf>,
    adds: Option<(PathBuf, Node)>,
}

impl Change {
    fn touches(&self, directory: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(directory);
        self.removes.as_deref().is_some_and(is_in)
            || self.adds.as_ref().is_some_and(|(path, _)| is_in(path))
    }

    fn apply(&self, to: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = &self.removes {
            to.remove(path);
        }
        if let Some((path, node)) = &self.adds {
            to.insert(path.clone(), *node);
        }
    }
}

#[derive(Debug)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let roots = ["/", "."].map(|root| (PathBuf::from(root), Node::Directory));
        let live = BTreeMap::from(roots);
        Self {
            durable: live.clone(),
            live,
            pending: Vec::new(),
        }
    }

    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        self.live.get(path).copied()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, u64)> {
        self.live.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path, *inode)),
            Node::Directory => None,
        })
    }

    pub(super) fn list(&self, directory: &Path) -> Vec<String> {
        let children = self
            .live
            .keys()
            .filter(|path| path.parent() == Some(directory));
        children
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect()
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) {
        self.change(Change {
            removes: None,
            adds: Some((path.to_path_buf(), node)),
        });
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Change {
            removes: Some(path.to_path_buf()),
            adds: None,
        });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, node: Node) {
        let adds = Some((to.to_path_buf(), node));
        self.change(Change {
            removes: Some(from.to_path_buf()),
            adds,
        });
    }

    pub(super) fn sync(&mut self, directory: &Path) {
        let (synced, pending): (Vec<Change>, Vec<Change>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|c| c.touches(directory));
        synced
            .iter()
            .for_each(|change| change.apply(&mut self.durable));
        self.pending = pending;
    }

    pub(super) fn crash(&mut self, draw: &mut Draw) {
        let has_journal = draw.coin();
        let kept = draw.below(self.pending.len() as u64 + 1);
        for (number, change) in (0..).zip(self.pending.drain(..)) {
            let survives = if has_journal {
                number < kept
            } else {
                draw.coin()
            };
            if survives {
                change.apply(&mut self.durable);
            }
        }
        let names = self.durable.clone();
        self.durable
            .retain(|path, _| path.parent().is_none_or(|p| reaches_root(p, &names)));
        self.live = self.durable.clone();
    }

    /// Whether any name, present or after a crash, stands for this file.
    pub(super) fn refer_to(&self, inode: u64) -> bool {
        let is_it = |node: &Node| *node == Node::File(inode);
        self.live.values().any(is_it)
            || self.durable.values().any(is_it)
            || self
                .pending
                .iter()
                .any(|change| change.adds.iter().any(|(_, node)| is_it(node)))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }
}

fn reaches_root(path: &Path, names: &BTreeMap<PathBuf, Node>) -> bool {
    path.as_os_str().is_empty()
        || names.contains_key(path) && path.parent().is_none_or(|p| reaches_root(p, names))
}
