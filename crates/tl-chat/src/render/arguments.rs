//! Arguments of calls of built-in functions, filters, tests and methods.

use super::meter::Meter;
use super::value::Value;
use crate::error::Result;

/// Arguments that are taken one by one; leftovers are errors.
pub(super) struct Given<'a> {
    /// Name of the callee, for messages.
    pub(super) callee: &'a str,
    pub(super) positional: Vec<Option<Value>>,
    pub(super) named: Vec<(String, Option<Value>)>,
}

impl Given<'_> {
    /// The argument at `index`, or the one named `name`.
    pub(super) fn take(&mut self, index: usize, name: &str) -> Option<Value> {
        if let Some(value) = self.positional.get_mut(index) {
            return value.take();
        }
        self.take_named(name)
    }

    pub(super) fn take_named(&mut self, name: &str) -> Option<Value> {
        self.named.iter_mut().find(|(found, _)| found == name).and_then(|(_, value)| value.take())
    }

    pub(super) fn require(&mut self, meter: &Meter, index: usize, name: &str) -> Result<Value> {
        match self.take(index, name) {
            Some(value) => Ok(value),
            None => meter.error(format!("`{}` needs the argument `{name}`", self.callee)),
        }
    }

    /// A text, or an error.
    pub(super) fn require_text(&mut self, meter: &Meter, index: usize, name: &str) -> Result<Value> {
        let value = self.require(meter, index, name)?;
        match value {
            Value::String(_) => Ok(value),
            _ => meter.error(format!("`{}`: `{name}` must be a text, not {}", self.callee, value.type_name())),
        }
    }

    /// An integer; `None` if it is absent or none.
    pub(super) fn integer(&mut self, meter: &Meter, index: usize, name: &str) -> Result<Option<i128>> {
        match self.take(index, name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_integer() {
                Some(integer) => Ok(Some(integer)),
                None => {
                    meter.error(format!("`{}`: `{name}` must be an integer, not {}", self.callee, value.type_name()))
                }
            },
        }
    }

    /// A length: an integer that fits, negative ones as 0.
    pub(super) fn length(&mut self, meter: &Meter, index: usize, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.integer(meter, index, name)? else { return Ok(None) };
        Ok(Some(usize::try_from(value.max(0)).unwrap_or(usize::MAX)))
    }

    pub(super) fn truth(&mut self, index: usize, name: &str, default: bool) -> bool {
        self.take(index, name).map_or(default, |value| value.is_true())
    }

    /// Errors if an argument was not taken.
    pub(super) fn finish(self, meter: &Meter) -> Result<()> {
        if let Some((name, _)) = self.named.iter().find(|(_, value)| value.is_some()) {
            return meter.error(format!("`{}` has no argument `{name}`", self.callee));
        }
        if self.positional.iter().any(Option::is_some) {
            return meter.error(format!("`{}` is given too many arguments: {}", self.callee, self.positional.len()));
        }
        Ok(())
    }
}
