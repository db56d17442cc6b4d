//! The language server: what editors ask about TL programs, answered over standard input and output by the Language Server
//! Protocol.
//!
//! A document is checked as a whole at each change, by the checker that `tl check` uses. Files that are not open are read
//! by a function that the caller passes in: this crate touches none.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod completion;
mod documents;
mod hints;
mod hover;
mod names;
mod outline;
mod places;
mod server;
mod tokens;

pub use documents::ReadSource;
pub use server::serve;
