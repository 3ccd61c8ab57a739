//! Ctrl-C and SIGTERM, as those hear of them who measure.
//!
//! It ends nothing: who waits looks whether it has come.
//!
//! Invariants: once it has come it stays; a second signal ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::error::BenchError;
use crate::swarm::options::system;

/// The exit status after Ctrl-C.
pub(crate) const INTERRUPTED_STATUS: u8 = 130;

/// Whether one of the two has come. Copies agree.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    has_come: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn listen() -> Result<Self, BenchError> {
        let has_come = Arc::new(AtomicBool::new(false));
        let refused = || system("listening for Ctrl-C");
        for signal in [SIGINT, SIGTERM] {
            let status = i32::from(INTERRUPTED_STATUS);
            register_conditional_shutdown(signal, status, Arc::clone(&has_come))
                .map_err(refused())?;
            register(signal, Arc::clone(&has_come)).map_err(refused())?;
        }
        Ok(Self { has_come })
    }

    /// Whether it has come.
    pub(crate) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Nothing, or an error when it has come.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`].
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        match self.has_come() {
            true => Err(BenchError::Interrupted),
            false => Ok(()),
        }
    }

    /// One that has come already, or has not.
    #[cfg(test)]
    pub(crate) fn fixed(has_come: bool) -> Self {
        Self {
            has_come: Arc::new(AtomicBool::new(has_come)),
        }
    }
}
