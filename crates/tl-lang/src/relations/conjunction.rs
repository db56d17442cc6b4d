//! A body with its names resolved: what each variable ranges over, and what stands at each place.

use std::sync::Arc;

use tl_syntax::ast::{Atom, BinaryOperator, Expr, ExprKind, Literal, Name, Term, TermKind};
use tl_syntax::{Code, Diagnostic, Span};

use super::declared::{Relations, Reports, Role, SetSize};
use super::tree;
use crate::names::nearest;

/// The most conditions of a body.
const MAX_CONDITIONS: usize = 64;

/// A variable of a body.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) name: Arc<str>,
    /// Where it first stands.
    pub(super) span: Span,
    pub(super) set: usize,
    /// How often it stands in the body.
    count: usize,
}

/// What stands at a place.
#[derive(Clone)]
pub(super) enum Place {
    /// The index of a variable.
    Variable(usize),
    /// An element's number.
    Element(Expr),
    Any,
}

/// A resolved condition.
pub(super) enum Condition {
    Holds {
        relation: usize,
        name: Name,
        places: Vec<Place>,
        is_negated: bool,
    },
    /// An entity's name as a relation of one place.
    Member {
        set: usize,
        place: Place,
        is_negated: bool,
    },
    Comparison {
        operator: BinaryOperator,
        set: usize,
        left: Place,
        right: Place,
    },
}

/// A resolved body.
#[derive(Default)]
pub(super) struct Conjunction {
    pub(super) variables: Vec<Variable>,
    pub(super) conditions: Vec<Condition>,
}

impl Conjunction {
    fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|variable| &*variable.name == name)
    }
}

impl Relations {
    /// Resolves a body. What is wrong is reported; `None` then.
    pub(super) fn conjunction(&self, body: &[Literal], reports: &mut Reports) -> Option<Conjunction> {
        let before = reports.diagnostics.len();
        let mut found = Conjunction::default();
        if let Some(beyond) = body.get(MAX_CONDITIONS) {
            let (Literal::Atom { atom: Atom { span, .. }, .. } | Literal::Comparison { left: Term { span, .. }, .. }) =
                beyond;
            reports.error(*span, format!("a body has at most {MAX_CONDITIONS} conditions"));
            return None;
        }
        // What binds variables comes first, so that the order in which conditions are written does not matter.
        for wants_negated in [false, true] {
            for literal in body {
                if let Literal::Atom { atom, is_negated } = literal
                    && *is_negated == wants_negated
                {
                    self.atom(&mut found, atom, *is_negated, reports);
                }
            }
        }
        for literal in body {
            if let Literal::Comparison { operator, left, right } = literal {
                self.comparison(&mut found, *operator, left, right, reports);
            }
        }
        (reports.diagnostics.len() == before).then_some(found)
    }

    /// A variable that stands once, with almost the name of an element, may be meant to be that element.
    pub(super) fn warn_of_near_elements(&self, found: &Conjunction, head: &[(Place, usize)], reports: &mut Reports) {
        for (index, variable) in found.variables.iter().enumerate() {
            let is_in_head = head.iter().any(|(place, _)| matches!(place, Place::Variable(own) if *own == index));
            if is_in_head || variable.count > 1 || variable.name.len() < 3 {
                continue;
            }
            let Some(SetSize::Named(names)) = self.sets.get(variable.set).map(|set| &set.size) else { continue };
            let Some(near) = nearest(&variable.name, names.iter().map(|name| &**name)) else { continue };
            let message = format!("`{}` is no element, and a variable here", variable.name);
            let diagnostic = Diagnostic::warning(variable.span, message).code(Code::NearElement);
            let hint = format!("did you mean the element `{near}`? A variable may have another name, or be `_`");
            reports.diagnostics.push(diagnostic.hint(hint));
        }
    }

    fn atom(&self, found: &mut Conjunction, atom: &Atom, is_negated: bool, reports: &mut Reports) {
        let name = atom.name.clone();
        if let Some(relation) = self.relation(&name.text)
            && let Some(info) = self.relations.get(relation)
        {
            reports.names.push((name.span, info.name.span, Role::Relation));
            if !self.has_terms(atom, info.sets.len(), reports) {
                return;
            }
            let terms = atom.terms.iter().zip(&info.sets);
            let places = terms.map(|(term, set)| self.place(found, term, *set, is_negated, &name, reports));
            if let Some(places) = places.collect::<Option<Vec<Place>>>() {
                found.conditions.push(Condition::Holds { relation, name, places, is_negated });
            }
            return;
        }
        let Some(set) = self.set(&name.text) else { return self.unknown_relation(&name, reports) };
        reports.names.push((name.span, self.sets.get(set).map_or(name.span, |set| set.name.span), Role::Entity));
        if self.has_terms(atom, 1, reports)
            && let [term] = &*atom.terms
            && let Some(place) = self.place(found, term, set, is_negated, &name, reports)
        {
            found.conditions.push(Condition::Member { set, place, is_negated });
        }
    }

    /// Whether a relation has as many places as terms are written.
    pub(super) fn has_terms(&self, atom: &Atom, count: usize, reports: &mut Reports) -> bool {
        if atom.terms.len() == count {
            return true;
        }
        let places = if count == 1 { "1 place".to_owned() } else { format!("{count} places") };
        let message = format!("`{}` has {places}, and {} stand here", atom.name.text, atom.terms.len());
        reports.error(atom.span, message);
        false
    }

    fn place(
        &self,
        found: &mut Conjunction,
        term: &Term,
        set: usize,
        must_be_bound: bool,
        relation: &Name,
        reports: &mut Reports,
    ) -> Option<Place> {
        let name = match &term.kind {
            TermKind::Any => return Some(Place::Any),
            TermKind::Value(value) => return self.numbered(value, set, reports),
            TermKind::Name(name) => name,
        };
        if let Some(place) = self.named_element(name, term.span, set, reports) {
            return place;
        }
        let Some(index) = found.variable(name) else {
            if must_be_bound {
                self.unbound(name, term.span, "is used in a negation", reports);
                return None;
            }
            reports.names.push((term.span, term.span, Role::Variable));
            found.variables.push(Variable { name: name.clone(), span: term.span, set, count: 1 });
            return Some(Place::Variable(found.variables.len() - 1));
        };
        let variable = found.variables.get_mut(index)?;
        variable.count += 1;
        reports.names.push((term.span, variable.span, Role::Variable));
        if variable.set != set {
            let (first, second) = (self.set_name(variable.set), self.set_name(set));
            let message = format!("`{name}` is a {first}, and `{}` has a {second} at this place", relation.text);
            let label = format!("a {first} here");
            reports.diagnostics.push(Diagnostic::error(term.span, message).label(variable.span, &label));
            return None;
        }
        Some(Place::Variable(index))
    }

    /// A name that is an element's; `None`: it is a variable's.
    fn named_element(&self, name: &str, span: Span, set: usize, reports: &mut Reports) -> Option<Option<Place>> {
        let elements = self.element(name);
        let first = elements.first()?;
        reports.names.push((span, first.2, Role::Element));
        if let Some((_, at, _)) = elements.iter().find(|(own, ..)| *own == set) {
            return Some(Some(Place::Element(tree::int(*at, span))));
        }
        let message = format!(
            "`{name}` is an element of {}, and this place takes a {}",
            self.set_name(first.0),
            self.set_name(set)
        );
        reports.error(span, message);
        Some(None)
    }

    /// An element by its number.
    fn numbered(&self, value: &Expr, set: usize, reports: &mut Reports) -> Option<Place> {
        let own = self.sets.get(set)?;
        match (&own.size, &value.kind) {
            (SetSize::Named(names), _) => {
                let message = format!("the elements of {} are names, and this is none", own.name.text);
                let diagnostic = Diagnostic::error(value.span, message);
                reports.diagnostics.push(match names.first() {
                    Some(first) => diagnostic.hint(format!("its first element is `{first}`")),
                    None => diagnostic,
                });
                None
            }
            (SetSize::Numbered(Some(size)), ExprKind::Int(n)) if n >= size => {
                let message = format!("{n} is no element of {}, which has {size}", own.name.text);
                reports.diagnostics.push(Diagnostic::error(value.span, message).hint("they are numbered from 0"));
                None
            }
            _ => Some(Place::Element(value.clone())),
        }
    }

    fn unbound(&self, name: &str, span: Span, what: &str, reports: &mut Reports) {
        let message = format!("`{name}` {what}, and no condition says what it may be");
        let near = nearest(name, self.element_names());
        reports.diagnostics.push(Diagnostic::error(span, message).hint(match near {
            Some(near) if name.len() > 2 => format!("did you mean the element `{near}`?"),
            _ => "it must stand in a condition without `not`; an entity's name is one, as in `Person(x)`".to_owned(),
        }));
    }

    fn comparison(
        &self,
        found: &mut Conjunction,
        operator: BinaryOperator,
        left: &Term,
        right: &Term,
        reports: &mut Reports,
    ) {
        let span = left.span.to(right.span);
        let variable = |term: &Term| match &term.kind {
            TermKind::Name(name) => found.variable(name),
            _ => None,
        };
        let Some(first) = variable(left).or(variable(right)) else {
            for term in [left, right] {
                if let TermKind::Name(name) = &term.kind
                    && self.element(name).is_empty()
                {
                    return self.unbound(name, term.span, "is compared", reports);
                }
            }
            return reports.error(span, "a comparison needs a variable on one side".to_owned());
        };
        let Some(set) = found.variables.get(first).map(|variable| variable.set) else { return };
        let is_order = !matches!(operator, BinaryOperator::Equal | BinaryOperator::NotEqual);
        if is_order && self.sets.get(set).is_some_and(|set| set.is_named()) {
            let message = format!("the elements of {} have names, and no order", self.set_name(set));
            reports.diagnostics.push(Diagnostic::error(span, message).hint("`==` and `!=` compare them"));
            return;
        }
        let mut side = |term: &Term| match &term.kind {
            TermKind::Any => {
                reports.error(term.span, "`_` is any element, and cannot be compared".to_owned());
                None
            }
            TermKind::Name(name) if found.variable(name).is_none() && self.element(name).is_empty() => {
                self.unbound(name, term.span, "is compared", reports);
                None
            }
            _ => {
                let relation = Name { text: operator.symbol().into(), span };
                self.place(found, term, set, true, &relation, reports)
            }
        };
        if let (Some(left), Some(right)) = (side(left), side(right)) {
            found.conditions.push(Condition::Comparison { operator, set, left, right });
        }
    }

    /// The places of a rule's head with their sets, whose variables the body must bind.
    pub(super) fn head(&self, head: &Atom, body: &Conjunction, reports: &mut Reports) -> Option<Vec<(Place, usize)>> {
        let info = self.relations.get(self.relation(&head.name.text)?)?;
        reports.names.push((head.name.span, info.name.span, Role::Relation));
        if !self.has_terms(head, info.sets.len(), reports) {
            return None;
        }
        let mut known = Conjunction { variables: body.variables.clone(), conditions: Vec::new() };
        let mut place = |(term, set): (&Term, &usize)| match &term.kind {
            TermKind::Any => {
                let diagnostic = Diagnostic::error(term.span, "`_` stands for any element, and a head must say which");
                reports.diagnostics.push(diagnostic.hint("an entity's name is a condition, as in `Person(x)`"));
                None
            }
            TermKind::Name(name) if known.variable(name).is_none() && self.element(name).is_empty() => {
                self.unbound(name, term.span, "stands in the head", reports);
                None
            }
            _ => self.place(&mut known, term, *set, true, &head.name, reports),
        };
        let places: Vec<Option<Place>> = head.terms.iter().zip(&info.sets).map(&mut place).collect();
        places.into_iter().zip(&info.sets).map(|(place, set)| Some((place?, *set))).collect()
    }

    /// The set that a rule gives a place of a head that is not declared.
    pub(super) fn inferred_set(&self, term: &Term, body: &Conjunction) -> Option<usize> {
        let TermKind::Name(name) = &term.kind else { return None };
        match self.element(name) {
            [] => body.variables.get(body.variable(name)?).map(|variable| variable.set),
            [(set, ..)] => Some(*set),
            _ => None,
        }
    }

    /// The places of a fact, which are elements.
    pub(super) fn fact(&self, atom: &Atom, reports: &mut Reports) -> Option<(usize, Vec<Expr>)> {
        let Some(relation) = self.relation(&atom.name.text) else {
            self.unknown_relation(&atom.name, reports);
            return None;
        };
        let info = self.relations.get(relation)?;
        reports.names.push((atom.name.span, info.name.span, Role::Relation));
        if !self.has_terms(atom, info.sets.len(), reports) {
            return None;
        }
        let mut element = |(term, set): (&Term, &usize)| {
            let mut none = Conjunction::default();
            match self.place(&mut none, term, *set, false, &atom.name, reports)? {
                Place::Element(element) => Some(element),
                _ => {
                    self.not_an_element(term, *set, reports);
                    None
                }
            }
        };
        let elements: Vec<Option<Expr>> = atom.terms.iter().zip(&info.sets).map(&mut element).collect();
        Some((relation, elements.into_iter().collect::<Option<Vec<Expr>>>()?))
    }

    fn not_an_element(&self, term: &Term, set: usize, reports: &mut Reports) {
        let own = self.set_name(set);
        let diagnostic = match &term.kind {
            TermKind::Name(name) => {
                let diagnostic = Diagnostic::error(term.span, format!("`{name}` is no element of {own}"));
                match nearest(name, self.element_names()) {
                    Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                    None => diagnostic.hint("a fact has no variables"),
                }
            }
            _ => Diagnostic::error(term.span, format!("a fact says which {own} it is about")),
        };
        reports.diagnostics.push(diagnostic);
    }

    fn element_names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().flat_map(|set| {
            match &set.size {
                SetSize::Named(names) => names.as_slice(),
                SetSize::Numbered(_) => &[],
            }
            .iter()
            .map(|name| &**name)
        })
    }
}
