//! The Corefile: the configuration of CoreDNS.

mod lexer;

pub use lexer::{Comment, Lexed, Span, Token, lex};
