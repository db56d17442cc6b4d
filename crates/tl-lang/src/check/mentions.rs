//! Collects what the checker knows of the names in a text, for editors, and on request only.

use tl_device::Layout;
use tl_syntax::Span;
use tl_syntax::ast;
use tl_tensor::ops::{Size, TensorType};

use crate::check::checker::Checker;
use crate::check::mention::{Mention, MentionKind};
use crate::types::{HandleKind, Type};

impl Checker {
    /// Whether somebody asks for names, and the code is checked in general: in no trial round, and for no call alone.
    fn notes_mentions(&self) -> bool {
        self.mentions.is_some() && self.quiet == 0 && self.only_shapes == 0
    }

    /// Notes a name.
    pub(super) fn mention(&mut self, span: Span, definition: Option<Span>, kind: MentionKind, ty: &Type) {
        if !self.notes_mentions() || span.start == span.end {
            return;
        }
        let (bytes, ty) = (bytes(ty), if ty.is_open() { String::new() } else { self.show(ty) });
        let mention = Mention { span, definition, kind, ty, owner: "", bytes };
        self.mentions.get_or_insert_default().push(mention);
    }

    /// Notes the name of a function of the program.
    pub(super) fn mention_function(&mut self, index: u32, span: Span) {
        let definition = self.functions.get(index as usize).map(|function| function.span);
        self.mention(span, definition, MentionKind::Function, &Type::Unknown);
    }

    /// Notes the name of a handle's method.
    pub(super) fn mention_method(&mut self, span: Span, handle: HandleKind) {
        self.mention(span, None, MentionKind::Builtin, &Type::Unknown);
        if let Some(mention) = self.mentions.as_mut().and_then(|mentions| mentions.last_mut())
            && mention.span == span
        {
            mention.owner = handle.name();
        }
    }

    /// Notes the name of a global variable.
    pub(super) fn mention_global(&mut self, index: u32, span: Span, ty: &Type) {
        let definition = self.globals.get(index as usize).map(|global| global.span);
        self.mention(span, definition, MentionKind::Variable, ty);
    }

    /// Notes the type that the call or field at a name gives.
    pub(super) fn mention_result(&mut self, name: &ast::Name, ty: &Type) {
        if !self.notes_mentions() || ty.is_open() {
            return;
        }
        let (bytes, shown) = (bytes(ty), self.show(ty));
        let mentions = self.mentions.get_or_insert_default();
        if let Some(mention) = mentions.iter_mut().rev().find(|mention| mention.span == name.span) {
            (mention.bytes, mention.ty) = (bytes, shown);
        }
    }

    /// Notes the sizes that a signature names; the first place of each is its declaration.
    pub(super) fn mention_sizes(&mut self, function: &ast::Function) {
        let mut dims = Vec::new();
        function
            .parameters
            .iter()
            .map(|parameter| &parameter.ty)
            .chain(&function.result)
            .for_each(|ty| named_dims(ty, &mut dims));
        for (name, span) in &dims {
            let first = dims.iter().find(|(other, _)| other == name).map(|(_, span)| *span);
            self.mention(*span, first, MentionKind::Size, &Type::Int);
        }
    }
}

/// The place where a signature first names a size.
pub(super) fn first_place_of_size(function: &ast::Function, name: &str) -> Option<Span> {
    let mut dims = Vec::new();
    function.parameters.iter().for_each(|parameter| named_dims(&parameter.ty, &mut dims));
    dims.iter().find(|(other, _)| *other == name).map(|(_, span)| *span)
}

/// The sizes that a type names.
fn named_dims<'a>(ty: &'a ast::Type, dims: &mut Vec<(&'a str, Span)>) {
    match &ty.kind {
        ast::TypeKind::Tensor { dims: written, .. } => {
            for dim in written {
                if let ast::DimKind::Named(name) = &dim.kind {
                    dims.push((name, dim.span));
                }
            }
        }
        ast::TypeKind::List(inner) | ast::TypeKind::Optional(inner) => named_dims(inner, dims),
        _ => {}
    }
}

/// The bytes of a tensor of which everything is known.
fn bytes(ty: &Type) -> Option<u64> {
    let Type::Tensor(TensorType { dtype: Some(dtype), sizes: Some(sizes) }) = ty else { return None };
    let known = |size: &Size| match size {
        Size::Known(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    let dims = sizes.iter().map(known).collect::<Option<Vec<usize>>>()?;
    Layout::new(*dtype, dims.as_slice()).len_bytes().ok().map(|bytes| bytes as u64)
}
