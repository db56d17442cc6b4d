//! `x[…]` and `x.name`.

use std::cell::Cell;
use std::sync::Arc;

use tl_device::DType;
use tl_syntax::ast;
use tl_syntax::{Code, Diagnostic, Span};
use tl_tensor::ops::{Size, TensorType};

use crate::check::checker::{Checker, error_value};
use crate::check::typed::Typed;
use crate::ir::{BOOL_INDEX, BOOL_INDEX_HINT, Expr, ExprKind, Index};
use crate::library;
use crate::types::{HandleKind, Known, Outside, Type};

impl Checker {
    pub(super) fn index(&mut self, receiver: &ast::Expr, indices: &[ast::Index], span: Span) -> Typed {
        let receiver = self.expr(receiver);
        match receiver.ty.clone() {
            Type::Tensor(ty) => self.index_tensor(receiver, ty, indices, span),
            Type::List(element) => self.index_list(receiver, *element, indices, span),
            Type::Map(key, value) => self.index_map(receiver, &key, *value, indices, span),
            Type::Unknown | Type::Never => {
                let indices = self.indices(indices);
                indexed(receiver, indices, Type::Unknown, Known::Nothing, span)
            }
            Type::Handle(HandleKind::Node) | Type::Str => {
                let ty = receiver.ty.clone();
                if indices.len() != 1 {
                    self.error(span, format!("{} takes one index", self.show(&ty)));
                }
                let indices = self.indices(indices);
                let at = match indices.first() {
                    Some((_, IndexKnown::At(at))) => *at,
                    _ => Size::Unknown,
                };
                let (ty, known) = self.model_element(&receiver.known, at, &ty, span).unwrap_or((ty, Known::Nothing));
                indexed(receiver, indices, ty, known, span)
            }
            other => {
                let message = format!("{} has no elements to index", self.show(&other));
                self.error(receiver.span(), message);
                self.indices(indices);
                error_value(span)
            }
        }
    }

    fn indices(&mut self, indices: &[ast::Index]) -> Vec<(Index, IndexKnown)> {
        indices.iter().map(|index| self.one_index(index)).collect()
    }

    fn one_index(&mut self, index: &ast::Index) -> (Index, IndexKnown) {
        let known = |value: &Typed| value.known.size();
        match index {
            ast::Index::At(at) => {
                let at = self.position(at);
                let what = match (&at.ty, &at.known) {
                    (_, Known::Range(start, end)) => IndexKnown::Slice(*start, Some(*end)),
                    (Type::Range, _) => IndexKnown::Slice(Size::Unknown, Some(Size::Unknown)),
                    (Type::Tensor(ty), _) => IndexKnown::Several(ty.sizes.clone()),
                    (Type::Unknown | Type::Never, _) => IndexKnown::Anything,
                    (_, known) => IndexKnown::At(known.size()),
                };
                (Index::At(at.expr), what)
            }
            ast::Index::Slice { start, end, .. } => {
                let start = start.as_ref().map(|start| self.int(start, "a slice's start"));
                let end = end.as_ref().map(|end| self.int(end, "a slice's end"));
                let what = IndexKnown::Slice(start.as_ref().map_or(Size::Known(0), known), end.as_ref().map(known));
                (Index::Slice { start: start.map(|start| start.expr), end: end.map(|end| end.expr) }, what)
            }
        }
    }

    /// One index: an int, a range, or several positions at once.
    fn position(&mut self, expr: &ast::Expr) -> Typed {
        let value = self.expr(expr);
        let is_position = match &value.ty {
            Type::Int | Type::Range | Type::Unknown | Type::Never => true,
            Type::List(element) if matches!(**element, Type::Int | Type::Unknown) => {
                return self.tensor_of(value, DType::I32);
            }
            Type::Tensor(ty) => matches!(ty.dtype, Some(DType::I32) | None),
            _ => false,
        };
        if is_position {
            return value;
        }
        let message = match value.ty {
            Type::Tensor(TensorType { dtype: Some(DType::Bool), .. }) => BOOL_INDEX.to_owned(),
            _ => {
                let given = self.show(&value.ty);
                format!(
                    "an index must be an int, a range, or several positions (a tensor of int32), and this is {given}"
                )
            }
        };
        let diagnostic = Diagnostic::error(value.span(), message);
        self.report(match value.ty {
            Type::Tensor(TensorType { dtype: Some(DType::Bool), .. }) => diagnostic.hint(BOOL_INDEX_HINT),
            Type::Tensor(_) => diagnostic.hint("convert it, `ids as int32`"),
            _ => diagnostic,
        });
        Typed { ty: Type::Unknown, ..value }
    }

    fn index_tensor(&mut self, receiver: Typed, ty: TensorType, indices: &[ast::Index], span: Span) -> Typed {
        let indices = self.indices(indices);
        let ty = match self.indexed_type(&ty, &indices) {
            Ok(ty) => ty,
            Err(problem) => {
                let message = format!("{problem}: {}", self.show(&receiver.ty));
                self.report(Diagnostic::error(span, message).code(Code::OutOfRange));
                TensorType::default()
            }
        };
        indexed(receiver, indices, Type::Tensor(ty), Known::Nothing, span)
    }

    fn indexed_type(&self, ty: &TensorType, indices: &[(Index, IndexKnown)]) -> Result<TensorType, String> {
        let Some(sizes) = &ty.sizes else { return Ok(TensorType { dtype: ty.dtype, sizes: None }) };
        if indices.len() > sizes.len() {
            return Err(format!("there are {} indices for {} dimensions", indices.len(), sizes.len()));
        }
        let mut result = tl_tensor::ops::Sizes::new();
        let n_several = indices.iter().filter(|(_, known)| matches!(known, IndexKnown::Several(_))).count();
        if n_several > 1 {
            return Err("only one of the indices may have several positions".to_owned());
        }
        for (axis, size) in sizes.iter().enumerate() {
            match indices.get(axis).map(|(_, known)| known) {
                Some(IndexKnown::Several(Some(several))) => result.extend_from_slice(several),
                Some(IndexKnown::Anything | IndexKnown::Several(None)) => {
                    return Ok(TensorType { dtype: ty.dtype, sizes: None });
                }
                None => result.push(*size),
                Some(IndexKnown::At(at)) => {
                    if size.excludes(*at) {
                        return Err(format!("index {at} is out of range for dimension {axis}, which has size {size}"));
                    }
                }
                Some(IndexKnown::Slice(start, end)) => result.push(slice_size(*size, *start, *end, axis)?),
            }
        }
        Ok(TensorType { dtype: ty.dtype, sizes: Some(result) })
    }

    fn index_list(&mut self, receiver: Typed, element: Type, indices: &[ast::Index], span: Span) -> Typed {
        if indices.len() != 1 {
            self.report(Diagnostic::error(span, "a list takes one index").hint("for lists of lists, write `x[i][j]`"));
        }
        let indices = self.indices(indices);
        let (ty, known) = match indices.first().map(|(_, known)| known) {
            Some(IndexKnown::At(Size::Known(at))) => match receiver.known.element(*at) {
                Some(Ok((ty, known))) => (ty, known),
                Some(Err(Outside(len))) => {
                    let message = format!("index {at} is out of range for a list of {len}");
                    self.report(Diagnostic::error(span, message).code(Code::NoSuchElement));
                    (element, Known::Nothing)
                }
                None => (element, Known::Nothing),
            },
            Some(IndexKnown::At(_) | IndexKnown::Anything) | None => (element, Known::Nothing),
            Some(IndexKnown::Slice(start, end)) => {
                let known = self.part_of_list(&receiver.known, *start, *end, span);
                (Type::list(element), known)
            }
            Some(IndexKnown::Several(_)) => {
                let diagnostic = Diagnostic::error(span, "a list takes one position, or a range");
                self.report(diagnostic.hint("tensors take several: `from_list(list)[ids]`"));
                (element, Known::Nothing)
            }
        };
        indexed(receiver, indices, ty, known, span)
    }

    /// What is known of a part of a list.
    fn part_of_list(&mut self, list: &Known, start: Size, end: Option<Size>, span: Span) -> Known {
        let Some(len) = list.list_len() else { return Known::Nothing };
        let size = Size::Known(len as i64);
        let end = end.unwrap_or(size);
        if size.part(start, end).is_none() {
            let message = format!("the part {start}..{end} is out of range for a list of {len}");
            self.report(Diagnostic::error(span, message).code(Code::NoSuchElement));
            return Known::Nothing;
        }
        let place = |at: Size| {
            let at = at.known()?;
            usize::try_from(if at < 0 { at + len as i64 } else { at }).ok()
        };
        let Some((first, last)) = place(start).zip(place(end)) else { return Known::Nothing };
        match list {
            Known::Ints(sizes) => sizes.get(first..last).map_or(Known::Nothing, |part| Known::Ints(part.into())),
            Known::Elements(elements) => {
                elements.get(first..last).map_or(Known::Nothing, |part| Known::elements(part.iter().cloned()))
            }
            _ => Known::Nothing,
        }
    }

    pub(super) fn field(&mut self, receiver: &ast::Expr, name: &ast::Name, span: Span) -> Typed {
        if let Some(value) = self.module_variable(receiver, name, span) {
            return value;
        }
        let receiver = self.expr(receiver);
        let ty = match &receiver.ty {
            Type::Struct(ty) => self.struct_field_type(ty, &name.text),
            Type::Unknown | Type::Never => Some(Type::Unknown),
            Type::Record(record) => record.fields.iter().find(|(field, _)| *field == &*name.text).map(|(_, ty)| ty()),
            Type::Handle(kind) => library::field_type(*kind, &name.text),
            _ => None,
        };
        let Some(ty) = ty else {
            self.unknown_field(&receiver, name);
            return error_value(span);
        };
        let known = known_field(&receiver, &name.text).or_else(|| self.model_field(&receiver, &name.text, &ty, span));
        let (ty, known) = known.unwrap_or((ty, Known::Nothing));
        let (receiver, name) = (Box::new(receiver.expr), Arc::clone(&name.text));
        let kind = ExprKind::Field { receiver, name, place: Cell::default() };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    fn unknown_field(&mut self, receiver: &Typed, name: &ast::Name) {
        if let Type::Struct(ty) = &receiver.ty {
            return self.unknown_struct_field(ty, name);
        }
        let message = format!("{} has no field `{}`", self.show(&receiver.ty), name.text);
        let mut diagnostic = Diagnostic::error(name.span, message);
        let fields: Vec<&str> = match &receiver.ty {
            Type::Record(record) => record.fields.iter().map(|(field, _)| *field).collect(),
            Type::Handle(kind) => library::field_names(*kind),
            _ => Vec::new(),
        };
        if let Some(near) = crate::names::nearest(&name.text, fields.iter().copied()) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        } else if !fields.is_empty() {
            diagnostic = diagnostic.hint(format!("its fields are {}", fields.join(", ")));
        } else if library::is_known(&name.text) {
            diagnostic = diagnostic.hint(format!("`{0}` is a function: `x.{0}()` or `{0}(x)`", name.text));
        }
        self.report(diagnostic);
    }
}

/// What is known of a field, if more than its declared type is.
fn known_field(receiver: &Typed, name: &str) -> Option<(Type, Known)> {
    let (Type::Struct(ty), Known::Elements(fields)) = (&receiver.ty, &receiver.known) else { return None };
    fields.get(ty.field_index(name)?).cloned()
}

/// The known parts of an index.
enum IndexKnown {
    At(Size),
    Slice(Size, Option<Size>),
    /// A tensor with these sizes.
    Several(Option<tl_tensor::ops::Sizes>),
    /// A value of unknown type.
    Anything,
}

fn indexed(receiver: Typed, indices: Vec<(Index, IndexKnown)>, ty: Type, known: Known, span: Span) -> Typed {
    let indices = indices.into_iter().map(|(index, _)| index).collect();
    Typed { known, ..Typed::new(Expr::index(receiver.expr, indices, span), ty) }
}

fn slice_size(size: Size, start: Size, end: Option<Size>, axis: usize) -> Result<Size, String> {
    let written = (start, end);
    size.part(start, end.unwrap_or(size)).ok_or_else(|| {
        let of = if size == Size::Unknown { String::new() } else { format!(", which has size {size}") };
        let part = match written {
            (start, Some(end)) => format!("{start}..{end}"),
            (start, None) => format!("from {start}"),
        };
        format!("the slice {part} is out of range for dimension {axis}{of}")
    })
}
