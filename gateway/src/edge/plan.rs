//! How many connections a shard takes, and how many rings of which size they need.
//!
//! It opens nothing; [`super::rings`] does, one ring after the other.
//!
//! Invariants: the places of all rings suffice for the connections and for those who are told no;
//! no table is larger than the kernel makes it.

use super::operation::PLACES_MAX;
use super::ring::RingSize;
use super::settings::EdgeSettings;

/// The kernel's largest table of sockets.
const RING_PLACES_MAX: u32 = 1 << 20;

/// How many connections and rings a shard may have, and how large each ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingPlan {
    /// Connections; those beyond are told no.
    pub(super) connections_max: u32,
    /// The first ring; the later ones have the same table and smaller buffers.
    pub(super) size: RingSize,
    /// Rings that suffice for all sockets.
    pub(super) rings_max: usize,
}

impl RingPlan {
    /// One ring, if a table may be that large: it holds at most as many sockets as the process may
    /// have `descriptors`. `fitting` connections are what the memory would hold.
    pub(super) fn new(settings: &EdgeSettings, fitting: u32, descriptors: u64) -> Self {
        let connections = match settings.connections_max {
            0 => fitting,
            configured => configured,
        };
        let connections_max = connections.clamp(1, PLACES_MAX / 2);
        let needed = connections_max + settings.refusals_max.min(PLACES_MAX / 4);
        let wanted = match settings.ring_places {
            0 => needed,
            configured => configured,
        };
        let places = u32::try_from(descriptors)
            .unwrap_or(u32::MAX)
            .min(wanted)
            .clamp(1, RING_PLACES_MAX);
        let size = RingSize {
            places,
            completions: settings.completions,
            receive_buffers: settings.receive_buffers,
            receive_buffer_bytes: settings.receive_buffer_bytes,
        };
        Self {
            connections_max,
            size,
            rings_max: needed.div_ceil(places) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connections_max: u32, ring_places: u32, descriptors: u64, expected: (u32, usize)) {
        let mut settings = EdgeSettings::new("127.0.0.1:0".parse().unwrap(), 1);
        (settings.connections_max, settings.refusals_max) = (connections_max, 100);
        settings.ring_places = ring_places;
        let plan = RingPlan::new(&settings, 50_000, descriptors);
        assert_eq!((plan.size.places, plan.rings_max), expected, "{plan:?}");
        assert!(plan.rings_max as u64 * u64::from(plan.size.places) >= 100);
    }

    #[test]
    fn one_ring_where_the_limit_allows_and_as_many_as_needed_elsewhere() {
        check(1_000, 0, 20_000, (1_100, 1));
        check(20_000, 0, 20_000, (20_000, 2));
        check(0, 0, 20_000, (20_000, 3));
        check(0, 0, u64::MAX, (50_100, 1));
        check(2_300_000, 0, 20_000, (20_000, 116));
        check(2_300_000, 0, u64::MAX, (1 << 20, 3));
        check(1_000, 8, 20_000, (8, 138));
        check(1, 0, 0, (1, 101));
        check(u32::MAX, 0, u64::MAX, (1 << 20, 129));
    }
}
