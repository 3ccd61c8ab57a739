//! `/api/channels/{id}/messages`: pages of a channel's past.
//!
//! Reads no message itself: the shard that owns the channel does, after membership was checked.
//!
//! Invariants: no shard is asked for who is no member; a page has 1 to 100 messages, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use throng_protocol::{ChannelId, Message};

use super::caller::Caller;
use super::input::{Parameters, Segment};
use crate::app::App;
use crate::ask::{Access, HistoryError, HistoryQuery};
use crate::refusal::Refusal;
use crate::shards::NoAnswer;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;
const NO_SUCH_CHANNEL: Refusal =
    Refusal::NotFound("no such channel, or you are not a member of its guild");
const NOT_NOW: Refusal = Refusal::Unavailable {
    message: "history cannot be read right now",
    retry_after_s: 1,
};

/// The answer, written straight from the messages and not by way of a tree of values.
#[derive(Serialize)]
struct Page {
    messages: Vec<Message>,
}

/// `GET /api/channels/{id}/messages`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    Segment(channel): Segment<ChannelId>,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    let (query, limit) = page(&parameters)?;
    let grant = app.directory.grant(identity.user.id, channel).await?;
    if grant.access != Access::Member {
        return Err(NO_SUCH_CHANNEL);
    }
    let messages = match app.shards.history(channel, query, limit).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(HistoryError::Unavailable)) | Err(NoAnswer) => return Err(NOT_NOW),
        Ok(Err(HistoryError::Damaged)) => {
            return Err(Refusal::internal(
                "reading history",
                &"stored data is damaged",
            ));
        }
    };
    assert!(
        messages.len() <= limit,
        "a shard gives no more than it was asked for"
    );
    Ok(Json(Page { messages }).into_response())
}

fn page(parameters: &Parameters) -> Result<(HistoryQuery, usize), Refusal> {
    const ID: &str = "the id of a message";
    const LIMIT: &str = "a number from 1 to 100";
    let limit = parameters.get("limit", LIMIT)?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::invalid("limit", LIMIT));
    }
    let before = parameters.get("before", ID)?;
    let after = parameters.get("after", ID)?;
    let around = parameters.get("around", ID)?;
    let query = match (before, after, around) {
        (None, None, None) => HistoryQuery::Newest,
        (Some(id), None, None) => HistoryQuery::Before(id),
        (None, Some(id), None) => HistoryQuery::After(id),
        (None, None, Some(id)) => HistoryQuery::Around(id),
        _ => {
            return Err(Refusal::invalid(
                "",
                "at most one of before, after and around",
            ));
        }
    };
    Ok((query, limit))
}
