//! The conversation: what is said and shown, given what was typed and heard.
//!
//! Pure: events and lines come in, commands and lines go out. It knows no socket and no screen.
//!
//! Invariants: each message of the channel is shown once and in the order of `seq`, over any
//! number of disconnects; a message of ours is kept until it is acknowledged or refused; nothing
//! is said before READY.

use std::borrow::Cow;
use std::collections::VecDeque;

use rand::RngExt;
use rand::rngs::StdRng;
use throng_protocol::{
    ChannelId, ChannelType, Command, Event, Guild, GuildId, Message, Nonce, Resume, ResumeChannel,
    Seq, encode_command,
};

use super::error::ChatError;

/// Messages of ours that may be open at once; beyond it typing is refused.
const OPEN_MAX: usize = 100;

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Say this to the server.
    Say(String),
    /// Show this to the person.
    Show(String),
}

/// A channel to be in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The guild.
    pub(super) guild: GuildId,
    /// The channel.
    pub(super) channel: ChannelId,
    /// `GUILD/NAME`.
    pub(super) name: String,
}

/// The state of the conversation.
pub(super) struct Talk {
    is_ready: bool,
    here: Option<Here>,
    open: VecDeque<Open>,
    random: StdRng,
}

struct Here {
    place: Place,
    newest: Seq,
}

/// A message of ours that was not answered.
struct Open {
    channel: ChannelId,
    nonce: Nonce,
    content: String,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            is_ready: false,
            here: None,
            open: VecDeque::new(),
            random: rand::make_rng(),
        }
    }

    /// Whether the server takes commands.
    pub(super) const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Messages that were not answered.
    pub(super) fn open_messages(&self) -> usize {
        self.open.len()
    }

    /// The guild that the user is in now.
    pub(super) fn guild(&self) -> Option<GuildId> {
        self.here.as_ref().map(|here| here.place.guild)
    }

    /// The connection is gone.
    pub(super) const fn disconnected(&mut self) {
        self.is_ready = false;
    }

    /// Goes to a channel; `history` is its newest page, oldest first.
    pub(super) fn enter(&mut self, place: Place, history: Vec<Message>, acts: &mut Vec<Act>) {
        if let Some(before) = self.here.take()
            && before.place.channel != place.channel
            && self.is_ready
        {
            let channel_id = before.place.channel;
            acts.push(said(&Command::UnsubscribeChannel { channel_id }));
        }
        acts.push(Act::Show(format!("--- {} ---", place.name)));
        let channel_id = place.channel;
        let here = self.here.insert(Here {
            place,
            newest: Seq(0),
        });
        for message in history {
            here.show(&message, acts);
        }
        if self.is_ready {
            let after_seq = Some(here.newest);
            acts.push(said(&Command::SubscribeChannel {
                channel_id,
                after_seq,
                after_rev: None,
            }));
        }
    }

    /// Something was typed.
    pub(super) fn say(&mut self, text: &str, acts: &mut Vec<Act>) {
        let Some(here) = &self.here else {
            acts.push(Act::Show(ChatError::Nowhere.to_string()));
            return;
        };
        if self.open.len() >= OPEN_MAX {
            acts.push(Act::Show(format!(
                "{OPEN_MAX} messages wait for the server: not sent"
            )));
            return;
        }
        let nonce = Nonce::from_u128(self.random.random());
        let open = Open {
            channel: here.place.channel,
            nonce,
            content: text.to_owned(),
        };
        if self.is_ready {
            acts.push(open.send());
        }
        self.open.push_back(open);
    }

    /// The server said something.
    pub(super) fn heard(&mut self, event: Event, token: &str, acts: &mut Vec<Act>) {
        match event {
            Event::Hello { .. } => acts.push(self.identify(token)),
            Event::Ready { .. } => {
                self.is_ready = true;
                acts.extend(self.open.iter().map(Open::send));
            }
            Event::MessageCreate { message } => {
                if let Some(here) = &mut self.here
                    && here.place.channel == message.channel_id
                {
                    here.show(&message, acts);
                }
            }
            Event::MessageAck { nonce, .. } => {
                self.take_open(nonce);
            }
            Event::Error {
                code,
                message,
                nonce,
                ..
            } => {
                let refused = nonce.and_then(|nonce| self.take_open(nonce));
                let what = refused.map_or_else(String::new, |open| {
                    format!("not sent: {:?}: ", open.content)
                });
                acts.push(Act::Show(format!("{what}{message} ({code})")));
            }
            Event::GuildCreate { guild } => {
                acts.push(Act::Show(format!("you are in guild {:?} now", guild.name)));
            }
            Event::Resync { channels, .. } => self.resynced(&channels, acts),
            Event::Reconnect { reason, .. } => {
                acts.push(Act::Show(format!("the server is leaving: {reason}")));
            }
            Event::HeartbeatAck
            | Event::Subscribed { .. }
            | Event::TypingStart { .. }
            | Event::TypingStop { .. } => {}
        }
    }

    fn identify(&self, token: &str) -> Act {
        let resume = self.here.as_ref().map(|here| {
            let channel_id = here.place.channel;
            let channel = ResumeChannel {
                channel_id,
                after_seq: here.newest,
                after_rev: None,
            };
            Resume {
                channels: vec![channel],
            }
        });
        said(&Command::Identify {
            token: Cow::Borrowed(token),
            resume,
        })
    }

    fn resynced(&mut self, heads: &[throng_protocol::ChannelHead], acts: &mut Vec<Act>) {
        let Some(here) = &mut self.here else { return };
        if let Some(head) = heads
            .iter()
            .find(|head| head.channel_id == here.place.channel)
        {
            let missed = head.seq.0.saturating_sub(here.newest.0);
            here.newest = head.seq;
            acts.push(Act::Show(format!(
                "{missed} messages were missed: /switch shows the newest"
            )));
        }
    }

    fn take_open(&mut self, nonce: Nonce) -> Option<Open> {
        let place = self.open.iter().position(|open| open.nonce == nonce)?;
        self.open.remove(place)
    }
}

impl Here {
    fn show(&mut self, message: &Message, acts: &mut Vec<Act>) {
        if message.seq <= self.newest {
            return;
        }
        self.newest = message.seq;
        let timestamp = message.timestamp.to_string();
        let time = timestamp.get(11..16).unwrap_or("     ");
        let Message {
            author, content, ..
        } = message;
        acts.push(Act::Show(format!(
            "[{time}] {}: {content}",
            author.username
        )));
    }
}

impl Open {
    fn send(&self) -> Act {
        said(&Command::SendMessage {
            channel_id: self.channel,
            content: Cow::Borrowed(&self.content),
            nonce: self.nonce,
            reply_to: None,
        })
    }
}

fn said(command: &Command<'_>) -> Act {
    Act::Say(encode_command(command))
}

/// Text channels in the order of the list, with their guilds.
fn text_channels(guilds: &[Guild]) -> impl Iterator<Item = Place> + '_ {
    guilds.iter().flat_map(|guild| {
        let channels = guild
            .channels
            .iter()
            .filter(|channel| channel.kind == ChannelType::Text);
        channels.map(|channel| Place {
            guild: guild.id,
            channel: channel.id,
            name: format!("{}/{}", guild.name, channel.name),
        })
    })
}

/// The list that `/channels` shows.
pub(super) fn channel_list(guilds: &[Guild]) -> Vec<String> {
    (1..)
        .zip(text_channels(guilds))
        .map(|(number, place)| format!("{number:>3}  {}", place.name))
        .collect()
}

/// The channel that is meant: its number in the list, its id, GUILD/NAME, or NAME alone.
pub(super) fn find_channel(guilds: &[Guild], wanted: &str) -> Result<Place, ChatError> {
    let number: Option<usize> = wanted.parse().ok();
    if let Some(place) = number.and_then(|n| text_channels(guilds).nth(n.checked_sub(1)?)) {
        return Ok(place);
    }
    let id: Option<ChannelId> = wanted.parse().ok();
    text_channels(guilds)
        .find(|place| {
            let name = place.name.rsplit('/').next();
            Some(place.channel) == id || place.name == wanted || name == Some(wanted)
        })
        .ok_or_else(|| ChatError::NoChannel {
            wanted: wanted.to_owned(),
        })
}

#[cfg(test)]
mod tests;
