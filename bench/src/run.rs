//! What the clients of one generator thread share: the plan, and what was seen and counted.
//!
//! It belongs to one thread; threads meet only in `shared`, and after the run.
//!
//! Invariants: times are the run's; `heads` only grow.

use throng_protocol::Seq;

use crate::index::MessageIndex;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::swarm::course::Course;
use crate::tally::{Tally, record};

/// What the clients of one thread share.
#[derive(Debug)]
pub struct Run<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// What was seen.
    pub oracle: Oracle,
    /// What was counted.
    pub tally: Tally,
    /// Deliveries by when their message was due, counted from the start, without the warm-up.
    pub course: Course,
    /// When the first message was due, in the thread's time.
    pub start_ns: u64,
    /// Messages that were sent more than once: their order is not promised.
    pub resent: Vec<MessageIndex>,
    /// The newest acknowledged message of each channel.
    pub heads: Vec<Seq>,
    /// Makes masks: RFC 6455 wants them hard to guess for browsers' sake; here they only vary.
    masks: u64,
}

impl<'a> Run<'a> {
    /// Nothing has been seen yet. Runs of different `thread`s draw different masks.
    #[must_use]
    pub fn new(plan: &'a Plan, thread: usize) -> Self {
        let channels = plan.channels.len();
        Self {
            plan,
            oracle: Oracle::new(channels, plan.schedule.planned().len()),
            tally: Tally::default(),
            course: plan.schedule.course(),
            start_ns: 0,
            resent: Vec::new(),
            heads: vec![Seq(0); channels],
            masks: u64::try_from(thread).unwrap_or(0),
        }
    }

    /// The next frame's mask.
    pub const fn mask(&mut self) -> [u8; 4] {
        self.masks = self
            .masks
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        let [.., a, b, c, d] = self.masks.to_le_bytes();
        [a, b, c, d]
    }

    /// A message left now.
    pub fn left(&mut self, index: MessageIndex, now_ns: u64) {
        if let Some(late_ns) = self.measured_ns(index, now_ns) {
            record(&mut self.tally.late_us, late_ns);
        }
    }

    /// A message was acknowledged now.
    pub fn acked(&mut self, index: MessageIndex, now_ns: u64) {
        if let Some(late_ns) = self.measured_ns(index, now_ns) {
            record(&mut self.tally.ack_us, late_ns);
        }
    }

    /// A message reached a subscriber now.
    pub fn delivered(&mut self, index: MessageIndex, now_ns: u64) {
        if let Some(late_ns) = self.measured_ns(index, now_ns) {
            let due_ns = self.plan.schedule.due_ns(index);
            self.course.record(due_ns, late_ns);
            record(&mut self.tally.delivery_us, late_ns);
        } else {
            self.tally.early += 1;
        }
    }

    /// How long a message has been due, nanoseconds; none for one of the warm-up.
    fn measured_ns(&self, index: MessageIndex, now_ns: u64) -> Option<u64> {
        let schedule = &self.plan.schedule;
        let late_ns = now_ns.saturating_sub(self.start_ns + schedule.due_ns(index));
        schedule.is_measured(index).then_some(late_ns)
    }
}
