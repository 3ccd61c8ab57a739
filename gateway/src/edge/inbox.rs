//! What a shard's own tasks have finished and its application has not taken yet.
//!
//! A queue on one thread; it carries inputs and looks into none.
//!
//! Invariants: inputs come out in the order in which they went in; they are bounded by what the
//! application has asked for, since each answers one output.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::wake::Bell;
use crate::io::Input;

/// Clones share one queue.
#[derive(Clone)]
pub(super) struct Inbox {
    inputs: Rc<RefCell<VecDeque<Input<'static>>>>,
    /// Tasks that wait for the disk.
    waiting: Rc<Cell<usize>>,
    bell: Bell,
}

impl Inbox {
    /// An empty one, whose owner hears this bell.
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            inputs: Rc::default(),
            waiting: Rc::default(),
            bell,
        }
    }

    /// A task begins to wait for the disk.
    pub(super) fn begin(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    /// That task has come back with this.
    pub(super) fn done(&self, input: Input<'static>) {
        self.waiting.set(self.waiting.get() - 1);
        self.push(input);
        self.bell.ring();
    }

    /// Adds an input without waking anybody.
    pub(super) fn push(&self, input: Input<'static>) {
        self.inputs.borrow_mut().push_back(input);
    }

    /// The oldest input.
    pub(super) fn pop(&self) -> Option<Input<'static>> {
        self.inputs.borrow_mut().pop_front()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.borrow().is_empty()
    }

    /// Whether a task waits for the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.get() > 0
    }
}
