//! Blocks and statements: declarations, assignments, loops; and the states of variables where control flow splits and merges.

use tl_syntax::Diagnostic;
use tl_syntax::ast::{self, BinaryOperator, ExprKind, StatementKind, UnaryOperator};

use crate::check::checker::Checker;
use crate::check::loops::{LoopValues, Round};
use crate::check::mention::MentionKind;
use crate::check::scope::{State, Variable, VariableId, VariableLocation};
use crate::check::typed::Typed;
use crate::declared::{Declared, DeclaredDim, DeclaredDtype, declared_type, show_declared};
use crate::ir::{self, Block, Drops, Expr, Statement, TypeSource};
use crate::types::{Known, Type};

/// Whether the point after a statement is never reached.
pub(super) type Diverges = bool;

impl Checker {
    /// A block whose value is not used.
    pub(super) fn block_for_effect(&mut self, block: &ast::Block) -> (Block, Diverges) {
        self.lint_unreachable(&block.statements);
        self.scopes().open();
        let mut statements = Vec::with_capacity(block.statements.len());
        let mut diverges = false;
        for statement in &block.statements {
            diverges |= self.statement(statement, &mut statements);
        }
        self.scopes().close();
        (Block { statements, value: None }, diverges)
    }

    /// A block and the type of its last expression.
    pub(super) fn block_for_value(&mut self, block: &ast::Block) -> (Block, Type, Known) {
        self.lint_unreachable(&block.statements);
        self.scopes().open();
        let mut statements = Vec::with_capacity(block.statements.len());
        let mut diverges = false;
        let mut value = None;
        for (index, statement) in block.statements.iter().enumerate() {
            match &statement.kind {
                StatementKind::Expr(expr) if index + 1 == block.statements.len() => value = Some(self.expr(expr)),
                _ => diverges |= self.statement(statement, &mut statements),
            }
        }
        self.scopes().close();
        let (value, mut ty, known) = match value {
            Some(value) => (Some(Box::new(value.expr)), value.ty, value.known),
            None => (None, Type::Unit, Known::Nothing),
        };
        if diverges {
            ty = Type::Never;
        }
        (Block { statements, value }, ty, known)
    }

    /// A function's body, whose value must fit the declared result.
    pub(super) fn result_block(&mut self, block: &ast::Block, result: &Declared) -> Block {
        if matches!(result, Declared::Unit) {
            return self.block_for_effect(block).0;
        }
        let (mut body, ty, known) = self.block_for_value(block);
        match body.value.take() {
            Some(value) => {
                let value = Typed { expr: *value, ty, known };
                body.value = Some(Box::new(self.result_value(value, result)));
            }
            None if ty == Type::Never => {}
            None => {
                let shown = show_declared(result, &self.frame.sizes);
                let message = format!("this function returns {shown}, but its body ends without a value");
                let hint = "the last expression of the body is what the function returns";
                self.report(Diagnostic::error(block.span.end_point(), message).hint(hint));
            }
        }
        body
    }

    fn result_value(&mut self, value: Typed, result: &Declared) -> Expr {
        let value = self.expect(value, result, TypeSource::Result);
        if value.ty != Type::Never {
            self.frame.returned = Some(match self.frame.returned.take() {
                Some((ty, known)) => (ty.join(&value.ty), known.join(&value.known)),
                None => (value.ty, value.known),
            });
        }
        value.expr
    }

    /// Checks a statement and appends the result.
    pub(super) fn statement(&mut self, statement: &ast::Statement, into: &mut Vec<Statement>) -> Diverges {
        match &statement.kind {
            StatementKind::Let { name, ty, value } => self.let_statement(name, ty.as_ref(), value, into),
            StatementKind::Assign { target, declares, operator, value } => {
                return self.assignment(target, *declares, *operator, value, into);
            }
            StatementKind::Tensor(declaration) => self.tensor_declaration(declaration, into),
            StatementKind::For { variable, iterable, body } => self.for_statement(variable, iterable, body, into),
            StatementKind::While { condition, body } => {
                let (condition, body) = self.loop_rounds(&LoopValues::Conditional, |checker, _| {
                    let (condition, takes_place) = checker.condition(condition);
                    // The states where the condition is false are those after the loop.
                    let before = Some(checker.scopes().snapshot());
                    let is_dead = takes_place == Some(false);
                    let (body, diverges) = checker.reached_unless(is_dead, |checker| checker.block_for_effect(body));
                    Round { result: (condition, body), diverges, before, takes_place }
                });
                into.push(Statement::While { condition, body, drops: Drops::new() });
            }
            StatementKind::Loop { body } => return self.endless_loop(body, into),
            StatementKind::Break | StatementKind::Continue => return self.leave_round(statement, into),
            StatementKind::Return(value) => return self.return_statement(value.as_ref(), statement.span, into),
            StatementKind::Expr(expr) => return self.expression_statement(expr, into),
        }
        false
    }

    fn expression_statement(&mut self, expr: &ast::Expr, into: &mut Vec<Statement>) -> Diverges {
        if let ExprKind::Unary { operator: UnaryOperator::Negate, .. } = expr.kind {
            let diagnostic = Diagnostic::error(expr.span, "nobody uses this value");
            self.report(diagnostic.hint("to subtract, put the `-` at the end of the line before"));
        }
        let value = self.expr_for_effect(expr);
        self.lint_result(expr, &value);
        let diverges = value.ty == Type::Never;
        into.push(Statement::Expr(value.expr));
        diverges
    }

    fn let_statement(
        &mut self,
        name: &ast::Name,
        ty: Option<&ast::Type>,
        value: &ast::Expr,
        into: &mut Vec<Statement>,
    ) {
        let mut value = self.expr(value);
        let declared = ty.map(|ty| self.declared(ty, None));
        if let Some(declared) = &declared {
            value = self.expect(value, declared, TypeSource::Variable(name.text.clone()));
        }
        self.declare(name, declared, value, into);
    }

    /// Declares a variable with its first value.
    fn declare(&mut self, name: &ast::Name, declared: Option<Declared>, value: Typed, into: &mut Vec<Statement>) {
        let is_parameter =
            matches!(value.expr.kind, ir::ExprKind::Declare { storage: ast::TensorStorage::Learnable, .. });
        let location = match self.global_index(&name.text) {
            Some(index) => VariableLocation::Global(index),
            None => VariableLocation::Slot(self.frame.new_slot(&value.ty)),
        };
        let (ty, known) = (value.ty.clone(), value.known.clone());
        into.push(set(location, value.expr));
        self.record_global_type(location, &ty, &known);
        let kind = if declared.is_some() { MentionKind::Variable } else { MentionKind::InferredVariable };
        self.mention(name.span, Some(name.span), kind, &ty);
        if let VariableLocation::Slot(_) = location {
            self.lint_declared(name, is_parameter);
        }
        let state = self.state_of(location, ty, known);
        let variable = Variable { name: name.text.clone(), span: name.span, location, declared };
        self.scopes().declare(variable, state);
    }

    /// The index of the global variable, if the declaration of one stands here.
    fn global_index(&self, name: &str) -> Option<u32> {
        let is_top = self.frame.is_top_level && self.frame.scopes.depth() == 1;
        is_top.then(|| self.names().globals.get(name).copied()).flatten()
    }

    pub(super) fn record_global_type(&mut self, location: VariableLocation, ty: &Type, known: &Known) {
        let VariableLocation::Global(index) = location else { return };
        if let Some(global) = self.globals.get_mut(index as usize) {
            let (joined, known) = match &global.state {
                Some(before) => (before.join(ty), global.known.join(known)),
                None => (ty.clone(), known.clone()),
            };
            if global.state.as_ref() != Some(&joined) || global.known != known {
                self.instances.clear();
            }
            (global.state, global.known) = (Some(joined), known);
        }
    }

    /// A variable's state after an assignment. A global that functions assign to may have any value of its kind.
    pub(super) fn state_of(&self, location: VariableLocation, ty: Type, known: Known) -> State {
        let changes = match location {
            VariableLocation::Global(index) => self.globals.get(index as usize).is_none_or(|global| global.is_assigned),
            VariableLocation::Slot(_) => false,
        };
        if changes { State::of(ty.widened(), Known::Nothing) } else { State::of(ty, known) }
    }

    fn assignment(
        &mut self,
        target: &ast::Place,
        declares: bool,
        operator: Option<BinaryOperator>,
        value: &ast::Expr,
        into: &mut Vec<Statement>,
    ) -> Diverges {
        let name = &target.name;
        match operator {
            _ if !target.steps.is_empty() => self.part_assignment(target, operator, value, into),
            Some(operator) => {
                let variable = ast::Expr { kind: ExprKind::Name(name.text.clone()), span: name.span, height: 0 };
                let left = self.expr(&variable);
                let right = self.expr(value);
                let span = name.span.to(value.span);
                let value = self.operation(operator, span, left, right, span);
                self.assign_value(name, false, value, into)
            }
            None => {
                let value = self.expr(value);
                self.assign_value(name, declares, value, into)
            }
        }
    }

    fn assign_value(&mut self, name: &ast::Name, declares: bool, value: Typed, into: &mut Vec<Statement>) -> Diverges {
        let diverges = value.ty == Type::Never;
        match self.scopes().find(&name.text) {
            Some(id) => self.assign(id, name, value, into),
            None if declares => self.declare(name, None, value, into),
            None => match self.assigned_global(&name.text) {
                Some(location) => {
                    if let VariableLocation::Global(index) = location {
                        self.mention_global(index, name.span, &value.ty);
                    }
                    into.push(set(location, value.expr));
                }
                None => {
                    let message = format!("there is no variable `{}` to assign to", name.text);
                    let hint = format!("`let {} = …` declares it", name.text);
                    self.report(Diagnostic::error(name.span, message).hint(hint));
                }
            },
        }
        diverges
    }

    /// A function assigns to a top-level variable.
    pub(super) fn assigned_global(&mut self, name: &str) -> Option<VariableLocation> {
        let index = *self.names().globals.get(name)?;
        let global = self.globals.get_mut(index as usize)?;
        (global.is_used, global.is_assigned) = (true, true);
        Some(VariableLocation::Global(index))
    }

    fn assign(&mut self, id: VariableId, name: &ast::Name, value: Typed, into: &mut Vec<Statement>) {
        let (Some(variable), Some(state)) = (self.frame.scopes.variables.get(id).cloned(), self.state(id).cloned())
        else {
            return;
        };
        let value = match &variable.declared {
            Some(declared) => self.expect(value, declared, TypeSource::Variable(name.text.clone())),
            None if state.ty == Type::Float && value.ty == Type::Int => self.float_of(value),
            None => value,
        };
        if variable.declared.is_none() && !state.ty.same_kind(&value.ty) {
            let (is, given) = (self.show(&state.ty), self.show(&value.ty));
            let message = format!("`{}` is {is}, and is given {given}", name.text);
            let mut diagnostic = Diagnostic::error(value.span(), message);
            // A variable of an earlier entry of a session has no place.
            if variable.span != tl_syntax::Span::default() {
                diagnostic = diagnostic.label(variable.span, "declared here");
            }
            self.report(diagnostic.hint("a variable keeps its kind; `let` declares another one of the same name"));
        }
        let (ty, known) = (value.ty.clone(), value.known.clone());
        self.mention(name.span, Some(variable.span), MentionKind::Variable, &ty);
        into.push(set(variable.location, value.expr));
        self.record_global_type(variable.location, &ty, &known);
        self.frame.assigned.push(id);
        let ty = if ty.is_open() { state.ty.widened() } else { ty };
        let state = self.state_of(variable.location, ty, known);
        self.scopes().set(id, state);
    }

    fn tensor_declaration(&mut self, declaration: &ast::TensorDeclaration, into: &mut Vec<Statement>) {
        let declared = self.declared(&declaration.ty, None);
        let name = declaration.name.text.clone();
        if !matches!(declared, Declared::Tensor(..) | Declared::Unknown) {
            let message = format!("`tensor {name}` must have a tensor's type, such as `float16[512, 128]`");
            self.error(declaration.ty.span, message);
            return;
        }
        let mut ty = declared_type(&declared, &|name| self.frame.size(name));
        let value = declaration.value.as_ref().map(|value| {
            let value = self.expr(value);
            let value = self.expect(value, &declared, TypeSource::Variable(name.clone()));
            ty = value.ty;
            Box::new(value.expr)
        });
        if let (Declared::Tensor(DeclaredDtype::Float(_), _), None) = (&declared, &value) {
            let message = format!("`{name}` has no value, so its type must name one dtype: float16 or float32");
            self.error(declaration.ty.span, message);
        }
        if let (Declared::Tensor(_, dims), None) = (&declared, &value)
            && dims.contains(&DeclaredDim::Any)
        {
            let message = format!("`{name}` has no value, so its type must give every size");
            self.error(declaration.ty.span, message);
        }
        let storage = declaration.storage;
        let kind = ir::ExprKind::Declare { ty: Box::new(declared.clone()), storage, value };
        let value = Typed::new(Expr::new(kind, declaration.span), ty);
        self.declare(&declaration.name, Some(declared), value, into);
    }

    fn for_statement(&mut self, name: &ast::Name, iterable: &ast::Expr, body: &ast::Block, into: &mut Vec<Statement>) {
        let iterable = self.expr(iterable);
        let element = match &iterable.ty {
            Type::Range => Type::Int,
            Type::List(element) => (**element).clone(),
            Type::Map(key, _) => (**key).clone(),
            Type::Str => Type::Str,
            Type::Unknown | Type::Never => Type::Unknown,
            other => {
                let message =
                    format!("`for` goes over a range, a list, a map's keys or a string, not over {}", self.show(other));
                let mut diagnostic = Diagnostic::error(iterable.span(), message);
                match other {
                    Type::Int => diagnostic = diagnostic.hint("write `0..n` for the numbers below `n`"),
                    Type::Tensor(_) => {
                        diagnostic = diagnostic.hint("go over the rows with `for i in 0..shape(x)[0]` and `x[i]`")
                    }
                    _ => {}
                }
                self.report(diagnostic);
                Type::Unknown
            }
        };
        let slot = self.frame.new_slot(&element);
        let body = self.loop_rounds(&LoopValues::Elements(iterable.known), |checker, value| {
            let before = Some(checker.scopes().snapshot());
            checker.scopes().open();
            let location = VariableLocation::Slot(slot);
            checker.mention(name.span, Some(name.span), MentionKind::Variable, &element);
            let variable = Variable { name: name.text.clone(), span: name.span, location, declared: None };
            let (ty, known) = value.unwrap_or_else(|| (element.clone(), Known::Nothing));
            checker.scopes().declare(variable, State::of(ty, known));
            let (result, diverges) = checker.block_for_effect(body);
            checker.scopes().close();
            Round { result, diverges, before, takes_place: None }
        });
        into.push(Statement::For { slot, unread: false, iterable: iterable.expr, body, drops: Drops::new() });
    }

    fn endless_loop(&mut self, body: &ast::Block, into: &mut Vec<Statement>) -> Diverges {
        let mut ends = false;
        let span = body.span;
        let body = self.loop_rounds(&LoopValues::Conditional, |checker, _| {
            let (result, diverges) = checker.block_for_effect(body);
            ends = checker.frame.loops.last().is_some_and(|round| round.at_break.is_some());
            Round { result, diverges, before: None, takes_place: Some(true) }
        });
        into.push(Statement::Loop { body, span });
        !ends
    }

    fn leave_round(&mut self, statement: &ast::Statement, into: &mut Vec<Statement>) -> Diverges {
        let is_break = matches!(statement.kind, StatementKind::Break);
        let Some(round) = self.frame.loops.last_mut() else {
            let word = if is_break { "break" } else { "continue" };
            self.error(statement.span, format!("`{word}` stands outside a loop"));
            return false;
        };
        let place = if is_break { &mut round.at_break } else { &mut round.at_continue };
        self.frame.scopes.join_into(place);
        into.push(if is_break { Statement::Break } else { Statement::Continue });
        true
    }

    fn return_statement(
        &mut self,
        value: Option<&ast::Expr>,
        span: tl_syntax::Span,
        into: &mut Vec<Statement>,
    ) -> Diverges {
        self.frame.returns += 1;
        let value = value.map(|value| self.expr(value));
        let result = self.frame.result.clone().unwrap_or(Declared::Unit);
        let value = match (value, &result) {
            (None, Declared::Unit | Declared::Unknown) => None,
            (None, _) => {
                let shown = show_declared(&result, &self.frame.sizes);
                self.error(span, format!("this function returns {shown}: `return` needs a value"));
                None
            }
            (Some(value), Declared::Unit) => {
                if !matches!(value.ty, Type::Unit | Type::Unknown | Type::Never) {
                    let diagnostic = Diagnostic::error(value.span(), "nothing is returned here");
                    self.report(diagnostic.hint("declare the result: `fn name(…) -> TYPE`"));
                }
                Some(value.expr)
            }
            (Some(value), result) => Some(self.result_value(value, result)),
        };
        into.push(Statement::Return(value));
        true
    }
}

fn set(location: VariableLocation, value: Expr) -> Statement {
    match location {
        VariableLocation::Slot(slot) => Statement::Set { slot, value, unread: false },
        VariableLocation::Global(index) => Statement::SetGlobal { index, value },
    }
}
