//! Clients and their connections together: dials, keeps alive, comes back.
//!
//! It decides nothing about what is measured: whoever drives it calls `turn` until what they wait
//! for has come.
//!
//! Invariants: dials are paced and those under way bounded; heartbeats are spread evenly over
//! their interval, without a timer for any client; a client that lost its connection comes back
//! when the server said, or later with each failure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;

use hdrhistogram::Histogram;

use super::links::{Happened, Link, LinkSettings, Links};
use super::people::{Deed, Departure, People, Phase};
use super::talk::latencies;
use crate::clock::Clock;
use crate::index::MessageIndex;
use crate::tally::record;

const MS: u64 = 1_000_000;
/// How long a client may take from its dial until it is live.
const HANDSHAKE_NS_MAX: u64 = 30_000 * MS;
/// Heartbeats sent in one turn.
const BEATS_PER_TURN_MAX: u64 = 2_048;
/// Dials begun in one turn.
const DIALS_PER_TURN_MAX: u64 = 256;

/// How a crowd comes and stays.
#[derive(Clone, Copy, Debug)]
pub struct CrowdSettings {
    /// Its connections.
    pub links: LinkSettings,
    /// Dials a second.
    pub rate: u32,
    /// Handshakes under way at once.
    pub under_way_max: usize,
    /// Milliseconds between two heartbeats of a client; none: what the server asks for.
    pub heartbeat_ms: Option<u64>,
    /// Attempts of one client that may fail in a row; the pause after each doubles up to 6 s.
    pub failures_max: u8,
}

/// Clients and their connections.
pub struct Crowd {
    clock: Clock,
    settings: CrowdSettings,
    links: Links,
    /// The clients.
    pub people: People,
    /// Clients below this have been told to come.
    invited: u32,
    next: u32,
    pace: Pace,
    again: BinaryHeap<Reverse<(u64, Link)>>,
    under_way: HashMap<Link, u64>,
    deadlines: VecDeque<(u64, Link)>,
    beats: u64,
    beats_from_ns: u64,
    sent_heartbeats: u64,
    gave_up: u64,
    handshake_us: Histogram<u64>,
    counts_from_plan: bool,
    happened: Vec<Happened>,
}

/// Dials that are allowed, by the time that has passed.
#[derive(Clone, Copy, Debug)]
struct Pace {
    from_ns: u64,
    begun: u64,
}

impl Pace {
    /// When the next dial is due at this rate.
    fn due_ns(&self, rate: u32) -> u64 {
        self.from_ns + self.begun * 1_000_000_000 / u64::from(rate.max(1))
    }
}

impl Crowd {
    /// Nobody is there yet.
    ///
    /// # Errors
    /// When the target cannot be met, or the system has no descriptor left.
    pub fn new(clock: Clock, settings: CrowdSettings, people: People) -> io::Result<Self> {
        Ok(Self {
            clock,
            settings,
            links: Links::new(settings.links)?,
            people,
            invited: 0,
            next: 0,
            pace: Pace {
                from_ns: clock.now_ns(),
                begun: 0,
            },
            again: BinaryHeap::new(),
            under_way: HashMap::new(),
            deadlines: VecDeque::new(),
            beats: 0,
            beats_from_ns: 0,
            sent_heartbeats: 0,
            gave_up: 0,
            handshake_us: latencies(),
            counts_from_plan: false,
            happened: Vec::new(),
        })
    }

    /// Clients below `count` are to come, from now on.
    pub fn invite(&mut self, count: u32) {
        assert!(count <= self.links.count(), "there are fewer clients");
        self.invited = count;
        self.pace = Pace {
            from_ns: self.clock.now_ns(),
            begun: 0,
        };
    }

    /// Dials at this rate from now on, per second.
    pub fn hurry(&mut self, rate: u32) {
        self.settings.rate = rate;
        self.pace = Pace {
            from_ns: self.clock.now_ns(),
            begun: 0,
        };
    }

    /// Cuts the connections of clients for which this holds; they come back.
    pub fn part(&mut self, who: impl Fn(Link) -> bool) {
        for link in (0..self.invited).map(Link).filter(|&link| who(link)) {
            if self.people.phase(link) != Phase::Apart {
                self.people.part(link);
            }
        }
        self.act();
    }

    /// A live client leaves for a while. Who says goodbye has 30 s to be let go.
    pub fn depart(&mut self, link: Link, departure: Departure) {
        assert_eq!(self.people.phase(link), Phase::Live, "who is here leaves");
        self.people.depart(link, departure);
        if departure.says_goodbye {
            let now_ns = self.clock.now_ns();
            self.under_way.insert(link, now_ns);
            self.deadlines.push_back((now_ns, link));
        }
        self.act();
    }

    /// Whether a client's bytes are left in the kernel from now on, until it listens again or its
    /// connection is over.
    pub fn deafen(&mut self, link: Link, is_deaf: bool) {
        self.links.deafen(link, is_deaf);
    }

    /// Clients below `count` leave for good, and the next ones that are invited begin anew.
    ///
    /// # Errors
    /// When a ring fails.
    pub fn dismiss(&mut self, count: u32) -> io::Result<()> {
        self.invited = 0;
        self.next = 0;
        for link in (0..count).map(Link) {
            if self.people.phase(link) != Phase::Apart {
                self.people.part(link);
            }
        }
        self.act();
        while (0..count).any(|n| self.people.phase(Link(n)) != Phase::Apart) {
            self.turn(10 * MS)?;
        }
        self.again.clear();
        Ok(())
    }

    /// Each live client below `count` sends a heartbeat now.
    pub fn beat_all(&mut self, count: u32) {
        for link in (0..count).map(Link) {
            if self.people.phase(link) == Phase::Live {
                self.sent_heartbeats += 1;
                let frame = self.people.voice().heartbeat();
                self.links.send(link, frame);
            }
        }
    }

    /// Sends a message of a client, due then.
    pub fn say(&mut self, link: Link, channel: u128, content: &str, due_ns: u64) {
        let nonce = self.people.talk.say(channel, due_ns);
        let frame = self.people.voice().message(channel, content, nonce);
        self.links.send(link, frame);
    }

    /// Sends a message of a client again, with its nonce.
    pub fn say_again(&mut self, link: Link, channel: u128, content: &str, index: MessageIndex) {
        let nonce = self.people.talk.nonce(index);
        let frame = self.people.voice().message(channel, content, nonce);
        self.links.send(link, frame);
    }

    /// A client begins to type.
    pub fn type_in(&mut self, link: Link, channel: u128) {
        let frame = self.people.voice().typing(channel);
        self.links.send(link, frame);
    }

    /// Clients that there may be.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.links.count()
    }

    /// Carries everything on by one step; waits up to `wait_ns` when there is nothing to do.
    ///
    /// # Errors
    /// When a ring fails: the run cannot go on.
    pub fn turn(&mut self, wait_ns: u64) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        self.dial_due(now_ns)?;
        self.beat(now_ns);
        self.give_up_late(now_ns);
        let wait_ns = wait_ns.min(self.idle_ns(now_ns));
        let mut happened = std::mem::take(&mut self.happened);
        self.links.exchange(wait_ns, &mut happened)?;
        let now_ns = self.clock.now_ns();
        for happening in happened.drain(..) {
            self.heed(happening, now_ns);
        }
        self.happened = happened;
        Ok(())
    }

    /// Clients that are live.
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.people.tally.live
    }

    /// Clients that failed too often in a row and are not tried again.
    #[must_use]
    pub const fn gave_up(&self) -> u64 {
        self.gave_up
    }

    /// Heartbeats that were sent.
    #[must_use]
    pub const fn sent_heartbeats(&self) -> u64 {
        self.sent_heartbeats
    }

    /// Rings that are open.
    #[must_use]
    pub const fn rings(&self) -> usize {
        self.links.rings()
    }

    /// Handshakes are counted anew from here on.
    pub fn restart_handshakes(&mut self) {
        self.handshake_us.reset();
    }

    /// Handshakes take from when their dial was due from here on, however late it was begun.
    pub const fn count_from_plan(&mut self) {
        self.counts_from_plan = true;
    }

    /// From dial to live, microseconds.
    #[must_use]
    pub const fn handshake_us(&self) -> &Histogram<u64> {
        &self.handshake_us
    }

    /// The crowd's clock.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    fn heed(&mut self, happening: Happened, now_ns: u64) {
        match happening {
            Happened::Up(link) => self.people.up(link),
            Happened::Received {
                link,
                buffer,
                bytes,
            } => {
                let was_live = self.people.phase(link) == Phase::Live;
                let filled = self.links.filled(link, buffer, bytes);
                self.people.received(link, filled, now_ns);
                self.links.give_back(link, buffer);
                if !was_live && self.people.phase(link) == Phase::Live {
                    self.arrived(link, now_ns);
                }
            }
            Happened::Ended(link, end) => {
                self.under_way.remove(&link);
                let after_ms = self.people.ended(link, end);
                if self.people.failures(link) > self.settings.failures_max {
                    self.gave_up += 1;
                } else if link.0 < self.invited {
                    self.again.push(Reverse((now_ns + after_ms * MS, link)));
                }
            }
        }
        self.act();
    }

    fn arrived(&mut self, link: Link, now_ns: u64) {
        if let Some(begun_ns) = self.under_way.remove(&link) {
            record(&mut self.handshake_us, now_ns.saturating_sub(begun_ns));
        }
    }

    fn act(&mut self) {
        for deed in self.people.deeds() {
            match deed {
                Deed::Send(link, frame) => self.links.send(link, frame),
                Deed::Close(link) => self.links.close(link),
            }
        }
    }

    fn dial_due(&mut self, now_ns: u64) -> io::Result<()> {
        let since_ns = now_ns.saturating_sub(self.pace.from_ns);
        let allowed = u128::from(since_ns) * u128::from(self.settings.rate) / 1_000_000_000;
        let mut left = u64::try_from(allowed)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.pace.begun)
            .min(DIALS_PER_TURN_MAX);
        while left > 0 && self.under_way.len() < self.settings.under_way_max {
            let Some(link) = self.next_to_dial(now_ns) else {
                // What nobody used is not saved for later.
                self.pace = Pace {
                    from_ns: now_ns,
                    begun: 0,
                };
                break;
            };
            if self.people.manners.is_slow(link) {
                self.links.dial_narrow(link)?;
            } else {
                self.links.dial(link)?;
            }
            self.people.dialling(link);
            let begun_ns = match self.counts_from_plan {
                true => self.pace.due_ns(self.settings.rate),
                false => now_ns,
            };
            self.under_way.insert(link, begun_ns);
            self.deadlines.push_back((begun_ns, link));
            self.pace.begun += 1;
            left -= 1;
        }
        Ok(())
    }

    fn next_to_dial(&mut self, now_ns: u64) -> Option<Link> {
        if let Some(&Reverse((due_ns, link))) = self.again.peek()
            && due_ns <= now_ns
        {
            self.again.pop();
            return Some(link);
        }
        (self.next < self.invited).then(|| {
            self.next += 1;
            Link(self.next - 1)
        })
    }

    /// A sweep over all clients, as far as time has gone.
    fn beat(&mut self, now_ns: u64) {
        let Some(interval_ms) = self.settings.heartbeat_ms.or(self.people.heartbeat_ms) else {
            self.beats_from_ns = now_ns;
            return;
        };
        let since_ns = u128::from(now_ns.saturating_sub(self.beats_from_ns));
        let clients = u128::from(self.links.count());
        let due = since_ns * clients / u128::from(interval_ms.max(1) * MS);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let until = due.min(self.beats + BEATS_PER_TURN_MAX);
        while self.beats < until {
            let link = self.beats % u64::from(self.links.count());
            self.beats += 1;
            let link = Link(u32::try_from(link).expect("below a 32-bit count"));
            if self.people.phase(link) == Phase::Live {
                self.sent_heartbeats += 1;
                let frame = self.people.voice().heartbeat();
                self.links.send(link, frame);
            }
        }
    }

    fn give_up_late(&mut self, now_ns: u64) {
        while let Some(&(begun_ns, link)) = self.deadlines.front() {
            if begun_ns + HANDSHAKE_NS_MAX > now_ns {
                return;
            }
            self.deadlines.pop_front();
            if self.under_way.get(&link) == Some(&begun_ns) {
                self.people.timed_out(link);
                self.act();
            }
        }
    }

    /// How long nothing is due: short while people come or there are heartbeats to spread.
    fn idle_ns(&self, now_ns: u64) -> u64 {
        let coming = self.next < self.invited && self.under_way.len() < self.settings.under_way_max;
        if coming {
            return MS;
        }
        let again = self.again.peek().map_or(u64::MAX, |next| next.0.0);
        again.saturating_sub(now_ns).clamp(MS, 10 * MS)
    }
}
