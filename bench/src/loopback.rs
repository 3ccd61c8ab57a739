//! What the kernel dropped on its way between two processes of one machine, and sent again.
//!
//! It reads files below /proc and changes nothing. The counts are of the whole machine; on a quiet
//! one they are the run's.
//!
//! Invariants: counts are differences between two moments; what cannot be read is absent, not 0.

use std::fs;

use serde::Serialize;

/// Packets that did not get through at once. One that was dropped may cost its connection a
/// retransmission timeout, 200 ms and then twice as long each time: that shows as latencies of up to
/// seconds. Most segments that are sent again were not lost: a receiver without a core to run on
/// acknowledges late, and the kernel probes for it (RFC 8985, section 7), which costs nobody time.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct LoopbackLosses {
    /// Packets dropped because a core's queue (`net.core.netdev_max_backlog`) was full.
    pub softnet_dropped: Option<u64>,
    /// TCP segments sent again, for whatever reason.
    pub tcp_retransmitted: Option<u64>,
    /// Times that a connection waited for its retransmission timeout.
    pub tcp_timeouts: Option<u64>,
}

impl LoopbackLosses {
    /// The counts since the machine started.
    #[must_use]
    pub fn now() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        Self {
            softnet_dropped: read("/proc/net/softnet_stat").and_then(|text| dropped(&text)),
            tcp_retransmitted: read("/proc/net/snmp")
                .and_then(|text| counter(&text, "Tcp:", "RetransSegs")),
            tcp_timeouts: read("/proc/net/netstat")
                .and_then(|text| counter(&text, "TcpExt:", "TCPTimeouts")),
        }
    }

    /// What came since `self` was taken.
    #[must_use]
    pub fn until_now(&self) -> Self {
        self.until(&Self::now())
    }

    fn until(self, now: &Self) -> Self {
        let since = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            softnet_dropped: since(now.softnet_dropped, self.softnet_dropped),
            tcp_retransmitted: since(now.tcp_retransmitted, self.tcp_retransmitted),
            tcp_timeouts: since(now.tcp_timeouts, self.tcp_timeouts),
        }
    }
}

impl std::fmt::Display for LoopbackLosses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(
            f,
            "loopback: {} packets dropped, {} segments sent again, {} waited for a timeout",
            text(self.softnet_dropped),
            text(self.tcp_retransmitted),
            text(self.tcp_timeouts)
        )
    }
}

/// A line for each core, in hexadecimal: packets, those dropped, and more.
fn dropped(text: &str) -> Option<u64> {
    let mut sum = 0;
    for line in text.lines() {
        let column = line.split_whitespace().nth(1)?;
        sum += u64::from_str_radix(column, 16).ok()?;
    }
    Some(sum)
}

/// A line of names and one of numbers for each protocol.
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let mut names = lines.next()?.split_whitespace();
    let place = names.position(|it| it == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found() {
        let softnet = "0025b7d1 00000010 0000001c\n0001c2aa 0000000b 00000003\n";
        assert_eq!(dropped(softnet), Some(27));
        assert_eq!(dropped("rubbish"), None);
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: InSegs OutSegs RetransSegs InErrs\n\
                    Tcp: 10 20 34 4\nUdp: InDatagrams\nUdp: 1\n";
        assert_eq!(counter(snmp, "Tcp:", "RetransSegs"), Some(34));
        assert_eq!(
            counter("Tcp: InSegs\nTcp: 10\n", "Tcp:", "RetransSegs"),
            None
        );
    }

    #[test]
    fn only_what_came_since_counts() {
        let count = |dropped, again| LoopbackLosses {
            softnet_dropped: dropped,
            tcp_retransmitted: again,
            tcp_timeouts: Some(2),
        };
        let losses = count(Some(3), Some(5)).until(&count(Some(10), None));
        let expected = LoopbackLosses {
            tcp_timeouts: Some(0),
            ..count(Some(7), None)
        };
        assert_eq!(losses, expected);
        let text = losses.to_string();
        assert!(text.starts_with("loopback: 7 packets dropped, ? segments sent again, 0 waited"));
    }
}
