//! Lets several tasks of one thread do something one at a time.
//!
//! It never blocks the thread.
//!
//! Invariants: there is one turn at a time, and it ends when it is dropped, also half-way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Whose turn it is.
#[derive(Default, Debug)]
pub(crate) struct Turns {
    is_taken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// A turn, to be dropped when it is over.
#[must_use]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits until nobody else has a turn.
    pub(crate) async fn take(&self) -> Turn<'_> {
        poll_fn(|context| {
            if self.is_taken.replace(true) {
                self.waiting.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Turn(self)
    }

    /// A turn, if nobody else has one.
    pub(crate) fn try_take(&self) -> Option<Turn<'_>> {
        (!self.is_taken.replace(true)).then(|| Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        // All of them: whoever was dropped while waiting would swallow a single call.
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_refused_ends_nobody_elses() {
        let turns = Turns::default();
        let first = turns.try_take();
        assert!(first.is_some());
        assert!(turns.try_take().is_none());
        assert!(turns.try_take().is_none(), "still the first one's");
        drop(first);
        assert!(turns.try_take().is_some());
    }
}
