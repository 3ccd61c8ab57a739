//! Where connections go: over several rings, into freed places, and away with 503.
//!
//! Rings have eight places here, so that a few dozen connections need many.
//!
//! Invariant: nobody is lost on the way: who is accepted is served or told no.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::raw::{CLOSE, serve};
use super::streams::check_echo;
use super::{connect, nobody};
use crate::edge::EdgeSettings;

const PLACES: u32 = 8;

fn tiny(connections_max: u32) -> impl Fn(&mut EdgeSettings) {
    move |settings| {
        (settings.ring_places, settings.refusals_max) = (PLACES, 4);
        settings.connections_max = connections_max;
    }
}

/// What somebody is told who is not let in, to the end of the stream.
fn refusal(stream: &mut TcpStream) -> String {
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    told
}

#[test]
fn connections_go_over_many_rings_and_into_freed_places() {
    serve(tiny(120), nobody, |address, seen| {
        let mut streams: Vec<_> = (0..100).map(|_| connect(address)).collect();
        for round in 0..6 {
            for (index, stream) in streams.iter_mut().enumerate() {
                check_echo(stream, format!("{index} in round {round}").as_bytes());
            }
            // Every third one leaves, from every ring, and others take those places.
            for stream in streams.iter_mut().skip(round % 3).step_by(3) {
                stream.write_all(&[CLOSE]).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                *stream = connect(address);
            }
        }
        for stream in &mut streams {
            check_echo(stream, b"at last");
        }
        assert!(seen.accepted.load(Ordering::Relaxed) > 250);
    });
}

#[test]
fn who_is_one_too_many_is_told_when_to_come_back() {
    serve(tiny(40), nobody, |address, seen| {
        let mut streams: Vec<_> = (0..40).map(|_| connect(address)).collect();
        for stream in &mut streams {
            check_echo(stream, b"in");
        }
        for _ in 0..30 {
            let mut late = connect(address);
            late.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let told = refusal(&mut late);
            assert!(
                told.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
                "{told}"
            );
            let (head, body) = told.split_once("\r\n\r\n").unwrap();
            let length = format!("content-length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{told}");
            let after = head
                .lines()
                .find_map(|line| line.strip_prefix("retry-after: "))
                .map(|seconds| seconds.parse::<u32>().unwrap());
            assert!((1..=30).contains(&after.unwrap()), "{told}");
            assert!(body.starts_with("{\"error\":\"UNAVAILABLE\","), "{told}");
        }
        for stream in &mut streams {
            check_echo(stream, b"still in");
        }
        assert_eq!(
            seen.accepted.load(Ordering::Relaxed),
            40,
            "nobody else was heard of"
        );
        // Whoever goes makes room, which is noticed soon.
        streams.truncate(20);
        let mut let_in = std::iter::repeat_with(|| {
            let mut stream = connect(address);
            stream.write_all(b"again").unwrap();
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).unwrap();
            &heard == b"again"
        });
        assert!(let_in.any(|is_in| is_in));
    });
}

#[test]
fn who_is_told_no_and_does_not_go_is_put_out() {
    serve(tiny(4), nobody, |address, _| {
        let mut streams: Vec<_> = (0..4).map(|_| connect(address)).collect();
        for stream in &mut streams {
            check_echo(stream, b"in");
        }
        // Far more than the places for refusals, and none of them leaves by itself.
        let mut stubborn: Vec<_> = (0..20).map(|_| connect(address)).collect();
        for stream in &mut stubborn {
            assert!(refusal(stream).starts_with("HTTP/1.1 503 "));
        }
        for stream in &mut streams {
            check_echo(stream, b"still in");
        }
    });
}

#[test]
fn short_of_memory_nobody_new_is_let_in() {
    let change = |settings: &mut EdgeSettings| settings.memory_reserve_bytes = u64::MAX;
    serve(change, nobody, |address, seen| {
        assert!(refusal(&mut connect(address)).starts_with("HTTP/1.1 503 "));
        assert_eq!(seen.accepted.load(Ordering::Relaxed), 0);
    });
}
