//! A model's tensors as a tree of the parts of their names, so that `model.blk[3].attn_q.weight` is a walk.
//!
//! Nodes refer to each other by number; the children of a node are consecutive, sorted by name. The data that a walk
//! reads is compact, apart from names and tensors. Walking allocates nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tl_tensor::Tensor;

use crate::format::TensorType;

/// The number of the root node.
pub(crate) const ROOT: u32 = 0;

/// All nodes; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// The last part of each node's name.
    names: Vec<Box<str>>,
    leaves: Vec<Option<Leaf>>,
    /// Children with numbers for names, consecutive for each node, from 0 without a gap.
    indexed: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    parent: u32,
    first_child: u32,
    n_children: u32,
    first_indexed: u32,
    n_indexed: u32,
    /// Hash of the children's names: equal for nodes with equal children.
    kind: u64,
}

/// Position of a child among its siblings, or its absence; valid for all nodes of the same kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChildPlace {
    kind: u64,
    position: u32,
    is_known: bool,
}

/// The content of a full name.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// A tensor in a supported format.
    Tensor(Tensor),
    /// A tensor in an unsupported format.
    Unsupported(TensorType),
}

/// The tree during construction: children are in no particular place.
#[derive(Default)]
struct Draft<'a> {
    name: &'a str,
    children: Vec<usize>,
    leaf: Option<Leaf>,
}

impl Tree {
    /// Builds the tree of these names, whose parts are separated by dots.
    pub(crate) fn new<'a>(leaves: impl Iterator<Item = (&'a str, Leaf)>) -> Tree {
        let mut drafts = vec![Draft::default()];
        let mut known: HashMap<(usize, &'a str), usize> = HashMap::new();
        for (path, leaf) in leaves {
            let mut at = 0;
            for name in path.split('.') {
                at = *known.entry((at, name)).or_insert_with(|| {
                    let id = drafts.len();
                    drafts.push(Draft { name, ..Draft::default() });
                    drafts[at].children.push(id);
                    id
                });
            }
            drafts[at].leaf = Some(leaf);
        }
        Tree::arranged(drafts)
    }

    /// Numbers the nodes so that the children of each are consecutive.
    fn arranged(mut drafts: Vec<Draft<'_>>) -> Tree {
        let mut tree = Tree { nodes: vec![Node::default()], names: vec!["".into()], leaves: vec![], indexed: vec![] };
        let mut order = vec![0];
        // A name has at least a few bytes, so node numbers overflow only for files larger than any disk.
        for at in 0..drafts.len() {
            let draft = order[at];
            tree.leaves.push(drafts[draft].leaf.take());
            let mut children = std::mem::take(&mut drafts[draft].children);
            children.sort_by_key(|&child| drafts[child].name);
            let mut hasher = DefaultHasher::new();
            (tree.nodes[at].first_child, tree.nodes[at].n_children) = (order.len() as u32, children.len() as u32);
            for child in children {
                drafts[child].name.hash(&mut hasher);
                tree.nodes.push(Node { parent: at as u32, ..Node::default() });
                tree.names.push(drafts[child].name.into());
                order.push(child);
            }
            let numbered = (0..).map_while(|number| tree.child(at as u32, Digits::new(number).as_str()));
            let numbered: Vec<u32> = numbered.collect();
            tree.nodes[at].kind = hasher.finish();
            (tree.nodes[at].first_indexed, tree.nodes[at].n_indexed) =
                (tree.indexed.len() as u32, numbered.len() as u32);
            tree.indexed.extend(numbered);
        }
        tree
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The last part of a node's name.
    pub(crate) fn name(&self, node: u32) -> &str {
        self.names.get(node as usize).map_or("", |name| name)
    }

    /// The full name of a node.
    pub(crate) fn path(&self, mut node: u32) -> String {
        let mut parts = Vec::new();
        while node != ROOT {
            parts.push(self.name(node));
            node = self.nodes.get(node as usize).map_or(ROOT, |node| node.parent);
        }
        parts.reverse();
        parts.join(".")
    }

    /// The names of a node's children, sorted.
    pub(crate) fn child_names(&self, node: u32) -> &[Box<str>] {
        let Some(node) = self.nodes.get(node as usize) else { return &[] };
        let first = node.first_child as usize;
        self.names.get(first..first + node.n_children as usize).unwrap_or_default()
    }

    /// The child with this name.
    pub(crate) fn child(&self, node: u32, name: &str) -> Option<u32> {
        let position = self.child_names(node).binary_search_by(|child| (**child).cmp(name)).ok()?;
        self.nodes.get(node as usize).map(|node| node.first_child + position as u32)
    }

    /// As [`Tree::child`], for a repeated walk: `place` belongs to the walk, and is used for one name only.
    pub(crate) fn child_at(&self, node: u32, name: &str, place: &mut ChildPlace) -> Option<u32> {
        /// The position of an absent child: larger than any node's.
        const ABSENT: u32 = u32::MAX;
        let parent = self.nodes.get(node as usize)?;
        let is_known = place.is_known && place.kind == parent.kind;
        if !(is_known && (place.position < parent.n_children || place.position == ABSENT)) {
            let position = self.child(node, name).map_or(ABSENT, |child| child - parent.first_child);
            *place = ChildPlace { kind: parent.kind, position, is_known: true };
        }
        (place.position != ABSENT).then(|| parent.first_child + place.position)
    }

    /// The children with numbers for names, from 0 without a gap.
    pub(crate) fn indexed(&self, node: u32) -> &[u32] {
        let Some(node) = self.nodes.get(node as usize) else { return &[] };
        let first = node.first_indexed as usize;
        self.indexed.get(first..first + node.n_indexed as usize).unwrap_or_default()
    }

    /// The node's own tensor.
    pub(crate) fn leaf(&self, node: u32) -> Option<&Leaf> {
        self.leaves.get(node as usize).and_then(Option::as_ref)
    }

    /// The node with this full name.
    pub(crate) fn find(&self, path: &str) -> Option<u32> {
        path.split('.').try_fold(ROOT, |at, part| self.child(at, part))
    }
}

/// A number in decimal digits, on the stack.
pub(crate) struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    /// The digits of `n`.
    pub(crate) fn new(mut n: usize) -> Digits {
        let mut digits = Digits { bytes: [b'0'; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return digits;
            }
        }
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks() {
        let names = ["blk.0.q.weight", "output.weight", "blk.10.q.weight", "blk.2.q.weight", "blk.2.q", "..", ""];
        let tree = Tree::new(names.iter().map(|&name| (name, Leaf::Unsupported(TensorType::from_id(0)))));
        for name in names {
            let node = tree.find(name).unwrap();
            assert!(tree.leaf(node).is_some(), "{name:?}");
            assert_eq!(tree.path(node), name);
        }
        let blk = tree.child(ROOT, "blk").unwrap();
        assert!(tree.leaf(blk).is_none());
        assert!(tree.child_names(blk).iter().map(|name| &**name).eq(["0", "10", "2"]));
        for (number, expected) in [(0, Some("0")), (1, None), (2, None)] {
            let found = tree.indexed(blk).get(number).map(|&layer| tree.name(layer));
            assert_eq!(found, expected, "`1` is missing, so `2` is not counted");
        }
        for missing in ["blk.1", "blk", "x", "blk.0.q.weight.x"] {
            assert!(tree.find(missing).and_then(|node| tree.leaf(node)).is_none(), "{missing:?}");
        }
    }

    #[test]
    fn repeated_walks() {
        let leaf = || Leaf::Unsupported(TensorType::from_id(0));
        let one = Tree::new(["0.a", "0.b", "1.b", "1.a", "2.b", "3.c.d"].map(|name| (name, leaf())).into_iter());
        let other = Tree::new(["0.b.a", "0.b.c", "1.a", "1.b", "1.c"].map(|name| (name, leaf())).into_iter());
        for name in ["a", "b", "c", "d"] {
            // One place goes through nodes of several kinds, of two trees.
            let mut place = ChildPlace::default();
            for _ in 0..2 {
                for (tree, node) in
                    [(&one, "0"), (&one, "1"), (&one, "2"), (&other, "1"), (&other, "0.b"), (&one, "3.c")]
                {
                    let node = tree.find(node).unwrap();
                    assert_eq!(tree.child_at(node, name, &mut place), tree.child(node, name), "{name}");
                }
            }
        }
    }

    #[test]
    fn digits() {
        for n in [0, 7, 10, 4096, usize::MAX] {
            assert_eq!(Digits::new(n).as_str(), n.to_string());
        }
    }
}
