//! Standard output and what ends the program early.
//!
//! A reader that goes away (`tl … | head`) is no failure: the program then ends quietly.

use std::io::{self, Write};

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is wrong: one message for people.
    Failed(String),
    /// A program ended itself with this code, or its errors have been printed.
    Exit(u8),
    /// Nobody reads the output any more.
    Closed,
}

impl Stop {
    /// A failure with this message.
    pub(crate) fn failed(error: impl ToString) -> Stop {
        Stop::Failed(error.to_string())
    }

    /// Wrong usage that only shows when the arguments are seen together.
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

/// Prints to standard error at once, what a program says while its plan goes to standard output.
pub(crate) fn print_to_stderr(text: &str) -> Result<(), Stop> {
    let _ = io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}

/// Prints a line to standard error; nothing is left to tell where that fails.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
