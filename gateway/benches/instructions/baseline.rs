//! What was counted when the code was last found good: `perf/gate.json`.
//!
//! It compares nothing.
//!
//! Invariant: a baseline names all that a count depends on beside this project's own code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use serde::{Deserialize, Serialize};

/// See the file's head.
#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) tools: Tools,
    /// By the names of operations.
    pub(crate) instructions_per_operation: BTreeMap<String, u64>,
}

/// What a count depends on beside the code and its locked dependencies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Tools {
    /// It brings the standard library and LLVM.
    pub(crate) rustc: String,
    /// It decides what processor a program sees.
    pub(crate) valgrind: String,
    /// It copies and allocates.
    pub(crate) libc: String,
    /// Valgrind shows AVX2 where the real processor has it.
    pub(crate) has_avx2: bool,
}

impl Tools {
    /// Those of this machine.
    pub(crate) fn present() -> io::Result<Self> {
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        Ok(Self {
            rustc: said(&rustc, "--version")?,
            valgrind: said("valgrind", "--version")?,
            libc: said("getconf", "GNU_LIBC_VERSION")?,
            has_avx2: std::is_x86_feature_detected!("avx2"),
        })
    }

    /// What is not the same in the two, as lines for people.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let avx2 = |tools: &Self| format!("AVX2: {}", tools.has_avx2);
        let pairs = [
            (self.rustc.clone(), other.rustc.clone()),
            (self.valgrind.clone(), other.valgrind.clone()),
            (self.libc.clone(), other.libc.clone()),
            (avx2(self), avx2(other)),
        ];
        let differing = pairs.into_iter().filter(|(one, another)| one != another);
        differing
            .map(|(one, another)| format!("{one}, here {another}"))
            .collect()
    }
}

/// The one line that a tool says about itself.
fn said(tool: &str, argument: &str) -> io::Result<String> {
    let output = Command::new(tool).arg(argument).output();
    let output =
        output.map_err(|error| io::Error::new(error.kind(), format!("{tool}: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where it lies.
pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/gate.json")
}

impl Baseline {
    /// The one in the tree.
    pub(crate) fn load() -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path())?)?)
    }

    /// Takes its place.
    #[expect(clippy::disallowed_methods, reason = "a tool for people, no server")]
    pub(crate) fn store(&self) -> io::Result<()> {
        fs::write(path(), serde_json::to_string_pretty(self)? + "\n")
    }
}
