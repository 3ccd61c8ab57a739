//! The kernel says no: no buffer, no room for a completion, an operation that ends early; and an
//! end in the middle of everything.
//!
//! Sizes are so small here that each of it happens all the time.
//!
//! Invariant: nothing is lost, and whatever the kernel was asked for is over at the end: a shard
//! that cannot end its operations fails its test.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::raw::{FLOOD, FLOOD_BYTES, serve};
use super::streams::{check_echo, pattern};
use super::{MODES, connect, nobody, raw};
use crate::edge::EdgeSettings;

/// Everybody speaks before anybody is heard, again and again.
fn check_all_at_once(change: impl Fn(&mut EdgeSettings), clients: usize) {
    serve(change, nobody, |address, _| {
        let mut streams: Vec<_> = (0..clients).map(|_| connect(address)).collect();
        for round in 0..5 {
            let sent = |index: usize| pattern(700 + index + round);
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&sent(index)).unwrap();
            }
            for (index, stream) in streams.iter_mut().enumerate() {
                let mut received = vec![0; sent(index).len()];
                stream.read_exact(&mut received).unwrap();
                assert!(received == sent(index), "stream {index} in round {round}");
            }
        }
    });
}

#[test]
fn with_all_buffers_taken_the_others_wait_their_turn() {
    let change = |settings: &mut EdgeSettings| {
        (settings.receive_buffers, settings.receive_buffer_bytes) = (2, 64);
    };
    check_all_at_once(change, 200);
}

#[test]
fn completions_that_find_no_room_are_not_lost() {
    let change = |settings: &mut EdgeSettings| settings.completions = 4;
    check_all_at_once(change, 200);
}

#[test]
fn everything_may_be_short_at_once_and_on_several_rings() {
    let change = |settings: &mut EdgeSettings| {
        (settings.receive_buffers, settings.receive_buffer_bytes) = (1, 32);
        (settings.completions, settings.send_buffer_bytes) = (2, 4_096);
        (settings.ring_places, settings.refusals_max) = (30, 8);
        settings.unread_bytes_max = Some(256);
    };
    check_all_at_once(change, 100);
}

#[test]
fn an_end_in_the_middle_of_everything_ends_every_operation() {
    for mode in MODES {
        let change = |settings: &mut EdgeSettings| {
            // Nobody gets time to leave.
            (settings.drain_ms_max, settings.linger_ms_max) = (0, 60_000);
            (settings.ring_places, settings.refusals_max) = (16, 4);
            settings.send_buffer_bytes = 4_096;
            settings.backlog_bytes_max = 64 * FLOOD_BYTES;
        };
        let seen = std::sync::Arc::default();
        let make = move || raw::Raw::new(&seen);
        let mut streams: Vec<TcpStream> = Vec::new();
        super::serve_in(mode, change, make, nobody, |address| {
            streams.extend((0..100).map(|_| connect(address)));
            for stream in &mut streams {
                check_echo(stream, b"in");
            }
            for stream in streams.iter_mut().step_by(2) {
                stream.write_all(&[FLOOD]).unwrap();
            }
            // Some more knock while it ends.
            streams.extend((0..20).map(|_| connect(address)));
        });
        for stream in &mut streams {
            let mut rest = Vec::new();
            // The end may be a reset; it must be one.
            let _ = stream.read_to_end(&mut rest);
        }
    }
}
