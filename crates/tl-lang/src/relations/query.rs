//! Queries: a body as a bool, or as the list of what its variables may be.

use tl_syntax::Span;
use tl_syntax::ast::{Expr, Query};

use super::conjunction::Place;
use super::declared::{Relations, Reports, SetSize};
use super::{einsum, tree};

/// A query as an expression. What is wrong is reported.
pub(crate) fn query(relations: &Relations, query: &Query, span: Span, reports: &mut Reports) -> Option<Expr> {
    let body = relations.conjunction(&query.body, reports)?;
    relations.warn_of_near_elements(&body, &[], reports);
    let result: Vec<(Place, usize)> =
        body.variables.iter().enumerate().map(|(index, variable)| (Place::Variable(index), variable.set)).collect();
    let holds = einsum::value(relations, &body, &result, None, span, reports)?;
    if result.is_empty() {
        return Some(tree::call("item", vec![holds], span));
    }
    let names = result.iter().map(|(_, set)| names(relations, *set, span)).collect();
    Some(tree::call("places", vec![holds, tree::list(names, span)], span))
}

/// The names of a set's elements; of numbered ones, none.
fn names(relations: &Relations, set: usize, span: Span) -> Expr {
    let names = match relations.sets.get(set).map(|set| &set.size) {
        Some(SetSize::Named(names)) => names.as_slice(),
        _ => &[],
    };
    tree::list(names.iter().map(|name| tree::text(name.to_string(), span)).collect(), span)
}
