//! The end of a run: faults off, everything brought to its end, then the reckoning.
//!
//! It begins nothing new but what the reckoning needs.
//!
//! Invariants: a run ends only when nobody waits for anything; what was seen is in the log after
//! one more power cut.

use std::collections::{BTreeMap, BTreeSet};

use throng_control::ToShard;
use throng_protocol::ChannelId;

use crate::client::{Kind, Stage};
use crate::link::Reading;
use crate::node::read_log;
use crate::oracle::{Entry, Listener};
use crate::world::{Event, Power, World};

/// How long everything may take to come to its end, in looks of half a second.
const LOOKS_MAX: u32 = 400;

const LOOK_US: u64 = 500_000;

/// How long a few messages may take, rate limits included.
const UNHEARD_US_MAX: u64 = 120_000_000;

/// Longer than any session that says nothing lives.
const ALL_GONE_US: u64 = 80_000_000;

impl World {
    /// From the first event to the last check.
    pub(crate) fn run(&mut self) {
        self.run_until(self.plan.active_us);
        self.wind_down();
        self.reckon();
    }

    /// Lets everything come to its end.
    pub(crate) fn wind_down(&mut self) {
        self.trace.note(self.now_us, format_args!("winding down"));
        self.winding = true;
        self.control.away = false;
        self.disk.set_quota_bytes(None);
        for client in 0..self.clients.len() {
            if self.clients[client].kind == Kind::Silent {
                self.leave_abruptly(client); // It has been silent for too long already.
            }
            self.clients[client].kind = match self.clients[client].kind {
                Kind::Forger => Kind::Forger,
                _ => Kind::Good,
            };
            if let Some(link) = self.clients[client].link {
                self.read_from_now_on(link, Reading::AtOnce);
                if self.clients[client].stage == Stage::Upgraded {
                    self.leave_abruptly(client);
                }
            }
        }
        let mut unsettled = Vec::new();
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now_us + LOOK_US);
            unsettled = self.unsettled();
            if unsettled.is_empty() {
                return;
            }
        }
        panic!("these never come to an end: {unsettled:#?}");
    }

    /// Who still waits for what.
    fn unsettled(&mut self) -> Vec<String> {
        if self.node().is_none_or(|node| node.draining) {
            return vec!["the node is not up".to_owned()];
        }
        (0..self.clients.len())
            .filter_map(|client| self.unsettled_client(client))
            .collect()
    }

    fn unsettled_client(&self, client: usize) -> Option<String> {
        let held = &self.clients[client];
        let (Stage::Ready, Some(link)) = (held.stage, held.link) else {
            let retired = held.stage == Stage::Retired;
            return (!retired).then(|| format!("client {client} is {:?}", held.stage));
        };
        let wire = &held.wire;
        let waits = !held.outgoing.is_empty()
            || !wire.awaiting.is_empty()
            || !wire.pending.is_empty()
            || wire.nonsense > 0
            || wire.acks_due > 0
            || wire.leaving;
        if waits {
            return Some(format!(
                "client {client} waits: {:?} {:?} {:?}, {} unexplained",
                held.outgoing, wire.awaiting, wire.pending, wire.unexplained
            ));
        }
        let wanted = held.heard.iter().filter(|(_, heard)| heard.wanted);
        let mut missing = wanted.filter_map(|(channel, heard)| {
            let verdict = self.oracle.complete(Listener(link), *channel);
            let done = heard.on && verdict.is_ok();
            (!done).then(|| format!("client {client}: {verdict:?}"))
        });
        missing.next()
    }

    /// The last checks: history, nothing left behind, nothing lost.
    pub(crate) fn reckon(&mut self) {
        self.read_all_history();
        self.leave_all();
        self.write_unheard();
        self.cut_and_read();
    }

    /// When everybody has gone, nothing of them is left in the shards.
    fn leave_all(&mut self) {
        for client in 0..self.clients.len() {
            self.leave_abruptly(client);
            self.clients[client].stage = Stage::Retired;
        }
        self.run_until(self.now_us + ALL_GONE_US);
        let first = self.next_ticket + 1;
        for shard in 0..self.shards {
            self.next_ticket += 1;
            let message = ToShard::Status {
                ticket: self.next_ticket,
            };
            self.put(
                0,
                Event::FromControl {
                    epoch: self.epoch,
                    shard,
                    message,
                },
            );
        }
        self.run_until(self.now_us + 2 * LOOK_US + 2 * self.plan.control.max_us);
        for ticket in first..=self.next_ticket {
            let status = self.statuses.get(&ticket).expect("a shard says how it is");
            assert!(
                status.connections == 0 && status.sessions == 0,
                "left behind: {status:?}"
            );
            assert!(status.store_error.is_none(), "{status:?}");
        }
    }

    /// Nobody hears any channel now: what is written there goes nowhere.
    fn write_unheard(&mut self) {
        let mut unheard: BTreeSet<ChannelId> = self.control.channels().into_iter().collect();
        let published = self.published;
        let mut writers = Vec::new();
        for client in 0..self.clients.len() {
            let held = &mut self.clients[client];
            let due: Vec<ChannelId> = held.mine.intersection(&unheard).copied().collect();
            if due.is_empty() {
                continue;
            }
            held.heard
                .values_mut()
                .for_each(|heard| heard.wanted = false);
            held.heard.entry(due[0]).or_default();
            held.stage = Stage::Offline;
            held.kind = Kind::Good;
            held.outgoing.clear();
            writers.push(client);
            self.client_turn(client, 0);
            self.run_until(self.now_us + 10 * LOOK_US);
            for channel in due {
                unheard.remove(&channel);
                self.send_new_to(client, channel);
            }
        }
        let latest_us = self.now_us + UNHEARD_US_MAX;
        while writers
            .iter()
            .any(|writer| !self.clients[*writer].outgoing.is_empty())
        {
            assert!(
                self.now_us < latest_us,
                "what nobody hears is acknowledged too"
            );
            self.step();
        }
        assert_eq!(self.published, published, "frames go where nobody listens");
    }

    /// One more power cut: everything that anybody saw must still be there.
    fn cut_and_read(&mut self) {
        self.power = Power::Down;
        self.disk.crash();
        let log = self.disk.run(read_log(self.disk.clone(), self.plan.store));
        let log = log.unwrap_or_else(|error| panic!("the store does not open again: {error}"));
        let stored: usize = log.values().map(Vec::len).sum();
        self.show_log(log);
        assert_eq!(
            stored,
            self.oracle.messages(),
            "what is stored is what was seen"
        );
    }

    /// Shows the oracle what is in the log.
    pub(crate) fn show_log(&mut self, mut log: BTreeMap<ChannelId, Vec<Entry>>) {
        for channel in self.control.channels() {
            let entries = log.remove(&channel).unwrap_or_default();
            let verdict = self.oracle.log(channel, entries);
            self.check(verdict);
        }
        assert!(
            log.is_empty(),
            "channels that nobody made: {:?}",
            log.keys()
        );
    }
}
