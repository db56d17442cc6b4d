//! Structs: their declarations, literals, fields and methods.

use std::sync::{Arc, OnceLock};

use tl_syntax::ast::{self, Item};
use tl_syntax::{Diagnostic, Span};
use tl_tensor::ops::Size;

use crate::check::checker::{Checker, error_value};
use crate::check::conversions::{in_brackets, refined, with_conversion_hint};
use crate::check::declarations::StructInfo;
use crate::check::files::LoadedFile;
use crate::check::mention::MentionKind;
use crate::check::typed::{Bindings, Typed, accepts};
use crate::declared::{Declared, declared_type, show_declared};
use crate::ir::{Expr, ExprKind, Maker, StructFields};
use crate::types::{Known, StructType, Type};

/// The name of a method's first parameter.
pub(super) const SELF: &str = "self";

impl Checker {
    /// Declares the structs of all files: first the names, then the types of the fields, which may name any of them.
    pub(super) fn declare_structs(&mut self, files: &[LoadedFile]) {
        let mut declared = Vec::new();
        for (at, file) in files.iter().enumerate() {
            self.enter_file(at);
            let home = (Some(self.namespace) != self.file_namespaces.last().copied()).then(|| file.name.clone());
            for item in &file.tree.items {
                let Item::Struct(written) = item else { continue };
                if let Some(index) = self.declare_struct(written, home.clone()) {
                    declared.push((self.namespace, index, written));
                }
            }
        }
        for &(namespace, index, written) in &declared {
            self.namespace = namespace;
            let mut sizes = Vec::new();
            let types: Box<[Declared]> =
                written.fields.iter().map(|field| self.declared(&field.ty, Some(&mut sizes))).collect();
            if let Some(info) = self.structs.get_mut(index) {
                let shown: Vec<String> = types.iter().map(|ty| show_declared(ty, &sizes)).collect();
                info.ty.types.get_or_init(|| shown.join(", ").into());
                info.fields = Arc::new(StructFields { ty: info.ty.clone(), types, sizes: sizes.into() });
            }
        }
        for &(_, index, written) in &declared {
            if self.contains_itself(index) {
                let message = format!("the struct `{}` contains itself, so it could never be made", written.name.text);
                let hint = format!("a list of them may be empty: `[{}]`", written.name.text);
                self.report(Diagnostic::error(written.name.span, message).hint(hint));
            }
        }
    }

    fn declare_struct(&mut self, written: &ast::Struct, home: Option<Arc<str>>) -> Option<usize> {
        let name = &written.name;
        if name.text.is_empty() {
            return None;
        }
        if let Some(first) = self.names().structs.get(&name.text) {
            let first = self.structs.get(*first as usize).map(|info| info.span);
            let diagnostic = Diagnostic::error(name.span, format!("the struct `{}` is declared twice", name.text));
            self.report(match first {
                Some(first) => diagnostic.label(first, "first here"),
                None => diagnostic,
            });
            return None;
        }
        if written.fields.is_empty() {
            self.error(name.span, format!("the struct `{}` has no fields", name.text));
        }
        for (at, field) in written.fields.iter().enumerate() {
            if written.fields.iter().take(at).any(|other| other.name.text == field.name.text) {
                self.error(field.name.span, format!("the field `{}` stands here twice", field.name.text));
            }
        }
        self.mention(name.span, Some(name.span), MentionKind::Struct, &Type::Unknown);
        let index = self.structs.len();
        let fields = written.fields.iter().map(|field| field.name.text.clone()).collect();
        let ty =
            Arc::new(StructType { name: name.text.clone(), home, fields, types: OnceLock::new(), index: index as u32 });
        let fields = Arc::new(StructFields { ty: ty.clone(), types: Box::default(), sizes: Box::default() });
        self.structs.push(StructInfo { ty, span: name.span, fields, functions: Default::default() });
        if let Some(namespace) = self.namespaces.get_mut(self.namespace) {
            namespace.structs.insert(name.text.clone(), index as u32);
        }
        Some(index)
    }

    /// Whether a value of the struct needs another one of it.
    fn contains_itself(&self, index: usize) -> bool {
        let mut is_seen = vec![false; self.structs.len()];
        let mut pending = vec![index];
        while let Some(at) = pending.pop() {
            for ty in self.structs.get(at).iter().flat_map(|info| &info.fields.types) {
                let Declared::Struct(ty) = ty else { continue };
                let inner = ty.index as usize;
                if inner == index {
                    return true;
                }
                if is_seen.get_mut(inner).is_some_and(|seen| !std::mem::replace(seen, true)) {
                    pending.push(inner);
                }
            }
        }
        false
    }

    /// The declaration of a struct; none for a value of a session whose struct is declared differently now.
    pub(super) fn struct_info(&self, ty: &StructType) -> Option<&StructInfo> {
        self.structs.get(ty.index as usize).filter(|info| *info.ty == *ty)
    }

    /// The struct of that name here, or in an imported file.
    pub(super) fn find_struct(&self, module: Option<&ast::Name>, name: &str) -> Option<&StructInfo> {
        let names = match module {
            Some(module) => self.module(&module.text)?,
            None => self.names(),
        };
        self.structs.get(*names.structs.get(name)? as usize)
    }

    /// `Name { field: value, … }`
    pub(super) fn struct_literal(
        &mut self,
        module: Option<&ast::Name>,
        name: &ast::Name,
        written: &[(ast::Name, ast::Expr)],
        span: Span,
    ) -> Typed {
        let Some(info) = self.find_struct(module, &name.text) else {
            for (_, value) in written {
                self.expr(value);
            }
            match module {
                Some(module) if self.module(&module.text).is_some() => {
                    self.missing_in_module(&module.text, name, "struct");
                }
                Some(module) => self.error(module.span, format!("`{}` is not an imported file", module.text)),
                None => self.unknown_struct(name),
            }
            return error_value(span);
        };
        let (fields, declared_at) = (info.fields.clone(), info.span);
        self.mention(name.span, Some(declared_at), MentionKind::Struct, &Type::Unknown);
        let ty = &fields.ty;
        let mut values: Vec<Option<Typed>> = ty.fields.iter().map(|_| None).collect();
        for (field, value) in written {
            let value = self.expr(value);
            match ty.field_index(&field.text).and_then(|at| values.get_mut(at)) {
                Some(place @ None) => *place = Some(value),
                Some(Some(_)) => self.error(field.span, format!("`{}`: `{}` is given twice", ty.name, field.text)),
                None => self.unknown_struct_field(ty, field),
            }
        }
        let missing: Vec<String> = ty
            .fields
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.is_none())
            .map(|(field, _)| format!("`{field}`"))
            .collect();
        if !missing.is_empty() {
            let diagnostic = Diagnostic::error(span, format!("`{}` needs {}", ty.name, missing.join(" and ")));
            self.report(diagnostic.label(declared_at, "declared here"));
            return Typed::new(Expr::unit(span), Type::Struct(ty.clone()));
        }
        let sizes = vec![None; fields.sizes.len()];
        let mut bindings = Bindings { names: &fields.sizes, sizes, are_own: false };
        let mut parts = Vec::with_capacity(values.len());
        let mut known = Vec::with_capacity(values.len());
        for ((field, declared), value) in ty.fields.iter().zip(&fields.types).zip(values.into_iter().flatten()) {
            let size = |name: u32| bindings.sizes.get(name as usize).copied().flatten().unwrap_or(Size::Unknown);
            known.push(refined(declared_type(declared, &size), &value.ty, &value.known));
            parts.push(self.field_value(&fields, field, declared, value, &mut bindings, declared_at));
        }
        let (maker, ty) = (Box::new(Maker::Struct(fields.clone())), Type::Struct(ty.clone()));
        let expr = Expr::new(ExprKind::Make { maker, parts: parts.into() }, span);
        Typed { expr, ty, known: Known::elements(known) }
    }

    fn field_value(
        &mut self,
        fields: &StructFields,
        field: &str,
        declared: &Declared,
        value: Typed,
        bindings: &mut Bindings<'_>,
        declared_at: Span,
    ) -> Expr {
        if let Err(mismatch) = accepts(declared, &value.ty, &value.known, bindings) {
            let (wanted, given) = (show_declared(declared, &fields.sizes), self.show(&value.ty));
            let reason = in_brackets(&mismatch.reason);
            let message = format!("`{}`: `{field}` is {wanted}, and is given {given}{reason}", fields.ty.name);
            let mut diagnostic = Diagnostic::error(value.span(), message).label(declared_at, "declared here");
            diagnostic.code = mismatch.code;
            self.report(with_conversion_hint(diagnostic, declared, &value.ty));
        }
        value.expr
    }

    fn unknown_struct(&mut self, name: &ast::Name) {
        let mut diagnostic = Diagnostic::error(name.span, format!("unknown struct `{}`", name.text));
        if let Some(near) = crate::names::nearest(&name.text, self.names().structs.keys().map(|name| &**name)) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        } else if self.frame.scopes.find(&name.text).is_some() {
            diagnostic = diagnostic.hint("a block behind a condition begins with a statement, not with `name: …`");
        }
        self.report(diagnostic);
    }

    pub(super) fn unknown_struct_field(&mut self, ty: &StructType, field: &ast::Name) {
        let mut diagnostic = Diagnostic::error(field.span, format!("{} has no field `{}`", ty.name, field.text));
        if let Some(near) = crate::names::nearest(&field.text, ty.fields.iter().map(|field| &**field)) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        } else {
            let functions = self.struct_info(ty).map(|info| &info.functions);
            diagnostic = match functions.is_some_and(|functions| functions.contains_key(&field.text)) {
                true => diagnostic.hint(format!("it is a method: call it with `.{}(…)`", field.text)),
                false => diagnostic.hint(format!("its fields are {}", ty.fields.join(", "))),
            };
        }
        self.report(diagnostic);
    }

    /// The type of a struct's field.
    pub(super) fn struct_field(&self, ty: &StructType, name: &str) -> Option<Declared> {
        let info = self.struct_info(ty)?;
        info.fields.types.get(ty.field_index(name)?).cloned()
    }

    pub(super) fn struct_field_type(&self, ty: &StructType, name: &str) -> Option<Type> {
        self.struct_field(ty, name).map(|declared| declared_type(&declared, &|_| Size::Unknown))
    }

    /// `Name::function(arguments)`; `None` if there is no such struct.
    pub(super) fn struct_function(
        &mut self,
        module: Option<&ast::Name>,
        owner: &ast::Name,
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Option<Typed> {
        let declared_at = self.find_struct(module, &owner.text)?.span;
        self.mention(owner.span, Some(declared_at), MentionKind::Struct, &Type::Unknown);
        let info = self.find_struct(module, &owner.text)?;
        if let Some(index) = info.functions.get(&name.text).copied() {
            self.mention_function(index, name.span);
            return Some(self.function_call(index, None, arguments, span));
        }
        let near = crate::names::nearest(&name.text, info.functions.keys().map(|name| &**name)).map(str::to_owned);
        for argument in arguments {
            self.expr(&argument.value);
        }
        let mut diagnostic =
            Diagnostic::error(name.span, format!("the struct `{}` has no function `{}`", owner.text, name.text));
        if let Some(near) = near {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
        Some(error_value(span))
    }

    /// The only function of that name that a struct has.
    pub(super) fn only_method(&self, name: &str) -> Option<u32> {
        let mut found = self.structs.iter().filter_map(|info| info.functions.get(name).copied());
        found.next().filter(|_| found.next().is_none())
    }

    /// The function of that name of a value's struct.
    pub(super) fn function_of(&self, ty: &Type, name: &str) -> Option<u32> {
        let Type::Struct(ty) = ty else { return None };
        self.struct_info(ty)?.functions.get(name).copied()
    }

    /// `value.method(arguments)`, a call of the function with this index.
    pub(super) fn struct_method(
        &mut self,
        index: u32,
        receiver: Typed,
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Typed {
        let is_method = self
            .functions
            .get(index as usize)
            .is_some_and(|signature| signature.parameters.first().is_some_and(|first| &*first.name == SELF));
        if !is_method {
            let message = format!("`{}` does not begin with `self`, so it is no method", name.text);
            let hint = format!("call it with `{}::{}(…)`", self.show(&receiver.ty), name.text);
            self.report(Diagnostic::error(name.span, message).hint(hint));
            return error_value(span);
        }
        self.mention_function(index, name.span);
        self.function_call(index, Some(receiver), arguments, span)
    }
}
