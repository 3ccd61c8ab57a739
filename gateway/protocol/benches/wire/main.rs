//! What the protocol costs: frames, masks, commands, events, compression.
//!
//! Nothing here reads a socket. `cargo bench -p throng-protocol` measures, `cargo test` does
//! everything once.
//!
//! Invariant: inputs are the same at every run.

mod command;
mod deflate;
mod event;
mod frame;
mod mask;

fn main() {
    divan::main();
}

const WORDS: [&str; 16] = [
    "the", "coffee", "is", "ready", "who", "wants", "some", "I", "do", "see", "you", "at", "lunch",
    "then", "don't", "forget",
];

/// Words in no order, as people write them, this many bytes of them.
fn text(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 60) as usize]);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}
