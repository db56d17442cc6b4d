//! A resolved body as one expression: the sum of products (an or of ands) over the variables that the result lacks.

use tl_syntax::Span;
use tl_syntax::ast::{BinaryOperator, Expr};

use super::conjunction::{Condition, Conjunction, Place};
use super::declared::{Relations, Reports};
use super::tree;

/// The letters that `einsum` knows.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The letters of a specification. A variable of one letter keeps it, so that messages show the program's own.
pub(super) struct Letters {
    free: Vec<char>,
    /// Set when there were too few.
    pub(super) are_exhausted: bool,
}

impl Letters {
    /// A letter for each name.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> (Letters, Vec<char>) {
        let own = |name: &str| match *name.chars().collect::<Vec<char>>() {
            [letter] if letter.is_ascii_alphabetic() => Some(letter),
            _ => None,
        };
        let taken: Vec<char> = names.clone().filter_map(own).collect();
        let free = LETTERS.chars().rev().filter(|letter| !taken.contains(letter)).collect();
        let mut letters = Letters { free, are_exhausted: false };
        let of_names = names.map(|name| own(name).unwrap_or_else(|| letters.next())).collect();
        (letters, of_names)
    }

    fn next(&mut self) -> char {
        self.are_exhausted |= self.free.is_empty();
        self.free.pop().unwrap_or('a')
    }
}

/// A Boolean tensor with a letter for each dimension.
struct Operand {
    tensor: Expr,
    letters: String,
}

struct Product<'a> {
    relations: &'a Relations,
    letters: Letters,
    /// Those of the variables.
    of_variables: Vec<char>,
    operands: Vec<Operand>,
    span: Span,
}

/// Where a body holds: a dimension for each place of the result, which comes with its set. The condition with the index
/// `news` is of what the last round has found alone. What is wrong is reported.
pub(super) fn value(
    relations: &Relations,
    body: &Conjunction,
    result: &[(Place, usize)],
    news: Option<usize>,
    span: Span,
    reports: &mut Reports,
) -> Option<Expr> {
    let (letters, of_variables) = Letters::of(body.variables.iter().map(|variable| &*variable.name));
    let mut product = Product { relations, letters, of_variables, operands: Vec::new(), span };
    for (index, condition) in body.conditions.iter().enumerate() {
        product.condition(condition, news == Some(index));
    }
    product.members(body);
    let mut letters = String::new();
    for (place, set) in result {
        letters.push(product.result_letter(place, *set, &letters));
    }
    if product.letters.are_exhausted {
        reports.error(span, format!("more than {} variables stand here", LETTERS.len()));
        return None;
    }
    Some(einsum(product.merged(), &letters, span))
}

impl Product<'_> {
    fn push(&mut self, tensor: Expr, letters: impl Into<String>) {
        self.operands.push(Operand { tensor, letters: letters.into() });
    }

    fn letter(&mut self, variable: usize) -> char {
        self.of_variables.get(variable).copied().unwrap_or('a')
    }

    /// The numbers of a set's elements.
    fn numbers(&self, set: usize) -> Expr {
        let size = self.relations.sets.get(set).map_or_else(|| tree::int(0, self.span), |set| set.size(self.span));
        tree::call("arange", vec![tree::int(0, self.span), size], self.span)
    }

    /// Where all elements of a set are: everywhere.
    fn everywhere(&self, set: usize) -> Expr {
        tree::binary(BinaryOperator::GreaterEqual, self.numbers(set), tree::int(0, self.span))
    }

    fn condition(&mut self, condition: &Condition, is_of_news: bool) {
        match condition {
            Condition::Holds { relation, name, places, is_negated } => {
                let tensor = match self.relations.relations.get(*relation) {
                    Some(info) if is_of_news => tree::variable(&info.news_variable()),
                    _ => tree::variable(name),
                };
                self.holds(tensor, places, *is_negated);
            }
            Condition::Member { set, place: Place::Element(element), is_negated: false } => {
                let tensor = tree::indexed(self.everywhere(*set), vec![Some(element.clone())]);
                self.push(tensor, "");
            }
            Condition::Member { set, place, is_negated: true } => {
                let tensor = self.everywhere(*set);
                self.holds(tensor, std::slice::from_ref(place), true);
            }
            Condition::Member { .. } => {}
            Condition::Comparison { operator, set, left, right } => {
                self.comparison(*operator, *set, left, right);
            }
        }
    }

    /// A tensor at some places, or where it does not hold there.
    fn holds(&mut self, tensor: Expr, places: &[Place], is_negated: bool) {
        let (mut indices, mut letters, mut kept) = (Vec::new(), String::new(), String::new());
        for place in places {
            match place {
                Place::Element(element) => indices.push(Some(element.clone())),
                Place::Variable(variable) => {
                    indices.push(None);
                    let letter = self.letter(*variable);
                    letters.push(letter);
                    if !kept.contains(letter) {
                        kept.push(letter);
                    }
                }
                Place::Any => {
                    indices.push(None);
                    letters.push(self.letters.next());
                }
            }
        }
        let tensor = tree::indexed(tensor, indices);
        if !is_negated {
            return self.push(tensor, letters);
        }
        // Not for any element: what `_` stands for is summed over before. A variable that stands twice is a diagonal.
        if !places.iter().any(|place| matches!(place, Place::Any)) {
            return self.push(tree::not(tensor), letters);
        }
        let projected = einsum(vec![Operand { tensor, letters }], &kept, self.span);
        self.push(tree::not(projected), kept);
    }

    fn comparison(&mut self, operator: BinaryOperator, set: usize, left: &Place, right: &Place) {
        let (tensor, letters) = match (left, right) {
            (Place::Variable(left), Place::Variable(right)) => {
                let column = tree::call("unsqueeze", vec![self.numbers(set), tree::int(1, self.span)], self.span);
                let letters = [self.letter(*left), self.letter(*right)].iter().collect();
                (tree::binary(operator, column, self.numbers(set)), letters)
            }
            (Place::Variable(variable), Place::Element(element)) => {
                (tree::binary(operator, self.numbers(set), element.clone()), String::from(self.letter(*variable)))
            }
            (Place::Element(element), Place::Variable(variable)) => {
                (tree::binary(operator, element.clone(), self.numbers(set)), String::from(self.letter(*variable)))
            }
            _ => return,
        };
        self.push(tensor, letters);
    }

    /// Entities bind the variables that nothing else has.
    fn members(&mut self, body: &Conjunction) {
        for condition in &body.conditions {
            let Condition::Member { set, place, is_negated: false } = condition else { continue };
            let letter = match place {
                Place::Variable(variable) => self.letter(*variable),
                Place::Any => self.letters.next(),
                Place::Element(_) => continue,
            };
            if self.operands.iter().all(|operand| !operand.letters.contains(letter)) {
                let tensor = self.everywhere(*set);
                self.push(tensor, letter);
            }
        }
    }

    /// The letter of a place of the result. An element, and a variable that stood before, are a letter of their own with the
    /// condition that it is equal.
    fn result_letter(&mut self, place: &Place, set: usize, before: &str) -> char {
        let (equal, letters) = match place {
            Place::Variable(variable) => {
                let own = self.letter(*variable);
                if !before.contains(own) {
                    return own;
                }
                (
                    tree::call("unsqueeze", vec![self.numbers(set), tree::int(1, self.span)], self.span),
                    String::from(own),
                )
            }
            Place::Element(element) => (element.clone(), String::new()),
            Place::Any => return 'a',
        };
        let letter = self.letters.next();
        let tensor = tree::binary(BinaryOperator::Equal, equal, self.numbers(set));
        self.push(tensor, format!("{letters}{letter}"));
        letter
    }

    /// The operands, those with the same letters joined by `and`.
    fn merged(self) -> Vec<Operand> {
        let mut merged: Vec<(String, Vec<Expr>)> = Vec::new();
        for Operand { tensor, letters } in self.operands {
            match merged.iter_mut().find(|(known, _)| *known == letters) {
                Some((_, tensors)) => tensors.push(tensor),
                None => merged.push((letters, vec![tensor])),
            }
        }
        let joined =
            |(letters, tensors)| Some(Operand { tensor: tree::joined(BinaryOperator::And, tensors)?, letters });
        merged.into_iter().filter_map(joined).collect()
    }
}

fn einsum(operands: Vec<Operand>, result: &str, span: Span) -> Expr {
    let letters: Vec<&str> = operands.iter().map(|operand| &*operand.letters).collect();
    if letters == [result] {
        let mut tensors = operands.into_iter().map(|operand| operand.tensor);
        return tensors.next().unwrap_or_else(|| tree::int(0, span));
    }
    let spec = format!("{}->{result}", letters.join(","));
    let tensors = operands.into_iter().map(|operand| operand.tensor);
    tree::call("einsum", std::iter::once(tree::text(spec, span)).chain(tensors).collect(), span)
}
