//! The DNS side: messages in, replies out.
//!
//! [`responder`] decides every reply; [`udp`], [`tcp`], [`grpc`], [`https`] and [`quic`] only move octets; [`hickory`]
//! answers through hickory-server's handler whatever the responder leaves to a general DNS library. What is asked of
//! clients before they are answered is in [`access`], [`limiter`] and [`cookies`].

pub mod access;
mod budget;
pub mod cookies;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fixture;
pub mod grpc;
pub mod hickory;
pub mod http;
pub mod https;
pub mod limiter;
pub mod listen;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod parity;
pub mod quic;
pub mod responder;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod udp;
