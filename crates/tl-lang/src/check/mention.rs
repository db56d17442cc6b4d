//! Names in a text, and what the checker knows of them.

use tl_syntax::Span;

/// A name that stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mention {
    /// Its place.
    pub span: Span,
    /// The place of the name where it is declared; `None` for what the language has.
    pub definition: Option<Span>,
    /// What it names.
    pub kind: MentionKind,
    /// The type there of the value, the field, or the call's result, as messages show it; empty if unknown.
    pub ty: String,
    /// The handle's type, if it is a method of a handle; otherwise empty.
    pub owner: &'static str,
    /// The bytes of that tensor, if all its sizes are known.
    pub bytes: Option<u64>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MentionKind {
    /// A variable.
    Variable,
    /// A variable that is declared without a type.
    InferredVariable,
    /// A parameter of a function.
    Parameter,
    /// A size in a function's signature.
    Size,
    /// A function of the program.
    Function,
    /// A struct of the program.
    Struct,
    /// A function or method of the language.
    Builtin,
    /// A field of a record or a handle.
    Field,
    /// A set that relations are over.
    Entity,
    /// An element of such a set.
    Element,
    /// A relation.
    Relation,
}
