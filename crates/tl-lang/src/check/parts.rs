//! Assignments to parts of a variable's value: elements of lists and maps, fields of structs.

use tl_syntax::Diagnostic;
use tl_syntax::ast::{self, BinaryOperator};

use crate::check::checker::Checker;
use crate::check::scope::{State, VariableLocation};
use crate::check::statements::Diverges;
use crate::check::typed::Typed;
use crate::declared::{Declared, DeclaredDim, DeclaredDtype};
use crate::ir::{Expr, ExprKind, PartRoot, PartStep, SetPart, Statement, TypeSource};
use crate::types::{Known, Type};

impl Checker {
    pub(super) fn part_assignment(
        &mut self,
        target: &ast::Place,
        operator: Option<BinaryOperator>,
        value: &ast::Expr,
        into: &mut Vec<Statement>,
    ) -> Diverges {
        let name = &target.name;
        let base = ast::Expr { kind: ast::ExprKind::Name(name.text.clone()), span: name.span, height: 0 };
        let base = self.expr(&base);
        let root = match base.expr.kind {
            ExprKind::Local { slot, name, .. } => PartRoot::Local { slot, name },
            ExprKind::Global { index, .. } => PartRoot::Global { index },
            _ => {
                self.expr(value);
                if !base.ty.is_open() {
                    self.error(name.span, format!("`{}` is no variable", name.text));
                }
                return false;
            }
        };
        let (steps, mut element) = self.part_steps(&base.ty, &target.steps);
        let value = self.expr(value);
        let diverges = value.ty == Type::Never;
        let value = match operator {
            Some(operator) => self.updated(operator, &element.ty, value, target.span),
            None => value,
        };
        let given = value.ty.clone();
        let value = self.fitting(&mut element, value, target);
        let part = SetPart { root, steps: steps.into(), operator, value: value.expr, span: target.span };
        into.push(Statement::SetPart(Box::new(part)));
        self.after_part_assignment(name, &base.ty, &given, target.steps.len());
        diverges
    }

    /// The steps to the part, and what may stand there.
    fn part_steps(&mut self, root: &Type, written: &[ast::PlaceStep]) -> (Vec<PartStep>, Element) {
        let mut steps = Vec::with_capacity(written.len());
        let mut element = Element { ty: root.clone(), declared: None };
        for step in written {
            element = match step {
                ast::PlaceStep::Field(name) => {
                    steps.push(PartStep::Field(name.text.clone()));
                    self.field_of(&element.ty, name)
                }
                ast::PlaceStep::Index(at) => {
                    let at = self.expr(at);
                    let ty = self.element_of(&element.ty, &at);
                    steps.push(PartStep::Index(at.expr));
                    Element { ty, declared: None }
                }
            };
        }
        (steps, element)
    }

    fn field_of(&mut self, ty: &Type, name: &ast::Name) -> Element {
        let unknown = Element { ty: Type::Unknown, declared: None };
        match ty {
            Type::Struct(ty) => match (self.struct_field_type(ty, &name.text), self.struct_field(ty, &name.text)) {
                (Some(field), declared) => Element { ty: field, declared },
                _ => {
                    self.unknown_struct_field(ty, name);
                    unknown
                }
            },
            Type::Unknown | Type::Never => unknown,
            other => {
                let message = format!("the fields of {} cannot be assigned to", self.show(other));
                self.error(name.span, message);
                unknown
            }
        }
    }

    fn element_of(&mut self, ty: &Type, at: &Typed) -> Type {
        match ty {
            Type::List(element) => {
                if !matches!(at.ty, Type::Int | Type::Unknown | Type::Never) {
                    let message = format!("a list's index must be an int, and this is {}", self.show(&at.ty));
                    self.error(at.span(), message);
                }
                (**element).clone()
            }
            Type::Map(key, value) => {
                self.check_key(key, at);
                (**value).clone()
            }
            Type::Unknown | Type::Never => Type::Unknown,
            other => {
                let message = format!("the elements of {} cannot be assigned to", self.show(other));
                let diagnostic = Diagnostic::error(at.span(), message);
                self.report(match other {
                    Type::Tensor(_) => diagnostic.hint(
                        "tensors do not change: `where(mask, a, b)` or `concat([…], dim)` make a new one, or build a list \
                         and make a tensor of it with `from_list`",
                    ),
                    Type::Str => diagnostic.hint("strings do not change: join the parts to a new one"),
                    _ => diagnostic,
                });
                Type::Unknown
            }
        }
    }

    /// The type of `old operator value`, and the value as it is given to the running program.
    fn updated(&mut self, operator: BinaryOperator, old: &Type, value: Typed, span: tl_syntax::Span) -> Typed {
        let at = value.span();
        let of = |ty: &Type, span| Typed::new(Expr::unit(span), ty.clone());
        let ty = self.operation(operator, at, of(old, span), of(&value.ty, at), span).ty;
        Typed { expr: value.expr, ty, known: Known::Nothing }
    }

    /// The value, converted to what may stand at the part.
    fn fitting(&mut self, element: &mut Element, value: Typed, target: &ast::Place) -> Typed {
        if let Some(declared) = &element.declared {
            let source = TypeSource::Variable(target.name.text.clone());
            return self.expect(value, &without_names(declared), source);
        }
        if element.ty == Type::Float && value.ty == Type::Int {
            return self.float_of(value);
        }
        if !element.ty.same_kind(&value.ty) {
            let (is, given) = (self.show(&element.ty), self.show(&value.ty));
            let message = format!("this part of `{}` is {is}, and is given {given}", target.name.text);
            self.error(value.span(), message);
        }
        value
    }

    /// The variable has a part of the type `given` from here on.
    fn after_part_assignment(&mut self, name: &ast::Name, root: &Type, given: &Type, depth: usize) {
        let ty = match (root, depth) {
            (Type::List(element), 1) => Type::list(element.join(given)),
            (Type::Map(key, value), 1) => Type::map((**key).clone(), value.join(given)),
            (root, _) => root.widened(),
        };
        match self.scopes().find(&name.text) {
            Some(id) => {
                let location = self.frame.scopes.variables.get(id).map(|variable| variable.location);
                self.frame.assigned.push(id);
                if let Some(location @ VariableLocation::Global(_)) = location {
                    self.record_global_type(location, &ty, &Known::Nothing);
                }
                self.scopes().set(id, State::of(ty, Known::Nothing));
            }
            None => drop(self.assigned_global(&name.text)),
        }
    }
}

/// What may stand at a part.
struct Element {
    ty: Type,
    /// The type that a struct's declaration gives.
    declared: Option<Declared>,
}

/// The type with `?` for size names, which belong to the struct's declaration.
fn without_names(declared: &Declared) -> Declared {
    match declared {
        Declared::Tensor(dtype, dims) => {
            let dims = dims.iter().map(|dim| match dim {
                DeclaredDim::Named(_) => DeclaredDim::Any,
                dim => *dim,
            });
            let dtype = match dtype {
                DeclaredDtype::Float(_) => DeclaredDtype::Float(None),
                dtype => *dtype,
            };
            Declared::Tensor(dtype, dims.collect())
        }
        Declared::List(element) => Declared::List(Box::new(without_names(element))),
        Declared::Optional(tensor) => Declared::Optional(Box::new(without_names(tensor))),
        Declared::Map(key, value) => Declared::Map(Box::new(without_names(key)), Box::new(without_names(value))),
        other => other.clone(),
    }
}
