//! Statements and blocks.

use tl_syntax::Span;

use crate::eval::error::{ControlFlow, Evaluated, error_at};
use crate::eval::evaluator::Evaluator;
use crate::ir::{Block, Expr, ExprKind, Slot, Statement};
use crate::value::Value;

impl Evaluator<'_> {
    /// Runs a block and gives its value.
    pub(super) fn block(&mut self, block: &Block) -> Evaluated<Value> {
        self.push_block(block)?;
        Ok(self.stack.pop().unwrap_or_default())
    }

    /// Runs a block and pushes its value.
    pub(super) fn push_block(&mut self, block: &Block) -> Evaluated<()> {
        for statement in &block.statements {
            self.statement(statement)?;
        }
        match &block.value {
            Some(value) => self.push(value)?,
            None => self.stack.push(Value::Unit),
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Evaluated<()> {
        match statement {
            Statement::Set { slot, value, unread } => {
                if matches!(value.kind, ExprKind::Binary { .. } | ExprKind::Index { .. })
                    && let Some(number) = self.number_at(value)
                {
                    if !*unread {
                        *self.slot(*slot) = number.into();
                    }
                    return Ok(());
                }
                self.push(value)?;
                if *unread {
                    self.stack.pop();
                } else {
                    // The value is on top of the stack.
                    self.move_top_to(self.frame + *slot as usize);
                }
            }
            Statement::SetGlobal { index, value } => {
                let value = self.expr(value)?;
                if let Some(global) = self.globals.get_mut(*index as usize) {
                    *global = value;
                }
            }
            Statement::SetPart(part) => self.set_part(part)?,
            Statement::Expr(expr) => drop(self.expr(expr)?),
            Statement::For { slot, unread, iterable, body, drops } => {
                self.for_loop(*slot, *unread, iterable, body)?;
                self.drop_slots(drops);
            }
            Statement::While { condition, body, drops } => {
                while self.condition(condition)? {
                    if !self.round(body, condition.span)? {
                        return Ok(());
                    }
                }
                self.drop_slots(drops);
            }
            Statement::Loop { body, span } => while self.round(body, *span)? {},
            Statement::Break => return Err(ControlFlow::Break),
            Statement::Continue => return Err(ControlFlow::Continue),
            Statement::Return(value) => {
                self.returned = match value {
                    Some(value) => self.expr(value)?,
                    None => Value::Unit,
                };
                return Err(ControlFlow::Return);
            }
        }
        Ok(())
    }

    /// Counts a round or a call. Ends the program where its host asks for that, or after the most steps that it may take.
    #[inline]
    pub(super) fn step(&mut self, span: Span) -> Evaluated<()> {
        match self.steps_left.checked_sub(1) {
            Some(left) => self.steps_left = left,
            None => return Err(self.too_many_steps(span)),
        }
        self.host.interrupted().map_or(Ok(()), |code| Err(ControlFlow::Exit(code)))
    }

    #[cold]
    fn too_many_steps(&self, span: Span) -> ControlFlow {
        let message = format!("the program has taken {} steps (rounds of loops and calls), its limit", self.max_steps);
        error_at(span, message)
    }

    /// Runs a loop's body once; false if the loop ends.
    fn round(&mut self, body: &Block, span: Span) -> Evaluated<bool> {
        self.step(span)?;
        // A `break` inside a call's arguments leaves earlier arguments on the stack.
        let height = self.stack.len();
        match self.push_block(body) {
            Ok(()) | Err(ControlFlow::Continue) => {
                self.stack.truncate(height);
                Ok(true)
            }
            Err(ControlFlow::Break) => {
                self.stack.truncate(height);
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    fn for_loop(&mut self, slot: Slot, unread: bool, iterable: &Expr, body: &Block) -> Evaluated<()> {
        let span = iterable.span;
        let iterable = self.expr(iterable)?;
        if let Value::Range(start, end) = iterable {
            for n in start..end {
                if !unread {
                    *self.slot(slot) = Value::Int(n);
                }
                if !self.round(body, span)? {
                    break;
                }
            }
            return Ok(());
        }
        if let Value::Str(text) = &iterable {
            let mut buffer = [0; 4];
            for c in text.chars() {
                if !unread {
                    *self.slot(slot) = Value::text(&*c.encode_utf8(&mut buffer));
                }
                if !self.round(body, span)? {
                    break;
                }
            }
            return Ok(());
        }
        if let Value::Map(map) = &iterable {
            for key in map.keys() {
                if !unread {
                    *self.slot(slot) = Value::from(key);
                }
                if !self.round(body, span)? {
                    break;
                }
            }
            return Ok(());
        }
        let Some(len) = iterable.list_len() else {
            let message =
                format!("`for` goes over a range, a list, a map's keys or a string, not over {}", iterable.describe());
            return Err(error_at(span, message));
        };
        for index in 0..len {
            if !unread {
                *self.slot(slot) = iterable.element(index).unwrap_or_default();
            }
            if !self.round(body, span)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn condition(&mut self, condition: &Expr) -> Evaluated<bool> {
        if let Some(truth) = self.truth_at(condition) {
            return Ok(truth);
        }
        match self.expr(condition)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                Err(error_at(condition.span, format!("a condition must be a bool, and this is {}", other.describe())))
            }
        }
    }
}
