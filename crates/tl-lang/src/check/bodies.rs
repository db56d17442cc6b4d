//! Bodies of functions, checked once more for the arguments of each call: with known sizes more errors are certain, and the
//! result's sizes are known.
//!
//! An instance is remembered by its arguments. Recursion, deep nesting and too much work end the search: the call has the
//! declared type then.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use tl_syntax::ast;
use tl_syntax::{Diagnostic, Label, Span};
use tl_tensor::ops::{Mark, Size, Sizes, Symbol, TensorType, mark_terms};

use crate::check::checker::{Checker, Frame, Signature};
use crate::check::conversions::refined;
use crate::check::instances::{Instance, Problem};
use crate::declared::declared_type;
use crate::types::{Known, Type};

/// The most instances of one function.
const MAX_OF_FUNCTION: usize = 256;

/// The most instances that are open where a function is checked for all calls: what happens further down is said there.
const MAX_DEPTH_IN_FUNCTIONS: usize = 4;

/// The most levels of syntax that are open in instances.
const MAX_HEIGHT: usize = 256;

impl Checker {
    /// The function's body, checked for these arguments. `sizes` are the values of the signature's names, as far as the
    /// arguments give them. `None`: it is not checked.
    pub(super) fn instance(
        &mut self,
        index: u32,
        arguments: Vec<(Type, Known)>,
        sizes: &[Option<Size>],
    ) -> Option<Rc<Instance>> {
        let known = self.instances.known.get(index as usize)?;
        if let Some(found) = known.iter().find(|known| known.arguments == arguments) {
            return Some(Rc::clone(found));
        }
        let body = Arc::clone(self.instances.bodies.get(index as usize)?);
        let height = self.instances.height + usize::from(body.body.height);
        let is_active = self.instances.active.contains(&index);
        let depth = self.instances.active.len();
        if depth == 0 {
            self.instances.is_in_function = self.frame.result.is_some();
        }
        let is_deep = self.instances.is_in_function && depth >= MAX_DEPTH_IN_FUNCTIONS;
        if is_active || is_deep || height > MAX_HEIGHT || known.len() >= MAX_OF_FUNCTION || !self.instances.has_room() {
            return None;
        }
        let head = self.functions.get(index as usize)?.clone();
        let mark = mark_terms();
        let outer_height = std::mem::replace(&mut self.instances.height, height);
        self.instances.active.push(index);
        let (result, problem) = self.check_instance(&head, &body, &arguments, sizes);
        self.instances.active.pop();
        self.instances.height = outer_height;
        let result = result.map(|(ty, known)| (without_new(&ty, mark), known_without_new(&known, mark)));
        let instance = Rc::new(Instance { arguments, result, problem });
        self.instances.known.get_mut(index as usize)?.push(Rc::clone(&instance));
        Some(instance)
    }

    fn check_instance(
        &mut self,
        head: &Signature,
        body: &ast::Function,
        arguments: &[(Type, Known)],
        sizes: &[Option<Size>],
    ) -> (Option<(Type, Known)>, Option<Problem>) {
        let frame = Frame {
            sizes: head.sizes.clone(),
            size_values: sizes.iter().zip(&head.sizes).map(|(size, name)| bound(*size, name)).collect(),
            result: Some(head.result.clone()),
            ..Frame::default()
        };
        let outer = std::mem::replace(&mut self.frame, frame);
        let outer_diagnostics = std::mem::take(&mut self.diagnostics);
        let outer_problems = std::mem::take(&mut self.problems);
        let outer_paths = std::mem::take(&mut self.optional_paths);
        let outer_quiet = std::mem::take(&mut self.quiet);
        let namespace = std::mem::replace(&mut self.namespace, head.namespace);
        let globals: Vec<_> = self.globals.iter().map(|global| (global.state.clone(), global.known.clone())).collect();
        self.only_shapes += 1;
        self.scopes().open();
        // A size name that the call leaves open still stands for one number: it becomes a symbol.
        let arguments = head.parameters.iter().zip(arguments).map(|(parameter, (ty, known))| {
            refined(declared_type(&parameter.ty, &|name| self.frame.size(name)), ty, known)
        });
        let arguments = arguments.collect();
        self.declare_parameters(head, body, arguments);
        self.result_block(&body.body, &head.result);
        self.scopes().close();
        self.only_shapes -= 1;
        for (global, (state, known)) in self.globals.iter_mut().zip(globals) {
            (global.state, global.known) = (state, known);
        }
        let frame = std::mem::replace(&mut self.frame, outer);
        let plain = std::mem::replace(&mut self.diagnostics, outer_diagnostics);
        let passed_on = std::mem::replace(&mut self.problems, outer_problems);
        (self.quiet, self.namespace, self.optional_paths) = (outer_quiet, namespace, outer_paths);
        let plain = plain.into_iter().map(|diagnostic| Problem { diagnostic, depth: 0 });
        (frame.returned, plain.chain(passed_on).min_by_key(|problem| problem.depth))
    }

    /// Reports the error of a call.
    pub(super) fn report_call(&mut self, instance: &Instance, name: &str, span: Span) {
        let Some(problem) = instance.problem.as_ref().filter(|_| self.quiet == 0) else { return };
        let mut problem = problem.clone();
        if let Some(first) = problem.diagnostic.labels.first_mut().filter(|label| label.text.is_empty()) {
            first.text = "here".into();
        }
        problem.diagnostic.labels.insert(0, Label { span, text: format!("in this call of `{name}`") });
        problem.depth += 1;
        self.problems.push(problem);
    }

    /// The errors of calls that are not reported nearer to the mistake.
    pub(super) fn call_errors(&mut self) -> Vec<Diagnostic> {
        let places = |diagnostic: &Diagnostic| diagnostic.labels.iter().map(|label| label.span).collect::<Vec<Span>>();
        let problems = std::mem::take(&mut self.problems);
        let calls: HashSet<Vec<Span>> = problems.iter().map(|problem| places(&problem.diagnostic)).collect();
        let plain = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(Diagnostic::span);
        let plain: HashSet<Span> = plain.collect();
        let is_nearest = |problem: &Problem| {
            let places = places(&problem.diagnostic);
            // The places of a call that leads to it are the last ones of its own.
            let of_calls = (1..places.len()).any(|at| places.get(at..).is_some_and(|rest| calls.contains(rest)));
            !of_calls && !places.get(1..).unwrap_or_default().iter().any(|place| plain.contains(place))
        };
        problems.into_iter().filter(is_nearest).map(|problem| problem.diagnostic).collect()
    }
}

fn bound(size: Option<Size>, name: &str) -> Size {
    match size {
        Some(Size::Unknown) | None => Size::symbol(name, Symbol::Dimension),
        Some(size) => size,
    }
}

/// The type without the symbols that the instance made: in another call they are other numbers.
fn without_new(ty: &Type, mark: Mark) -> Type {
    match ty {
        Type::Tensor(tensor) => Type::Tensor(tensor_without_new(tensor, mark)),
        Type::List(element) => Type::list(without_new(element, mark)),
        ty => ty.clone(),
    }
}

fn tensor_without_new(tensor: &TensorType, mark: Mark) -> TensorType {
    TensorType { dtype: tensor.dtype, sizes: tensor.sizes.as_ref().map(|sizes| sizes_without_new(sizes, mark)) }
}

fn sizes_without_new(sizes: &[Size], mark: Mark) -> Sizes {
    sizes.iter().map(|size| if size.is_older_than(mark) { *size } else { Size::Unknown }).collect()
}

fn known_without_new(known: &Known, mark: Mark) -> Known {
    match known {
        Known::Int(size) | Known::Range(size, _) if !size.is_older_than(mark) => Known::Nothing,
        Known::Range(_, end) if !end.is_older_than(mark) => Known::Nothing,
        Known::Ints(sizes) => Known::Ints(sizes_without_new(sizes, mark)),
        Known::Ids(sizes) => Known::Ids(sizes_without_new(sizes, mark)),
        Known::Elements(elements) => {
            let element = |(ty, known): &(Type, Known)| (without_new(ty, mark), known_without_new(known, mark));
            Known::elements(elements.iter().map(element))
        }
        Known::Optional(Some(tensor)) => Known::Optional(Some(tensor_without_new(tensor, mark))),
        known => known.clone(),
    }
}
