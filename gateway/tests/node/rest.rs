//! REST requests and what comes back.
//!
//! It asserts only what holds for every answer: an error has the shape of one.
//!
//! Each value is a client of its own, with its own connections.

use std::net::SocketAddr;

use serde_json::Value;
use throng_protocol::{ChannelId, Message};

use super::process::PATIENCE;

/// A client of one server.
pub(crate) struct Rest {
    base: String,
    agent: ureq::Agent,
}

/// Status and body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    /// Asserts an error.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.body["error"], code, "{self:?}");
        assert!(self.body["message"].is_string(), "{self:?}");
    }
}

impl Rest {
    /// A client that has asked nothing yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Self {
            base: format!("http://{address}"),
            agent,
        }
    }

    pub(crate) fn get(&self, token: &str, path: &str) -> Reply {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {token}"));
        answer(request.call())
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &Value) -> Reply {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {token}"));
        answer(request.send_json(body))
    }

    /// One page of a channel's past, newest first; `query` begins with `?` or is empty.
    #[track_caller]
    pub(crate) fn page(&self, token: &str, channel: ChannelId, query: &str) -> Vec<Message> {
        let path = format!("/api/channels/{channel}/messages{query}");
        let mut body = self.get(token, &path).ok();
        serde_json::from_value(body["messages"].take()).unwrap()
    }

    /// All of a channel's past, oldest first.
    #[track_caller]
    pub(crate) fn past(&self, token: &str, channel: ChannelId) -> Vec<Message> {
        let mut past = self.page(token, channel, "?limit=100");
        while let Some(oldest) = past.last().filter(|oldest| oldest.seq.0 > 1) {
            let query = format!("?limit=100&before={}", oldest.id);
            let page = self.page(token, channel, &query);
            assert!(!page.is_empty(), "nothing before seq {}", oldest.seq);
            past.extend(page);
        }
        past.reverse();
        past
    }
}

#[track_caller]
fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = result.unwrap();
    let status = response.status().as_u16();
    let body = response.body_mut().read_json().unwrap();
    Reply { status, body }
}
