//! What shards say to each other. To come: the messages themselves.

/// One message from one shard to another.
#[derive(Debug, Clone)]
pub enum LaneMessage {
    /// Placeholder that keeps the type inhabited until the messages land.
    Nothing,
}
