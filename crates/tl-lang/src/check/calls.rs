//! Calls: the callee is found, arguments are bound to its parameters, and their types checked.

use std::sync::Arc;

use smallvec::SmallVec;
use tl_syntax::ast;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::ops::{Kind, Size};

use crate::check::binding::{ArgumentValue, BoundArguments, ParamSlot};
use crate::check::checker::{Checker, error_value};
use crate::check::conversions::{in_brackets, refined, with_conversion_hint};
use crate::check::known_values::loosen;
use crate::check::mention::MentionKind;
use crate::check::scope::State;
use crate::check::typed::{Bindings, Typed, accepts};
use crate::declared::{Declared, declared_type, show_declared};
use crate::ir::{Argument, Expr, ExprKind, RecycleTarget};
use crate::library::{self, ArgTypes, Builtin, ParamKind};
use crate::relations::{BUILTIN_PREFIX, CAST_LIKE};
use crate::types::{HandleKind, Known, Type};

impl Checker {
    pub(super) fn call(
        &mut self,
        (module, qualifier): (Option<&ast::Name>, Option<&ast::Name>),
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Typed {
        if let Some(qualifier) = qualifier {
            if let Some(value) = self.struct_function(module, qualifier, name, arguments, span) {
                return value;
            }
            let full = format!("{}::{}", qualifier.text, name.text);
            self.mention(name.span, None, MentionKind::Builtin, &Type::Unknown);
            return match library::builtin(&full) {
                Some(row) => {
                    let values = self.argument_values(None, arguments);
                    self.builtin_call(row, values, span)
                }
                None => {
                    self.unknown_function(&full, qualifier.span.to(name.span), arguments);
                    error_value(span)
                }
            };
        }
        if &*name.text == CAST_LIKE {
            return self.cast_like(arguments, span);
        }
        if let Some(builtin) = name.text.strip_prefix(BUILTIN_PREFIX) {
            let name = ast::Name { text: builtin.into(), span: name.span };
            return self.library_call(&name, None, arguments, span);
        }
        if let Some(index) = self.names().functions.get(&name.text).copied() {
            self.mention_function(index, name.span);
            return self.function_call(index, None, arguments, span);
        }
        self.library_call(name, None, arguments, span)
    }

    /// A call of an operation or a builtin. On plain numbers, some operations are builtins of the same name.
    fn library_call(
        &mut self,
        name: &ast::Name,
        receiver: Option<Typed>,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Typed {
        let op = tl_tensor::ops::by_name(&name.text);
        let mut rows = library::builtins(&name.text);
        let (row, other) = (rows.next(), rows.next());
        let values = match (op, row) {
            (None, None) => {
                self.unknown_function(&name.text, name.span, arguments);
                return error_value(span);
            }
            _ => {
                self.mention(name.span, None, MentionKind::Builtin, &Type::Unknown);
                self.argument_values(receiver, arguments)
            }
        };
        // Of several functions of one name, the call means the first that takes such values.
        let row = match (op, other) {
            (None, None) => row,
            _ => library::builtins(&name.text).find(|row| accepts_call(row, &values)).or(row.filter(|_| op.is_none())),
        };
        match (op, row) {
            (_, Some(row)) => self.builtin_call(row, values, span),
            (Some(op), None) => {
                let slots: SmallVec<[ParamSlot<'_>; 8]> = op.params.iter().map(op_slot).collect();
                let bound = self.bind(&name.text, &slots, values, span);
                if !bound.is_complete {
                    return error_value(span);
                }
                self.op(op, with_rest(bound, span), span)
            }
            (None, None) => error_value(span),
        }
    }

    fn unknown_function(&mut self, name: &str, span: Span, arguments: &[ast::Argument]) {
        for argument in arguments {
            self.expr(&argument.value);
        }
        let mut diagnostic = Diagnostic::error(span, format!("unknown function `{name}`"));
        let own = self.names().functions.keys().map(|name| &**name);
        let known = own.chain(library::function_names().map(|name| -> &str { name }));
        let near = crate::names::nearest(name, known).map(str::to_owned);
        if self.names().structs.contains_key(name) {
            diagnostic = diagnostic.hint(format!("`{name}` is a struct: `{name} {{ field: value, … }}` makes one"));
        } else if let Some(near) = near {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
    }

    pub(super) fn method(
        &mut self,
        receiver: &ast::Expr,
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Typed {
        if let Some(value) = self.module_call(receiver, name, arguments, span) {
            return value;
        }
        let receiver_name = match &receiver.kind {
            ast::ExprKind::Name(name) => Some(name.clone()),
            _ => None,
        };
        let receiver = self.expr(receiver);
        if let Some(index) = self.function_of(&receiver.ty, &name.text) {
            return self.struct_method(index, receiver, name, arguments, span);
        }
        if let Type::Handle(kind) = receiver.ty {
            self.mention_method(name.span, kind);
            if kind == HandleKind::TensorBuffer {
                if &*name.text == "recycle" {
                    return self.recycle(receiver, arguments, span);
                }
                if let Some(value) = self.creating_method(&receiver, name, arguments, span) {
                    return self.with_buffer(receiver, value, &name.text, span);
                }
            }
            if let Some(row) = library::method(kind, &name.text) {
                let values = self.argument_values(Some(receiver), arguments);
                return self.builtin_call(row, values, span);
            }
        }
        if matches!(receiver.ty, Type::Unknown)
            && library::builtin(&name.text).is_none()
            && tl_tensor::ops::by_name(&name.text).is_none()
        {
            // The receiver's type is unknown; if that is an error, it was reported.
            if let Some(row) = library::any_method(&name.text) {
                let values = self.argument_values(Some(receiver), arguments);
                return self.builtin_call(row, values, span);
            }
            if let Some(index) = self.only_method(&name.text) {
                return self.function_call(index, Some(receiver), arguments, span);
            }
        }
        if library::is_known(&name.text) {
            return self.library_call(name, Some(receiver), arguments, span);
        }
        self.unknown_method(&receiver, receiver_name, name, arguments);
        error_value(span)
    }

    fn unknown_method(
        &mut self,
        receiver: &Typed,
        receiver_name: Option<Arc<str>>,
        name: &ast::Name,
        arguments: &[ast::Argument],
    ) {
        for argument in arguments {
            self.expr(&argument.value);
        }
        let message = format!("{} has no method `{}`", self.show(&receiver.ty), name.text);
        let mut diagnostic = Diagnostic::error(name.span, message);
        let methods: Vec<&str> = match &receiver.ty {
            Type::Handle(kind) => library::method_names(*kind),
            Type::Struct(ty) => {
                let info = self.struct_info(ty);
                info.into_iter().flat_map(|info| info.functions.keys()).map(|name| &**name).collect()
            }
            _ => Vec::new(),
        };
        if self.names().functions.contains_key(&name.text) {
            let receiver = receiver_name.as_deref().unwrap_or("x").to_string();
            diagnostic =
                diagnostic.hint(format!("`{0}` is a function of this program: `{0}({receiver}, …)`", name.text));
        } else if let Some(near) = crate::names::nearest(
            &name.text,
            methods.into_iter().chain(library::function_names().map(|name| -> &str { name })),
        ) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
    }

    /// Methods such as `buf.zeros(shape)`: a builtin that makes a tensor, run with the buffer.
    fn creating_method(
        &mut self,
        receiver: &Typed,
        name: &ast::Name,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Option<Typed> {
        let creating = name.text.strip_suffix("_learnable").unwrap_or(&name.text);
        if !library::makes_tensors(creating) || receiver.ty.is_open() {
            return None;
        }
        let name = ast::Name { text: creating.into(), span: name.span };
        Some(self.library_call(&name, None, arguments, span))
    }

    fn with_buffer(&mut self, buffer: Typed, value: Typed, name: &str, span: Span) -> Typed {
        let mut body = value.expr;
        if name.ends_with("_learnable") {
            body = Expr::new(ExprKind::Learnable(Box::new(body)), span);
        }
        let kind = ExprKind::With { buffer: Box::new(buffer.expr), body: Box::new(body) };
        Typed { expr: Expr::new(kind, span), ty: value.ty, known: value.known }
    }

    /// `buf.recycle(t)`, which ends the variable.
    fn recycle(&mut self, buffer: Typed, arguments: &[ast::Argument], span: Span) -> Typed {
        let [ast::Argument { name: None, value }] = arguments else {
            self.report(Diagnostic::error(span, "`recycle` takes one tensor").hint("as in `buf.recycle(t)`"));
            return error_value(span);
        };
        let target = self.expr(value);
        if !target.ty.may_be_tensor() {
            let message = format!("`recycle` takes a tensor, not {}", self.show(&target.ty));
            self.error(target.span(), message);
        }
        if let ast::ExprKind::Name(name) = &value.kind
            && let Some(id) = self.scopes().find(name)
            && let Some(state) = self.state(id).cloned()
        {
            self.scopes().set(id, State { recycled: Some(span), ..state });
            self.frame.assigned.push(id);
        }
        let target = match target.expr.kind {
            ExprKind::Local { slot, name, .. } => RecycleTarget::Local { slot, name },
            ExprKind::Global { index, .. } => RecycleTarget::Global { index },
            kind => RecycleTarget::Temporary(Box::new(Expr::new(kind, target.expr.span))),
        };
        let kind = ExprKind::Recycle { buffer: Box::new(buffer.expr), target };
        Typed::new(Expr::new(kind, span), Type::Unit)
    }

    pub(super) fn function_call(
        &mut self,
        index: u32,
        receiver: Option<Typed>,
        arguments: &[ast::Argument],
        span: Span,
    ) -> Typed {
        let Some(signature) = self.functions.get(index as usize) else { return error_value(span) };
        let name = signature.name.clone();
        let parameters: Vec<(Arc<str>, Declared)> =
            signature.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.ty.clone())).collect();
        let (result, sizes, declared_at) = (signature.result.clone(), signature.sizes.clone(), signature.span);
        let slots: Vec<ParamSlot<'_>> =
            parameters.iter().map(|(name, _)| ParamSlot { name, is_required: true, is_rest: false }).collect();
        let values = self.argument_values(receiver, arguments);
        let bound = self.bind(&name, &slots, values, span);
        let mut bindings = Bindings { names: &sizes, sizes: vec![None; sizes.len()], are_own: false };
        let mut values = Vec::with_capacity(parameters.len());
        let mut given = Vec::with_capacity(parameters.len());
        let mut fits = bound.is_complete;
        for ((parameter, declared), value) in parameters.iter().zip(bound.arguments) {
            let Some(value) = value else { continue };
            if let Err(mismatch) = accepts(declared, &value.ty, &value.known, &mut bindings) {
                let (wanted, shown, reason) =
                    (show_declared(declared, &sizes), self.show(&value.ty), in_brackets(&mismatch.reason));
                let message = format!("`{name}`: `{parameter}` is {wanted}, and is given {shown}{reason}");
                let mut diagnostic = Diagnostic::error(value.span(), message).label(declared_at, "declared here");
                diagnostic.code = mismatch.code;
                self.report(with_conversion_hint(diagnostic, declared, &value.ty));
                fits = false;
            }
            given.push((value.ty, value.known));
            values.push(value.expr);
        }
        let bound_sizes = bindings.sizes;
        let size = |name: u32| bound_sizes.get(name as usize).copied().flatten().unwrap_or(Size::Unknown);
        let ty = declared_type(&result, &size);
        if !bound.is_complete {
            return Typed::new(Expr::unit(span), ty);
        }
        let kind = ExprKind::Call { function: index, arguments: values.into() };
        let call = Typed::new(Expr::new(kind, span), ty);
        self.instances.called.insert(index);
        if !fits || self.dead > 0 {
            return call;
        }
        let arguments = parameters
            .iter()
            .zip(&given)
            .map(|((_, declared), (ty, known))| refined(declared_type(declared, &size), ty, known));
        match self.instance(index, arguments.collect(), &bound_sizes) {
            Some(instance) => {
                self.report_call(&instance, &name, span);
                match &instance.result {
                    Some((ty, known)) => {
                        let (ty, known) = refined(call.ty, ty, known);
                        Typed { expr: call.expr, ty, known }
                    }
                    None => call,
                }
            }
            None => {
                // What the function compares is not known.
                given.iter().for_each(|(ty, known)| loosen(ty, known));
                call
            }
        }
    }

    fn builtin_call(&mut self, row: &'static Builtin, values: Vec<ArgumentValue<'_>>, span: Span) -> Typed {
        let slots: SmallVec<[ParamSlot<'_>; 8]> = row.params.iter().map(builtin_slot).collect();
        let bound = self.bind(row.name, &slots, values, span);
        if !bound.is_complete {
            // The result's kind is known all the same, which prevents errors that follow from this one.
            return Typed::new(Expr::unit(span), (row.result)(&ArgTypes(&[])).0);
        }
        self.builtin_with(row, bound, span)
    }

    fn builtin_with(&mut self, row: &'static Builtin, bound: BoundArguments, span: Span) -> Typed {
        let mut arguments = bound.arguments;
        arguments.truncate(row.params.len());
        for (param, argument) in row.params.iter().zip(&mut arguments) {
            if let Some(value) = argument.take() {
                *argument = Some(self.builtin_argument(row, param, value));
            }
        }
        if row.name.starts_with("assert") {
            arguments.iter().flatten().for_each(|value| loosen(&value.ty, &value.known));
        }
        let types = known_types(&arguments);
        if let Err(error) = (row.rule)(&ArgTypes(&types)) {
            let mut diagnostic = Diagnostic::error(span, error.message);
            diagnostic.code = error.code;
            self.report(diagnostic);
        }
        let result = (row.result)(&ArgTypes(&types));
        drop(types);
        let (ty, known) = self.builtin_constant(row, &arguments, span).unwrap_or(result);
        let mut rest = Some(bound.rest);
        let arguments = row.params.iter().zip(arguments).map(|(param, argument)| match argument {
            None if matches!(param.kind, ParamKind::Rest) => {
                Argument::Several(rest.take().unwrap_or_default().into_iter().map(|value| value.expr).collect())
            }
            None => Argument::Missing,
            Some(value) => Argument::One(value.expr),
        });
        let kind = ExprKind::Builtin { row, arguments: arguments.collect() };
        Typed { expr: Expr::new(kind, span), ty, known }
    }

    fn builtin_argument(&mut self, row: &Builtin, param: &library::Param, value: Typed) -> Typed {
        let fits = match (&param.kind, &value.ty) {
            (_, Type::Unknown | Type::Never) | (ParamKind::Any | ParamKind::Rest, _) => true,
            (ParamKind::Int, Type::Int)
            | (ParamKind::Number, Type::Int | Type::Float)
            | (ParamKind::Bool, Type::Bool) => true,
            (ParamKind::Text, Type::Str) | (ParamKind::DType, Type::Dtype) | (ParamKind::Ints, Type::Int) => true,
            (ParamKind::Ints, Type::List(element)) => matches!(**element, Type::Int | Type::Unknown),
            (ParamKind::Texts, Type::List(element)) => matches!(**element, Type::Str | Type::Unknown),
            (ParamKind::List, Type::List(_)) | (ParamKind::Map, Type::Map(..)) => true,
            (ParamKind::Tensor, ty) if ty.may_become_tensor() => return self.tensor_of(value, tl_device::DType::F16),
            (ParamKind::Tensor, Type::Optional) => param.default.is_some(),
            (ParamKind::Tensor, ty) => ty.may_be_tensor(),
            (ParamKind::Handle(kind), Type::Handle(given)) => kind == given,
            (ParamKind::ModelOrPath, ty) => matches!(ty, Type::Str | Type::Handle(HandleKind::Model)),
            _ => false,
        };
        if !fits {
            let (wanted, given) = (param.kind.describe(), self.show(&value.ty));
            let message = format!("`{}`: `{}` must be {wanted}, and is given {given}", row.name, param.name);
            self.error(value.span(), message);
        }
        value
    }
}

/// The arguments; those of the rest parameter, if there are any, as a list in its place, which is the last.
fn with_rest(bound: BoundArguments, span: Span) -> Vec<Option<Typed>> {
    let BoundArguments { mut arguments, rest, .. } = bound;
    if let Some(last) = arguments.last_mut().filter(|_| !rest.is_empty()) {
        let element = rest.iter().fold(Type::Never, |joined, value| joined.join(&value.ty));
        let (known, exprs): (Vec<(Type, Known)>, Vec<Expr>) =
            rest.into_iter().map(|value| ((value.ty, value.known), value.expr)).unzip();
        let list = Typed::new(Expr::new(ExprKind::List(exprs.into()), span), Type::list(element));
        *last = Some(Typed { known: Known::elements(known), ..list });
    }
    arguments
}

/// Types and known values of arguments, for a row's result rule.
fn known_types(arguments: &[Option<Typed>]) -> SmallVec<[Option<(&Type, &Known)>; 8]> {
    arguments.iter().map(|argument| argument.as_ref().map(|value| (&value.ty, &value.known))).collect()
}

/// Whether a call means this builtin and not the operation, or the other builtin, of that name.
fn accepts_call(row: &Builtin, arguments: &[ArgumentValue<'_>]) -> bool {
    arguments.iter().enumerate().all(|(at, (name, value))| {
        let param = match name {
            Some(name) => row.params.iter().find(|param| param.name == &*name.text),
            None => row.params.get(at),
        };
        match param.map(|param| param.kind) {
            Some(ParamKind::Number) => value.ty.is_number(),
            // The row itself finds out what a value of unknown type is.
            Some(ParamKind::List) => matches!(value.ty, Type::List(_) | Type::Unknown),
            Some(ParamKind::Text) => value.ty == Type::Str,
            Some(ParamKind::Bool) => value.ty == Type::Bool,
            Some(ParamKind::Int) => value.ty == Type::Int,
            Some(ParamKind::Tensor) => value.ty.may_be_tensor() || value.ty.may_become_tensor(),
            _ => false,
        }
    })
}

/// A list of tensors that may be left out takes all further arguments.
fn op_slot(param: &tl_tensor::ops::Param) -> ParamSlot<'_> {
    let is_required = param.default.is_none();
    ParamSlot { name: param.name, is_required, is_rest: param.kind == Kind::Tensors && !is_required }
}

fn builtin_slot(param: &library::Param) -> ParamSlot<'_> {
    ParamSlot { name: param.name, is_required: param.default.is_none(), is_rest: matches!(param.kind, ParamKind::Rest) }
}
