//! Where the configuration comes from: a TOML file, `THRONG_*` variables, flags.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults.
//! Two underscores lead into a table: `THRONG_LIMITS__MESSAGE__COUNT=0`.
//!
//! Invariant: a name that does not exist is refused, wherever it comes from, and the message says
//! where that was.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;
use thiserror::Error;

use crate::config::{Config, ConfigError};

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    /// The file that was named is not there.
    #[error("the configuration file {} does not exist", path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// A name or value that cannot be.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(Box<figment::Error>),
    /// The data directory's place cannot be found.
    #[error("the data directory {} cannot be found: {source}", path.display())]
    Data {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A limit that cannot be.
    #[error("the configuration cannot be used: {0}")]
    Unusable(#[from] ConfigError),
}

/// Reads and checks the configuration. `flags` holds what the command line sets and nothing else.
///
/// # Errors
/// What is wrong, and where it was set.
pub fn load(file: Option<&Path>, flags: &impl Serialize) -> Result<Config, ConfigFileError> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        if !path.is_file() {
            return Err(ConfigFileError::Missing {
                path: path.to_owned(),
            });
        }
        layers = layers.merge(Toml::file_exact(path));
    }
    let mut config: Config = layers
        .merge(Env::prefixed("THRONG_").ignore(&["log"]).split("__"))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| ConfigFileError::Unreadable(Box::new(error)))?;
    config.check()?;
    config.data = absolute(&config.data)?;
    Ok(config)
}

/// The store's files are opened by absolute paths only.
fn absolute(path: &Path) -> Result<PathBuf, ConfigFileError> {
    std::path::absolute(path).map_err(|source| ConfigFileError::Data {
        path: path.to_owned(),
        source,
    })
}
