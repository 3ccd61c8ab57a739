//! What goes wrong: power, process, disk, database; and the way back up.
//!
//! It never touches a shard's state: a life of the node ends as a whole and the next one begins
//! with what the disk kept.
//!
//! Invariants: after every end the store opens again, unless the disk itself refuses to work;
//! what it then holds is shown to the oracle before anybody is served.

use std::task::Poll;

use rand::RngExt;
use throng::io::Input;
use throng_control::ToShard;
use throng_storage_engine::{DiskOp, SimFault, StoreError};

use crate::control::{Account, Invalidation};
use crate::counts::Happening;
use crate::journal::poll_once;
use crate::node::{Found, start};
use crate::plan::Fault;
use crate::world::{Event, Power, World};

/// How long the machine is off at times: what was written before is sealed after it.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How often a drain is looked at.
const DRAIN_LOOK_US: u64 = 100_000;

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace
            .note(self.now_us, format_args!("fault: {fault:?}"));
        match fault {
            Fault::PowerCut => {
                self.counts.add(Happening::PowerCut);
                self.cut_power();
            }
            Fault::PowerCutInWrite { changes } => {
                self.disk.cut_power_at(self.disk.changes() + changes);
            }
            Fault::Kill => {
                self.counts.add(Happening::Kill);
                self.end_node();
            }
            Fault::DiskError => {
                let op = if self.random.random() {
                    DiskOp::Write
                } else {
                    DiskOp::Sync
                };
                self.disk.fail_next(op, SimFault::Io);
            }
            Fault::DiskFull { us } => {
                self.counts.add(Happening::DiskFull);
                self.disk.set_quota_bytes(Some(self.disk.used_bytes()));
                self.put(us, Event::SpaceReturns);
            }
            Fault::ControlOutage { us } => {
                self.counts.add(Happening::ControlOutage);
                self.control.away = true;
                self.put(us, Event::ControlReturns);
            }
            Fault::Drain => self.drain(),
            Fault::Join => self.somebody_joins(),
        }
    }

    /// The power has gone in the middle of a change.
    pub(crate) fn power_fails(&mut self) {
        self.counts.add(Happening::PowerCutInWrite);
        self.cut_power();
    }

    /// The store has failed: the process ends, and what it wrote is where it is.
    pub(crate) fn store_failed(&mut self, error: &StoreError) {
        assert!(
            matches!(error, StoreError::Disk(_)),
            "the store failed by itself: {error}"
        );
        self.counts.add(Happening::DiskError);
        self.trace
            .note(self.now_us, format_args!("the store failed: {error}"));
        self.end_node();
    }

    fn cut_power(&mut self) {
        self.power = Power::Down; // Its tasks must not see the disk come back.
        self.disk.crash();
        self.end_node();
    }

    /// The process is gone; it will be started again.
    pub(crate) fn end_node(&mut self) {
        self.trace
            .note(self.now_us, format_args!("the process ends"));
        self.power = Power::Down;
        self.epoch += 1;
        for link in 0..self.links.len() {
            if std::mem::take(&mut self.links[link].served) {
                self.lose(link);
            }
        }
        for account in self.control.shards_gone() {
            self.joined(account);
        }
        let after_us = self.random.random_range(20_000..1_500_000);
        self.put(after_us, Event::Start { epoch: self.epoch });
    }

    /// A connection whose server is gone: what is under way arrives, or not.
    fn lose(&mut self, link: usize) {
        let after_us = self.plan.network.draw(&mut self.random);
        let rest_us = self.links[link].to_client_us.max(self.now_us);
        let at_us = if self.random.random() {
            rest_us
        } else {
            self.now_us + after_us
        };
        self.put(at_us - self.now_us, Event::ClientSeesEnd { link });
    }

    /// The process starts: recovery first.
    pub(crate) fn start_node(&mut self) {
        if !matches!(self.power, Power::Down) {
            return;
        }
        let shards = self.random.random_range(1..=self.plan.shards_max);
        if self.shards != 0 && self.shards != shards {
            self.counts.add(Happening::OtherShardCount);
        }
        self.shards = shards;
        if self.epoch > 0 && !self.winding && self.random.random_ratio(1, 6) {
            self.disk
                .cut_power_at(self.disk.changes() + self.random.random_range(1..12));
        }
        self.trace
            .note(self.now_us, format_args!("start with {shards} shards"));
        self.clock_step_ms = self.random.random_range(-1_500..=1_500);
        if self.epoch > 0 && self.random.random_ratio(1, 4) {
            self.counts.add(Happening::DayPassed);
            self.off_ms += DAY_MS;
        }
        let wall_ms = self.wall_ms();
        let seed = self.random.random();
        let (config, store) = (self.plan.config.clone(), self.plan.store);
        let starting = start(self.disk.clone(), config, store, shards, seed, wall_ms);
        self.power = Power::Starting(Box::pin(starting));
    }

    /// Moves recovery on.
    pub(crate) fn poll_start(&mut self) {
        let Power::Starting(task) = &mut self.power else {
            return;
        };
        let Poll::Ready(found) = poll_once(task) else {
            return;
        };
        match found {
            Ok(found) => self.serve(found),
            Err(StoreError::Disk(error)) => {
                self.trace
                    .note(self.now_us, format_args!("recovery: {error}"));
                if self.disk.has_power() {
                    self.end_node();
                } else {
                    self.counts.add(Happening::PowerCutInRecovery);
                    self.cut_power();
                }
            }
            Err(error) => panic!("the store does not open again: {error}"),
        }
    }

    fn serve(&mut self, found: Found) {
        let Found { node, log, torn } = found;
        if torn > 0 {
            self.counts.add(Happening::TornTail);
        }
        self.trace
            .note(self.now_us, format_args!("serving; torn tails: {torn}"));
        self.show_log(log);
        self.forget_time();
        let shards = self.shards;
        self.power = Power::Up(Box::new(node));
        for shard in 0..shards {
            let after_us = self.random.random_range(0..100_000);
            self.put(
                after_us,
                Event::Tick {
                    epoch: self.epoch,
                    shard,
                },
            );
        }
    }

    /// The process is asked to end.
    fn drain(&mut self) {
        let Some(node) = self.node().filter(|node| !node.draining) else {
            return;
        };
        node.draining = true;
        let shards = u16::try_from(node.hosts.len()).expect("few shards");
        self.counts.add(Happening::Drain);
        for shard in 0..shards {
            self.give(shard, Input::Drain);
        }
        self.put(DRAIN_LOOK_US, Event::Drained { epoch: self.epoch });
    }

    /// When nobody is left the logs are closed, and then the process ends.
    pub(crate) fn look_whether_drained(&mut self) {
        let Some(node) = self.node() else { return };
        let idle_lanes = node.lanes.values().all(|lane| lane.queue.is_empty());
        let drained = idle_lanes && node.hosts.iter().all(|host| host.shard.is_drained());
        if drained && !node.closing {
            node.closing = true;
            node.hosts.iter_mut().for_each(|host| host.store.close());
            self.store_due = true;
        }
        let Some(node) = self.node() else { return };
        if node.closing && node.hosts.iter().all(|host| host.store.is_closed()) {
            return self.end_node();
        }
        self.put(DRAIN_LOOK_US, Event::Drained { epoch: self.epoch });
    }

    fn somebody_joins(&mut self) {
        let shards = self.node().map_or(0, |node| node.hosts.len());
        let shards = u16::try_from(shards).expect("few shards");
        let Some(invalidation) = self.control.join(shards, &mut self.random) else {
            return;
        };
        self.counts.add(Happening::Joined);
        let Invalidation {
            ticket,
            guild,
            version,
            user,
        } = invalidation;
        let (user, channel) = (Some(user), None);
        self.tell_shards(&ToShard::Invalidate {
            ticket,
            guild,
            version,
            user,
            channel,
        });
        if shards == 0 {
            for account in self.control.shards_gone() {
                self.joined(account);
            }
        }
    }

    /// Every shard knows that this account is a member now: its clients are told.
    pub(crate) fn joined(&mut self, account: Account) {
        for client in 0..self.clients.len() {
            if self.clients[client].account == account {
                self.client_joined(client);
            }
        }
    }
}
