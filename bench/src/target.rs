//! Where the server is: `http://HOST:PORT`.
//!
//! It never speaks TLS and never follows a path: the load generator meets a server directly.
//!
//! Invariants: the address was resolved once, so every client meets the same machine.

use std::net::{SocketAddr, ToSocketAddrs};

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not of the form that is understood.
    #[error("the target {target:?} is not of the form http://HOST:PORT")]
    Malformed {
        /// What was given.
        target: String,
    },
    /// The name has no address.
    #[error("the target's host {authority:?} cannot be resolved: {source}")]
    Unresolved {
        /// Host and port.
        authority: String,
        /// What the resolver says.
        source: std::io::Error,
    },
}

/// A server to put load on.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port as given: the `Host` header.
    pub authority: String,
    /// Where that is.
    pub address: SocketAddr,
}

impl Target {
    /// Reads `http://HOST:PORT`; a closing slash is tolerated, port 80 is the default.
    ///
    /// # Errors
    /// When the form is another one, or the host has no address.
    pub fn resolve(target: &str) -> Result<Self, TargetError> {
        let authority = authority(target).ok_or_else(|| TargetError::Malformed {
            target: target.to_owned(),
        })?;
        let unresolved = |source| TargetError::Unresolved {
            authority: authority.clone(),
            source,
        };
        let address = authority.to_socket_addrs().map_err(unresolved)?.next();
        let nothing = || unresolved(std::io::ErrorKind::AddrNotAvailable.into());
        let address = address.ok_or_else(nothing)?;
        Ok(Self { authority, address })
    }
}

fn authority(target: &str) -> Option<String> {
    let rest = target.strip_prefix("http://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
        return None;
    }
    let host_end = rest.rfind(']').unwrap_or(0);
    if rest[host_end..].contains(':') {
        Some(rest.to_owned())
    } else {
        Some(format!("{rest}:80"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (target, expected) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://127.0.0.1:8080/", Some("127.0.0.1:8080")),
            ("http://localhost", Some("localhost:80")),
            ("http://[::1]:90", Some("[::1]:90")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://127.0.0.1:1", None),
            ("127.0.0.1:8080", None),
            ("http://", None),
            ("http://a/b", None),
        ] {
            assert_eq!(authority(target).as_deref(), expected, "{target}");
        }
        assert_eq!(
            Target::resolve("http://127.0.0.1:81")
                .unwrap()
                .address
                .port(),
            81
        );
        assert!(
            Target::resolve("ftp://x")
                .unwrap_err()
                .to_string()
                .contains("http://HOST:PORT")
        );
    }
}
