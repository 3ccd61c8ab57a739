//! Slow readers: clients that stop reading while their friends write long messages to them.
//!
//! A half of them stop for as long as it takes until more was written than the server keeps for
//! anybody (or a little less: then they catch up); the others take what fits into one receive, now
//! and then. It never drops them: that is the server's part.
//!
//! Invariants: they hear messages of friends who do read; nobody is deaf for longer than
//! [`DEAF_NS_MAX`], since TCP gives a peer up that takes nothing for half a minute; who is deaf
//! and how long is drawn from one seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::letters::{Letters, Text};
use super::pace::Pace;
use crate::swarm::crowd::Crowd;
use crate::swarm::links::Link;
use crate::swarm::people::Phase;

const MS: u64 = 1_000_000;
const DEAF_NS_MAX: u64 = 25_000 * MS;
/// How long a reader that takes little is deaf.
const SIP_NS: u64 = 250 * MS;
/// How long one listens in between.
const LISTEN_MS: std::ops::Range<u64> = 500..2_000;
/// Bytes that are written to a deaf one. The server keeps 256 KiB beside what is on its way, and the
/// kernel's two socket buffers take some 200 to 300 KiB before that: with the least of these few are
/// dropped, with the most all.
const WRITTEN_BYTES: std::ops::Range<u64> = 384 << 10..1_280 << 10;
/// Bytes of a message as it is delivered, beside its text.
const ENVELOPE_BYTES: u64 = 360;
/// Clients near a slow one among whom its friends are looked for.
const NEIGHBOURS: u32 = 8;

struct Reader {
    link: Link,
    stalls: bool,
    /// Deaf since then.
    deaf_ns: Option<u64>,
    /// What is still to be written while it is deaf.
    left_bytes: u64,
    until_ns: u64,
    pace: Pace,
    /// Who writes to it, and where.
    friends: Vec<(Link, u128)>,
    said: usize,
}

/// Lets readers be slow.
pub(super) struct Slow {
    readers: Vec<Reader>,
    rate: u32,
    random: StdRng,
    stalls: u64,
}

impl Slow {
    /// The crowd's slow readers, to each of whom so many messages a second are written while it is
    /// deaf.
    pub(super) fn new(crowd: &Crowd, shared: Option<u128>, rate: u32, seed: u64) -> Self {
        let clients = crowd.count();
        let manners = crowd.people.manners;
        let slow = (0..clients).map(Link).filter(|&link| manners.is_slow(link));
        let now_ns = crowd.clock().now_ns();
        let readers = slow.enumerate().map(|(number, link)| Reader {
            link,
            stalls: number % 2 == 0,
            deaf_ns: None,
            left_bytes: 0,
            until_ns: now_ns,
            pace: Pace::new(rate, now_ns),
            friends: friends(crowd, link, shared),
            said: 0,
        });
        Self {
            readers: readers.collect(),
            rate,
            random: StdRng::seed_from_u64(seed),
            stalls: 0,
        }
    }

    /// Readers that have friends to hear from.
    pub(super) fn count(&self) -> usize {
        let heard = self.readers.iter().filter(|one| !one.friends.is_empty());
        heard.count()
    }

    /// Times that one stopped reading until much was written to it.
    pub(super) const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Everybody does what is due.
    pub(super) fn turn(&mut self, crowd: &mut Crowd, letters: &mut Letters, now_ns: u64) {
        for at in 0..self.readers.len() {
            self.write(at, crowd, letters, now_ns);
            let reader = &mut self.readers[at];
            if crowd.people.phase(reader.link) != Phase::Live {
                reader.deaf_ns = None;
            } else if let Some(since_ns) = reader.deaf_ns {
                let is_over = reader.left_bytes == 0 || now_ns > since_ns + DEAF_NS_MAX;
                let has_sipped = !reader.stalls && now_ns > since_ns + SIP_NS;
                if is_over || has_sipped {
                    crowd.deafen(reader.link, false);
                    self.listen(at, now_ns);
                }
            } else if now_ns >= reader.until_ns {
                crowd.deafen(reader.link, true);
                self.stop(at, now_ns);
            }
        }
    }

    /// All read again, and for good.
    pub(super) fn end(&mut self, crowd: &mut Crowd) {
        for reader in &mut self.readers {
            reader.deaf_ns = None;
            crowd.deafen(reader.link, false);
        }
    }

    fn listen(&mut self, at: usize, now_ns: u64) {
        let reader = &mut self.readers[at];
        reader.deaf_ns = None;
        // One that sips is deaf again as soon as it has received once.
        let listen_ms = if reader.stalls {
            self.random.random_range(LISTEN_MS)
        } else {
            1
        };
        reader.until_ns = now_ns + listen_ms * MS;
    }

    fn stop(&mut self, at: usize, now_ns: u64) {
        let reader = &mut self.readers[at];
        reader.deaf_ns = Some(now_ns);
        if reader.stalls {
            self.stalls += 1;
            reader.pace = Pace::new(self.rate, now_ns);
            reader.left_bytes = self.random.random_range(WRITTEN_BYTES);
        } else {
            reader.left_bytes = u64::MAX;
        }
    }

    /// What its friends write to one that does not read, or reads little.
    fn write(&mut self, at: usize, crowd: &mut Crowd, letters: &mut Letters, now_ns: u64) {
        let reader = &mut self.readers[at];
        if reader.friends.is_empty() || (reader.stalls && reader.deaf_ns.is_none()) {
            return;
        }
        while reader.left_bytes > 0
            && let Some(due_ns) = reader.pace.take(now_ns)
        {
            let (friend, channel) = reader.friends[reader.said % reader.friends.len()];
            reader.said += 1;
            if crowd.people.phase(friend) == Phase::Live {
                letters.say(crowd, (friend, channel), Text::LONGEST, due_ns);
                let bytes = Text::LONGEST.bytes() as u64 + ENVELOPE_BYTES;
                reader.left_bytes = reader.left_bytes.saturating_sub(bytes);
            }
        }
    }
}

/// Neighbours that watch a small channel with this client, and read.
fn friends(crowd: &Crowd, link: Link, shared: Option<u128>) -> Vec<(Link, u128)> {
    let people = &crowd.people;
    let Some(ledger) = &people.ledger else {
        return Vec::new();
    };
    let near = link.0.saturating_sub(NEIGHBOURS)..(link.0 + NEIGHBOURS).min(crowd.count());
    let near = near
        .map(Link)
        .filter(|&other| !people.manners.is_slow(other));
    let mut friends = Vec::new();
    for other in near {
        let both = ledger.watched(other).filter(|&(channel, _)| {
            let mut own = ledger.watched(link);
            Some(channel) != shared && own.any(|(id, _)| id == channel)
        });
        friends.extend(both.map(|(channel, _)| (other, channel)));
    }
    friends
}
