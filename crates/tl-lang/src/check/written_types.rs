//! Types as a program writes them, with their names resolved: structs, handles, the sizes of tensors.

use std::sync::Arc;

use tl_syntax::Diagnostic;
use tl_syntax::ast;
use tl_tensor::ops::Size;

use crate::check::checker::Checker;
use crate::check::mention::MentionKind;
use crate::declared::{Declared, DeclaredDim, DeclaredDtype, FLOAT};
use crate::types::{HandleKind, Known, Type};

impl Checker {
    /// A written type. In a signature, its size names are added to `sizes`; elsewhere a size name is one of the enclosing
    /// signature or a variable with a known value.
    pub(super) fn declared(&mut self, ty: &ast::Type, mut sizes: Option<&mut Vec<Arc<str>>>) -> Declared {
        match &ty.kind {
            ast::TypeKind::Int => Declared::Int,
            ast::TypeKind::Float => Declared::Float,
            ast::TypeKind::Bool => Declared::Bool,
            ast::TypeKind::String => Declared::Str,
            ast::TypeKind::Unit => Declared::Unit,
            ast::TypeKind::Tensor { dtype, dims } => {
                let dims = dims.iter().map(|dim| self.declared_dim(dim, sizes.as_deref_mut())).collect();
                let dtype = match crate::check::conversions::dtype(*dtype) {
                    Some(dtype) => DeclaredDtype::Exactly(dtype),
                    None => DeclaredDtype::Float(self.float_name(sizes)),
                };
                Declared::Tensor(dtype, dims)
            }
            ast::TypeKind::Optional(tensor) => Declared::Optional(Box::new(self.declared(tensor, sizes))),
            ast::TypeKind::List(element) => Declared::List(Box::new(self.declared(element, sizes))),
            ast::TypeKind::Map(key, value) => {
                let (key, value) = (self.declared_key(key), self.declared(value, sizes));
                Declared::Map(Box::new(key), Box::new(value))
            }
            ast::TypeKind::Named(name) => {
                if let Some(info) = self.find_struct(None, &name.text) {
                    let (ty, declared_at) = (info.ty.clone(), info.span);
                    self.mention(name.span, Some(declared_at), MentionKind::Struct, &Type::Unknown);
                    return Declared::Struct(ty);
                }
                match HandleKind::from_name(&name.text) {
                    Some(kind) => Declared::Handle(kind),
                    None => {
                        if !name.text.is_empty() {
                            self.unknown_type(name);
                        }
                        Declared::Unknown
                    }
                }
            }
            ast::TypeKind::Imported { module, name } => match self.find_struct(Some(module), &name.text) {
                Some(info) => Declared::Struct(info.ty.clone()),
                None if self.module(&module.text).is_some() => {
                    self.missing_in_module(&module.text, name, "struct");
                    Declared::Unknown
                }
                None => {
                    self.error(module.span, format!("`{}` is not an imported file", module.text));
                    Declared::Unknown
                }
            },
            ast::TypeKind::Dtype(_) | ast::TypeKind::Error => Declared::Unknown,
        }
    }

    /// The index of [`FLOAT`] among the size names: in a signature it is added, in a body it is that of the enclosing signature.
    fn float_name(&self, sizes: Option<&mut Vec<Arc<str>>>) -> Option<u32> {
        let at = |names: &[Arc<str>]| names.iter().position(|name| &**name == FLOAT).map(|at| at as u32);
        match sizes {
            None => at(&self.frame.sizes),
            Some(names) => at(names).or_else(|| {
                names.push(FLOAT.into());
                Some(names.len() as u32 - 1)
            }),
        }
    }

    fn unknown_type(&mut self, name: &ast::Name) {
        let known = ["int", "float", "bool", "string", "float16", "float32", "int32"];
        let structs = self.names().structs.keys().map(|name| &**name);
        let known = known.into_iter().chain(HandleKind::ALL.iter().map(|kind| kind.name())).chain(structs);
        let near = crate::names::nearest(&name.text, known).map(str::to_owned);
        let mut diagnostic = Diagnostic::error(name.span, format!("unknown type `{}`", name.text));
        if let Some(near) = near {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
    }

    fn declared_dim(&mut self, dim: &ast::Dim, sizes: Option<&mut Vec<Arc<str>>>) -> DeclaredDim {
        match &dim.kind {
            ast::DimKind::Any => DeclaredDim::Any,
            ast::DimKind::Known(n) => match usize::try_from(*n).ok().filter(|n| *n <= i64::MAX as usize) {
                Some(n) => DeclaredDim::Known(n),
                None => {
                    self.error(dim.span, "this size is too large");
                    DeclaredDim::Any
                }
            },
            ast::DimKind::Named(name) => {
                if let Some(sizes) = sizes {
                    let known = sizes.iter().position(|size| size == name);
                    let index = known.unwrap_or_else(|| {
                        sizes.push(name.clone());
                        sizes.len() - 1
                    });
                    return DeclaredDim::Named(index as u32);
                }
                self.dim_in_scope(name, dim.span)
            }
        }
    }

    fn dim_in_scope(&mut self, name: &Arc<str>, span: tl_syntax::Span) -> DeclaredDim {
        let id = self.scopes().find(name);
        if let Some(declared_at) = id.and_then(|id| self.frame.scopes.variables.get(id)).map(|variable| variable.span) {
            self.lint_read(declared_at);
        }
        let known = id.and_then(|id| self.state(id)).map(|state| state.known.clone());
        match known {
            Some(Known::Int(Size::Known(n))) if n >= 0 => DeclaredDim::Known(n as usize),
            Some(Known::Int(size)) if let Some(name) = self.frame.size_values.iter().position(|own| *own == size) => {
                DeclaredDim::Named(name as u32)
            }
            _ => {
                let message = format!("`{name}` is not a size that is known here");
                let hint =
                    "a size is a number, `?`, a name from the function's signature, or a variable with a known value";
                self.report(Diagnostic::error(span, message).hint(hint));
                DeclaredDim::Any
            }
        }
    }
}
