// The wire types of Throng, generated from gateway/protocol/src. Do not edit:
// `UPDATE=1 cargo test -p throng-protocol` writes this file anew.

/** A chat channel: in a guild, or between users. */
export type ChannelId = string;

/** An account. */
export type UserId = string;

/** A message: UUIDv7, strictly increasing within a channel. */
export type MessageId = string;

/** A guild: a named set of channels and members. */
export type GuildId = string;

/** One client connection, from its READY on. */
export type SessionId = string;

/** A file that belongs to a message. */
export type AttachmentId = string;

/** The sender's own name for a message. Sent again within 5 minutes it means the same
 * message, so that a client may repeat what it got no answer to. */
export type Nonce = string;

/** Counts a channel's messages, dense from 1. */
export type Seq = number;

/** Counts a channel's durable records (creates, edits, deletes, reactions), dense from 1. */
export type Rev = number;

/** A time: ISO 8601 in UTC with milliseconds, `2026-11-21T09:08:07.006Z`. */
export type Timestamp = string;

/** An account as others see it. */
export type User = {
/** Its id. */
id: UserId,
/** Its unique name, 2-32 of `[a-z0-9_.]`. */
username: string,
/** Four digits, for display. */
discriminator: string,
/** Where its picture is. */
avatarUrl: string | null,
/** Whether it is there. */
status: UserStatus,
/** A line of its own beside the status, at most 128 characters. */
customStatus?: string, };

/** Whether a user is there. */
export type UserStatus = "online" | "idle" | "dnd" | "offline";

/** Who wrote a message. */
export type Author = {
/** The user's id. */
id: UserId,
/** The user's name when the message was written. */
username: string, };

/** A guild and its channels. */
export type Guild = {
/** Its id. */
id: GuildId,
/** Its name, 2-100 characters. */
name: string,
/** Where its picture is. */
iconUrl: string | null,
/** Who owns it. */
ownerId: UserId,
/** Its channels, at most 500. */
channels: Array<Channel>,
/** How many members it has. */
memberCount: number, };

/** A channel of a guild. */
export type Channel = {
/** Its id. */
id: ChannelId,
/** The guild it belongs to. */
guildId: GuildId,
/** Its name, 1-100 of `[a-z0-9-]`. */
name: string,
/** What it is for. */
type: ChannelType,
/** Its place among its siblings, from 0. */
position: number,
/** The category it is shown under. */
parentId: ChannelId | null, };

/** What a channel is for. */
export type ChannelType = "text" | "voice" | "category";

/** A message. The same for all who see it. */
export type Message = {
/** Its id, UUIDv7. */
id: MessageId,
/** The channel it was sent to. */
channelId: ChannelId,
/** Its place among the channel's messages. */
seq: Seq,
/** The channel's newest durable record that this state of the message includes. */
rev: Rev,
/** Who wrote it. */
author: Author,
/** What it says, 1-2000 characters. */
content: string,
/** When it was stored, ISO 8601 in UTC with milliseconds. */
timestamp: Timestamp,
/** When it was last edited, in the same form. */
editedAt: Timestamp | null,
/** Its files. */
attachments: Array<Attachment>,
/** Its reactions, at most 20 different emoji. */
reactions: Array<Reaction>,
/** The message it answers. */
replyTo: MessageId | null,
/** The sender's nonce, in live events only. */
nonce?: Nonce, };

/** A file of a message. */
export type Attachment = {
/** Its id. */
id: AttachmentId,
/** The name it was uploaded with. */
filename: string,
/** Where to fetch it. */
url: string,
/** Its media type. */
contentType: string,
/** Its size in bytes. */
size: number, };

/** One emoji under a message. */
export type Reaction = {
/** The emoji. */
emoji: string,
/** How many users chose it. */
count: number,
/** The first few of them. */
users: Array<UserId>,
/** Whether the asking user did: in REST answers only, since live frames are shared. */
me?: boolean, };

/** How far a user has read in a channel. */
export type ReadState = {
/** The channel. */
channelId: ChannelId,
/** The newest message that was read. */
messageId: MessageId, };

/** A channel's newest positions; zeros while it is empty. */
export type ChannelHead = {
/** The channel. */
channelId: ChannelId,
/** Its newest message. */
seq: Seq,
/** Its newest durable record. */
rev: Rev, };

/** A command. WIRE.md says what each does. */
export type Command = { "type": "IDENTIFY",
/** What login or registration gave. */
token: string,
/** Where to go on after a lost connection. */
resume?: Resume, } | { "type": "HEARTBEAT" } | { "type": "SUBSCRIBE_CHANNEL",
/** The channel. */
channelId: ChannelId,
/** The last message that the client has. */
afterSeq?: Seq,
/** The last durable record that the client has. */
afterRev?: Rev, } | { "type": "UNSUBSCRIBE_CHANNEL",
/** The channel. */
channelId: ChannelId, } | { "type": "SEND_MESSAGE",
/** The channel. */
channelId: ChannelId,
/** What it says. */
content: string,
/** The sender's name for it. */
nonce: Nonce,
/** The message it answers. */
replyTo?: MessageId, } | { "type": "START_TYPING",
/** The channel. */
channelId: ChannelId, } | { "type": "STOP_TYPING",
/** The channel. */
channelId: ChannelId, };

/** Where a client goes on. */
export type Resume = {
/** The channels it was subscribed to, each once, at most 1000. */
channels: Array<ResumeChannel>, };

/** Where a client goes on in one channel. */
export type ResumeChannel = {
/** The channel. */
channelId: ChannelId,
/** The last message that the client has, 0 for none. */
afterSeq: Seq,
/** The last durable record that the client has. */
afterRev?: Rev, };

/** An event. WIRE.md says when each is sent. */
export type Event = { "type": "HELLO",
/** How often the client shall send HEARTBEAT, in milliseconds. */
heartbeatIntervalMs: number, } | { "type": "READY",
/** The account. */
user: User,
/** Its guilds; what does not fit follows as GUILD_CREATE. */
guilds: Array<Guild>,
/** Its direct channels. */
dms: Array<Channel>,
/** How far it has read. */
readStates: Array<ReadState>,
/** The session's id. */
sessionId: SessionId, } | { "type": "HEARTBEAT_ACK" } | { "type": "MESSAGE_CREATE",
/** The message. */
message: Message, } | { "type": "MESSAGE_ACK",
/** The nonce of the command. */
nonce: Nonce,
/** The message's id. */
messageId: MessageId,
/** The message's place in its channel. */
seq: Seq, } | { "type": "TYPING_START",
/** The channel. */
channelId: ChannelId,
/** Who. */
userId: UserId, } | { "type": "TYPING_STOP",
/** The channel. */
channelId: ChannelId,
/** Who. */
userId: UserId, } | { "type": "GUILD_CREATE",
/** The guild. */
guild: Guild, } | { "type": "SUBSCRIBED",
/** The channel. */
channelId: ChannelId,
/** Its newest message, 0 when it is empty. */
seq: Seq,
/** Its newest durable record, 0 when it is empty. */
rev: Rev, } | { "type": "RESYNC",
/** The guilds as they are now. */
guilds: Array<Guild>,
/** The channels that are not replayed. */
channels: Array<ChannelHead>, } | { "type": "RECONNECT",
/** Why, for people. */
reason: string,
/** When to come back, in milliseconds, different for each client. */
retryAfterMs: number, } | { "type": "ERROR",
/** Why, for programs. */
code: ErrorCode,
/** Why, for people. */
message: string,
/** The nonce of the refused command, if it had one. */
nonce?: Nonce,
/** When to try again, in milliseconds, if that helps. */
retryAfterMs?: number, };

/** Why a command was refused, for programs. */
export type ErrorCode = "INVALID_SESSION" | "RATE_LIMITED" | "CHANNEL_NOT_FOUND" | "PERMISSION_DENIED" | "INVALID_PAYLOAD" | "MESSAGE_NOT_FOUND" | "NOT_IDENTIFIED" | "UNAVAILABLE";
