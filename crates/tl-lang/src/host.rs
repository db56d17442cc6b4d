//! What a running program sees of the outside: printing, files, arguments, environment, clock. This crate itself touches none
//! of them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// A source file that an import or a caller named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Identifies the file, and is shown in messages: the same file always has the same name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Writes the contents of a file.
pub type WriteContents<'a> = &'a mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>;

/// The outside of a program. What a host does not define is absent: arguments, sizes, variables, files to write.
pub trait Host: Send {
    /// Prints text, newlines included, without buffering.
    fn print(&mut self, text: &str);

    /// Reads the source file `path`, which is relative to the file named `importer`.
    ///
    /// # Errors
    /// Why the file cannot be read, as a message.
    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String>;

    /// The file that a program means by `path`, when it loads a model.
    ///
    /// # Errors
    /// Why the program may not read it, as a message.
    fn open_path(&mut self, path: &str) -> Result<PathBuf, String>;

    /// The plain file that a program means by `path`.
    ///
    /// # Errors
    /// Why the program may not read it, as a message.
    fn file_path(&mut self, path: &str) -> Result<PathBuf, String> {
        self.open_path(path)
    }

    /// Writes the file that a program means by `path`: `write` gives its contents. On an error the file is as it was.
    ///
    /// # Errors
    /// Why it cannot be written, as a message.
    fn write_file(&mut self, _path: &str, _write: WriteContents<'_>) -> Result<(), String> {
        Err("programs write no files here".to_owned())
    }

    /// The program's arguments, without its own name.
    fn args(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// The value given for the size `name` of `size(name, default)`; `None`: the default.
    fn size(&mut self, _name: &str, _default: i64) -> Option<i64> {
        None
    }

    /// A variable of the environment.
    fn env(&mut self, _name: &str) -> Option<String> {
        None
    }

    /// Milliseconds on a monotonic clock with any origin.
    fn time_ms(&mut self) -> f64;

    /// Takes a picture that the program draws, as SVG.
    ///
    /// # Errors
    /// Why it cannot be kept, as a message.
    fn plot(&mut self, _svg: &str) -> Result<(), String> {
        Ok(())
    }

    /// The most rounds of loops and calls of functions that a run may take; asked once, before the program's first
    /// statement.
    fn max_steps(&mut self) -> Option<u64> {
        None
    }

    /// The exit code to end with where the program is to end: asked at each round of a loop and at each call.
    fn interrupted(&mut self) -> Option<i32> {
        None
    }
}

/// A host in memory: it captures what is printed, and has the files, arguments and variables that it was given.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CapturedHost {
    /// Everything that was printed.
    pub output: String,
    /// Source files by path.
    pub files: BTreeMap<String, String>,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Values of sizes, by name.
    pub sizes: BTreeMap<String, i64>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The pictures that were drawn.
    pub plots: Vec<String>,
    /// The clock; each reading advances it by a millisecond.
    pub clock_ms: f64,
    /// The most rounds of loops and calls that a run may take.
    pub max_steps: Option<u64>,
}

impl Host for CapturedHost {
    fn print(&mut self, text: &str) {
        self.output.push_str(text);
    }

    fn read_source(&mut self, path: &str, _importer: &str) -> Result<SourceText, String> {
        match self.files.get(path) {
            Some(text) => Ok(SourceText { name: path.into(), text: text.clone() }),
            None => Err("there is no such file".into()),
        }
    }

    fn open_path(&mut self, path: &str) -> Result<PathBuf, String> {
        Ok(PathBuf::from(path))
    }

    fn args(&mut self) -> Vec<String> {
        self.arguments.clone()
    }

    fn size(&mut self, name: &str, _default: i64) -> Option<i64> {
        self.sizes.get(name).copied()
    }

    fn env(&mut self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    fn plot(&mut self, svg: &str) -> Result<(), String> {
        self.plots.push(svg.to_owned());
        Ok(())
    }

    fn time_ms(&mut self) -> f64 {
        self.clock_ms += 1.0;
        self.clock_ms
    }

    fn max_steps(&mut self) -> Option<u64> {
        self.max_steps
    }
}
