//! The table in ARCHITECTURE.md of what each thing takes in memory, held against the code.
//!
//! Only a test. It knows sizes and nothing else of what it names.
//!
//! Invariant: a row's name and number are those of the code, in the same order.

use crate::{access, commit, edge, nonces, pages, session, subscribers, subscriptions, user};

const DOCUMENT: &str = include_str!("../../ARCHITECTURE.md");

/// The first two columns of the table, but for its head.
fn document() -> Vec<(String, usize)> {
    let section = DOCUMENT
        .split("\n## ")
        .find(|part| part.starts_with("Where memory goes"));
    let rows = section.expect("the section is there").lines();
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let row = |cells: Vec<&str>| {
        let (name, bytes) = (cells.get(1)?, cells.get(2)?);
        Some(((*name).to_owned(), bytes.parse().ok()?))
    };
    cells.filter_map(row).collect()
}

#[test]
fn the_table_of_sizes() {
    let code = [
        ("a socket", edge::SOCKET_BYTES),
        ("a session", session::SESSION_BYTES),
        ("five subscriptions", subscriptions::BLOCK_BYTES),
        (
            "a heard channel, with up to four listeners",
            subscribers::HEARD_BYTES,
        ),
        ("a further listener", size_of::<session::SessionIndex>()),
        (
            "interest in a channel",
            throng_router::InterestTable::ENTRY_BYTES,
        ),
        ("a channel's guild", access::CHANNEL_BYTES),
        ("a guild, with up to four members", access::GUILD_BYTES),
        ("a member of a larger guild", access::MEMBER_BYTES),
        ("a user", user::USER_BYTES),
        ("a message being committed", commit::PENDING_BYTES),
        ("a message's nonce", nonces::NONCE_BYTES),
    ];
    let code = code.map(|(name, bytes)| (name.to_owned(), bytes));
    assert_eq!(document(), code);
    assert_eq!(pages::PAGE, 256, "as the text says");
}
