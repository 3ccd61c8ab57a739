//! Where servers' programs, packages and data are.
//!
//! It installs nothing and starts nothing but what says a version.
//!
//! Invariants: what is missing is named with what installs it.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::error::PeersError;
use super::subject::{Benchmark, Origin, Program, Subject};
use crate::files;
use crate::interrupt::Interrupt;
use crate::program;

/// Folders of programs that are not on everybody's PATH.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The folder `bench/peers`.
    pub(super) peers: PathBuf,
    /// Throng's binary; none: beside this one.
    pub(super) throng: Option<PathBuf>,
    /// Where servers put their data; none: the system's folder for temporary files.
    pub(super) data: Option<PathBuf>,
    /// The core of servers.
    pub(super) server_core: Option<usize>,
    /// Whether measuring is to end.
    pub(super) interrupt: Interrupt,
}

impl Places {
    /// What is missing of a server.
    pub(super) fn missing(&self, subject: Subject, benchmark: Benchmark) -> Option<String> {
        let recipe = subject.recipe(benchmark);
        for program in recipe.programs {
            if self.find(program).is_none() {
                return Some(format!("no {}: {}", program.name, recipe.install));
            }
        }
        let mut packages = recipe.packages.iter().map(|path| self.peers.join(path));
        let missing = packages.find(|path| !path.exists())?;
        Some(format!("no {}: {}", missing.display(), recipe.install))
    }

    /// The versions of a server's programs and packages, for people.
    pub(super) fn versions(&self, subject: Subject, benchmark: Benchmark) -> String {
        let recipe = subject.recipe(benchmark);
        let programs = recipe.programs.iter().filter_map(|program| {
            let output = Command::new(self.find(program)?)
                .arg(program.version?)
                .output()
                .ok()?;
            let said = [output.stdout, output.stderr].concat();
            let first = String::from_utf8_lossy(&said)
                .lines()
                .next()?
                .trim()
                .to_owned();
            let is_named = first
                .to_lowercase()
                .contains(program.name.split('-').next()?);
            Some(if is_named {
                first
            } else {
                format!("{} {first}", program.name)
            })
        });
        let packages = recipe.packages.iter().filter_map(|path| {
            let text = files::read_text(&self.peers.join(path).join("package.json")).ok()?;
            let package: serde_json::Value = serde_json::from_str(&text).ok()?;
            let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
            Some(format!("{name} {version}"))
        });
        let all: Vec<String> = programs.chain(packages).collect();
        all.join(", ")
    }

    /// The binary of Throng, where there is one.
    pub(super) fn throng(&self) -> Option<PathBuf> {
        program::locate(self.throng.as_deref()).ok()
    }

    /// The file of a program, where there is one.
    pub(super) fn find(&self, program: &Program) -> Option<PathBuf> {
        match program.origin {
            Origin::Throng => self.throng(),
            Origin::Beside => beside(program.name).filter(|path| path.is_file()),
            Origin::Installed => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let folders = std::env::split_paths(&path);
                let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
                let files = folders
                    .chain(system)
                    .map(|folder| folder.join(program.name));
                files.into_iter().find(|file| file.is_file())
            }
        }
    }

    /// A new folder, which is removed when it is dropped.
    pub(super) fn folder(&self) -> Result<TempDir, PeersError> {
        let base = self.data.clone().unwrap_or_else(std::env::temp_dir);
        let made = tempfile::Builder::new().prefix("peers-").tempdir_in(&base);
        made.map_err(|source| PeersError::Folder { path: base, source })
    }
}

fn beside(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.with_file_name(name))
}
