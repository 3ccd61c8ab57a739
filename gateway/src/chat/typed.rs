//! What a typed line means: something to say, or a command.
//!
//! It decides nothing and does nothing.
//!
//! Invariants: every line means something; `//` at the start says a line that begins with `/`.

/// A typed line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Typed<'a> {
    /// An empty line.
    Nothing,
    /// Send this.
    Say(&'a str),
    Help,
    /// List guilds and channels.
    Channels,
    /// Make an invite code for this guild.
    Invite,
    /// Join by invite code.
    Join(&'a str),
    /// Make a guild.
    Create(&'a str),
    /// Make a channel in this guild.
    CreateChannel(&'a str),
    /// Enter a channel.
    Switch(&'a str),
    Quit,
    /// A command that there is not, or without what it needs.
    Unknown(&'a str),
}

/// What `/help` shows.
pub(super) const HELP: &str = "\
type to send; a line that begins with / is a command:
  /channels       list guilds and channels
  /switch NAME    enter a channel: its number, NAME, or GUILD/NAME
  /create NAME    make a guild
  /channel NAME   make a channel in this guild
  /invite         make a code with which others may join this guild
  /join CODE      join a guild
  /quit           leave
  //text          send a line that begins with /";

/// Reads a line.
pub(super) fn read(line: &str) -> Typed<'_> {
    let line = line.trim_end();
    if line.trim().is_empty() {
        return Typed::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else {
        return Typed::Say(line);
    };
    if command.starts_with('/') {
        return Typed::Say(command);
    }
    let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
    let argument = argument.trim();
    match (name, argument.is_empty()) {
        ("help", _) => Typed::Help,
        ("channels", _) => Typed::Channels,
        ("invite", _) => Typed::Invite,
        ("quit", _) => Typed::Quit,
        ("join", false) => Typed::Join(argument),
        ("create", false) => Typed::Create(argument),
        ("channel", false) => Typed::CreateChannel(argument),
        ("switch", false) => Typed::Switch(argument),
        _ => Typed::Unknown(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("", Typed::Nothing),
            ("  \t", Typed::Nothing),
            ("hello /quit ", Typed::Say("hello /quit")),
            ("//shrug", Typed::Say("/shrug")),
            ("/help", Typed::Help),
            ("/quit now", Typed::Quit),
            ("/join  abc ", Typed::Join("abc")),
            ("/join", Typed::Unknown("/join")),
            ("/create my guild", Typed::Create("my guild")),
            ("/channel off-topic", Typed::CreateChannel("off-topic")),
            ("/switch 3", Typed::Switch("3")),
            ("/dance", Typed::Unknown("/dance")),
        ] {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }
}
