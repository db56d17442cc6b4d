//! Where entries come from: a line editor with history and completion, or a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tl_lang::{Session, reference};
use tl_syntax::{KEYWORDS, is_open};

use crate::output::{self, Stop};

/// Entries that the history keeps.
const MAX_HISTORY: usize = 1000;

/// Maximum bytes of a piped entry.
const MAX_ENTRY_BYTES: usize = 8 << 20;

/// The commands beside entries.
const COMMANDS: &[&str] = &[":help", ":load", ":memory", ":quit", ":type"];

/// The source of entries.
pub(crate) enum Input {
    Terminal(Box<Editor<Words, DefaultHistory>>),
    Pipe,
}

/// What was read.
pub(crate) enum Line {
    /// One or more lines that belong together.
    Entry(String),
    End,
}

impl Input {
    pub(crate) fn new() -> Result<Input, Stop> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        let config = Config::builder().completion_type(CompletionType::List).max_history_size(MAX_HISTORY);
        let config = config.map_err(Stop::failed)?.build();
        let mut editor = Editor::with_config(config).map_err(Stop::failed)?;
        editor.set_helper(Some(Words::default()));
        if let Some(path) = history_file() {
            // There is none before the first session.
            let _ = editor.load_history(&path);
        }
        Ok(Input::Terminal(Box::new(editor)))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next entry; completion offers the session's names.
    pub(crate) fn next(&mut self, session: &Session) -> Result<Line, Stop> {
        match self {
            Input::Pipe => piped(&mut std::io::stdin().lock()),
            Input::Terminal(editor) => loop {
                if let Some(words) = editor.helper_mut() {
                    words.learn(session);
                }
                match editor.readline("> ") {
                    Ok(line) => {
                        // A line missing from the history is no reason to fail.
                        let _ = editor.add_history_entry(&line);
                        return Ok(Line::Entry(line));
                    }
                    Err(ReadlineError::Interrupted) => output::print(":quit or Ctrl-D ends\n")?,
                    Err(ReadlineError::Eof) => return Ok(Line::End),
                    Err(error) => return Err(Stop::failed(error)),
                }
            },
        }
    }

    /// Keeps the history for the next session.
    pub(crate) fn finish(&mut self) {
        let Input::Terminal(editor) = self else { return };
        let Some(path) = history_file() else { return };
        // A history that cannot be kept is no reason to fail.
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(&path);
    }
}

/// The next entry of a pipe.
fn piped(input: &mut impl BufRead) -> Result<Line, Stop> {
    let mut entry = String::new();
    loop {
        let before = entry.len();
        let mut limited = std::io::Read::take(&mut *input, (MAX_ENTRY_BYTES - before) as u64 + 1);
        let read = limited.read_line(&mut entry);
        if read.map_err(|error| Stop::Failed(format!("standard input: {error}")))? == 0 {
            return Ok(if entry.trim().is_empty() { Line::End } else { Line::Entry(entry) });
        }
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(Stop::Failed(format!(
                "standard input: an entry has more than the {MAX_ENTRY_BYTES} bytes that are read"
            )));
        }
        if !is_unfinished(&entry) {
            return Ok(Line::Entry(entry));
        }
    }
}

/// Whether more lines belong to the entry.
fn is_unfinished(text: &str) -> bool {
    !text.trim_start().starts_with(':') && is_open(text)
}

/// The file of earlier sessions' entries.
fn history_file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(target_os = "windows") {
        from("LOCALAPPDATA")
    } else {
        from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")))
    };
    base.map(|base| base.join("tensorlogic/repl_history"))
}

/// The words that complete what is typed.
#[derive(Default)]
pub(crate) struct Words {
    words: Vec<String>,
    /// The session's variables, each with its fields and methods.
    members: Vec<(String, Vec<&'static str>)>,
}

impl Words {
    fn learn(&mut self, session: &Session) {
        let names = session.names();
        self.members = names.iter().map(|name| (name.clone(), session.members(name))).collect();
        let builtins = reference().into_iter().map(|entry| entry.name).filter(|name| !name.contains('.'));
        self.words = names.into_iter().chain(builtins).chain(KEYWORDS.iter().map(|word| (*word).to_owned())).collect();
        self.words.sort();
        self.words.dedup();
    }

    /// The words that what stands before the cursor may become, and where it begins.
    fn completions(&self, before: &str) -> (usize, Vec<String>) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let start = before.trim_end_matches(is_word).len();
        let (head, typed) = before.split_at(start);
        if head.trim() == ":" {
            let at = head.len() - 1;
            let commands = COMMANDS.iter().filter(|command| command.starts_with(&before[at..]));
            return (at, commands.map(|command| (*command).to_owned()).collect());
        }
        if let Some(receiver) = head.strip_suffix('.') {
            let name = &receiver[receiver.trim_end_matches(is_word).len()..];
            let members = self.members.iter().find(|(known, _)| known == name).map_or(&[][..], |(_, members)| members);
            let functions = self.words.iter().map(String::as_str).filter(|word| !KEYWORDS.contains(word));
            // A handle or a record has members of its own; a tensor has the builtins.
            let found: Vec<&str> = match members {
                [] => functions.filter(|word| word.starts_with(typed)).collect(),
                members => members.iter().copied().filter(|member| member.starts_with(typed)).collect(),
            };
            return (start, found.into_iter().map(str::to_owned).collect());
        }
        (start, self.words.iter().filter(|word| !typed.is_empty() && word.starts_with(typed)).cloned().collect())
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.completions(line.get(..pos).unwrap_or("")))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_unfinished(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_device::Device;
    use tl_lang::CapturedHost;

    #[test]
    fn completion() {
        let mut session = Session::new(&Device::cpu());
        let text = "let buffer = TensorBuffer::new()\nlet softness = 1\nfn softly() {}";
        session.run("1", text, &mut CapturedHost::default()).unwrap();
        let mut words = Words::default();
        words.learn(&session);
        let check = |before: &str, start: usize, some: &[&str], is_all: bool| {
            let (at, found) = words.completions(before);
            assert_eq!(at, start, "{before}");
            assert!(some.iter().all(|word| found.contains(&(*word).to_owned())), "{before}: {found:?}");
            assert!(!is_all || found.len() == some.len(), "{before}: {found:?}");
        };
        check("softn", 0, &["softness"], true);
        check("soft", 0, &["softly", "softmax", "softness"], false);
        check("print(sof", 6, &["softmax"], false);
        check("buffer.cle", 7, &["clear", "clear_all", "clear_learnable"], true);
        check("softness.ab", 9, &["abs"], false);
        check(":me", 0, &[":memory"], true);
        check("", 0, &[], true);
    }

    #[test]
    fn entries_of_a_pipe() {
        let mut input = "let x = 1\n:type (\nfn f() {\n  1\n}\n\nf(\n2".as_bytes();
        let mut entries = Vec::new();
        while let Line::Entry(entry) = piped(&mut input).unwrap() {
            entries.push(entry);
        }
        assert_eq!(entries, ["let x = 1\n", ":type (\n", "fn f() {\n  1\n}\n", "\n", "f(\n2"]);
    }
}
