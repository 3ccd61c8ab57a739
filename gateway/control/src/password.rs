//! Passwords: argon2id (RFC 9106), off the async threads.
//!
//! Never keeps or logs a password, and never lets hashing take all the cores or memory: a bounded
//! number runs, a bounded number waits, the next is told to come back.
//!
//! Invariants: verifying against no hash (no such user, or one without a password) costs as much
//! as against a hash, so that the time tells nothing.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::ControlConfig;
use crate::entropy::random_bytes;
use crate::error::ControlError;
use crate::refusal::Refusal;

/// RFC 9106, section 3.1, recommends 16 bytes.
const SALT_BYTES: usize = 16;

/// Hashes and verifies, so many at a time.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// Of a password that nobody knows.
    decoy: Arc<str>,
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Passwords {
    /// Takes as long as hashing one password.
    pub(crate) fn new(config: &ControlConfig) -> Result<Self, ControlError> {
        let cost = config.password_cost;
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .map_err(ControlError::PasswordCost)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash_now(&argon2, &random_bytes::<32>()).expect("the cost was accepted above");
        Ok(Self {
            argon2,
            decoy: decoy.into(),
            admitted: Arc::new(Semaphore::new(
                config.passwords_at_once + config.passwords_waiting_max,
            )),
            running: Arc::new(Semaphore::new(config.passwords_at_once)),
        })
    }

    /// The PHC string to store for a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Refusal> {
        let turn = self.turn().await?;
        let argon2 = self.argon2.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hash_now(&argon2, password.as_bytes())
        });
        match hashing.await {
            Ok(Ok(hash)) => Ok(hash),
            Ok(Err(error)) => Err(Refusal::internal("hashing a password", &error)),
            Err(error) => Err(Refusal::internal("hashing a password", &error)),
        }
    }

    /// Whether the password is the one that was hashed.
    pub(crate) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Refusal> {
        let turn = self.turn().await?;
        let argon2 = self.argon2.clone();
        let decoy = Arc::clone(&self.decoy);
        let verifying = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let against = hash.as_deref().unwrap_or(&decoy);
            let same = argon2.verify_password(password.as_bytes(), against).is_ok();
            same && hash.is_some()
        });
        verifying
            .await
            .map_err(|error| Refusal::internal("verifying a password", &error))
    }

    async fn turn(&self) -> Result<Turn, Refusal> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned();
        let admitted = admitted.map_err(|_| Refusal::Unavailable {
            message: "too many are logging in right now, try again in a moment",
            retry_after_s: 1,
        })?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        Ok(Turn {
            _admitted: admitted,
            _running: running.expect("the semaphore is never closed"),
        })
    }
}

/// Travels with the work, which goes on when the client has gone away.
struct Turn {
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

fn hash_now(argon2: &Argon2<'_>, password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let salt: [u8; SALT_BYTES] = random_bytes();
    argon2
        .hash_password_with_salt(password, &salt)
        .map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PasswordCost;

    fn check<F: Future>(waiting: usize, test: impl FnOnce(Arc<Passwords>) -> F) -> F::Output {
        let mut config = ControlConfig::new("unused".into());
        config.password_cost = PasswordCost {
            memory_kib: 64,
            passes: 1,
        };
        config.passwords_at_once = 1;
        config.passwords_waiting_max = waiting;
        let passwords = Arc::new(Passwords::new(&config).unwrap());
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(test(passwords))
    }

    #[test]
    fn a_hash_is_argon2id_salted_and_verifies_only_its_password() {
        check(8, async |passwords| {
            let hash = passwords.hash("correct horse".into()).await.unwrap();
            assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
            assert_ne!(hash, passwords.hash("correct horse".into()).await.unwrap());
            assert!(
                passwords
                    .verify("correct horse".into(), Some(hash.clone()))
                    .await
                    .unwrap()
            );
            assert!(
                !passwords
                    .verify("correct mule".into(), Some(hash))
                    .await
                    .unwrap()
            );
            assert!(
                !passwords
                    .verify("correct horse".into(), None)
                    .await
                    .unwrap()
            );
        });
    }

    #[test]
    fn who_finds_too_many_waiting_is_refused() {
        check(1, async |passwords| {
            let held = passwords.turn().await.unwrap();
            let waiting = Arc::clone(&passwords);
            let second = tokio::spawn(async move { waiting.verify("x".into(), None).await });
            tokio::task::yield_now().await;
            let third = passwords.verify("x".into(), None).await;
            assert!(matches!(third, Err(Refusal::Unavailable { .. })));
            drop(held);
            assert!(!second.await.unwrap().unwrap());
        });
    }
}
