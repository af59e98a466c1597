//! The real program, from outside.
#![allow(missing_docs)]

mod api_server;
mod called;
mod check;
mod cli;
mod clients;
mod cluster;
mod compare;
mod dig;
mod disk;
mod docs;
mod encrypted;
mod errors;
mod events;
mod explain;
mod export;
mod faults;
mod grpc;
mod hostile;
mod insight;
mod kill;
mod limits;
mod pages;
mod probe;
mod process;
mod state;
mod stub_domains;
mod support;
mod transport;
mod walkthroughs;
