//! The engines that others have made, each set up as its own documentation says.
//!
//! None of them is built unless its feature, or `engines` for all, is asked for.
//!
//! Invariants: all are given the same cache and make the same promise: a batch is durable, whole,
//! when it returns; they store what a page needs and nothing else.

mod entry;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "fjall")]
pub(super) use fjall::Fjall;
#[cfg(feature = "rocksdb")]
pub(super) use rocks::Rocks;
#[cfg(feature = "sqlite")]
pub(super) use sqlite::Sqlite;
