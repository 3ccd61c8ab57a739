//! Tokens: who a bearer is, signed by this node and good for a limited time.
//!
//! JSON Web Tokens (RFC 7519), HS256 and nothing else. Never asks the database, never logs a token
//! or the key.
//!
//! Invariants: the key is 32 random bytes in a file that only its owner may read, made once; a
//! token of another key, algorithm or time is no token.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use throng_protocol::UserId;

use crate::entropy::{random_bytes, unix_ms};
use crate::error::ControlError;

const KEY_BYTES: usize = 32;
/// Ours have about 200 bytes; longer ones are not worth decoding.
const TOKEN_BYTES_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    /// Seconds since 1970, as RFC 7519 has it.
    iat: u64,
    exp: u64,
}

/// Signs and verifies tokens.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ttl_s: u64,
}

impl Tokens {
    /// Reads the key below `data_dir`, or makes it.
    pub(crate) fn open(data_dir: &Path, ttl_s: u64) -> Result<Self, ControlError> {
        let path = data_dir.join("token.key");
        let key = match read_key(&path)? {
            Some(key) => key,
            None => make_key(data_dir, &path)?,
        };
        Ok(Self::new(&key, ttl_s))
    }

    fn new(key: &[u8; KEY_BYTES], ttl_s: u64) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        // RFC 7519, section 4.1.4: not on or after the time; without this, also on it.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
            ttl_s,
        }
    }

    /// A token for this user, good from now on.
    pub(crate) fn sign(&self, user: UserId) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = unix_ms() / 1000;
        let claims = Claims {
            sub: user,
            iat,
            exp: iat.saturating_add(self.ttl_s),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// Whose token this is, if it is a good one.
    pub(crate) fn verify(&self, token: &str) -> Option<UserId> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .ok()
            .map(|token| token.claims.sub)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the control plane is an edge: its key is a file"
)]
fn read_key(path: &Path) -> Result<Option<[u8; KEY_BYTES]>, ControlError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(ControlError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    match bytes.as_slice().try_into() {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(ControlError::KeyLength {
            path: path.to_owned(),
            found: bytes.len(),
            expected: KEY_BYTES,
        }),
    }
}

/// Two processes may start at once on a new directory: the key appears whole, by a link that only
/// one of them can make, and the other reads it.
fn make_key(data_dir: &Path, path: &Path) -> Result<[u8; KEY_BYTES], ControlError> {
    let failed = |source| ControlError::File {
        path: path.to_owned(),
        source,
    };
    let key: [u8; KEY_BYTES] = random_bytes();
    let unique = u64::from_le_bytes(random_bytes());
    let draft = data_dir.join(format!("token.key.{unique:016x}"));
    let written = write_synced(&draft, &key).and_then(|()| std::fs::hard_link(&draft, path));
    let removed = std::fs::remove_file(&draft);
    match written {
        Ok(()) => {
            removed.and_then(|()| sync_dir(data_dir)).map_err(failed)?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read_key(path)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().read(true).open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn user() -> UserId {
        UserId::from_bytes([7; 16])
    }

    #[test]
    fn a_token_names_its_user_until_it_expires() {
        let tokens = Tokens::new(&[1; KEY_BYTES], 60);
        let token = tokens.sign(user()).unwrap();
        assert_eq!(tokens.verify(&token), Some(user()));
        let expired = Tokens::new(&[1; KEY_BYTES], 0).sign(user()).unwrap();
        assert_eq!(tokens.verify(&expired), None);
    }

    #[test]
    fn other_keys_other_algorithms_and_noise_are_refused() {
        let tokens = Tokens::new(&[1; KEY_BYTES], 60);
        let foreign = Tokens::new(&[2; KEY_BYTES], 60).sign(user()).unwrap();
        let good = tokens.sign(user()).unwrap();
        let claims = good.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        let other = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &Claims {
                sub: user(),
                iat: 0,
                exp: u64::MAX / 4,
            },
            &EncodingKey::from_secret(&[1; KEY_BYTES]),
        )
        .unwrap();
        for bad in [
            foreign,
            unsigned,
            other,
            String::new(),
            "a.b.c".into(),
            "x".repeat(5000),
        ] {
            assert_eq!(tokens.verify(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let token = Tokens::open(dir.path(), 60).unwrap().sign(user()).unwrap();
        assert_eq!(
            Tokens::open(dir.path(), 60).unwrap().verify(&token),
            Some(user())
        );
        let path = dir.path().join("token.key");
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(31)
            .unwrap();
        assert!(matches!(
            Tokens::open(dir.path(), 60),
            Err(ControlError::KeyLength {
                found: 31,
                expected: 32,
                ..
            })
        ));
    }
}
