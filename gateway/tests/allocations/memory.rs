//! What an idle session costs: all that two shards hold for it, wherever it lies.
//!
//! It does not count the socket's entry, which is the edge's.

use throng::config::Config;

use crate::counting::counts;
use crate::crowd::Crowd;

/// Sessions of the crowd: the load that the budget is written for.
const SESSIONS: u32 = 15_000;

/// Bytes of an identified session with five subscriptions, four of them in channels of four.
const SESSION_BYTES_MAX: i64 = 440;

/// Bytes that may be left of a session that has ended, for as long as its user is remembered.
const LEFT_BYTES_MAX: i64 = 150;

#[test]
fn an_idle_session_is_within_its_budget() {
    let mut crowd = Crowd::new(&Config::default(), SESSIONS);
    crowd.pass(1_000);
    let before = counts().live_bytes;
    for number in 0..SESSIONS {
        crowd.enter(number);
    }
    crowd.pass(30_000);
    let each = (counts().live_bytes - before) / i64::from(SESSIONS);
    println!("{each} bytes for each of {SESSIONS} sessions");
    assert!(each <= SESSION_BYTES_MAX, "{each} bytes for each session");
}

/// Everybody comes, stays for a while and goes; the bytes that are left of it all since `before`.
fn come_and_go(crowd: &mut Crowd, before: i64) -> i64 {
    for number in 0..SESSIONS {
        crowd.enter(number);
    }
    crowd.pass(30_000);
    for number in 0..SESSIONS {
        crowd.leave(number);
    }
    crowd.pass(180_000);
    counts().live_bytes - before
}

#[test]
fn what_a_crowd_held_is_given_back() {
    let mut crowd = Crowd::new(&Config::default(), SESSIONS);
    crowd.pass(1_000);
    let before = counts().live_bytes;
    let first = come_and_go(&mut crowd, before);
    let again = come_and_go(&mut crowd, before);
    println!("{first} bytes are left of {SESSIONS} sessions, {again} when all came twice");
    // Memberships are remembered, and tables that were large keep some room.
    let each = first / i64::from(SESSIONS);
    assert!(
        each <= LEFT_BYTES_MAX,
        "{each} bytes are left of each session"
    );
    assert!(again <= first + first / 50, "{first} bytes grew to {again}");
}
