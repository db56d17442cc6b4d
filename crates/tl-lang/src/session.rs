//! Programs that are entered piece by piece, as at a prompt: names stay, and functions may be declared anew.

use std::sync::Arc;

use tl_device::Device;
use tl_syntax::ast::Item;
use tl_syntax::{Diagnostic, Severity, SourceMap};

use crate::check::{Checked, CheckedEntry, Declarations};
use crate::compile::compile_entry;
use crate::display;
use crate::error::ProgramError;
use crate::eval::{self, EntryEnd, Environment, SessionState};
use crate::host::Host;
use crate::library;
use crate::model::open_model;
use crate::relations::is_hidden;
use crate::stack::{STACK_BYTES, run_on_stack};
use crate::types::Type;
use crate::value::Value;

/// A program that is entered piece by piece.
///
/// ```
/// use tl_device::Device;
/// use tl_lang::{CapturedHost, Session};
/// let mut session = Session::new(&Device::cpu());
/// let mut host = CapturedHost::default();
/// session.run("1", "let x = 20", &mut host)?;
/// let entry = session.run("2", "x * 2 + 2", &mut host)?;
/// assert_eq!(entry.value.as_deref(), Some("42"));
/// # Ok::<(), tl_lang::ProgramError>(())
/// ```
pub struct Session {
    device: Device,
    declarations: Declarations,
    /// Never absent or recycled.
    variables: Vec<(Arc<str>, Value)>,
    state: SessionState,
    sources: SourceMap,
}

/// The result of an entry that ran to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The value of the expression at its end, as lists show their elements; `None` for `()` and where there is none.
    pub value: Option<String>,
    /// What the entry gave to `exit`, or the code with which its host ended it.
    pub exit_code: Option<i32>,
    /// The checker's warnings.
    pub warnings: Vec<Diagnostic>,
    /// The source files of the warnings.
    pub sources: SourceMap,
}

impl Session {
    /// A session without names.
    pub fn new(device: &Device) -> Session {
        Session {
            device: device.clone(),
            declarations: Declarations::default(),
            variables: Vec::new(),
            state: SessionState::default(),
            sources: SourceMap::new(),
        }
    }

    /// Checks and runs an entry: declarations, statements, and an expression at its end, which is its value. A `main` and
    /// tests in it do not run. `name` is what messages show, and what imports are relative to.
    ///
    /// # Errors
    /// Everything that the checker found wrong, and then the session is unchanged; or the first thing that went wrong while
    /// the entry ran: what it declared and assigned before stays.
    pub fn run(&mut self, name: &str, text: &str, host: &mut dyn Host) -> Result<Entry, ProgramError> {
        let host = &mut *host;
        run_on_stack(&STACK_BYTES, &mut |stack_bytes| self.execute((name, text), &mut *host, stack_bytes))
    }

    /// The type of an entry's value, without running it; `None` where it has no value.
    ///
    /// # Errors
    /// Everything that the checker found wrong.
    pub fn type_of(&mut self, name: &str, text: &str, host: &mut dyn Host) -> Result<Option<String>, ProgramError> {
        let host = &mut *host;
        run_on_stack(&STACK_BYTES, &mut |_| {
            let mut sources = self.sources.clone();
            let CheckedEntry { checked: Checked { program, diagnostics }, value_type, .. } =
                self.compile((name, text), &mut *host, &mut sources);
            if program.is_some() { Ok(value_type) } else { Err(ProgramError::before_run(diagnostics, sources)) }
        })
    }

    /// The names of its variables and functions.
    pub fn names(&self) -> Vec<String> {
        let functions = self.declarations.items().filter_map(|item| match item {
            Item::Function(function) => Some(&function.name.text),
            _ => None,
        });
        let variables = self.variables.iter().map(|(name, _)| name).filter(|name| !is_hidden(name));
        variables.chain(functions).map(|name| name.to_string()).collect()
    }

    /// The names of a variable's fields and methods. Methods that are functions of any value are not among them.
    pub fn members(&self, variable: &str) -> Vec<&'static str> {
        match self.variables.iter().find(|(name, _)| &**name == variable).map(|(_, value)| value.ty()) {
            Some(Type::Handle(kind)) => library::method_names(kind),
            Some(Type::Record(record)) => record.fields.iter().map(|(name, _)| *name).collect(),
            _ => Vec::new(),
        }
    }

    fn compile(&self, entry: (&str, &str), host: &mut dyn Host, sources: &mut SourceMap) -> CheckedEntry {
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), value.ty())).collect();
        compile_entry(entry, &self.declarations, variables, host, sources)
    }

    fn execute(&mut self, entry: (&str, &str), host: &mut dyn Host, stack_bytes: usize) -> Result<Entry, ProgramError> {
        let mut sources = std::mem::take(&mut self.sources);
        let CheckedEntry { checked: Checked { program, diagnostics }, declarations, is_of_session, .. } =
            self.compile(entry, host, &mut sources);
        self.sources = sources;
        let Some(program) = program else { return Err(ProgramError::before_run(diagnostics, self.sources.clone())) };
        self.declarations = declarations;
        let mut before = std::mem::take(&mut self.variables);
        let mut take = |name: &Arc<str>| {
            before
                .iter_mut()
                .find(|(known, _)| known == name)
                .map(|(_, value)| std::mem::take(value))
                .unwrap_or_default()
        };
        let names = program.globals.iter().zip(&is_of_session);
        let mut globals: Vec<Value> =
            names.map(|(name, is_own)| if *is_own { take(name) } else { Value::default() }).collect();
        let environment = Environment { device: &self.device, host: &mut *host, open_model };
        let end = eval::run_entry(&program, environment, stack_bytes, &mut globals, &mut self.state);
        let named = program.globals.iter().cloned().zip(globals).zip(&is_of_session);
        let own = named.filter(|(_, is_own)| **is_own).map(|(named, _)| named);
        self.variables = own.filter(|(_, value)| !matches!(value, Value::Absent | Value::Recycled(_))).collect();
        let mut warnings = diagnostics;
        self.forget_misfits(host, &mut warnings);
        let (value, exit_code) = match end {
            Ok(EntryEnd::Value(Value::Absent | Value::Unit)) => (None, None),
            Ok(EntryEnd::Value(value)) => (Some(self.shown(&value)?), None),
            Ok(EntryEnd::Exit(code)) => (None, Some(code)),
            Err(error) => {
                let mut error = ProgramError::while_running(*error, self.sources.clone());
                error.diagnostics.extend(warnings);
                return Err(error);
            }
        };
        Ok(Entry { value, exit_code, warnings, sources: self.sources.clone() })
    }

    /// Drops functions that are wrong now that variables have other types, each with a warning.
    fn forget_misfits(&mut self, host: &mut dyn Host, warnings: &mut Vec<Diagnostic>) {
        loop {
            let checked = self.compile(("", ""), &mut *host, &mut self.sources.clone()).checked;
            let mut errors = checked.diagnostics.into_iter().filter(Diagnostic::is_error);
            let Some(mut error) = errors.next() else { return };
            let Some(name) = self.declarations.forget_function_at(error.span()) else { return };
            error.severity = Severity::Warning;
            warnings.push(error.hint(format!("`{name}` does not fit any more, and is forgotten: declare it again")));
        }
    }

    /// A value as lists show their elements: texts in quotes.
    fn shown(&self, value: &Value) -> Result<String, ProgramError> {
        let mut text = String::new();
        match display::write_value(&mut text, value, true) {
            Ok(()) => Ok(text),
            Err(error) => {
                let diagnostic = Diagnostic::error(tl_syntax::Span::default(), error.message);
                Err(ProgramError::before_run(vec![diagnostic], SourceMap::new()))
            }
        }
    }
}
