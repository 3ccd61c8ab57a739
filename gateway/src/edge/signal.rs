//! The signals that ask the process to end.
//!
//! It ends nothing itself: a thread of its own waits for SIGTERM and SIGINT and says so.
//!
//! Invariant: the signals are blocked before any other thread starts, so no other thread ever
//! gets one and no system call is interrupted by one.

#![expect(unsafe_code, reason = "signals have no safe interface")]

use std::mem::MaybeUninit;

use super::error::EdgeError;

/// Calls `asked` on a thread of its own for each SIGTERM and SIGINT from now on. To be called
/// before other threads start: they inherit that the signals are blocked.
///
/// # Errors
/// The kernel refuses, or the thread cannot be started.
pub fn on_terminate(mut asked: impl FnMut() + Send + 'static) -> Result<(), EdgeError> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set, and `sigaddset` is given a valid signal.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    };
    // SAFETY: the set is initialized, and the old mask is not asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if error != 0 {
        let source = std::io::Error::from_raw_os_error(error);
        return Err(EdgeError::Kernel {
            attempted: "blocking SIGTERM",
            source,
        });
    }
    let wait = move || {
        let mut signal = 0;
        // SAFETY: both pointers are to initialized values that live through the call.
        while unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
            asked();
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(EdgeError::kernel("starting a thread"))
}
