//! `tl repl`: a program entered piece by piece.

use std::path::Path;

use tl_device::Device;
use tl_lang::{Interpreter, ProgramError, Session, SessionEntry, SourceText};

use crate::arguments::DeviceArguments;
use crate::output::{self, Stop, print_error};
use crate::program::Terminal;
use crate::repl_input::{Input, Line};
use crate::sizes::Sizes;
use crate::source_arguments::ReplArguments;
use crate::{interrupt, render, sources, statistics};

const HELP: &str = "\
An entry is a statement, a declaration or an expression, whose value is printed. Names stay, and may be declared anew.
An entry whose brackets are open, or that ends with an operator, goes on with the next line.
:type EXPR    the type of an expression, without computing it
:memory       what the memory holds
:load FILE    the declarations and statements of a program; its main does not run
:help         this
:quit         end (Ctrl-D too); Ctrl-C ends what runs, or drops what is typed
";

/// A session with its outside.
struct Repl {
    session: Session,
    device: Device,
    host: Terminal,
    /// Counts entries, for their names in messages.
    entries: usize,
    has_failed: bool,
}

/// Reads entries and runs them to the end of the input. Where that is no terminal, fails if an entry did.
pub(crate) fn run(arguments: &ReplArguments) -> Result<(), Stop> {
    let asked = DeviceArguments {
        compute: arguments.compute.clone(),
        memory_limit: arguments.memory_limit,
        ..DeviceArguments::default()
    };
    let device = crate::device::open_for(&asked, Interpreter::STACK_BYTES)?;
    let mut repl = Repl {
        session: Session::new(&device),
        host: Terminal::new(Vec::new(), Sizes::default(), &device, output::print),
        device,
        entries: 0,
        has_failed: false,
    };
    if let Some(file) = &arguments.file {
        repl.load(file)?;
    }
    let mut input = Input::new()?;
    let is_terminal = input.is_terminal();
    if is_terminal {
        print_error(&format!("tl {}; :help helps", env!("CARGO_PKG_VERSION")));
    }
    let end = loop {
        let line = match input.next(&repl.session) {
            Ok(Line::Entry(line)) => line,
            Ok(Line::End) => break Ok(()),
            Err(stop) => break Err(stop),
        };
        match repl.line(&line) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(stop) => break Err(stop),
        }
    };
    input.finish();
    match end {
        Ok(()) if repl.has_failed && !is_terminal => Err(Stop::Exit(1)),
        end => end,
    }
}

impl Repl {
    /// Does what a line says; false at the end.
    fn line(&mut self, line: &str) -> Result<bool, Stop> {
        let trimmed = line.trim();
        let (command, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        match (command, rest.trim()) {
            ("", _) => {}
            (":quit" | ":q" | ":exit", _) => return Ok(false),
            (":help" | ":h", _) => output::print(HELP)?,
            (":memory", _) => output::print(&statistics::text_of(&self.device))?,
            (":type", "") => self.fail("error: `:type EXPR` needs an expression"),
            (":type", expr) => self.type_of(expr)?,
            (":load", "") => self.fail("error: `:load FILE` needs a file"),
            (":load", file) => self.load(Path::new(file))?,
            (command, _) if command.starts_with(':') => {
                self.fail(&format!("error: there is no {command}; :help lists what there is"));
            }
            _ => {
                self.entries += 1;
                let name = format!("entry {}", self.entries);
                self.entry(&SourceText { name, text: line.to_owned() })?;
            }
        }
        Ok(true)
    }

    fn fail(&mut self, message: &str) {
        self.has_failed = true;
        print_error(message);
    }

    fn load(&mut self, file: &Path) -> Result<(), Stop> {
        match sources::main_file(file) {
            Ok(source) => self.entry(&source),
            Err(Stop::Failed(problem)) => {
                self.fail(&format!("error: {problem}"));
                Ok(())
            }
            Err(stop) => Err(stop),
        }
    }

    fn type_of(&mut self, expr: &str) -> Result<(), Stop> {
        match self.session.type_of(":type", expr, &mut self.host) {
            Ok(ty) => output::print(&format!("{}\n", ty.as_deref().unwrap_or("()"))),
            Err(error) => {
                self.report(&error);
                Ok(())
            }
        }
    }

    /// Runs an entry, and prints its value or its errors.
    fn entry(&mut self, source: &SourceText) -> Result<(), Stop> {
        interrupt::clear();
        let orderly = interrupt::Orderly::new();
        let result = self.session.run(&source.name, &source.text, &mut self.host);
        drop(orderly);
        if self.host.is_in_line {
            output::print("\n")?;
            self.host.is_in_line = false;
        }
        match result {
            Ok(SessionEntry { value, exit_code, warnings, sources, .. }) => {
                render::print(&sources, &warnings, &[]);
                if let Some(value) = value {
                    output::print(&format!("{value}\n"))?;
                }
                match exit_code {
                    Some(_) if interrupt::is_asked() && interrupt::is_ctrl_c() => {
                        interrupt::clear();
                        self.fail("(interrupted)");
                    }
                    // The operating system keeps the lowest byte.
                    Some(code) => return Err(Stop::Exit(code as u8)),
                    None => {}
                }
            }
            Err(error) => self.report(&error),
        }
        Ok(())
    }

    fn report(&mut self, error: &ProgramError) {
        self.has_failed = true;
        render::print(&error.sources, &error.diagnostics, &error.calls);
    }
}
