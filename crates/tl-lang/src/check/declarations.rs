//! What a program declares, as the checker keeps it: the names of each namespace, and the structs.

use std::collections::HashMap;
use std::sync::Arc;

use tl_syntax::Span;

use crate::ir::StructFields;
use crate::types::StructType;

/// The top-level names that some files share.
#[derive(Default)]
pub(super) struct Namespace {
    /// Indices among the program's functions.
    pub(super) functions: HashMap<Arc<str>, u32>,
    /// Indices among the program's structs.
    pub(super) structs: HashMap<Arc<str>, u32>,
    /// Indices among the program's global variables.
    pub(super) globals: HashMap<Arc<str>, u32>,
    /// The namespaces of files imported with a name.
    pub(super) modules: HashMap<Arc<str>, usize>,
    /// Variables of imported files, which are not imported, with the file.
    pub(super) not_imported: HashMap<Arc<str>, String>,
}

/// A struct that the program declares.
pub(super) struct StructInfo {
    pub(super) ty: Arc<StructType>,
    pub(super) span: Span,
    pub(super) fields: Arc<StructFields>,
    /// Its functions, as indices among the program's functions.
    pub(super) functions: HashMap<Arc<str>, u32>,
}
