//! The edge against real sockets.
//!
//! The tests assert what arrives, never when: a wait has only a limit after which it has failed.
//!
//! Invariants: each test ends its shards and sees them end well; what serves sockets is tested in
//! both modes.

mod echo;
mod places;
mod raw;
mod shortages;
mod streams;
mod waking;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{EdgeSettings, NoServices, Services, ShardParts, ShardWaker, Shards, TakeOver};
use crate::config::ReceiveMode;
use crate::io::Application;

/// Both ways to hear of arrivals.
const MODES: [ReceiveMode; 2] = [ReceiveMode::Multishot, ReceiveMode::Dense];

/// Starts shards that serve the application, lets the test run, and ends them; in each mode.
fn serve<A: Application + 'static>(
    change: impl Fn(&mut EdgeSettings),
    make: impl Fn() -> A + Clone + Send + 'static,
    take_over: impl Fn() -> TakeOver + Clone + Send + 'static,
    mut test: impl FnMut(SocketAddr),
) {
    for mode in MODES {
        let (make, take_over) = (make.clone(), take_over.clone());
        serve_in(mode, &change, make, take_over, &mut test);
    }
}

/// The same in one mode.
fn serve_in<A: Application + 'static>(
    mode: ReceiveMode,
    change: impl Fn(&mut EdgeSettings),
    make: impl Fn() -> A + Clone + Send + 'static,
    take_over: impl Fn() -> TakeOver + Clone + Send + 'static,
    test: impl FnOnce(SocketAddr),
) {
    let parts = move || (make(), NoServices, take_over());
    run(mode, change, parts, |address, _| test(address));
}

/// The same with services.
fn run<A: Application + 'static, S: Services + 'static>(
    mode: ReceiveMode,
    change: impl Fn(&mut EdgeSettings),
    parts: impl Fn() -> (A, S, TakeOver) + Clone + Send + 'static,
    test: impl FnOnce(SocketAddr, &ShardWaker),
) {
    let mut settings = EdgeSettings::new("127.0.0.1:0".parse().unwrap(), 1);
    (settings.mode, settings.connections_max) = (mode, 1_100);
    // Whatever else runs on this machine.
    settings.memory_reserve_bytes = 1;
    change(&mut settings);
    let wakers: Vec<_> = (0..settings.shards)
        .map(|_| ShardWaker::new().unwrap())
        .collect();
    let shards = Shards::start(&settings, &wakers, move |_, _| {
        let (application, services, take_over) = parts();
        async move {
            Ok::<_, String>(ShardParts {
                application,
                services,
                take_over,
                at_least_ms: 0,
            })
        }
    })
    .unwrap();
    test(shards.address(), &wakers[0]);
    shards.drain().ask();
    shards.wait().unwrap();
}

/// What to do with HTTP where a test has none.
fn nobody() -> TakeOver {
    Box::new(|_, _| panic!("nobody asked for this"))
}

/// A client whose reads fail rather than wait for ever.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
