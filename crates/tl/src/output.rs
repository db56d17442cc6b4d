//! Standard output, and the reasons for an early end of the program.
//!
//! A closed output (`tl … | head`) is no failure: the program then ends quietly.

use std::borrow::Cow;
use std::io::{self, Write};

/// Reason for the early end of a command.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An error: one message for people.
    Failed(String),
    /// A program ended itself with this code, or its errors have been printed.
    Exit(u8),
    /// The reader of the output has closed it.
    Closed,
}

impl Stop {
    /// A failure with this message.
    pub(crate) fn failed(error: impl ToString) -> Stop {
        Stop::Failed(error.to_string())
    }

    /// Wrong usage that shows only in the combination of arguments.
    pub(crate) fn usage(message: &str) -> Stop {
        print_error(&format!("error: {message}"));
        Stop::Exit(2)
    }
}

/// Prints to standard output at once, so that text appears as it comes.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::Closed,
        _ => Stop::Failed(format!("standard output cannot be written: {error}")),
    })
}

/// Prints a program's output to standard error at once, where its plan goes to standard output.
pub(crate) fn print_to_stderr(text: &str) -> Result<(), Stop> {
    let _ = io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}

/// Prints lines to standard error, ignoring failures. Control characters, as in names from files, are escaped: they
/// could move the terminal's cursor.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", without_controls(text));
}

/// The text with control characters escaped, except line ends and tabs.
fn without_controls(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_control(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The most characters of a message.
const MAX_MESSAGE_CHARS: usize = 2000;

/// The message without its middle, if it is longer than [`MAX_MESSAGE_CHARS`].
pub(crate) fn shortened(message: &str) -> Cow<'_, str> {
    let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) else { return Cow::Borrowed(message) };
    let (start, end) = (MAX_MESSAGE_CHARS * 3 / 4, MAX_MESSAGE_CHARS / 4);
    let head = message[..cut].chars().take(start).collect::<String>();
    let tail = message.chars().rev().take(end).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    Cow::Owned(format!("{head} … {tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(without_controls("a\u{1b}[2Jb\nc\td\r"), "a\\u{1b}[2Jb\nc\td\\r");
        assert_eq!(without_controls("é"), "é");
        let long = format!("begin{}end", "é".repeat(100_000));
        let short = shortened(&long);
        assert!(short.starts_with("begin") && short.ends_with("end") && short.chars().count() < 2010);
        assert_eq!(shortened("short"), "short");
    }
}
