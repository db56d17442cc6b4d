//! Relations in the checker: the files' items before it begins, queries where they stand.

use tl_syntax::ast::{self, Item, Query};
use tl_syntax::{Diagnostic, Span};

use crate::check::checker::{Checker, error_value};
use crate::check::files::LoadedFile;
use crate::check::mention::{Mention, MentionKind};
use crate::check::typed::Typed;
use crate::ir::{Expr, ExprKind};
use crate::relations::{Relations, Reports, Role, lower, query};
use crate::types::{Known, Type};
use crate::value::Value;
use tl_tensor::ops::TensorType;

/// Adds statements to the main file in the place of what it says of relations. Those before `first_new` were computed by
/// earlier entries of a session.
pub(super) fn lower_relations(files: &mut [LoadedFile], first_new: usize, reports: &mut Reports) -> Relations {
    let mut relations = Relations::default();
    for file in files {
        if file.is_main {
            (relations, file.tree.items) = lower(&file.tree.items, first_new, reports);
            if file.tree.has_wrong_relations {
                reports.diagnostics.clear();
                relations.is_incomplete = true;
            }
            continue;
        }
        if let Some(span) = file.tree.items.iter().find_map(relational_span) {
            let diagnostic = Diagnostic::error(span, "relations stand in the main file, and this one is imported");
            reports.diagnostics.push(diagnostic.hint("a function can take a relation's tensor: `x: bool[n, n]`"));
        }
    }
    relations
}

fn relational_span(item: &Item) -> Option<Span> {
    match item {
        Item::Entity(entity) => Some(entity.span),
        Item::Relation(relation) => Some(relation.span),
        Item::Fact(fact) => Some(fact.span),
        Item::Rule(rule) => Some(rule.span),
        Item::SoftRule(rule) => Some(rule.span),
        _ => None,
    }
}

/// Adds the names of relations to those that the checker has found: it has their types.
pub(super) fn add_mentions(mentions: &mut Vec<Mention>, names: Vec<(Span, Span, Role)>) {
    for (span, definition, role) in names.into_iter().filter(|(span, ..)| span.start < span.end) {
        let kind = kind_of(role);
        match mentions.iter_mut().find(|mention| mention.span == span) {
            Some(mention) => (mention.kind, mention.definition) = (kind, Some(definition)),
            None => {
                let definition = Some(definition);
                mentions.push(Mention { span, definition, kind, ty: String::new(), owner: "", bytes: None });
            }
        }
    }
}

fn kind_of(role: Role) -> MentionKind {
    match role {
        Role::Entity => MentionKind::Entity,
        Role::Element => MentionKind::Element,
        Role::Relation => MentionKind::Relation,
        Role::Variable => MentionKind::Variable,
    }
}

impl Checker {
    pub(super) fn query(&mut self, written: &Query, span: Span) -> Typed {
        let mut reports = Reports::default();
        let lowered = query(&self.relations, written, span, &mut reports);
        if !self.relations.is_incomplete {
            let warns = self.makes_warnings(span);
            let wanted = reports.diagnostics.into_iter().filter(|found| found.is_error() || warns);
            wanted.for_each(|diagnostic| self.report(diagnostic));
        }
        let value = match &lowered {
            Some(lowered) => self.expr(lowered),
            None => error_value(span),
        };
        if self.mentions.is_some() {
            self.names_of_queries.append(&mut reports.names);
        }
        value
    }

    /// The first argument with the dtype of the second, whose value is not used.
    pub(super) fn cast_like(&mut self, arguments: &[ast::Argument], span: Span) -> Typed {
        let [value, like] = arguments else { return error_value(span) };
        let (value, like) = (self.expr(&value.value), self.expr(&like.value));
        let Type::Tensor(TensorType { dtype: Some(dtype), .. }) = like.ty else { return value };
        let expr = Expr::new(ExprKind::Constant(Box::new(Value::DType(dtype))), span);
        let dtype = Typed { expr, ty: Type::Dtype, known: Known::DType(dtype) };
        self.op_by_name("cast", vec![Some(value), Some(dtype)], span)
    }
}
