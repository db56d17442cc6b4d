//! `tl completions` and `tl man`: shell completions and man pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::output::{self, Stop};

/// Prints the script that completes the program's arguments in a shell.
pub(crate) fn print(shell: Shell) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tl", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes a man page for the program and one for each of its commands into a folder.
pub(crate) fn write_man_pages(folder: &Path) -> Result<(), Stop> {
    clap_mangen::generate_to(Arguments::command(), folder)
        .map_err(|error| Stop::Failed(format!("{} cannot be written to: {error}", folder.display())))
}
