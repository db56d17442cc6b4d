//! What a file declares of relations: entities with their elements, relations with their places.

use std::collections::HashMap;
use std::sync::Arc;

use tl_syntax::ast::{Elements, Entity, Expr, ExprKind, Name, Relation};
use tl_syntax::{Diagnostic, Span};

use super::tree;
use crate::names::nearest;

/// The most places of a relation.
const MAX_PLACES: usize = 16;

/// An entity.
#[derive(Clone)]
pub(crate) struct Set {
    pub(super) name: Name,
    pub(super) size: SetSize,
}

/// The elements of an entity.
#[derive(Clone)]
pub(super) enum SetSize {
    Named(Vec<Arc<str>>),
    /// How many there are, if that is written as a number.
    Numbered(Option<i64>),
}

impl Set {
    /// The variable with the size, if it is computed.
    pub(super) fn size_variable(&self) -> Name {
        tree::hidden(format!("size of {}", self.name.text), self.name.span)
    }

    /// The size, as an expression.
    pub(super) fn size(&self, span: Span) -> Expr {
        match &self.size {
            SetSize::Named(names) => tree::int(names.len(), span),
            SetSize::Numbered(Some(n)) => tree::expr(ExprKind::Int(*n), span),
            SetSize::Numbered(None) => tree::variable(&self.size_variable()),
        }
    }

    pub(super) fn is_named(&self) -> bool {
        matches!(self.size, SetSize::Named(_))
    }
}

/// A relation.
#[derive(Clone)]
pub(crate) struct RelationInfo {
    pub(super) name: Name,
    /// The set at each place.
    pub(super) sets: Vec<usize>,
    /// The place of the Boolean tensor that it begins with.
    pub(super) value: Option<Span>,
}

impl RelationInfo {
    /// The variable with the tensor that the relation begins with.
    pub(super) fn value_variable(&self) -> Name {
        tree::hidden(format!("value of {}", self.name.text), self.name.span)
    }

    /// The variable with what the last round has found.
    pub(super) fn news_variable(&self) -> Name {
        tree::hidden(format!("news of {}", self.name.text), self.name.span)
    }

    /// The variable with what a round finds.
    pub(super) fn found_variable(&self) -> Name {
        tree::hidden(format!("found of {}", self.name.text), self.name.span)
    }
}

/// All that a file declares.
#[derive(Clone, Default)]
pub(crate) struct Relations {
    pub(super) sets: Vec<Set>,
    pub(super) relations: Vec<RelationInfo>,
    set_names: HashMap<Arc<str>, usize>,
    relation_names: HashMap<Arc<str>, usize>,
    /// For each name of an element, its sets with its number in them.
    elements: HashMap<Arc<str>, Vec<(usize, usize, Span)>>,
    /// Where the relations have their values.
    pub(super) end: Option<Span>,
    /// Whether declarations are missing because of errors in the syntax, so that nothing is said of names.
    pub(crate) is_incomplete: bool,
}

/// What a name in a file stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Entity,
    Element,
    Relation,
    Variable,
}

/// What is found while names are resolved.
#[derive(Default)]
pub(crate) struct Reports {
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Each name with the place of its declaration.
    pub(crate) names: Vec<(Span, Span, Role)>,
}

impl Reports {
    pub(super) fn error(&mut self, span: Span, message: String) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }
}

impl Relations {
    /// Whether the name is a relation's or an entity's, and where their values are known.
    pub(crate) fn known_from(&self, name: &str) -> Option<Span> {
        let is_known = self.relation_names.contains_key(name) || self.set_names.contains_key(name);
        self.end.filter(|_| is_known)
    }

    pub(crate) fn is_entity(&self, name: &str) -> bool {
        self.set_names.contains_key(name)
    }

    pub(super) fn relation(&self, name: &str) -> Option<usize> {
        self.relation_names.get(name).copied()
    }

    pub(super) fn set(&self, name: &str) -> Option<usize> {
        self.set_names.get(name).copied()
    }

    pub(super) fn set_name(&self, set: usize) -> &str {
        self.sets.get(set).map_or("", |set| &set.name.text)
    }

    pub(super) fn relation_name(&self, relation: usize) -> &str {
        self.relations.get(relation).map_or("", |relation| &relation.name.text)
    }

    /// The sets that have an element of this name, with its number in them and its place.
    pub(super) fn element(&self, name: &str) -> &[(usize, usize, Span)] {
        self.elements.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn declare_entity(&mut self, entity: &Entity, reports: &mut Reports) {
        if !self.is_new(&entity.name, reports) {
            return;
        }
        let set = self.sets.len();
        let size = match &entity.elements {
            Elements::Named(names) => {
                names.iter().enumerate().for_each(|(at, name)| self.declare_element(set, at, name, reports));
                SetSize::Named(names.iter().map(|name| name.text.clone()).collect())
            }
            Elements::Numbered(Expr { kind: ExprKind::Int(n), .. }) => SetSize::Numbered(Some(*n)),
            Elements::Numbered(_) => SetSize::Numbered(None),
        };
        self.sets.push(Set { name: entity.name.clone(), size });
        self.set_names.insert(entity.name.text.clone(), set);
        reports.names.push((entity.name.span, entity.name.span, Role::Entity));
    }

    fn declare_element(&mut self, set: usize, at: usize, name: &Name, reports: &mut Reports) {
        let sets = self.elements.entry(name.text.clone()).or_default();
        if let Some((_, _, first)) = sets.iter().find(|(other, ..)| *other == set) {
            let message = format!("the element `{}` stands here twice", name.text);
            reports.diagnostics.push(Diagnostic::error(name.span, message).label(*first, "first here"));
            return;
        }
        reports.names.push((name.span, sets.first().map_or(name.span, |first| first.2), Role::Element));
        sets.push((set, at, name.span));
    }

    pub(super) fn declare_relation(&mut self, relation: &Relation, reports: &mut Reports) {
        let sets = relation.sets.iter().map(|name| self.set_of(name, reports)).collect::<Option<Vec<usize>>>();
        if let Some(sets) = sets
            && self.is_new(&relation.name, reports)
        {
            self.add_relation(&relation.name, sets, relation.value.as_ref().map(|value| value.span), reports);
        }
    }

    pub(super) fn add_relation(&mut self, name: &Name, sets: Vec<usize>, value: Option<Span>, reports: &mut Reports) {
        if sets.len() > MAX_PLACES {
            let message = format!("a relation has at most {MAX_PLACES} places, and `{}` {}", name.text, sets.len());
            reports.error(name.span, message);
            return;
        }
        self.relation_names.insert(name.text.clone(), self.relations.len());
        self.relations.push(RelationInfo { name: name.clone(), sets, value });
        reports.names.push((name.span, name.span, Role::Relation));
    }

    fn set_of(&self, name: &Name, reports: &mut Reports) -> Option<usize> {
        let Some(set) = self.set(&name.text) else {
            if !name.text.is_empty() {
                let diagnostic = Diagnostic::error(name.span, format!("there is no entity `{}`", name.text));
                let near = nearest(&name.text, self.set_names.keys().map(|name| &**name));
                reports.diagnostics.push(diagnostic.hint(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("`entity {} = {{…}}` declares it, above", name.text),
                }));
            }
            return None;
        };
        reports.names.push((name.span, self.sets.get(set)?.name.span, Role::Entity));
        Some(set)
    }

    /// Whether nothing has this name yet.
    fn is_new(&self, name: &Name, reports: &mut Reports) -> bool {
        let of_set = self.set(&name.text).and_then(|set| self.sets.get(set)).map(|set| set.name.span);
        let of_relation = self.relation(&name.text).and_then(|at| self.relations.get(at));
        if let Some(first) = of_set.or(of_relation.map(|relation| relation.name.span)) {
            let message = format!("`{}` is declared twice", name.text);
            reports.diagnostics.push(Diagnostic::error(name.span, message).label(first, "first here"));
            return false;
        }
        !name.text.is_empty()
    }

    /// The name of a relation or an entity that stands before terms is unknown.
    pub(super) fn unknown_relation(&self, name: &Name, reports: &mut Reports) {
        if name.text.is_empty() {
            return;
        }
        let known = self.relation_names.keys().chain(self.set_names.keys()).map(|name| &**name);
        let diagnostic = Diagnostic::error(name.span, format!("there is no relation `{}`", name.text));
        reports.diagnostics.push(diagnostic.hint(match nearest(&name.text, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`relation {}(…)` declares it, with an entity for each place", name.text),
        }));
    }
}
