//! The protocol against its documents: WIRE.md, the golden vectors, the TypeScript types, and
//! the properties that no list of examples can cover.
//!
//! Nothing here talks to a server; those tests live with the gateway.
//!
//! Invariant: a change of the wire format cannot pass without a change of a document here.

mod document;
mod properties;
mod said;
mod typescript;
mod vectors;
