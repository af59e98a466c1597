//! The DNS side: messages in, replies out.
//!
//! [`responder`] decides every reply; [`udp`], [`tcp`] and [`grpc`] only move octets; [`hickory`] answers through
//! hickory-server's handler whatever the responder leaves to a general DNS library. What is asked of clients before they
//! are answered is in [`access`], [`limiter`] and [`cookies`].

pub mod access;
pub mod cookies;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fixture;
pub mod grpc;
pub mod hickory;
pub mod limiter;
pub mod listen;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod parity;
pub mod responder;
pub mod stream;
pub mod tcp;
pub mod udp;
