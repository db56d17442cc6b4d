//! The order in which relations are computed: what a relation's rules read comes first, or together with it.

use std::collections::{HashMap, VecDeque};

use tl_syntax::{Diagnostic, Span};

use super::declared::{Relations, Reports};

/// The most negations that are reported.
const MAX_CYCLES: usize = 10;

/// The most relations of a cycle that are shown.
const MAX_SHOWN: usize = 8;

/// A rule of one relation reads another.
pub(super) struct Edge {
    pub(super) head: usize,
    pub(super) body: usize,
    pub(super) is_negated: bool,
    pub(super) span: Span,
}

/// Groups of relations that depend on each other, in the order in which they are computed.
pub(super) fn components(n_relations: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let (mut reads, mut read_by) = (vec![Vec::new(); n_relations], vec![Vec::new(); n_relations]);
    for edge in edges {
        if let (Some(reads), Some(read_by)) = (reads.get_mut(edge.head), read_by.get_mut(edge.body)) {
            reads.push(edge.body);
            read_by.push(edge.head);
        }
    }
    // Kosaraju's algorithm: what is finished last in one direction begins the groups in the other.
    let mut finished = Vec::new();
    let mut seen = vec![false; n_relations];
    for start in 0..n_relations {
        visit(start, &read_by, &mut seen, &mut finished);
    }
    let mut seen = vec![false; n_relations];
    let mut groups = Vec::new();
    for start in finished.into_iter().rev() {
        let mut group = Vec::new();
        visit(start, &reads, &mut seen, &mut group);
        if !group.is_empty() {
            group.sort_unstable();
            groups.push(group);
        }
    }
    groups
}

/// Appends what is reached from `start` and was not seen, each after what it leads to. Chains may be long: no recursion.
fn visit(start: usize, edges: &[Vec<usize>], seen: &mut [bool], finished: &mut Vec<usize>) {
    let mut open = Vec::new();
    let mut enter = |at: usize, open: &mut Vec<(usize, usize)>| {
        if let Some(seen) = seen.get_mut(at)
            && !std::mem::replace(seen, true)
        {
            open.push((at, 0));
        }
    };
    enter(start, &mut open);
    while let Some((at, next)) = open.last_mut() {
        match edges.get(*at).and_then(|edges| edges.get(*next)) {
            Some(&to) => {
                *next += 1;
                enter(to, &mut open);
            }
            None => {
                finished.push(*at);
                open.pop();
            }
        }
    }
}

/// Reports each negation of a relation that depends on what is computed from it.
pub(super) fn check_negations(relations: &Relations, groups: &[Vec<usize>], edges: &[Edge], reports: &mut Reports) {
    let mut group_of = vec![0; relations.relations.len()];
    for (number, group) in groups.iter().enumerate() {
        for relation in group {
            if let Some(place) = group_of.get_mut(*relation) {
                *place = number;
            }
        }
    }
    let is_within = |edge: &&Edge| group_of.get(edge.head) == group_of.get(edge.body);
    let mut reads = vec![Vec::new(); relations.relations.len()];
    for edge in edges.iter().filter(is_within) {
        if let Some(reads) = reads.get_mut(edge.head) {
            reads.push(edge.body);
        }
    }
    for edge in edges.iter().filter(is_within).filter(|edge| edge.is_negated).take(MAX_CYCLES) {
        let mut shown = format!("{} <- not {}", relations.relation_name(edge.head), relations.relation_name(edge.body));
        let way = way(edge.body, edge.head, &reads);
        for relation in way.iter().take(MAX_SHOWN) {
            shown = format!("{shown} <- {}", relations.relation_name(*relation));
        }
        if way.len() > MAX_SHOWN {
            shown = format!("{shown} <- … <- {}", relations.relation_name(edge.head));
        }
        let message = format!("this negation depends on itself: {shown}");
        let hint = "what is negated must be known before: compute it without this rule's relation";
        reports.diagnostics.push(Diagnostic::error(edge.span, message).hint(hint));
    }
}

/// The relations behind `from` on a shortest way to `to`, that one included.
fn way(from: usize, to: usize, reads: &[Vec<usize>]) -> Vec<usize> {
    // For each relation that was reached, the one before it.
    let mut before = HashMap::from([(from, from)]);
    let mut open = VecDeque::from([from]);
    while let Some(current) = open.pop_front()
        && current != to
    {
        for &next in reads.get(current).into_iter().flatten() {
            before.entry(next).or_insert_with(|| {
                open.push_back(next);
                current
            });
        }
    }
    let mut way = Vec::new();
    let mut current = to;
    while current != from {
        way.push(current);
        let Some(earlier) = before.get(&current) else { break };
        current = *earlier;
    }
    way.reverse();
    way
}
