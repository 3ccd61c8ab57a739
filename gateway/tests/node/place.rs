//! Where tests happen: people, and a guild that they are all in.
//!
//! Made through REST, as any client would; nothing is put into the database.
//!
//! The first person owns the guild.

use serde_json::json;
use throng_protocol::{Channel, ChannelId, Guild, GuildId, User};

use super::client::Client;
use super::process::Server;
use super::rest::Rest;

pub(crate) const PASSWORD: &str = "correct horse";

/// An account and its token.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) token: String,
}

/// A guild with one channel, and its members.
pub(crate) struct Place {
    pub(crate) guild: GuildId,
    pub(crate) channel: ChannelId,
    pub(crate) people: Vec<Person>,
}

/// Makes an account.
pub(crate) fn register(rest: &Rest, name: &str) -> Person {
    let account = json!({"username": name, "password": PASSWORD});
    let mut made = rest.post("", "/api/auth/register", &account).ok();
    Person {
        user: serde_json::from_value(made["user"].take()).unwrap(),
        token: made["token"].as_str().unwrap().to_owned(),
    }
}

impl Place {
    /// Registers these people; the first makes the guild, the others join it by invite.
    pub(crate) fn make(server: &Server, names: &[&str]) -> Self {
        let rest = Rest::new(server.address);
        let people: Vec<Person> = names.iter().map(|name| register(&rest, name)).collect();
        let owner = &people[0].token;
        let mut made = rest
            .post(owner, "/api/guilds", &json!({"name": "Reading circle"}))
            .ok();
        let guild: Guild = serde_json::from_value(made["guild"].take()).unwrap();
        let invites = format!("/api/guilds/{}/invites", guild.id);
        let invite = rest.post(owner, &invites, &json!({})).ok();
        let code = invite["invite"]["code"].as_str().unwrap();
        for person in &people[1..] {
            let joined = rest.post(&person.token, &format!("/api/invites/{code}"), &json!({}));
            joined.ok();
        }
        Self {
            guild: guild.id,
            channel: guild.channels[0].id,
            people,
        }
    }

    /// The token of the person with this number.
    pub(crate) fn token(&self, number: usize) -> &str {
        &self.people[number].token
    }

    /// A session of the person with this number.
    pub(crate) fn enter(&self, server: &Server, number: usize) -> Client {
        Client::ready(server.address, self.token(number))
    }

    /// One more text channel.
    pub(crate) fn add_channel(&self, rest: &Rest, name: &str) -> ChannelId {
        let path = format!("/api/guilds/{}/channels", self.guild);
        let new = json!({"name": name, "type": "text"});
        let mut made = rest.post(self.token(0), &path, &new).ok();
        let channel: Channel = serde_json::from_value(made["channel"].take()).unwrap();
        channel.id
    }
}
