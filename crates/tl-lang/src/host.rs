//! The outside, as a running program sees it: printing, files, arguments, environment, clock. The library itself never
//! reaches for any of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A source file that an import or a caller named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What identifies the file and is shown in messages: the same file always has the same name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What a program may ask of the outside.
pub trait Host: Send {
    /// Shows text, which already has its newlines. It should be seen at once.
    fn print(&mut self, text: &str);

    /// Reads the source file `path`, which is relative to the file named `importer`.
    ///
    /// # Errors
    /// Why the file cannot be read, for people.
    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String>;

    /// The file that a program means by `path`, when it loads a model.
    ///
    /// # Errors
    /// Why the program may not read it, for people.
    fn open_path(&mut self, path: &str) -> Result<PathBuf, String>;

    /// The program's arguments, without its own name.
    fn args(&mut self) -> Vec<String>;

    /// The value that the size `name` is given from outside, for a program that says `size(name, default)`; `None`: its
    /// default.
    fn size(&mut self, name: &str, default: i64) -> Option<i64>;

    /// A variable of the environment.
    fn env(&mut self, name: &str) -> Option<String>;

    /// Milliseconds on a clock that never goes back; where it begins does not matter.
    fn time_ms(&mut self) -> f64;
}

/// A host without an outside: it keeps what is printed, and gives the files, arguments and variables that it was given.
#[derive(Clone, Debug, Default)]
pub struct CapturedHost {
    /// All that was printed.
    pub output: String,
    /// Source files by path.
    pub files: BTreeMap<String, String>,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Values of sizes, by name.
    pub sizes: BTreeMap<String, i64>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// What the clock shows; each look at it takes a millisecond.
    pub clock_ms: f64,
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

    fn time_ms(&mut self) -> f64 {
        self.clock_ms += 1.0;
        self.clock_ms
    }
}
