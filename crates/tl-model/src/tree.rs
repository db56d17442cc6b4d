//! A model's tensors by the parts of their names, so that `model.blk[3].attn_q.weight` is a walk.
//!
//! Nodes lie in one list and refer to each other by number. Walking compares names and allocates nothing.

use std::collections::HashMap;

use tl_tensor::Tensor;

use crate::format::TensorType;

/// The number of the node that all names begin at.
pub(crate) const ROOT: u32 = 0;

/// All nodes; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    name: Box<str>,
    parent: u32,
    /// Sorted by name.
    children: Vec<u32>,
    leaf: Option<Leaf>,
}

/// What the file has under a full name.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// A tensor that can be computed on.
    Tensor(Tensor),
    /// A tensor in a format that cannot.
    Unsupported(TensorType),
}

impl Tree {
    /// Builds the tree of these names, whose parts are separated by dots.
    pub(crate) fn new<'a>(leaves: impl Iterator<Item = (&'a str, Leaf)>) -> Tree {
        let mut tree = Tree { nodes: vec![Node::default()] };
        let mut known: HashMap<(u32, &'a str), u32> = HashMap::new();
        for (name, leaf) in leaves {
            let mut at = ROOT;
            for part in name.split('.') {
                at = *known.entry((at, part)).or_insert_with(|| tree.add(at, part));
            }
            if let Some(node) = tree.nodes.get_mut(at as usize) {
                node.leaf = Some(leaf);
            }
        }
        tree.sort();
        tree
    }

    fn add(&mut self, parent: u32, name: &str) -> u32 {
        // A name has a few bytes at least: a file with more nodes than this is larger than any disk.
        let id = self.nodes.len() as u32;
        self.nodes.push(Node { name: name.into(), parent, ..Node::default() });
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children.push(id);
        }
        id
    }

    fn sort(&mut self) {
        for at in 0..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[at].children);
            children.sort_by(|&a, &b| self.name(a).cmp(self.name(b)));
            self.nodes[at].children = children;
        }
    }

    /// The last part of a node's name.
    pub(crate) fn name(&self, node: u32) -> &str {
        self.nodes.get(node as usize).map_or("", |node| &node.name)
    }

    /// The whole name of a node.
    pub(crate) fn path(&self, mut node: u32) -> String {
        let mut parts = Vec::new();
        while node != ROOT {
            parts.push(self.name(node));
            node = self.nodes.get(node as usize).map_or(ROOT, |node| node.parent);
        }
        parts.reverse();
        parts.join(".")
    }

    /// The children of a node, sorted by name.
    pub(crate) fn children(&self, node: u32) -> &[u32] {
        self.nodes.get(node as usize).map_or(&[], |node| &node.children)
    }

    /// The child of that name.
    pub(crate) fn child(&self, node: u32, name: &str) -> Option<u32> {
        let children = self.children(node);
        let found = children.binary_search_by(|&child| self.name(child).cmp(name));
        found.ok().and_then(|i| children.get(i)).copied()
    }

    /// What the node itself stands for.
    pub(crate) fn leaf(&self, node: u32) -> Option<&Leaf> {
        self.nodes.get(node as usize).and_then(|node| node.leaf.as_ref())
    }

    /// The node of a whole name.
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
        let layers: Vec<&str> = tree.children(blk).iter().map(|&layer| tree.name(layer)).collect();
        assert_eq!(layers, ["0", "10", "2"]);
        for missing in ["blk.1", "blk", "x", "blk.0.q.weight.x"] {
            assert!(tree.find(missing).and_then(|node| tree.leaf(node)).is_none(), "{missing:?}");
        }
    }

    #[test]
    fn digits() {
        for n in [0, 7, 10, 4096, usize::MAX] {
            assert_eq!(Digits::new(n).as_str(), n.to_string());
        }
    }
}
