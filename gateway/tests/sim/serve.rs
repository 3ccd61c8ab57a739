//! What an edge does around the shards: inputs in, outputs carried out, lanes, store, control
//! plane.
//!
//! It decides nothing about chat. Delays and the sizes of batches are drawn from the seed.
//!
//! Invariants: outputs are carried out in their order; a lane never reorders; what the shard asks
//! for is answered once, unless the node ends before.

use bytes::Bytes;
use rand::RngExt;
use throng::io::{Application, ConnId, Input, Outbox, Output};
use throng::lane::LaneMessage;
use throng_control::{FromShard, ToShard};

use crate::counts::Happening;
use crate::journal::Health;
use crate::link::Link;
use crate::node::{Host, Node};
use crate::notes::{note_input, note_output};
use crate::world::{Event, Power, World};

/// How long a socket may take for its last bytes.
const LINGER_US: u64 = 5_000_000;

/// After how long without a commit the log's tail is sealed.
const IDLE_US: u64 = 100_000;

/// How far live frames may exceed a lane's credit: what was admitted before the shard became
/// interested, and the frames are longer than the records.
const LANE_SLACK_BYTES: u64 = 96 << 10;

impl World {
    pub(crate) fn node(&mut self) -> Option<&mut Node> {
        match &mut self.power {
            Power::Up(node) => Some(node),
            Power::Down | Power::Starting(_) => None,
        }
    }

    fn host(&mut self, shard: u16) -> Option<&mut Host> {
        self.node()?.hosts.get_mut(usize::from(shard))
    }

    /// Gives a shard one input, and carries out what comes of it, at once or a little later.
    pub(crate) fn give(&mut self, shard: u16, input: Input<'_>) {
        self.handle(shard, input);
        let later = self.random.random_ratio(1, 5);
        let Some(host) = self.host(shard) else { return };
        if host.flush_due {
            return;
        }
        if later {
            host.flush_due = true;
            let event = Event::Flush {
                epoch: self.epoch,
                shard,
            };
            let after_us = self.random.random_range(0..400);
            self.put(after_us, event);
        } else {
            self.carry_out(shard);
        }
    }

    fn handle(&mut self, shard: u16, input: Input<'_>) {
        let now_ms = self.node_ms();
        let now_us = self.now_us;
        let Power::Up(node) = &mut self.power else {
            return;
        };
        note_input(&mut self.trace, now_us, shard, &input);
        let host = &mut node.hosts[usize::from(shard)];
        host.shard.handle(now_ms, input, &mut host.outbox);
    }

    /// The end of a shard's batch.
    pub(crate) fn flush(&mut self, shard: u16) {
        if let Some(host) = self.host(shard) {
            host.flush_due = false;
            self.carry_out(shard);
        }
    }

    /// Gives a shard the inputs that came of its sockets.
    pub(crate) fn give_pumped(&mut self, shard: u16) {
        if self.host(shard).is_some_and(|host| !host.inputs.is_empty()) {
            self.carry_out(shard);
        }
    }

    fn carry_out(&mut self, shard: u16) {
        loop {
            let Some(host) = self.host(shard) else { return };
            for (output, recipients) in outputs(&mut host.outbox) {
                self.perform(shard, output, &recipients);
            }
            self.pump_touched(shard);
            let Some(host) = self.host(shard) else { return };
            let inputs = std::mem::take(&mut host.inputs);
            if inputs.is_empty() && host.outbox.is_empty() {
                return;
            }
            for input in inputs {
                self.handle(shard, input);
            }
        }
    }

    fn perform(&mut self, shard: u16, output: Output, recipients: &[ConnId]) {
        let now_us = self.now_us;
        note_output(&mut self.trace, now_us, shard, &output, recipients);
        self.published += u64::from(is_live(&output));
        match output {
            Output::Send { conn, bytes } => self.send_to(shard, &[conn], bytes),
            Output::Deflate { conn } => {
                if let Some(link) = self.link_of(shard, conn) {
                    self.links[link].deflate();
                }
            }
            Output::Broadcast { bytes, .. } => {
                if recipients.len() == self.plan.config.limits.fanout_slice_max {
                    self.counts.add(Happening::FullSlice);
                }
                self.send_to(shard, recipients, bytes);
            }
            Output::Again => {
                let after_us = self.plan.again.draw(&mut self.random);
                let epoch = self.epoch;
                self.put(after_us, Event::Again { epoch, shard });
            }
            Output::Watch { conn } => {
                if let Some(link) = self.link_of(shard, conn) {
                    self.links[link].watch();
                    self.touched.push(link);
                }
            }
            Output::Close { conn } => {
                if let Some(link) = self.link_of(shard, conn) {
                    self.links[link].close();
                    self.touched.push(link);
                    self.put(LINGER_US, Event::Linger { link });
                }
            }
            Output::HandOver { conn, .. } => {
                if let Some(link) = self.link_of(shard, conn) {
                    self.links[link].close();
                    self.touched.push(link);
                }
            }
            Output::Forward { to, message } => self.forward(shard, to.0, message),
            Output::Append { commit, records } => {
                if let Some(host) = self.host(shard) {
                    host.store.append(commit, records);
                    self.store_due = true;
                }
            }
            Output::Read { read, query } => {
                if let Some(host) = self.host(shard) {
                    host.store.read(read, query);
                    self.store_due = true;
                }
            }
            Output::Control(message) => {
                let after_us = self.plan.control.draw(&mut self.random);
                self.put(
                    after_us,
                    Event::AtControl {
                        epoch: self.epoch,
                        shard,
                        message,
                    },
                );
            }
        }
    }

    fn link_of(&mut self, shard: u16, conn: ConnId) -> Option<usize> {
        self.host(shard)?.link(conn)
    }

    fn send_to(&mut self, shard: u16, conns: &[ConnId], bytes: Bytes) {
        let backlog_bytes_max = self.plan.config.limits.backlog_bytes_max;
        let Power::Up(node) = &mut self.power else {
            return;
        };
        let host = &mut node.hosts[usize::from(shard)];
        let (mut plain, mut compressed) = (None, None);
        for conn in conns {
            let Some(at) = host.link(*conn) else {
                continue;
            };
            self.touched.push(at);
            let link = &mut self.links[at];
            let frame = match link.is_deflating() {
                true => {
                    compressed.get_or_insert_with(|| host.spool.frame(self.compression.of(&bytes)))
                }
                false => plain.get_or_insert_with(|| host.spool.frame(bytes.clone())),
            };
            if link.push(frame.clone(), backlog_bytes_max, &mut host.spool) {
                assert!(
                    !link.healthy,
                    "connection {at} reads at once and is taken for a slow one"
                );
                self.counts.add(Happening::SlowConsumer);
                host.inputs.push_back(Input::Blocked { conn: *conn });
            }
        }
    }

    /// Lets the sockets that were given something send, and tells the shard what came of it.
    fn pump_touched(&mut self, shard: u16) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for link in touched.drain(..) {
            self.pump(link);
        }
        self.touched = touched;
        if let Some(host) = self.host(shard) {
            host.spool.forget();
            if host.spool.is_over() {
                self.relieve(shard);
            }
        }
    }

    /// Lets the largest backlogs of a shard go, as the edge does.
    fn relieve(&mut self, shard: u16) {
        let epoch = self.epoch;
        let here = |link: &&Link| link.shard == shard && link.epoch == epoch;
        let links = self.links.iter().enumerate().filter(|(_, link)| here(link));
        let mut backlogs: Vec<_> = links.filter_map(|(at, link)| link.backlog(at)).collect();
        backlogs.sort_unstable_by(|a, b| b.cmp(a));
        let mut letting_go_bytes = 0;
        for backlog in backlogs {
            let Some(host) = self.host(shard) else { return };
            if !host.spool.is_short(letting_go_bytes) {
                break;
            }
            let link = &mut self.links[backlog.of];
            let conn = link.conn;
            if let Some(own_bytes) = link.give_way() {
                letting_go_bytes += own_bytes;
                self.counts.add(Happening::GaveWay);
                if let Some(host) = self.host(shard) {
                    host.inputs.push_back(Input::Blocked { conn });
                }
            } else if backlog.leaving {
                self.break_off(backlog.of);
            }
        }
        if let Some(host) = self.host(shard) {
            host.spool.looked();
        }
    }

    fn forward(&mut self, from: u16, to: u16, message: LaneMessage) {
        let after_us = self.plan.lane.draw(&mut self.random);
        let epoch = self.epoch;
        let live_bytes_max = self.plan.config.limits.lane_bytes_max + LANE_SLACK_BYTES;
        let Some(node) = self.node() else { return };
        assert!(
            from != to && usize::from(to) < node.hosts.len(),
            "a lane leads to another shard"
        );
        let lane = node.lanes.entry((from, to)).or_default();
        lane.live_bytes += live_bytes(&message);
        assert!(
            lane.live_bytes <= live_bytes_max,
            "a lane holds {} bytes",
            lane.live_bytes
        );
        lane.queue.push_back(message);
        if !std::mem::replace(&mut lane.due, true) {
            self.put(after_us, Event::Lane { epoch, from, to });
        }
    }

    /// Some of what is on a lane arrives.
    pub(crate) fn lane_delivers(&mut self, from: u16, to: u16) {
        let after_us = self.plan.lane.draw(&mut self.random);
        let share = self.random.random_range(1..=100);
        let epoch = self.epoch;
        let Some(lane) = self.node().and_then(|node| node.lanes.get_mut(&(from, to))) else {
            return;
        };
        let count = (lane.queue.len() * share).div_ceil(100);
        let batch: Vec<LaneMessage> = lane.queue.drain(..count).collect();
        lane.live_bytes -= batch.iter().map(live_bytes).sum::<u64>();
        lane.due = !lane.queue.is_empty();
        if lane.due {
            self.put(after_us, Event::Lane { epoch, from, to });
        }
        for message in batch {
            self.give(
                to,
                Input::Lane {
                    from: throng::io::ShardId(from),
                    message,
                },
            );
        }
    }

    /// Moves the store's tasks on, and gives the shards what is done.
    pub(crate) fn poll_store(&mut self) {
        while std::mem::take(&mut self.store_due) {
            let shards = self.node().map_or(0, |node| node.hosts.len());
            for shard in 0..shards {
                let shard = u16::try_from(shard).expect("few shards");
                let mut inputs = Vec::new();
                let Some(host) = self.host(shard) else { return };
                let health = host.store.poll(&mut inputs);
                if !self.disk.has_power() {
                    return self.power_fails();
                }
                if let Health::Failed(error) = health {
                    return self.store_failed(&error);
                }
                for input in inputs {
                    self.stored(shard, input);
                }
            }
            self.keep_store();
        }
    }

    /// Moves the store's maintenance on.
    fn keep_store(&mut self) {
        let now_ms = self.node_ms();
        let Power::Up(node) = &mut self.power else {
            return;
        };
        let sealed = node.keeper.sealed;
        node.keeper.poll(now_ms, &mut node.hosts, node.closing);
        let newly_sealed = node.keeper.sealed - sealed;
        (0..newly_sealed).for_each(|_| self.counts.add(Happening::Sealed));
        if !self.disk.has_power() {
            self.power_fails();
        }
    }

    fn stored(&mut self, shard: u16, input: Input<'static>) {
        self.store_due = true;
        if matches!(input, Input::Committed { .. }) {
            let appends = self.host(shard).map_or(0, |host| host.store.appends());
            self.put(
                IDLE_US,
                Event::Seal {
                    epoch: self.epoch,
                    shard,
                    appends,
                },
            );
        }
        self.give(shard, input);
    }

    /// The control plane hears a shard.
    pub(crate) fn at_control(&mut self, shard: u16, message: FromShard) {
        match message {
            FromShard::Ask { ask, ask_body } => {
                let answer = self.control.answer(&ask_body);
                let after_us = self.plan.control.draw(&mut self.random);
                let message = ToShard::Answer { ask, answer };
                self.put(
                    after_us,
                    Event::FromControl {
                        epoch: self.epoch,
                        shard,
                        message,
                    },
                );
            }
            FromShard::Invalidated { ticket } => {
                if let Some(account) = self.control.invalidated(shard, ticket) {
                    self.joined(account);
                }
            }
            FromShard::History { ticket, result } => self.page_arrived(ticket, result),
            FromShard::Status { ticket, status } => {
                self.statuses.insert(ticket, status);
            }
        }
    }

    /// Gives every shard the same message of the control plane, each at its own time.
    pub(crate) fn tell_shards(&mut self, message: &ToShard) {
        let shards = self.node().map_or(0, |node| node.hosts.len());
        for shard in 0..shards {
            let shard = u16::try_from(shard).expect("few shards");
            let after_us = self.plan.control.draw(&mut self.random);
            let message = message.clone();
            self.put(
                after_us,
                Event::FromControl {
                    epoch: self.epoch,
                    shard,
                    message,
                },
            );
        }
    }
}

/// What a shard wants done, each broadcast with who gets it.
fn outputs(outbox: &mut Outbox) -> Vec<(Output, Vec<ConnId>)> {
    let mut outputs = Vec::new();
    let mut batch = outbox.drain();
    while let Some(output) = batch.next() {
        let recipients = match &output {
            Output::Broadcast { to, .. } => batch.recipients(to).to_vec(),
            _ => Vec::new(),
        };
        outputs.push((output, recipients));
    }
    outputs
}

/// Whether somebody is taken to hear a channel.
fn is_live(output: &Output) -> bool {
    match output {
        Output::Broadcast { .. } => true,
        Output::Forward { message, .. } => live_bytes(message) > 0,
        _ => false,
    }
}

fn live_bytes(message: &LaneMessage) -> u64 {
    match message {
        LaneMessage::Publish { frame, .. } | LaneMessage::PublishTyping { frame, .. } => {
            frame.len() as u64
        }
        _ => 0,
    }
}
