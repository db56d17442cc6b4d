//! Arguments bound to parameters: surplus, missing and unknown ones are reported.

use tl_syntax::ast;
use tl_syntax::{Diagnostic, Span};

use crate::check::checker::Checker;
use crate::check::typed::Typed;

/// A parameter, as binding arguments sees it.
pub(super) struct ParamSlot<'a> {
    pub(super) name: &'a str,
    pub(super) is_required: bool,
    /// Takes all arguments without names from here on.
    pub(super) is_rest: bool,
}

/// The arguments of a call in the order of the parameters; those of a rest parameter are in `rest`.
pub(super) struct BoundArguments {
    pub(super) arguments: Vec<Option<Typed>>,
    pub(super) rest: Vec<Typed>,
    pub(super) is_complete: bool,
}

/// The name of an argument, if it is given, and its value.
pub(super) type ArgumentValue<'a> = (Option<&'a ast::Name>, Typed);

impl Checker {
    /// The receiver and the arguments with their names.
    pub(super) fn argument_values<'a>(
        &mut self,
        receiver: Option<Typed>,
        arguments: &'a [ast::Argument],
    ) -> Vec<ArgumentValue<'a>> {
        let mut values: Vec<ArgumentValue<'_>> = receiver.into_iter().map(|receiver| (None, receiver)).collect();
        for argument in arguments {
            let value = self.expr(&argument.value);
            values.push((argument.name.as_ref(), value));
        }
        values
    }

    /// Binds arguments to parameters, and reports surplus, missing and unknown ones.
    pub(super) fn bind(
        &mut self,
        callee: &str,
        slots: &[ParamSlot<'_>],
        values: Vec<ArgumentValue<'_>>,
        span: Span,
    ) -> BoundArguments {
        let mut bound =
            BoundArguments { arguments: slots.iter().map(|_| None).collect(), rest: Vec::new(), is_complete: true };
        let rest = slots.iter().position(|slot| slot.is_rest);
        let unnamed = slots.iter().filter(|slot| !slot.is_rest).count();
        let mut next = 0;
        for (name, value) in values {
            let at = match name {
                Some(name) => slots.iter().position(|slot| slot.name == &*name.text && !slot.is_rest),
                None if rest == Some(next) => {
                    bound.rest.push(value);
                    continue;
                }
                None => {
                    next += 1;
                    Some(next - 1)
                }
            };
            match (at.and_then(|at| bound.arguments.get_mut(at)), name) {
                (Some(place @ None), _) => *place = Some(value),
                (Some(Some(_)), name) => {
                    let span = name.map_or(value.span(), |name| name.span);
                    let parameter = at.and_then(|at| slots.get(at)).map_or("", |slot| slot.name);
                    self.error(span, format!("`{callee}`: `{parameter}` is given twice"));
                    bound.is_complete = false;
                }
                (None, Some(name)) => {
                    self.unknown_argument(callee, slots, name);
                    bound.is_complete = false;
                }
                (None, None) => {
                    let message = format!("`{callee}` takes {}", count(unnamed, "argument"));
                    self.report(Diagnostic::error(value.span(), message).hint(usage(callee, slots)));
                    bound.is_complete = false;
                    break;
                }
            }
        }
        if bound.is_complete {
            bound.is_complete = self.check_required(callee, slots, &bound.arguments, span);
        }
        bound
    }

    fn check_required(
        &mut self,
        callee: &str,
        slots: &[ParamSlot<'_>],
        arguments: &[Option<Typed>],
        span: Span,
    ) -> bool {
        let missing = slots.iter().zip(arguments).filter(|(slot, argument)| slot.is_required && argument.is_none());
        let missing: Vec<String> = missing.map(|(slot, _)| format!("`{}`", slot.name)).collect();
        if !missing.is_empty() {
            let message = format!("`{callee}` needs {}", missing.join(" and "));
            self.report(Diagnostic::error(span, message).hint(usage(callee, slots)));
        }
        missing.is_empty()
    }

    fn unknown_argument(&mut self, callee: &str, slots: &[ParamSlot<'_>], name: &ast::Name) {
        let message = format!("`{callee}` has no parameter `{}`", name.text);
        let near = match &*name.text {
            // As NumPy calls it.
            "axis" => slots.iter().map(|slot| slot.name).find(|name| *name == "dim"),
            name => crate::names::nearest(name, slots.iter().map(|slot| slot.name)),
        };
        let hint = near.map_or_else(|| usage(callee, slots), |near| format!("did you mean `{near}`?"));
        self.report(Diagnostic::error(name.span, message).hint(hint));
    }
}

fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("one {what}"),
        n => format!("at most {n} {what}s"),
    }
}

/// `softmax(x, [dim])`
fn usage(callee: &str, slots: &[ParamSlot<'_>]) -> String {
    let shown: Vec<String> = slots
        .iter()
        .map(|slot| match (slot.is_rest, slot.is_required) {
            (true, _) => "…".to_string(),
            (_, true) => slot.name.to_string(),
            (_, false) => format!("{}: …", slot.name),
        })
        .collect();
    format!("it is called as `{callee}({})`", shown.join(", "))
}
