//! Soft rules: sums of products of numbers, with softmax over the index that has a dot.

use std::sync::Arc;

use tl_syntax::ast::{Atom, BinaryOperator, Expr, Factor, Name, SoftRule, Statement, TermKind};
use tl_syntax::{Diagnostic, Span};

use super::declared::{Relations, Reports, Role};
use super::einsum::Letters;
use super::tree;

/// A soft rule as a statement. What is wrong is reported.
pub(super) fn soft_rule(relations: &Relations, rule: &SoftRule, reports: &mut Reports) -> Option<Statement> {
    let before = reports.diagnostics.len();
    let indices = indices(rule, reports);
    check(relations, rule, &indices, reports);
    if reports.diagnostics.len() > before || rule.factors.is_empty() {
        return None;
    }
    let (letters, of_indices) = Letters::of(indices.iter().map(|(name, _)| &**name));
    if letters.are_exhausted {
        reports.error(rule.span, "a rule has at most 52 indices".to_owned());
        return None;
    }
    let letter = |name: &str| indices.iter().zip(&of_indices).find(|((own, _), _)| **own == *name).map(|(_, c)| *c);
    let like = rule.factors.iter().find(|factor| !factor.is_relation);
    let (mut spec, mut operands) = (String::new(), Vec::new());
    for factor in &rule.factors {
        if !spec.is_empty() {
            spec.push(',');
        }
        let (tensor, names) = operand(relations, factor, reports)?;
        spec.extend(names.iter().filter_map(|name| letter(name)));
        operands.push(match like {
            Some(like) if factor.is_relation => tree::cast_like(tensor, tree::variable(&like.atom.name)),
            _ => tensor,
        });
    }
    let head: String = rule.indices.iter().filter_map(|index| letter(&index.name.text)).collect();
    let sum = match spec == head && operands.len() == 1 {
        true => operands.pop()?,
        false => {
            let spec = tree::text(format!("{spec}->{head}"), rule.span);
            tree::call("einsum", std::iter::once(spec).chain(operands).collect(), rule.span)
        }
    };
    let sum = match &rule.temperature {
        Some(temperature) => tree::binary(BinaryOperator::Divide, sum, temperature.clone()),
        None => sum,
    };
    let value = match rule.indices.iter().position(|index| index.is_normalized) {
        Some(dim) => tree::call("softmax", vec![sum, tree::int(dim, rule.span)], rule.span),
        None => sum,
    };
    Some(tree::let_statement(rule.name.clone(), value))
}

/// The indices of the factors with the places where they first stand.
fn indices(rule: &SoftRule, reports: &mut Reports) -> Vec<(Arc<str>, Span)> {
    let mut found: Vec<(Arc<str>, Span)> = Vec::new();
    for term in rule.factors.iter().flat_map(|factor| &factor.atom.terms) {
        let TermKind::Name(name) = &term.kind else { continue };
        let known = found.iter().find(|(own, _)| own == name).map(|(_, span)| *span);
        if known.is_none() {
            found.push((name.clone(), term.span));
        }
        reports.names.push((term.span, known.unwrap_or(term.span), Role::Variable));
    }
    found
}

fn check(relations: &Relations, rule: &SoftRule, indices: &[(Arc<str>, Span)], reports: &mut Reports) {
    let mut seen: Vec<&Name> = Vec::new();
    for index in &rule.indices {
        let name = &index.name;
        match indices.iter().find(|(own, _)| *own == name.text) {
            Some((_, first)) => reports.names.push((name.span, *first, Role::Variable)),
            None if name.text.is_empty() => {}
            None => {
                let message = format!("`{}` stands in the head, and in no factor", name.text);
                reports.error(name.span, message);
            }
        }
        if let Some(first) = seen.iter().find(|first| first.text == name.text) {
            let diagnostic = Diagnostic::error(name.span, format!("`{}` stands twice in the head", name.text));
            reports.diagnostics.push(diagnostic.label(first.span, "first here"));
        }
        seen.push(name);
    }
    if let Some(second) = rule.indices.iter().filter(|index| index.is_normalized).nth(1) {
        reports.error(second.name.span, "a second index has a dot, and softmax is over one".to_owned());
    }
    if relations.relation(&rule.name.text).is_some() || relations.is_entity(&rule.name.text) {
        let diagnostic = Diagnostic::error(rule.name.span, format!("`{}` is a relation", rule.name.text));
        reports.diagnostics.push(diagnostic.hint("its rules have parentheses; brackets define a tensor of numbers"));
    }
    for factor in &rule.factors {
        if factor.atom.name.text == rule.name.text {
            let message = format!("`{}` stands on both sides: a soft rule is computed once", rule.name.text);
            reports.error(factor.atom.name.span, message);
        }
    }
    if let Some(first) = rule.factors.first()
        && rule.factors.iter().all(|factor| factor.is_relation)
    {
        let diagnostic = Diagnostic::error(first.atom.span, "a soft rule needs a tensor of numbers among its factors");
        reports
            .diagnostics
            .push(diagnostic.hint("as in `Weight[x, y]`; a rule of relations alone has a head in parentheses"));
    }
}

/// A factor's tensor at its constant indices, and the names of the others.
fn operand(relations: &Relations, factor: &Factor, reports: &mut Reports) -> Option<(Expr, Vec<Arc<str>>)> {
    let Atom { name, terms, .. } = &factor.atom;
    let mut sets = None;
    if factor.is_relation {
        let Some(info) = relations.relation(&name.text).and_then(|at| relations.relations.get(at)) else {
            relations.unknown_relation(name, reports);
            return None;
        };
        reports.names.push((name.span, info.name.span, Role::Relation));
        if !relations.has_terms(&factor.atom, info.sets.len(), reports) {
            return None;
        }
        sets = Some(&info.sets);
    }
    let (mut indices, mut names) = (Vec::new(), Vec::new());
    for (at, term) in terms.iter().enumerate() {
        match &term.kind {
            TermKind::Value(value) => indices.push(Some((**value).clone())),
            TermKind::Name(name) => {
                let set = sets.and_then(|sets| sets.get(at));
                let elements = relations.element(name);
                if let Some((_, number, _)) = elements.iter().find(|(own, ..)| set.is_none_or(|set| own == set)) {
                    indices.push(Some(tree::int(*number, term.span)));
                    continue;
                }
                indices.push(None);
                names.push(name.clone());
            }
            TermKind::Any => {
                reports.error(term.span, "an index of a soft rule has a name, or is a number".to_owned());
                return None;
            }
        }
    }
    Some((tree::indexed(tree::variable(name), indices), names))
}
