//! The statements that a file's relational items become. An entity's computed size and a relation's first tensor are
//! computed where they stand, all else behind the last of these items.

use std::collections::{HashMap, VecDeque};

use tl_syntax::ast::{
    Atom, BinaryOperator, Elements, Expr, ExprKind, Item, Literal, Name, Rule, Statement, StatementKind, Type, TypeKind,
};
use tl_syntax::{Diagnostic, Span};

use super::conjunction::{Condition, Conjunction, Place};
use super::declared::{Relations, Reports, SetSize};
use super::soft::soft_rule;
use super::strata::{Edge, check_negations, components};
use super::{einsum, tree};

/// A resolved rule.
struct Resolved<'a> {
    rule: &'a Rule,
    head: usize,
    places: Vec<(Place, usize)>,
    body: Conjunction,
}

/// What the items of a file declare, and the items with statements added. Of the items before `first_new`, of a session's
/// earlier entries, nothing is computed unless a relational item follows.
pub(crate) fn lower(items: &[Item], first_new: usize, reports: &mut Reports) -> (Relations, Vec<Item>) {
    let mut relations = Relations::default();
    let is_relational = |item: &Item| {
        matches!(item, Item::Entity(_) | Item::Relation(_) | Item::Fact(_) | Item::Rule(_) | Item::SoftRule(_))
    };
    let Some(last) = items.iter().rposition(is_relational) else { return (relations, items.to_vec()) };
    for item in items {
        match item {
            Item::Entity(entity) => relations.declare_entity(entity, reports),
            Item::Relation(relation) => relations.declare_relation(relation, reports),
            _ => {}
        }
    }
    check_names(&relations, items, reports);
    let mut lowering = Lowering { relations, reports, statements: Vec::new() };
    lowering.declare_heads(items);
    lowering.compute(items);
    let Lowering { mut relations, statements, .. } = lowering;
    relations.end = items.get(last).map(span_of);
    let mut lowered = Vec::with_capacity(items.len() + statements.len());
    for (at, item) in items.iter().enumerate() {
        if at >= first_new {
            lowered.extend(computed_here(&relations, item).map(Item::Statement));
        }
        lowered.push(item.clone());
        if at == last && last >= first_new {
            lowered.extend(statements.iter().cloned().map(Item::Statement));
        }
    }
    (relations, lowered)
}

fn span_of(item: &Item) -> Span {
    match item {
        Item::Entity(entity) => entity.span,
        Item::Relation(relation) => relation.span,
        Item::Fact(fact) => fact.span,
        Item::Rule(rule) => rule.span,
        Item::SoftRule(rule) => rule.span,
        _ => Span::default(),
    }
}

/// What is computed where an item stands.
fn computed_here(relations: &Relations, item: &Item) -> Option<Statement> {
    match item {
        Item::Entity(entity) => {
            let set = relations.sets.get(relations.set(&entity.name.text)?)?;
            match (&set.size, &entity.elements) {
                (SetSize::Numbered(None), Elements::Numbered(size)) => {
                    let ty = Some(Type { kind: TypeKind::Int, span: size.span });
                    let kind = StatementKind::Let { name: set.size_variable(), ty, value: size.clone() };
                    Some(Statement { kind, span: entity.span })
                }
                _ => None,
            }
        }
        Item::Relation(relation) => {
            let info = relations.relations.get(relations.relation(&relation.name.text)?)?;
            Some(tree::let_statement(info.value_variable(), relation.value.clone()?))
        }
        _ => None,
    }
}

/// A relation's tensor has the relation's name, which no other variable of the top level may have.
fn check_names(relations: &Relations, items: &[Item], reports: &mut Reports) {
    for item in items {
        let name = match item {
            Item::Function(function) => &function.name,
            Item::Struct(written) => &written.name,
            Item::Statement(Statement { kind: StatementKind::Let { name, .. }, .. }) => name,
            Item::Statement(Statement { kind: StatementKind::Tensor(tensor), .. }) => &tensor.name,
            _ => continue,
        };
        let of_set = relations.set(&name.text).and_then(|set| relations.sets.get(set)).map(|set| set.name.span);
        let of_relation = relations.relation(&name.text).and_then(|at| relations.relations.get(at));
        if let Some(first) = of_set.or(of_relation.map(|relation| relation.name.span)) {
            let message = format!("`{}` is declared twice", name.text);
            reports.diagnostics.push(Diagnostic::error(name.span, message).label(first, "first here"));
        }
    }
}

struct Lowering<'r> {
    relations: Relations,
    reports: &'r mut Reports,
    statements: Vec<Statement>,
}

impl Lowering<'_> {
    /// Declares the relations that only rules name, with the sets that a rule's body gives.
    fn declare_heads(&mut self, items: &[Item]) {
        let mut open: VecDeque<&Rule> = rules(items).filter(|rule| self.is_undeclared(&rule.head)).collect();
        // A rule is looked at again when a relation of its body is declared.
        let mut readers: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in &open {
            for literal in &rule.body {
                if let Literal::Atom { atom, .. } = literal {
                    readers.entry(&atom.name.text).or_default().push(rule);
                }
            }
        }
        while let Some(rule) = open.pop_front() {
            if self.is_undeclared(&rule.head)
                && let Some(sets) = self.inferred(rule)
            {
                self.relations.add_relation(&rule.head.name, sets, None, self.reports);
                open.extend(readers.remove(&*rule.head.name.text).unwrap_or_default());
            }
        }
    }

    fn is_undeclared(&self, head: &Atom) -> bool {
        let name = &*head.name.text;
        !name.is_empty() && self.relations.relation(name).is_none()
    }

    fn inferred(&self, rule: &Rule) -> Option<Vec<usize>> {
        if self.relations.is_entity(&rule.head.name.text) {
            return None;
        }
        // Conditions that bind variables, of relations that are known by now.
        let is_known = |literal: &&Literal| match literal {
            Literal::Atom { atom, is_negated: false } => {
                self.relations.relation(&atom.name.text).or(self.relations.set(&atom.name.text)).is_some()
            }
            _ => false,
        };
        let known: Vec<Literal> = rule.body.iter().filter(is_known).cloned().collect();
        let body = self.relations.conjunction(&known, &mut Reports::default())?;
        rule.head.terms.iter().map(|term| self.relations.inferred_set(term, &body)).collect()
    }

    fn compute(&mut self, items: &[Item]) {
        let before = self.reports.diagnostics.len();
        let facts = self.facts(items);
        let rules = self.resolved(items);
        let edges: Vec<Edge> = rules.iter().flat_map(edges).collect();
        let groups = components(self.relations.relations.len(), &edges);
        check_negations(&self.relations, &groups, &edges, self.reports);
        if !self.reports.diagnostics.iter().skip(before).any(Diagnostic::is_error) {
            let mut rules_of: HashMap<usize, Vec<&Resolved<'_>>> = HashMap::new();
            rules.iter().for_each(|rule| rules_of.entry(rule.head).or_default().push(rule));
            self.reserve(&groups, &rules_of);
            groups.iter().for_each(|group| self.group(group, &facts, &rules_of));
        } else {
            let names = self.relations.relations.iter().map(|info| &info.name);
            self.statements.extend(names.map(unknown_value));
        }
        for item in items {
            if let Item::SoftRule(rule) = item {
                let statement = soft_rule(&self.relations, rule, self.reports);
                self.statements.push(statement.unwrap_or_else(|| unknown_value(&rule.name)));
            }
        }
    }

    /// The facts of each relation: the elements at its places.
    fn facts(&mut self, items: &[Item]) -> HashMap<usize, Vec<Vec<Expr>>> {
        let mut facts: HashMap<usize, Vec<Vec<Expr>>> = HashMap::new();
        for item in items {
            if let Item::Fact(fact) = item
                && let Some((relation, elements)) = self.relations.fact(&fact.atom, self.reports)
            {
                facts.entry(relation).or_default().push(elements);
            }
        }
        facts
    }

    fn resolved<'a>(&mut self, items: &'a [Item]) -> Vec<Resolved<'a>> {
        let mut resolved = Vec::new();
        for rule in rules(items) {
            let body = self.relations.conjunction(&rule.body, self.reports);
            let Some(head) = self.relations.relation(&rule.head.name.text) else {
                self.undeclared_head(rule, body.is_some());
                continue;
            };
            let Some(body) = body else { continue };
            if let Some(places) = self.relations.head(&rule.head, &body, self.reports) {
                self.relations.warn_of_near_elements(&body, &places, self.reports);
                resolved.push(Resolved { rule, head, places, body });
            }
        }
        resolved
    }

    fn undeclared_head(&mut self, rule: &Rule, is_body_right: bool) {
        let name = &rule.head.name;
        if self.relations.is_entity(&name.text) {
            let message = format!("`{}` is an entity, whose elements stand where it is declared", name.text);
            self.reports.error(name.span, message);
        } else if is_body_right && !name.text.is_empty() {
            let message = format!("the body does not say which entities the places of `{}` have", name.text);
            let hint = format!("`relation {}(…)` declares it", name.text);
            self.reports.diagnostics.push(Diagnostic::error(name.span, message).hint(hint));
        }
    }

    fn info(&self, relation: usize) -> Option<(Name, Vec<Expr>)> {
        let info = self.relations.relations.get(relation)?;
        let size = |set: &usize| Some(self.relations.sets.get(*set)?.size(info.name.span));
        Some((info.name.clone(), info.sets.iter().map(size).collect::<Option<Vec<Expr>>>()?))
    }

    /// Reserves the buffers of the fixpoints before they begin: of each shape, one for each relation, which it keeps, and in the
    /// largest fixpoint two more for each of its relations, in which what a round finds and what is known change places. A
    /// relation of which a round finds something in several ways needs another two, to put it together.
    fn reserve(&mut self, groups: &[Vec<usize>], rules_of: &HashMap<usize, Vec<&Resolved<'_>>>) {
        // By the sets of the places, in the order of the groups.
        let mut shapes: Vec<(Vec<usize>, usize, usize)> = Vec::new();
        for group in groups {
            let mut of_group: Vec<(Vec<usize>, usize)> = Vec::new();
            for relation in group {
                let Some(info) = self.relations.relations.get(*relation) else { continue };
                match shapes.iter_mut().find(|(sets, ..)| *sets == info.sets) {
                    Some((_, kept, _)) => *kept += 1,
                    None => shapes.push((info.sets.clone(), 1, 0)),
                }
                let ways: usize =
                    rules_of.get(relation).into_iter().flatten().map(|rule| news_of(rule, group).len()).sum();
                let more = match ways {
                    0 => continue,
                    1 => 2,
                    _ => 4,
                };
                match of_group.iter_mut().find(|(sets, _)| *sets == info.sets) {
                    Some((_, known)) => *known = (*known + 2).max(more),
                    None => of_group.push((info.sets.clone(), more)),
                }
            }
            for (sets, more) in of_group {
                if let Some((_, _, most)) = shapes.iter_mut().find(|(known, ..)| *known == sets) {
                    *most = more.max(*most);
                }
            }
        }
        for (at, (sets, kept, more)) in shapes.into_iter().filter(|(_, _, more)| *more > 0).enumerate() {
            let first = self.relations.relations.iter().position(|info| info.sets == sets);
            let Some((name, shape)) = first.and_then(|first| self.info(first)) else { continue };
            if at == 0 {
                // Whether anything is new is a tensor of one element.
                self.statements.push(reserve_statement(Vec::new(), 1, name.span));
            }
            self.statements.push(reserve_statement(shape, kept + more, name.span));
        }
    }

    /// Computes relations that depend on each other.
    fn group(
        &mut self,
        group: &[usize],
        facts: &HashMap<usize, Vec<Vec<Expr>>>,
        rules_of: &HashMap<usize, Vec<&Resolved<'_>>>,
    ) {
        let rules = |relation: &usize| rules_of.get(relation).map_or(&[][..], Vec::as_slice);
        for relation in group {
            self.begin(*relation, facts.get(relation), rules(relation), group);
        }
        let recursive: Vec<usize> = group
            .iter()
            .copied()
            .filter(|relation| rules(relation).iter().any(|rule| !news_of(rule, group).is_empty()))
            .collect();
        if recursive.is_empty() {
            return;
        }
        let variables = |lowering: &Self, relation: usize| {
            let info = lowering.relations.relations.get(relation)?;
            Some((info.name.clone(), info.news_variable(), info.found_variable()))
        };
        let Some(variables) = recursive.iter().map(|at| variables(self, *at)).collect::<Option<Vec<_>>>() else {
            return;
        };
        for (known, news, _) in &variables {
            self.statements.push(tree::let_statement(news.clone(), tree::variable(known)));
        }
        let mut round = Vec::new();
        for (relation, (_, _, found)) in recursive.iter().zip(&variables) {
            self.found(group, rules(relation), found, &mut round);
        }
        for (known, news, found) in &variables {
            let is_new = tree::binary(BinaryOperator::Greater, tree::variable(found), tree::variable(known));
            round.push(tree::assign(news.clone(), is_new));
            let both = tree::binary(BinaryOperator::Or, tree::variable(known), tree::variable(news));
            round.push(tree::assign(known.clone(), both));
        }
        let any = |(known, news, _): &(Name, Name, Name)| {
            let any = tree::call("any", vec![tree::variable(news)], known.span);
            tree::call("item", vec![any], known.span)
        };
        if let Some(goes_on) = tree::joined(BinaryOperator::Or, variables.iter().map(any).collect()) {
            self.statements.push(tree::while_loop(goes_on, round));
        }
    }

    /// A relation's facts, and what its rules give that do not read the group.
    fn begin(&mut self, relation: usize, facts: Option<&Vec<Vec<Expr>>>, rules: &[&Resolved<'_>], group: &[usize]) {
        let Some((name, shape)) = self.info(relation) else { return };
        let info = self.relations.relations.get(relation);
        let value = info.and_then(|info| Some((info.value?, tree::variable(&info.value_variable()))));
        let mut bases = Vec::new();
        for rule in rules.iter().filter(|rule| news_of(rule, group).is_empty()) {
            bases.extend(self.value(rule, None));
        }
        let mut bases = bases.into_iter();
        let first = if facts.is_none() && value.is_none() { bases.next() } else { None };
        let first = first.unwrap_or_else(|| {
            let span = value.as_ref().map_or(name.span, |(span, _)| *span);
            let places = facts.into_iter().flatten().map(|place| tree::list(place.clone(), span)).collect();
            let arguments = [tree::list(shape, span), tree::list(places, span)];
            let arguments = arguments.into_iter().chain(value.map(|(_, variable)| variable));
            tree::call("mask", arguments.collect(), span)
        });
        self.statements.push(tree::let_statement(name.clone(), first));
        for base in bases {
            let both = tree::binary(BinaryOperator::Or, tree::variable(&name), base);
            self.statements.push(tree::assign(name.clone(), both));
        }
    }

    /// Statements that find what the rules of a relation give of the news.
    fn found(&mut self, group: &[usize], rules: &[&Resolved<'_>], found: &Name, round: &mut Vec<Statement>) {
        let mut is_first = true;
        for rule in rules {
            for news in news_of(rule, group) {
                let Some(value) = self.value(rule, Some(news)) else { continue };
                round.push(if std::mem::take(&mut is_first) {
                    tree::let_statement(found.clone(), value)
                } else {
                    tree::assign(found.clone(), tree::binary(BinaryOperator::Or, tree::variable(found), value))
                });
            }
        }
    }

    fn value(&mut self, rule: &Resolved<'_>, news: Option<usize>) -> Option<Expr> {
        einsum::value(&self.relations, &rule.body, &rule.places, news, rule.rule.span, self.reports)
    }
}

fn reserve_statement(shape: Vec<Expr>, count: usize, span: Span) -> Statement {
    let dtype = tree::expr(ExprKind::Name("bool".into()), span);
    let arguments = vec![tree::list(shape, span), tree::int(count, span), dtype];
    Statement { kind: StatementKind::Expr(tree::call("buffer_reserve", arguments, span)), span }
}

/// A variable whose value had an error, which is reported once.
fn unknown_value(name: &Name) -> Statement {
    tree::let_statement(name.clone(), tree::expr(ExprKind::Error, name.span))
}

fn rules(items: &[Item]) -> impl Iterator<Item = &Rule> {
    items.iter().filter_map(|item| match item {
        Item::Rule(rule) => Some(rule),
        _ => None,
    })
}

fn edges<'a>(rule: &'a Resolved<'_>) -> impl Iterator<Item = Edge> + 'a {
    rule.body.conditions.iter().filter_map(|condition| match condition {
        Condition::Holds { relation, is_negated, name, .. } => {
            Some(Edge { head: rule.head, body: *relation, is_negated: *is_negated, span: name.span })
        }
        _ => None,
    })
}

/// The conditions of a rule that read a group.
fn news_of(rule: &Resolved<'_>, group: &[usize]) -> Vec<usize> {
    let is_of_group = |condition: &Condition| match condition {
        Condition::Holds { relation, .. } => group.binary_search(relation).is_ok(),
        _ => false,
    };
    (0..rule.body.conditions.len()).filter(|at| rule.body.conditions.get(*at).is_some_and(is_of_group)).collect()
}
