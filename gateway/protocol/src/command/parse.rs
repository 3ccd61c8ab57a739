//! From a frame's text to a command, in two stages: the members of the object as raw JSON, then
//! those that the command's `type` asks for.
//!
//! Members that a type does not ask for are never looked into, so that newer clients may send
//! more. No text makes it panic or recurse beyond serde_json's limit.
//!
//! Invariants: every error names the member at fault and what is allowed, and carries the nonce
//! if it could be read, whatever else is wrong.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Command, CommandError, Resume, TextLimits};
use crate::event::ErrorCode;
use crate::id::Nonce;
use crate::limits::{RESUME_CHANNELS_MAX, TOKEN_BYTES_MAX};

type Message = Cow<'static, str>;

const UUID: &str = "a UUID string in the form 8-4-4-4-12";
const POSITION: &str = "a whole number from 0 to 2^64-1";

/// Parses a command and checks what its text alone can break.
///
/// # Errors
/// `INVALID_PAYLOAD` when the text is not a JSON object, a member is missing, there twice, of a
/// wrong type or beyond a limit, or `type` is unknown.
pub fn parse<'a>(text: &'a str, limits: &TextLimits) -> Result<Command<'a>, CommandError> {
    let members: Members<'a> =
        serde_json::from_str(text).map_err(|error| refuse(not_an_object(&error), None))?;
    command(&members, limits).map_err(|message| {
        let nonce = match members.doubled {
            Some(Member::Nonce) => None,
            _ => members.required(Member::Nonce, UUID).ok(),
        };
        refuse(message, nonce)
    })
}

/// Errors of shape would quote the text, which may be long; errors of syntax never do.
fn not_an_object(error: &serde_json::Error) -> Message {
    if error.is_data() {
        return "a JSON object with a `type` is needed".into();
    }
    format!("not JSON: {error}").into()
}

const fn refuse(message: Message, nonce: Option<Nonce>) -> CommandError {
    CommandError {
        code: ErrorCode::InvalidPayload,
        message,
        nonce,
    }
}

fn command<'a>(members: &Members<'a>, limits: &TextLimits) -> Result<Command<'a>, Message> {
    if let Some(member) = members.doubled {
        return Err(format!("`{}` is there twice", member.name()).into());
    }
    let kind: Text<'_> = members.required(Member::Type, "a string")?;
    match &*kind.0 {
        "IDENTIFY" => identify(members),
        "HEARTBEAT" => Ok(Command::Heartbeat),
        "SUBSCRIBE_CHANNEL" => Ok(Command::SubscribeChannel {
            channel_id: members.required(Member::ChannelId, UUID)?,
            after_seq: members.optional(Member::AfterSeq, POSITION)?,
            after_rev: members.optional(Member::AfterRev, POSITION)?,
        }),
        "UNSUBSCRIBE_CHANNEL" => Ok(Command::UnsubscribeChannel {
            channel_id: members.required(Member::ChannelId, UUID)?,
        }),
        "SEND_MESSAGE" => send_message(members, limits),
        "START_TYPING" => Ok(Command::StartTyping {
            channel_id: members.required(Member::ChannelId, UUID)?,
        }),
        "STOP_TYPING" => Ok(Command::StopTyping {
            channel_id: members.required(Member::ChannelId, UUID)?,
        }),
        _ => Err(format!(
            "`type` is unknown; allowed are {}",
            Command::TYPES.join(", ")
        )
        .into()),
    }
}

fn identify<'a>(members: &Members<'a>) -> Result<Command<'a>, Message> {
    let Text(token) = members.required(Member::Token, "a string")?;
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(format!(
            "`token` has {} bytes; 1 to {TOKEN_BYTES_MAX} are allowed",
            token.len()
        )
        .into());
    }
    let resume: Option<Resume> = members.optional(
        Member::Resume,
        "{channels: [{channelId, afterSeq, afterRev?}]}",
    )?;
    if let Some(resume) = &resume {
        check_resume(resume)?;
    }
    Ok(Command::Identify { token, resume })
}

fn check_resume(resume: &Resume) -> Result<(), Message> {
    let count = resume.channels.len();
    if count > RESUME_CHANNELS_MAX {
        return Err(format!(
            "`resume` has {count} channels; at most {RESUME_CHANNELS_MAX} are allowed"
        )
        .into());
    }
    let mut ids: Vec<_> = resume
        .channels
        .iter()
        .map(|channel| channel.channel_id)
        .collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("`resume` has the channel {} twice", pair[0]).into()),
        None => Ok(()),
    }
}

fn send_message<'a>(members: &Members<'a>, limits: &TextLimits) -> Result<Command<'a>, Message> {
    let channel_id = members.required(Member::ChannelId, UUID)?;
    let Text(content) = members.required(Member::Content, "a string")?;
    check_content(&content, limits)?;
    let nonce = members.required(Member::Nonce, UUID)?;
    let reply_to = members.optional(Member::ReplyTo, UUID)?;
    let attachments: Option<Vec<IgnoredAny>> = members.optional(Member::Attachments, "an array")?;
    if attachments.is_some_and(|attachments| !attachments.is_empty()) {
        return Err("`attachments` are not supported yet; an empty array is allowed".into());
    }
    Ok(Command::SendMessage {
        channel_id,
        content,
        nonce,
        reply_to,
    })
}

fn check_content(content: &str, limits: &TextLimits) -> Result<(), Message> {
    if content.trim().is_empty() {
        return Err("`content` is blank; at least one visible character is needed".into());
    }
    if content
        .chars()
        .any(|it| it.is_control() && it != '\n' && it != '\t')
    {
        return Err("`content` has a control character; newline and tab are allowed".into());
    }
    let chars_max = limits.content_chars_max;
    // A text has at most as many characters as bytes.
    if chars_max == 0 || content.len() <= chars_max {
        return Ok(());
    }
    let chars = content.chars().count();
    if chars > chars_max {
        return Err(
            format!("`content` has {chars} characters; 1 to {chars_max} are allowed").into(),
        );
    }
    Ok(())
}

/// The members that some command asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Type,
    Token,
    Resume,
    ChannelId,
    AfterSeq,
    AfterRev,
    Content,
    Nonce,
    ReplyTo,
    Attachments,
    #[serde(other)]
    Unknown,
}

impl Member {
    /// How many members are known.
    const COUNT: usize = Self::Unknown as usize;

    const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Token => "token",
            Self::Resume => "resume",
            Self::ChannelId => "channelId",
            Self::AfterSeq => "afterSeq",
            Self::AfterRev => "afterRev",
            Self::Content => "content",
            Self::Nonce => "nonce",
            Self::ReplyTo => "replyTo",
            Self::Attachments => "attachments",
            Self::Unknown => "?",
        }
    }
}

/// A string, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The known members of the object, each as the raw JSON it has in the text.
struct Members<'a> {
    raw: [Option<&'a RawValue>; Member::COUNT],
    /// The first known member that is there twice.
    doubled: Option<Member>,
}

impl<'a> Members<'a> {
    fn required<T: Deserialize<'a>>(&self, member: Member, allowed: &str) -> Result<T, Message> {
        self.optional(member, allowed)?
            .ok_or_else(|| format!("`{}` is missing; {allowed} is needed", member.name()).into())
    }

    /// `null` counts as absent.
    fn optional<T: Deserialize<'a>>(
        &self,
        member: Member,
        allowed: &str,
    ) -> Result<Option<T>, Message> {
        let Some(raw) = self.raw[member as usize] else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map_err(|_| format!("`{}` is wrong; {allowed} is allowed", member.name()).into())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members {
            raw: [None; Member::COUNT],
            doubled: None,
        };
        while let Some(member) = map.next_key::<Member>()? {
            if member == Member::Unknown {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let earlier = members.raw[member as usize].replace(map.next_value()?);
            if earlier.is_some() {
                members.doubled.get_or_insert(member);
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = r#""channelId":"018f0000-0000-7000-8000-0000000000c1",
        "nonce":"550e8400-e29b-41d4-a716-446655440001""#;

    fn check(text: &str, content_chars_max: usize) -> Result<(), String> {
        parse(text, &TextLimits { content_chars_max })
            .map(|_| ())
            .map_err(|error| error.message.into_owned())
    }

    fn check_content(content: &str, content_chars_max: usize) -> Result<(), String> {
        let text = format!(r#"{{"type":"SEND_MESSAGE",{IDS},"content":"{content}"}}"#);
        check(&text, content_chars_max)
    }

    #[test]
    fn content_is_counted_in_characters() {
        let four_bytes_each = "👋".repeat(2_000);
        assert_eq!(check_content(&four_bytes_each, 2_000), Ok(()));
        assert_eq!(
            check_content(&format!("{four_bytes_each}x"), 2_000),
            Err("`content` has 2001 characters; 1 to 2000 are allowed".to_owned())
        );
        assert_eq!(
            check_content(&"x".repeat(60_000), 0),
            Ok(()),
            "0 is no limit"
        );
        assert_eq!(check_content("x", 1), Ok(()));
        assert!(check_content("xy", 1).is_err());
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let text = format!(r#"{{"type":"SEND_MESSAGE",{IDS},"content":"hello"}}"#);
        let command = parse(&text, &TextLimits::default()).unwrap();
        let Command::SendMessage {
            content: Cow::Borrowed(content),
            ..
        } = command
        else {
            panic!("{command:?}");
        };
        assert!(text.as_bytes().as_ptr_range().contains(&content.as_ptr()));
    }

    #[test]
    fn tokens_and_resumes_are_bounded() {
        let identify = |token: usize, channels: usize| {
            let token = "t".repeat(token);
            let channels: Vec<_> = (0..channels)
                .map(|it| {
                    format!(r#"{{"channelId":"00000000-0000-7000-8000-{it:012}","afterSeq":1}}"#)
                })
                .collect();
            let channels = channels.join(",");
            let text = format!(
                r#"{{"type":"IDENTIFY","token":"{token}","resume":{{"channels":[{channels}]}}}}"#
            );
            check(&text, 2_000)
        };
        assert_eq!(identify(TOKEN_BYTES_MAX, RESUME_CHANNELS_MAX), Ok(()));
        assert!(identify(TOKEN_BYTES_MAX + 1, 0).is_err());
        assert!(identify(1, RESUME_CHANNELS_MAX + 1).is_err());
    }

    #[test]
    fn depth_does_not_overflow_the_stack() {
        let deep = "[".repeat(30_000);
        assert!(check(&format!(r#"{{"type":"HEARTBEAT","x":{deep}"#), 1).is_err());
        let closed = format!("{deep}{}", "]".repeat(30_000));
        assert_eq!(
            check(&format!(r#"{{"type":"HEARTBEAT","x":{closed}}}"#), 1),
            Ok(())
        );
        let resume = format!(r#"{{"type":"IDENTIFY","token":"t","resume":{closed}}}"#);
        assert!(check(&resume, 1).is_err());
    }

    #[test]
    fn errors_stay_short() {
        let long = "x".repeat(60_000);
        for text in [
            format!("\"{long}\""),
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":["{long}"]}}"#),
            format!(r#"{{"type":"SUBSCRIBE_CHANNEL","channelId":"{long}"}}"#),
            format!(r#"{{"type":"IDENTIFY","token":"t","resume":{{"channels":"{long}"}}}}"#),
        ] {
            let message = check(&text, 2_000).unwrap_err();
            assert!(message.len() < 200, "{message}");
        }
    }
}
