//! What warnings are made of.

use std::collections::HashSet;
use std::sync::Arc;

use tl_syntax::{FileId, Span};

/// What the checker notes for warnings.
#[derive(Default)]
pub(super) struct Lints {
    /// The file whose warnings are made.
    pub(super) main_file: Option<FileId>,
    /// The variables that it declares.
    pub(super) declared: Vec<DeclaredVariable>,
    /// The places of the declarations of variables that are read.
    pub(super) read: HashSet<Span>,
}

/// A variable that something should read.
pub(super) struct DeclaredVariable {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    /// Whether it is a learnable tensor.
    pub(super) is_parameter: bool,
}
