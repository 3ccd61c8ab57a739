//! The report for people.
//!
//! It leaves nothing out that is wrong, and ends with it.
//!
//! Invariants: fits 100 columns.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{Latency, Options, Report};

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_load(out)?;
        self.write_promises(out)?;
        self.write_disturbances(out)?;
        self.write_latencies(out)?;
        for warning in self.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        for (promise, count) in self.broken() {
            writeln!(out, "BROKEN: {promise}: {count}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_load(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            clients,
            channels,
            subscriptions,
            rate,
            warm_up_s,
            duration_s,
            ..
        } = &self.options;
        let warm_up = match *warm_up_s > 0.0 {
            true => format!(" after {warm_up_s} s of warm-up"),
            false => String::new(),
        };
        writeln!(
            out,
            "{clients} clients, {channels} channels, {subscriptions} subscriptions each, \
             {rate} messages/s for {duration_s} s{warm_up}"
        )?;
        let Self {
            setup_s,
            connect_s,
            run_s,
            acked_per_s,
            delivered_per_s,
            ..
        } = self;
        writeln!(
            out,
            "setup {setup_s:.1} s, connect {connect_s:.1} s, run {run_s:.1} s: \
             {acked_per_s:.0} acked/s, {delivered_per_s:.0} delivered/s"
        )
    }

    fn write_promises(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            acked,
            unanswered,
            rate_limited,
            delivered,
            expected,
            lost,
            ..
        } = self;
        writeln!(
            out,
            "sent {sent}  acked {acked}  unanswered {unanswered}  rate limited {rate_limited}"
        )?;
        writeln!(out, "delivered {delivered} of {expected}  lost {lost}")?;
        writeln!(
            out,
            "duplicated {}  out of order {}  disagreements {}  gaps {}  wrong content {}",
            self.duplicated, self.out_of_order, self.disagreements, self.gaps, self.wrong_content
        )?;
        writeln!(
            out,
            "unasked {}  forgotten {}  history: {} messages compared, {} differ",
            self.unasked, self.forgotten, self.history_checked, self.history_mismatches
        )
    }

    fn write_disturbances(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reconnects,
            resent,
            resyncs,
            ..
        } = self;
        writeln!(
            out,
            "reconnects {reconnects}  resent {resent}  resyncs {resyncs}{}{}",
            counted("  refused:", &self.errors_by_code),
            counted("  disconnected:", &self.disconnects_by_reason)
        )
    }

    fn write_latencies(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<24}{:>10}{:>10}{:>10}{:>10}",
            "us", "p50", "p99", "p99.9", "max"
        )?;
        for (name, latency) in [
            ("ack latency", &self.ack_latency_us),
            ("delivery latency", &self.delivery_latency_us),
            ("generator late", &self.generator_late_us),
        ] {
            let Latency {
                p50,
                p99,
                p999,
                max,
                ..
            } = latency;
            writeln!(out, "{name:<24}{p50:>10}{p99:>10}{p999:>10}{max:>10}")?;
        }
        let shares: Vec<String> = self
            .generator_cpu_percent
            .iter()
            .map(|share| format!("{share:.0} %"))
            .collect();
        writeln!(out, "generator CPU: {}", shares.join(", "))
    }
}

fn counted(title: &str, counts: &BTreeMap<String, u64>) -> String {
    let mut line = String::new();
    if !counts.is_empty() {
        line.push_str(title);
    }
    for (name, count) in counts {
        let _ = write!(line, " {name} {count}");
    }
    line
}
