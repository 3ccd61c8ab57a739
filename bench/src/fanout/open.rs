//! The search for the highest rate at which deliveries still come in time.
//!
//! It judges by the generator's clock: a message is due by the plan. `highest` says what is tried.
//!
//! Invariants: a rate counts only if every message reached all; between two probes all clients
//! are live again.

use std::time::Duration;

use super::highest::{Highest, P99_US_MAX};
use super::{FanoutArgs, FanoutReport, is_good};
use crate::error::BenchError;
use crate::memory::ProcessUse;
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::links::Link;
use crate::swarm::speech::{Speech, Spoken, speak};

/// Looks for the highest rate.
pub(super) fn search(
    args: &FanoutArgs,
    crowd: &mut Crowd,
    channel: u128,
    report: &mut FanoutReport,
) -> Result<(), BenchError> {
    let mut search = Highest::new(args.subscribers);
    while let Some(rate) = search.rate() {
        search.judge(probe(args, crowd, channel, report, rate)?);
    }
    Ok(())
}

fn probe(
    args: &FanoutArgs,
    crowd: &mut Crowd,
    channel: u128,
    report: &mut FanoutReport,
    rate: u32,
) -> Result<bool, BenchError> {
    let speech = Speech {
        rate,
        duration: args.probe,
        size: usize::from(args.size),
    };
    let server = || args.swarm.pid.and_then(ProcessUse::of);
    let before = server();
    let spoken = speak(crowd, speech, |_, _| (Link(0), channel))?;
    let after = server();
    let is_good = is_good(&spoken);
    let p99 = spoken.delivery_latency_us.p99;
    eprintln!(
        "{rate} messages/s: {:.0} deliveries/s, p99 {p99} us{}",
        spoken.deliveries_per_s,
        too_much(&spoken)
    );
    report.probed(rate, &spoken);
    if is_good {
        report.cpu(before, after, &spoken);
        report.best(rate, spoken);
    } else {
        // Whoever was too slow comes back.
        hold::stay(crowd, Duration::from_secs(1))?;
        hold::come(crowd, args.subscribers, args.swarm.connect_timeout)?;
    }
    Ok(is_good)
}

/// Why a rate is too high; nothing when it is not.
fn too_much(spoken: &Spoken) -> String {
    let mut reasons: Vec<String> = spoken
        .faults()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let p99 = spoken.delivery_latency_us.p99;
    if p99 >= P99_US_MAX {
        reasons.push(format!("p99 of {P99_US_MAX} us or more"));
    }
    if reasons.is_empty() {
        return String::new();
    }
    format!(", too much: {}", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_too_high_says_why() {
        let mut spoken = Spoken::default();
        assert!(is_good(&spoken) && too_much(&spoken).is_empty());
        spoken.delivery_latency_us.p99 = P99_US_MAX;
        spoken.dropped = 3;
        assert!(!is_good(&spoken));
        let why = too_much(&spoken);
        assert_eq!(
            why,
            ", too much: 3 connections dropped, p99 of 100000 us or more"
        );
        spoken.delivery_latency_us.p99 = 0;
        assert!(!is_good(&spoken));
    }
}
