//! The names that the files of a program share. Files that import each other without `as` are one namespace; a file imported
//! with `as` is another, whose names stand behind that of the import.

use std::collections::HashMap;

use tl_syntax::ast;
use tl_syntax::{Diagnostic, Span};

use crate::check::checker::{Checker, error_value};
use crate::check::declarations::Namespace;
use crate::check::files::LoadedFile;
use crate::check::typed::Typed;
use crate::ir::{Expr, ExprKind};
use crate::library;
use crate::types::Type;

/// The number of each file's namespace.
pub(super) fn number(files: &[LoadedFile]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..files.len()).collect();
    for (at, file) in files.iter().enumerate() {
        for import in file.imports.iter().filter(|import| import.alias.is_none()) {
            let (Some(&a), Some(&b)) = (group.get(at), group.get(import.file)) else { continue };
            group.iter_mut().filter(|group| **group == b).for_each(|group| *group = a);
        }
    }
    let mut numbers = HashMap::new();
    group
        .into_iter()
        .map(|group| {
            let next = numbers.len();
            *numbers.entry(group).or_insert(next)
        })
        .collect()
}

impl Checker {
    pub(super) fn open_namespaces(&mut self, files: &[LoadedFile]) {
        self.file_namespaces = number(files);
        let count = self.file_namespaces.iter().max().map_or(1, |last| last + 1);
        self.namespaces.resize_with(count, Namespace::default);
        for (at, file) in files.iter().enumerate() {
            for import in &file.imports {
                let Some(alias) = &import.alias else { continue };
                let target = self.file_namespaces.get(import.file).copied().unwrap_or(0);
                let own = self.file_namespaces.get(at).copied().unwrap_or(0);
                let Some(namespace) = self.namespaces.get_mut(own) else { continue };
                let before = namespace.modules.insert(alias.text.clone(), target);
                if before.is_some_and(|before| before != target) {
                    self.error(alias.span, format!("`{}` names two imported files", alias.text));
                }
            }
        }
    }

    /// The namespace of the code that is being checked.
    pub(super) fn names(&self) -> &Namespace {
        // Namespaces are opened before anything is checked.
        static EMPTY: std::sync::LazyLock<Namespace> = std::sync::LazyLock::new(Namespace::default);
        self.namespaces.get(self.namespace).unwrap_or(&EMPTY)
    }

    /// The namespace of an imported file's name, unless a variable has that name.
    pub(super) fn module(&self, name: &str) -> Option<&Namespace> {
        if self.frame.scopes.find(name).is_some() {
            return None;
        }
        self.namespaces.get(*self.names().modules.get(name)?)
    }

    /// `module.name(arguments)`; `None` if the receiver is not an imported file.
    pub(super) fn module_call(
        &mut self,
        receiver: &ast::Expr,
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Option<Typed> {
        let ast::ExprKind::Name(module) = &receiver.kind else { return None };
        let found = self.module(module)?.functions.get(&name.text).copied();
        Some(match found {
            Some(index) => {
                self.mention_function(index, name.span);
                self.function_call(index, None, arguments, span)
            }
            None => {
                for argument in arguments {
                    self.expr(&argument.value);
                }
                self.missing_in_module(module, name, "function");
                error_value(span)
            }
        })
    }

    /// `module.NAME`, a tensor that an imported file declares; `None` if the receiver is not an imported file.
    pub(super) fn module_variable(&mut self, receiver: &ast::Expr, name: &ast::Name, span: Span) -> Option<Typed> {
        let ast::ExprKind::Name(module) = &receiver.kind else { return None };
        let found = self.module(module)?.globals.get(&name.text).copied();
        let Some(index) = found else {
            self.missing_in_module(module, name, "tensor");
            return Some(error_value(span));
        };
        let global = self.globals.get_mut(index as usize)?;
        global.is_used = true;
        let ty = global.state.clone().unwrap_or(Type::Unknown);
        self.mention_global(index, name.span, &ty);
        Some(Typed::new(Expr::new(ExprKind::Global { index, last: false }, span), ty.widened()))
    }

    pub(super) fn missing_in_module(&mut self, module: &str, name: &ast::Name, what: &str) {
        let Some(names) = self.module(module) else { return };
        let known: Vec<&str> = names
            .functions
            .keys()
            .chain(names.structs.keys())
            .chain(names.globals.keys())
            .map(|name| &**name)
            .collect();
        let near = crate::names::nearest(&name.text, known.iter().copied()).map(str::to_owned);
        let mut diagnostic = Diagnostic::error(name.span, format!("`{module}` has no {what} `{}`", name.text));
        if let Some(near) = near {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        } else if library::is_known(&name.text) {
            diagnostic = diagnostic.hint(format!("`{0}` is a builtin: call it without `{module}.`", name.text));
        }
        self.report(diagnostic);
    }
}
