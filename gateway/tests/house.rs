//! The rules of the house that a compiler does not check: who depends on whom, and who may touch
//! the kernel.
//!
//! It reads manifests and `use` lines and runs nothing.
//!
//! Invariant: each rule is checked against something that breaks it, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Our crates, where they are, and which of ours each may depend on.
const CRATES: [(&str, &str, &[&str]); 6] = [
    ("throng-router", "router", &[]),
    ("throng-storage-engine", "storage-engine", &[]),
    ("throng-protocol", "gateway/protocol", &[]),
    ("throng-control", "gateway/control", &["throng-protocol"]),
    (
        "throng",
        "gateway",
        &[
            "throng-router",
            "throng-storage-engine",
            "throng-protocol",
            "throng-control",
        ],
    ),
    (
        "throng-bench",
        "bench",
        &["throng-router", "throng-storage-engine", "throng-protocol"],
    ),
];

/// Names that only edges may say (calls into libc need `unsafe`, which is denied everywhere else), and the files and folders that are edges.
const EDGE_NAMES: [&str; 6] = [
    "glommio::",
    "io_uring::",
    "std::net::",
    "std::thread::",
    "std::fs::",
    "tokio::",
];
const EDGES: [&str; 9] = [
    "gateway/src/edge",
    "gateway/src/chat",
    "gateway/src/store_tools",
    "gateway/src/main.rs",
    "gateway/control/src",
    "storage-engine/src/disk.rs",
    "storage-engine/src/disk",
    "storage-engine/examples",
    "bench/src",
];

/// Modules that only tests are made of.
const TESTS: [&str; 4] = [
    "gateway/src/footprint.rs",
    "storage-engine/src/reader_tests",
    "storage-engine/src/sealed/golden.rs",
    "storage-engine/src/sealed/model.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Which of our crates a manifest names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let tables = manifest.get("dependencies").and_then(toml::Value::as_table);
    let names = tables.into_iter().flat_map(|table| table.keys().cloned());
    names
        .filter(|name| CRATES.iter().any(|(ours, ..)| ours == name))
        .collect()
}

/// Lines of a source file, outside of comments, that say a name only edges may say.
fn edge_names(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or("");
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let says = |line: &&str| EDGE_NAMES.iter().any(|name| line.contains(name));
    lines.filter(says).map(str::to_owned).collect()
}

fn sources(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder of ours").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.insert(
                path.clone(),
                fs::read_to_string(&path).expect("a file of ours"),
            );
        }
    }
}

#[test]
fn crates_depend_only_on_those_they_may() {
    for (name, folder, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml"));
        for dependency in dependencies(&manifest.expect("each crate has a manifest")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} may not use {dependency}"
            );
        }
    }
}

#[test]
fn only_edges_touch_the_kernel() {
    let mut found = BTreeMap::new();
    for (_, folder, _) in CRATES {
        sources(&root().join(folder).join("src"), &mut found);
    }
    assert!(found.len() > 50, "the sources were found");
    for (path, source) in found {
        let path = path
            .strip_prefix(root())
            .expect("below the root")
            .to_owned();
        let is_edge = EDGES.iter().any(|edge| path.starts_with(edge));
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || TESTS.iter().any(|test| path.starts_with(test));
        if !is_edge && !is_test {
            let said = edge_names(&source);
            assert!(
                said.is_empty(),
                "{} is no edge, but says {said:?}",
                path.display()
            );
        }
    }
}

#[test]
fn the_rules_can_be_broken() {
    let manifest = "[dependencies]\nthrong-router.workspace = true\nbytes = \"1\"\n";
    assert_eq!(dependencies(manifest), ["throng-router"]);
    let source = "use glommio::Task;\n// std::fs::read is not used\nlet x = 1;\n";
    assert_eq!(edge_names(source), ["use glommio::Task;"]);
}
