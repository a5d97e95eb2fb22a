//! A small synchronous D-Bus client: what talking to systemd takes, within a bounded time, in one thread.
//!
//! [`message`] is the wire format of the D-Bus specification, [`connection`] a socket with authentication, method calls
//! and signals. There is no introspection, no object server, no descriptors. Why not a crate: design note 0015.

mod address;
mod connection;
mod message;

pub(crate) use address::Address;
pub(crate) use connection::{Call, Connection, Failure, Peer};
pub(crate) use message::{Body, Message, Value};
