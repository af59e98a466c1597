//! What the program can tell of itself beside its answers (chapter I): who asks what, how long changes take.
//!
//! Answers come first: whatever looks at queries takes a copy of a few of them ([`tap`]) and does its work on a thread
//! of its own, behind a queue that has room or leaves something out.

pub mod programming;
