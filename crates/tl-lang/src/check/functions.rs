//! Signatures, the top level, and function bodies.
//!
//! Functions may use top-level variables. A first pass over all bodies, without reports, finds which ones; those are global, the
//! others are local to the top level and end at their last use. Then the top level is checked, which gives the globals their
//! types, and then the bodies.

use std::collections::HashMap;
use std::sync::Arc;

use tl_syntax::Diagnostic;
use tl_syntax::ast::{self, Item, StatementKind};

use crate::check::checker::{Checker, Global, Part, Signature};
use crate::check::files::LoadedFile;
use crate::check::mention::MentionKind;
use crate::check::mentions::first_place_of_size;
use crate::check::scope::{State, Variable, VariableLocation};
use crate::declared::{Declared, DeclaredDim, declared_type};
use crate::ir::{self, Block, Parameter, Program, Statement};
use crate::types::{HandleKind, Known, ModelPart, Type};
use tl_tensor::ops::{Size, Symbol, TensorType};

impl Checker {
    pub(super) fn program(&mut self, files: &[LoadedFile]) -> Program {
        self.open_namespaces(files);
        self.declare_structs(files);
        let bodies = self.signatures(files);
        self.top_level_names(files);
        self.session_names();
        if !self.globals.is_empty() || self.model.is_some() {
            self.quiet += 1;
            for (index, function) in bodies.iter().enumerate() {
                self.function_body(index, function);
            }
            self.quiet -= 1;
        }
        let globals = self.number_globals();
        let entry = self.entry(files);
        let body = |(index, function): (usize, &&ast::Function)| {
            let is_checked = self.is_checked_by_calls(index);
            self.reached_unless(is_checked, |checker| checker.function_body(index, function))
        };
        let functions = bodies.iter().enumerate().map(body).collect();
        Program { functions, entry, globals }
    }

    /// Whether the shapes in a function are those of its calls alone: with a model only what runs has to fit it.
    fn is_checked_by_calls(&self, index: usize) -> bool {
        let is_imported = index < self.instances.first_of_main;
        self.model.is_some() && (is_imported || self.instances.called.contains(&(index as u32)))
    }

    fn signatures<'a>(&mut self, files: &'a [LoadedFile]) -> Vec<&'a ast::Function> {
        let mut bodies = Vec::new();
        for (at, file) in files.iter().enumerate() {
            self.enter_file(at);
            if file.is_main {
                self.lint_file(file.id);
                self.instances.first_of_main = self.functions.len();
            }
            for item in &file.tree.items {
                match item {
                    Item::Function(function) => self.declare_function(None, function, &mut bodies),
                    Item::Impl(written) => self.declare_impl(written, &mut bodies),
                    _ => {}
                }
            }
        }
        bodies
    }

    /// What follows belongs to the file with this index.
    pub(super) fn enter_file(&mut self, at: usize) {
        self.namespace = self.file_namespaces.get(at).copied().unwrap_or(0);
    }

    fn declare_impl<'a>(&mut self, written: &'a ast::Impl, bodies: &mut Vec<&'a ast::Function>) {
        let owner = self.find_struct(None, &written.name.text).map(|info| (info.ty.index, info.span));
        if let Some((_, declared_at)) = owner {
            self.mention(written.name.span, Some(declared_at), MentionKind::Struct, &Type::Unknown);
        }
        let owner = owner.map(|(index, _)| index);
        if owner.is_none() && !written.name.text.is_empty() {
            let message = format!("there is no struct `{}`", written.name.text);
            let hint =
                format!("`struct {} {{ … }}` declares it, in this file or one that it imports", written.name.text);
            self.report(Diagnostic::error(written.name.span, message).hint(hint));
        }
        for function in &written.functions {
            self.declare_function(owner, function, bodies);
        }
    }

    fn declare_function<'a>(
        &mut self,
        owner: Option<u32>,
        function: &'a ast::Function,
        bodies: &mut Vec<&'a ast::Function>,
    ) {
        let name = &function.name.text;
        if name.is_empty() {
            return;
        }
        let owner = owner.and_then(|owner| self.structs.get(owner as usize));
        let first = match owner {
            Some(info) => info.functions.get(name),
            None => self.names().functions.get(name),
        };
        if let Some(first) = first {
            let first = self.functions.get(*first as usize).map(|signature| signature.span);
            let message = format!("the function `{name}` is declared twice");
            let diagnostic = Diagnostic::error(function.name.span, message);
            self.report(match first {
                Some(first) => diagnostic.label(first, "first here"),
                None => diagnostic,
            });
            return;
        }
        let index = self.functions.len() as u32;
        let full_name = match owner {
            Some(info) => format!("{}::{name}", info.ty.name).into(),
            None => name.clone(),
        };
        match owner.map(|info| info.ty.index as usize) {
            Some(owner) => {
                if let Some(info) = self.structs.get_mut(owner) {
                    info.functions.insert(name.clone(), index);
                }
            }
            None => {
                if let Some(namespace) = self.namespaces.get_mut(self.namespace) {
                    namespace.functions.insert(name.clone(), index);
                }
            }
        }
        let signature = Signature { name: full_name, ..self.signature(function) };
        self.functions.push(signature);
        self.instances.add_body(function);
        bodies.push(function);
    }

    fn signature(&mut self, function: &ast::Function) -> Signature {
        let mut sizes = Vec::new();
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in &function.parameters {
            let name = parameter.name.text.clone();
            if !name.is_empty() && parameters.iter().any(|other| other.name == name) {
                self.error(parameter.name.span, format!("the parameter `{name}` stands here twice"));
            }
            parameters.push(Parameter { name, ty: self.declared(&parameter.ty, Some(&mut sizes)) });
        }
        let result = function.result.as_ref().map_or(Declared::Unit, |ty| self.declared(ty, Some(&mut sizes)));
        for parameter in &function.parameters {
            let name = &parameter.name.text;
            if sizes.contains(name) {
                let message = format!("`{name}` is a parameter and a size at once");
                let hint = "give one of them another name: a size is an `int` in the body by itself";
                self.report(Diagnostic::error(parameter.name.span, message).hint(hint));
            }
        }
        let (name, span) = (function.name.text.clone(), function.name.span);
        Signature { name, span, parameters, result, sizes, namespace: self.namespace }
    }

    /// Collects the names that top-level statements declare.
    fn top_level_names(&mut self, files: &[LoadedFile]) {
        for (at, file) in files.iter().enumerate() {
            self.enter_file(at);
            for item in &file.tree.items {
                let Item::Statement(statement) = item else { continue };
                let (name, is_declaration) = match &statement.kind {
                    StatementKind::Let { name, .. } => (name, false),
                    StatementKind::Assign { target, declares: true, .. } => (&target.name, false),
                    StatementKind::Tensor(declaration) => (&declaration.name, true),
                    _ => continue,
                };
                let index = self.globals.len() as u32;
                let namespace = self.namespace;
                let Some(names) = self.namespaces.get_mut(namespace) else { continue };
                let (name, span) = (&name.text, name.span);
                if !(file.is_main || is_declaration) {
                    names.not_imported.insert(name.clone(), file.name.to_string());
                } else if !names.globals.contains_key(name) {
                    names.globals.insert(name.clone(), index);
                    self.globals.push(Global::new(name.clone(), namespace, span));
                }
            }
        }
    }

    /// Adds the names of variables from before.
    fn session_names(&mut self) {
        let namespace = self.main_namespace();
        for (name, ty) in std::mem::take(&mut self.variables) {
            let ty = self.redeclared(&ty);
            let next = self.globals.len() as u32;
            let Some(names) = self.namespaces.get_mut(namespace) else { continue };
            let index = *names.globals.entry(name.clone()).or_insert(next);
            if index == next {
                self.globals.push(Global::new(name.clone(), namespace, tl_syntax::Span::default()));
            }
            if let Some(global) = self.globals.get_mut(index as usize) {
                (global.state, global.is_used) = (Some(ty.clone()), true);
            }
            self.variables.push((name, ty));
        }
    }

    /// A type of a variable from before, with structs as they are declared now.
    fn redeclared(&self, ty: &Type) -> Type {
        match ty {
            Type::Struct(before) if before.home.is_none() => match self.find_struct(None, &before.name) {
                Some(info) => Type::Struct(info.ty.clone()),
                None => ty.clone(),
            },
            Type::List(element) => Type::list(self.redeclared(element)),
            Type::Map(key, value) => Type::map(self.redeclared(key), self.redeclared(value)),
            ty => ty.clone(),
        }
    }

    /// Declares the variables from before on the top level.
    fn declare_session(&mut self) {
        for (name, ty) in std::mem::take(&mut self.variables) {
            let Some(index) = self.names().globals.get(&name).copied() else { continue };
            let location = VariableLocation::Global(index);
            let state = self.state_of(location, ty, Known::Nothing);
            let variable = Variable { name, span: tl_syntax::Span::default(), location, declared: None };
            self.scopes().declare(variable, state);
        }
    }

    /// The namespace of the main file, which comes last.
    fn main_namespace(&self) -> usize {
        self.file_namespaces.last().copied().unwrap_or(0)
    }

    /// Keeps the top-level names that functions use, and of a session all, and numbers them.
    fn number_globals(&mut self) -> Vec<Arc<str>> {
        // Those of files imported with a name are read through that name, also outside functions.
        let main = self.main_namespace();
        self.globals.retain(|global| global.is_used || global.namespace != main || self.part == Part::Entry);
        self.namespaces.iter_mut().for_each(|names| names.globals.clear());
        for (index, global) in self.globals.iter().enumerate() {
            if let Some(names) = self.namespaces.get_mut(global.namespace) {
                names.globals.insert(global.name.clone(), index as u32);
            }
        }
        self.globals.iter().map(|global| global.name.clone()).collect()
    }

    /// The top level: tensor declarations of imported files, then the main file's statements and its `main`, or a test.
    fn entry(&mut self, files: &[LoadedFile]) -> ir::Function {
        self.frame = Default::default();
        self.frame.is_top_level = true;
        self.scopes().open();
        let mut body = Block::default();
        // Each namespace has names of its own, while the tensors of all files are made in the order of loading.
        let mut names_of = HashMap::new();
        self.enter_file(0);
        for (at, file) in files.iter().enumerate() {
            let before = self.namespace;
            self.enter_file(at);
            if self.namespace != before {
                let names = names_of.remove(&self.namespace).unwrap_or_default();
                let hidden = self.scopes().replace_names(names);
                names_of.insert(before, hidden);
            }
            if file.is_main {
                self.declare_session();
            }
            for (position, item) in file.tree.items.iter().enumerate() {
                let Item::Statement(statement) = item else { continue };
                match &statement.kind {
                    StatementKind::Expr(expr)
                        if self.part == Part::Entry && file.is_main && position + 1 == file.tree.items.len() =>
                    {
                        let value = self.expr(expr);
                        self.value_type = Some(self.show(&value.ty));
                        body.value = Some(Box::new(value.expr));
                    }
                    kind if file.is_main || matches!(kind, StatementKind::Tensor(_)) => {
                        self.statement(statement, &mut body.statements);
                    }
                    _ => {}
                }
            }
        }
        self.frame.is_top_level = false;
        self.blocks(files, &mut body);
        self.scopes().close();
        let span = tl_syntax::Span::default();
        self.finish(Signature { name: "main".into(), result: Declared::Unit, ..empty_signature(span) }, body)
    }

    /// The blocks of the main file that the part has, after its top level.
    fn blocks(&mut self, files: &[LoadedFile], body: &mut Block) {
        let mut first_main = None;
        let mut tests: Vec<&ast::Name> = Vec::new();
        for item in files.iter().filter(|file| file.is_main).flat_map(|file| &file.tree.items) {
            match item {
                Item::Main(main) if matches!(self.part, Part::Main | Part::Whole) => {
                    if let Some(first) = first_main {
                        let diagnostic = Diagnostic::error(main.span, "there is more than one `main`");
                        self.report(diagnostic.label(first, "first here"));
                        continue;
                    }
                    first_main = Some(main.span);
                    self.last_block(&main.body, body);
                }
                Item::Test(test) => {
                    if self.part == Part::Test(tests.len()) || self.part == Part::Whole {
                        self.last_block(&test.body, body);
                    }
                    if self.part == Part::Whole
                        && let Some(first) = tests.iter().find(|first| first.text == test.name.text)
                    {
                        let message = format!("there is more than one test {:?}", &*test.name.text);
                        self.report(Diagnostic::error(test.name.span, message).label(first.span, "first here"));
                    }
                    tests.push(&test.name);
                }
                _ => {}
            }
        }
    }

    /// A block that follows on the top level. Nothing that it does is seen by another one.
    fn last_block(&mut self, block: &ast::Block, body: &mut Block) {
        let before = self.scopes().snapshot();
        let (checked, _) = self.block_for_effect(block);
        self.scopes().restore(before);
        let kind = ir::ExprKind::Block(checked);
        body.statements.push(Statement::Expr(ir::Expr::new(kind, block.span)));
    }

    fn function_body(&mut self, index: usize, function: &ast::Function) -> ir::Function {
        let Some(signature) = self.functions.get(index) else {
            return self.finish(empty_signature(function.name.span), Block::default());
        };
        let head = signature.clone();
        self.namespace = head.namespace;
        self.frame = Default::default();
        self.frame.sizes = head.sizes.clone();
        self.frame.result = Some(head.result.clone());
        self.frame.size_values = own_sizes(&head, self.model.is_none());
        let values = head.parameters.iter().map(|parameter| self.open_value(parameter)).collect();
        self.scopes().open();
        self.mention(function.name.span, Some(function.name.span), MentionKind::Function, &Type::Unknown);
        self.mention_sizes(function);
        self.declare_parameters(&head, function, values);
        let body = self.result_block(&function.body, &head.result);
        self.scopes().close();
        self.finish(head, body)
    }

    /// What a body knows of a parameter whatever the call: a `?` and an int are one number all the time.
    fn open_value(&self, parameter: &Parameter) -> (Type, Known) {
        let mut ty = declared_type(&parameter.ty, &|name| self.frame.size(name));
        if let Type::Tensor(TensorType { sizes: Some(sizes), .. }) = &mut ty {
            for size in sizes.iter_mut().filter(|size| **size == Size::Unknown) {
                *size = Size::symbol("?", Symbol::Dimension);
            }
        }
        let known = match ty {
            Type::Int => Known::Int(Size::symbol(&parameter.name, Symbol::Int)),
            Type::Handle(HandleKind::Model) => match &self.model {
                Some(model) => Known::Model(ModelPart::Whole(model.clone())),
                None => Known::Nothing,
            },
            _ => Known::Nothing,
        };
        (ty, known)
    }

    /// Declares the parameters with these values, and the signature's sizes.
    pub(super) fn declare_parameters(
        &mut self,
        head: &Signature,
        function: &ast::Function,
        values: Vec<(Type, Known)>,
    ) {
        let span = |at: usize| function.parameters.get(at).map_or(head.span, |parameter| parameter.name.span);
        for (ty, _) in &values {
            self.frame.new_slot(ty);
        }
        for (index, name) in head.sizes.iter().enumerate() {
            let slot = self.frame.new_slot(&Type::Int);
            if !head.parameters.iter().any(|parameter| mentions(&parameter.ty, index as u32)) {
                // Only the result's type has it, so it has no value in the body.
                continue;
            }
            let variable = Variable {
                name: name.clone(),
                span: first_place_of_size(function, name).unwrap_or(head.span),
                location: VariableLocation::Slot(slot),
                declared: None,
            };
            let size = self.frame.size(index as u32);
            self.scopes().declare(variable, State::of(Type::Int, Known::Int(size)));
        }
        for (at, (parameter, (ty, known))) in head.parameters.iter().zip(values).enumerate() {
            let declared = Some(parameter.ty.clone());
            self.mention(span(at), Some(span(at)), MentionKind::Parameter, &ty);
            let variable = Variable {
                name: parameter.name.clone(),
                span: span(at),
                location: VariableLocation::Slot(at as u32),
                declared,
            };
            self.scopes().declare(variable, State::of(ty, known));
        }
    }
}

fn empty_signature(span: tl_syntax::Span) -> Signature {
    let (parameters, sizes) = (Vec::new(), Vec::new());
    Signature { name: "".into(), span, parameters, result: Declared::Unknown, sizes, namespace: 0 }
}

/// The sizes of a signature as its body sees them. Each stands for all sizes, unless it is known with which model the program
/// runs; one that only the result has is whatever the body gives.
fn own_sizes(head: &Signature, are_rigid: bool) -> Vec<Size> {
    let value = |(index, name): (usize, &Arc<str>)| {
        let is_given = head.parameters.iter().any(|parameter| mentions(&parameter.ty, index as u32));
        Size::symbol(name, if is_given && are_rigid { Symbol::Rigid } else { Symbol::Dimension })
    };
    head.sizes.iter().enumerate().map(value).collect()
}

/// Whether a written type mentions the size name.
fn mentions(declared: &Declared, index: u32) -> bool {
    match declared {
        Declared::Tensor(_, dims) => dims.contains(&DeclaredDim::Named(index)),
        Declared::List(inner) | Declared::Optional(inner) => mentions(inner, index),
        Declared::Map(key, value) => mentions(key, index) || mentions(value, index),
        _ => false,
    }
}
