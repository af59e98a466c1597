//! What the benchmarks of globaldns share. `bench/README.md` says what is measured and how to repeat it.
//!
//! ```text
//! names      the hosts, their addresses, and the files that give them to each server
//! question   a query as octets, and whether a reply is the right one
//! load       queries at full speed or at a rate, every reply checked
//! malformed  what no client should send, with good queries between
//! batch      recvmmsg and sendmmsg: the one file with unsafe code
//! process    what /proc knows of a server: memory, processor time, dropped datagrams
//! fixture    globaldns itself, in this process: the one file that knows its interface
//! random     numbers from a seed
//! ```

pub mod batch;
pub mod fixture;
pub mod load;
pub mod malformed;
pub mod names;
pub mod process;
pub mod question;
pub mod random;
