//! Exact bytes, whatever the sizes, the pace and the end of a connection.
//!
//! It looks at nothing inside the edge.
//!
//! Invariant: every stream is compared byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use socket2::SockRef;

use super::raw::{CLOSE, FLOOD, FLOOD_BYTES, FLOOD_FRAMES, HAND_OVER, SILENCE, serve};
use super::{connect, nobody};

/// So many pings later whatever was to happen has happened.
const PINGS_MAX: u32 = 100_000;

/// Bytes that obey nothing and repeat late, so that a shift is seen.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| u8::try_from((index * 7 + index / 241) % 241).unwrap())
        .collect()
}

pub(super) fn check_echo(stream: &mut TcpStream, sent: &[u8]) {
    stream.write_all(sent).unwrap();
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received).unwrap();
    assert!(received == sent, "{} bytes came back changed", sent.len());
}

fn check_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "the server said FIN");
}

#[test]
fn every_one_of_many_connections_is_echoed() {
    serve(
        |_| {},
        nobody,
        |address, seen| {
            let mut streams: Vec<_> = (0..1_000).map(|_| connect(address)).collect();
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&pattern(index % 90 + 1)).unwrap();
            }
            for (index, stream) in streams.iter_mut().enumerate() {
                let expected = pattern(index % 90 + 1);
                let mut received = vec![0; expected.len()];
                stream.read_exact(&mut received).unwrap();
                assert_eq!(received, expected);
            }
            assert_eq!(seen.accepted.load(Ordering::Relaxed), 1_000);
        },
    );
}

#[test]
fn large_messages_come_back_through_small_buffers() {
    serve(
        |settings| {
            (settings.receive_buffers, settings.receive_buffer_bytes) = (4, 512);
            settings.send_buffer_bytes = 4_096;
            settings.backlog_bytes_max = 4 << 20;
            settings.unread_bytes_max = Some(64 << 10);
        },
        nobody,
        |address, seen| {
            let mut stream = connect(address);
            let mut writer = stream.try_clone().unwrap();
            let sent = pattern(3 << 20);
            let copy = sent.clone();
            let writing = std::thread::Builder::new()
                .spawn(move || writer.write_all(&copy).unwrap())
                .unwrap();
            let mut received = vec![0; sent.len()];
            for part in received.chunks_mut(1_777) {
                stream.read_exact(part).unwrap();
            }
            writing.join().unwrap();
            assert!(received == sent, "the stream came back changed");
            assert_eq!(seen.blocked.load(Ordering::Relaxed), 0);
        },
    );
}

#[test]
fn a_flood_arrives_exactly_at_a_reader_that_starts_late() {
    let change = |settings: &mut crate::edge::EdgeSettings| {
        settings.backlog_bytes_max = FLOOD_BYTES * FLOOD_FRAMES;
        settings.send_buffer_bytes = 4_096;
    };
    serve(change, nobody, |address, seen| {
        let (mut slow, mut other) = (connect(address), connect(address));
        slow.write_all(&[FLOOD]).unwrap();
        // What this one gets shows that the server has long begun to send to the other.
        for _ in 0..50 {
            check_echo(&mut other, b"ping");
        }
        let mut received = vec![0; FLOOD_BYTES * FLOOD_FRAMES];
        for part in received.chunks_mut(997) {
            slow.read_exact(part).unwrap();
        }
        for (index, frame) in received.chunks(FLOOD_BYTES).enumerate() {
            assert!(
                frame.iter().all(|byte| usize::from(*byte) == index % 251),
                "frame {index}"
            );
        }
        check_echo(&mut slow, b"still here");
        assert_eq!(seen.writable.load(Ordering::Relaxed), 1);
        assert_eq!(seen.blocked.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_reader_that_is_too_slow_is_blocked_once_and_closed() {
    let change = |settings: &mut crate::edge::EdgeSettings| {
        (settings.backlog_bytes_max, settings.linger_ms_max) = (50_000, 300);
        settings.send_buffer_bytes = 4_096;
    };
    serve(change, nobody, |address, seen| {
        let mut slow = connect(address);
        slow.write_all(&[FLOOD]).unwrap();
        let mut other = connect(address);
        while seen.closed.load(Ordering::Relaxed) == 0 {
            check_echo(&mut other, b"ping");
        }
        assert_eq!(seen.blocked.load(Ordering::Relaxed), 1);
        let mut received = Vec::new();
        let _ = slow.read_to_end(&mut received);
        assert!(
            received.len() <= 4 * 50_000,
            "of a burst four backlogs are kept, what came after was dropped"
        );
        for (index, frame) in received.chunks(FLOOD_BYTES).enumerate() {
            assert!(
                frame.iter().all(|byte| usize::from(*byte) == index),
                "frame {index}"
            );
        }
    });
}

#[test]
fn closing_lets_what_is_queued_leave_first() {
    serve(
        |_| {},
        nobody,
        |address, _| {
            let mut stream = connect(address);
            stream.write_all(&pattern(1_000)).unwrap();
            let mut received = vec![0; 1_000];
            stream.read_exact(&mut received).unwrap();
            stream.write_all(&[CLOSE]).unwrap();
            check_end(&mut stream);
        },
    );
}

#[test]
fn a_peer_that_said_fin_still_gets_its_answer() {
    serve(
        |_| {},
        nobody,
        |address, _| {
            let mut stream = connect(address);
            stream.write_all(&pattern(200_000)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert!(received == pattern(200_000));
        },
    );
}

#[test]
fn a_reset_right_behind_data_is_heard() {
    let silent = |address| {
        let mut stream = connect(address);
        check_echo(&mut stream, b"here");
        stream.write_all(&[SILENCE]).unwrap();
        let reset = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        reset.unwrap();
    };
    serve(
        |_| {},
        nobody,
        |address, seen| {
            (0..500).for_each(|_| silent(address));
            let mut other = connect(address);
            let all_were_heard = (0..PINGS_MAX).any(|_| {
                check_echo(&mut other, b"ping");
                seen.closed.load(Ordering::Relaxed) >= 500
            });
            assert!(all_were_heard, "{seen:?}");
        },
    );
}

#[test]
fn places_are_reused_under_churn() {
    serve(
        |settings| settings.connections_max = 256,
        nobody,
        |address, seen| {
            for index in 0..10_000_usize {
                let mut stream = connect(address);
                match index % 4 {
                    0 => check_echo(&mut stream, &pattern(index % 50 + 1)),
                    1 => {
                        stream.write_all(&[CLOSE]).unwrap();
                        check_end(&mut stream);
                    }
                    2 => stream.write_all(b"gone before the answer").unwrap(),
                    _ => {}
                }
            }
            check_echo(&mut connect(address), b"the last");
            assert!(seen.accepted.load(Ordering::Relaxed) >= 5_000);
        },
    );
}

#[test]
fn a_connection_is_handed_over_with_all_its_bytes() {
    let (sender, taken) = mpsc::channel();
    let sender = std::sync::Arc::new(Mutex::new(sender));
    let take_over = move || {
        let sender = sender.lock().unwrap().clone();
        Box::new(move |fd, head| sender.send((TcpStream::from(fd), head)).unwrap())
            as crate::edge::TakeOver
    };
    serve(
        |_| {},
        take_over,
        |address, seen| {
            for round in 0..50 {
                let mut client = connect(address);
                client.write_all(&[HAND_OVER]).unwrap();
                let rest = pattern(round * 997 + 1);
                client.write_all(&rest).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let (mut server, mut all): (TcpStream, Vec<u8>) = taken.recv().unwrap();
                server.set_nonblocking(false).unwrap();
                server.read_to_end(&mut all).unwrap();
                assert_eq!(all[0], HAND_OVER);
                assert!(
                    all[1..] == rest,
                    "round {round}: each byte once and in order"
                );
                server.write_all(b"HTTP").unwrap();
                drop(server);
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                assert_eq!(answer, b"HTTP");
            }
            let mut other = connect(address);
            while seen.closed.load(Ordering::Relaxed) < 50 {
                check_echo(&mut other, b"ping");
            }
        },
    );
}

#[test]
fn several_shards_serve_one_address_and_end() {
    serve(
        |settings| settings.shards = 5,
        nobody,
        |address, _| {
            let mut streams: Vec<_> = (0..100).map(|_| connect(address)).collect();
            for stream in &mut streams {
                check_echo(stream, b"which one?");
            }
        },
    );
}

#[test]
fn nobody_is_served_after_the_end() {
    let mut address = None;
    serve(|_| {}, nobody, |served, _| address = Some(served));
    let refused = TcpStream::connect(address.unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
