//! The calls of the REST API that the terminal client needs.
//!
//! It never retries: a refusal is shown to the person, who decides.
//!
//! Invariants: the token goes into the `Authorization` header and nowhere else.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use throng_protocol::{Channel, ChannelId, Guild, GuildId, Message, User};

use super::error::ChatError;

const CALL_TIME_MAX: Duration = Duration::from_secs(30);

/// Messages shown when a channel is entered.
const HISTORY_MESSAGES: usize = 30;

/// The server, and who speaks to it.
pub(super) struct Api {
    agent: ureq::Agent,
    authority: String,
    token: String,
}

/// A user with a token for it.
#[derive(Deserialize)]
struct Entitled {
    user: User,
    token: String,
}

impl Api {
    /// Nobody has logged in yet.
    pub(super) fn new(target: &str) -> Result<Self, ChatError> {
        let rest = target
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'));
        let authority = rest.filter(|rest| !rest.is_empty() && !rest.contains(['/', '@', ' ']));
        let authority = authority.ok_or_else(|| ChatError::Target {
            target: target.to_owned(),
        })?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIME_MAX))
            .build();
        let authority = authority.to_owned();
        Ok(Self {
            agent: config.into(),
            authority,
            token: String::new(),
        })
    }

    /// Host, and port where one was given.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// What login gave.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Takes a token from elsewhere and says whose it is.
    pub(super) fn take_token(&mut self, token: String) -> Result<User, ChatError> {
        #[derive(Deserialize)]
        struct Me {
            user: User,
        }
        self.token = token;
        self.call("GET", "/api/users/@me", None)
            .map(|Me { user }| user)
    }

    /// Makes an account, or logs in to one.
    pub(super) fn sign_in(
        &mut self,
        username: &str,
        password: &str,
        register: bool,
    ) -> Result<User, ChatError> {
        let path = if register {
            "/api/auth/register"
        } else {
            "/api/auth/login"
        };
        let body = json!({"username": username, "password": password});
        let Entitled { user, token } = self.call("POST", path, Some(&body))?;
        self.token = token;
        Ok(user)
    }

    /// The user's guilds with their channels.
    pub(super) fn guilds(&self) -> Result<Vec<Guild>, ChatError> {
        #[derive(Deserialize)]
        struct Guilds {
            guilds: Vec<Guild>,
        }
        self.call("GET", "/api/guilds", None)
            .map(|Guilds { guilds }| guilds)
    }

    /// Makes a guild.
    pub(super) fn create_guild(&self, name: &str) -> Result<Guild, ChatError> {
        let InGuild { guild } = self.call("POST", "/api/guilds", Some(&json!({"name": name})))?;
        Ok(guild)
    }

    /// Makes a text channel.
    pub(super) fn create_channel(&self, guild: GuildId, name: &str) -> Result<Channel, ChatError> {
        #[derive(Deserialize)]
        struct Made {
            channel: Channel,
        }
        let path = format!("/api/guilds/{guild}/channels");
        let body = json!({"name": name, "type": "text"});
        self.call("POST", &path, Some(&body))
            .map(|Made { channel }| channel)
    }

    /// A code with which others may join.
    pub(super) fn invite(&self, guild: GuildId) -> Result<String, ChatError> {
        #[derive(Deserialize)]
        struct Invited {
            invite: Invite,
        }
        #[derive(Deserialize)]
        struct Invite {
            code: String,
        }
        let path = format!("/api/guilds/{guild}/invites");
        self.call("POST", &path, Some(&json!({})))
            .map(|Invited { invite }| invite.code)
    }

    /// Joins a guild.
    pub(super) fn join(&self, code: &str) -> Result<Guild, ChatError> {
        let is_code = !code.is_empty()
            && code
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_code {
            let message = format!("{code:?} is no invite code");
            return Err(ChatError::Refused {
                status: 404,
                code: "NOT_FOUND".to_owned(),
                message,
            });
        }
        let InGuild { guild } =
            self.call("POST", &format!("/api/invites/{code}"), Some(&json!({})))?;
        Ok(guild)
    }

    /// The newest messages of a channel, oldest first.
    pub(super) fn history(&self, channel: ChannelId) -> Result<Vec<Message>, ChatError> {
        #[derive(Deserialize)]
        struct Page {
            messages: Vec<Message>,
        }
        let path = format!("/api/channels/{channel}/messages?limit={HISTORY_MESSAGES}");
        let Page { mut messages } = self.call("GET", &path, None)?;
        messages.reverse();
        Ok(messages)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ChatError> {
        #[derive(Deserialize, Default)]
        struct Refusal {
            #[serde(default)]
            error: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            details: Vec<Detail>,
        }
        #[derive(Deserialize)]
        struct Detail {
            path: String,
            message: String,
        }
        let mut answer =
            self.once(method, path, body)
                .map_err(|source| ChatError::Unreachable {
                    source: Box::new(source),
                })?;
        let status = answer.status().as_u16();
        if answer.status().is_success() {
            let read = answer.body_mut().read_json();
            return read.map_err(|source| ChatError::BadAnswer {
                source: Box::new(source),
            });
        }
        let Refusal {
            error: code,
            mut message,
            details,
        } = answer.body_mut().read_json().unwrap_or_default();
        for Detail {
            path,
            message: detail,
        } in details
        {
            message = format!("{message}; {path}: {detail}");
        }
        Err(ChatError::Refused {
            status,
            code,
            message,
        })
    }

    fn once(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string())?)
            }
            None => self.agent.run(request.body(())?),
        }
    }
}

#[derive(Deserialize)]
struct InGuild {
    guild: Guild,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(Api::new("http://h:1/").unwrap().authority(), "h:1");
        for target in ["h:1", "https://h:1", "http://", "http://a/b"] {
            assert!(
                matches!(Api::new(target), Err(ChatError::Target { .. })),
                "{target}"
            );
        }
    }
}
