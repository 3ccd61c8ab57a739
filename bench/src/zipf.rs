//! Zipf's law: few channels are busy, most are quiet.
//!
//! It draws from a generator that it is given and holds none.
//!
//! Invariants: place 0 is the most likely, and every place is possible.

use rand::RngExt;
use rand::rngs::StdRng;

/// Draws places `0..n` with probability proportional to `1 / (place + 1)^exponent`.
#[derive(Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// The law for `places` places.
    ///
    /// # Panics
    /// When `places` is 0.
    #[must_use]
    pub fn new(places: usize, exponent: f64) -> Self {
        assert!(places > 0, "there is something to draw");
        let mut total = 0.0;
        let cumulative = (1..=places)
            .map(|rank| {
                total += 1.0 / f64::from(u32::try_from(rank).unwrap_or(u32::MAX)).powf(exponent);
                total
            })
            .collect();
        Self { cumulative }
    }

    /// Draws a place.
    pub fn draw(&self, random: &mut StdRng) -> usize {
        let total = self.cumulative[self.cumulative.len() - 1];
        let point = random.random_range(0.0..total);
        self.cumulative
            .partition_point(|&upto| upto <= point)
            .min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn zipf_frequencies() {
        let mut random = StdRng::seed_from_u64(3);
        let zipf = Zipf::new(100, 1.0);
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut random)] += 1;
        }
        // The 100th harmonic number is 5.187: rank 1 gets 19.28 %, rank 10 1.93 %.
        assert!((18_800..19_800).contains(&counts[0]), "{}", counts[0]);
        assert!((1_750..2_110).contains(&counts[9]), "{}", counts[9]);
        let flat = Zipf::new(4, 0.0);
        let mut counts = [0_u32; 4];
        for _ in 0..40_000 {
            counts[flat.draw(&mut random)] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }
}
