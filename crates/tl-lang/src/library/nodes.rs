//! Nodes of a model: the tree of its parts, with tensors as leaves.

use tl_model::{ModelNode, NodeRef};
use tl_tensor::Tensor;

use super::error::BuiltinError;
use crate::value::{Handle, Value};

/// The tensor at a model's node.
pub(crate) fn node_tensor(node: &ModelNode) -> Result<&Tensor, BuiltinError> {
    match node.tensor()? {
        Some(tensor) => Ok(tensor),
        None => Err(BuiltinError::new(format!("`{}` is no tensor: it has parts, {}", node.path(), parts(node)))),
    }
}

/// The names of a node's first children.
fn parts(node: &ModelNode) -> String {
    let mut names: Vec<&str> = node.child_names().take(12).collect();
    if node.child_names().nth(names.len()).is_some() {
        names.push("…");
    }
    names.join(", ")
}

pub(super) fn child(node: &ModelNode, name: &str) -> Result<Value, BuiltinError> {
    match node.child(name) {
        Some(child) => node_value(child.by_ref()),
        // A model without output embeddings uses those of the input.
        None if name == "output" && node.path().is_empty() && node.child("token_embd").is_some() => {
            child(node, "token_embd")
        }
        None => {
            let path = node.path();
            let place = if path.is_empty() { "this model".to_string() } else { format!("`{path}`") };
            let error = BuiltinError::new(format!("{place} has no part `{name}`"));
            Err(match crate::names::nearest(name, node.child_names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its parts are {}", parts(node))),
            })
        }
    }
}

/// The value of a node: a tensor if it is one.
pub(crate) fn node_value(node: NodeRef<'_>) -> Result<Value, BuiltinError> {
    match node.tensor()? {
        Some(tensor) => Ok(Value::tensor(tensor.clone())),
        None => Ok(Value::Handle(Handle::Node(node.to_node()))),
    }
}

/// A numbered part of a node: `blk[i]`.
pub(crate) fn indexed_part(value: &Value, index: i64) -> Result<Value, BuiltinError> {
    let Value::Handle(Handle::Node(node)) = value else {
        return Err(BuiltinError::new(format!("{} has no elements to index", value.describe())));
    };
    let len = node.n_indexed() as i64;
    let place = if index < 0 { index.saturating_add(len) } else { index };
    match usize::try_from(place).ok().and_then(|place| node.index(place)) {
        Some(child) => node_value(child.by_ref()),
        None => Err(BuiltinError::new(format!("index {index} is out of range: `{}` has {len} parts", node.path()))),
    }
}
