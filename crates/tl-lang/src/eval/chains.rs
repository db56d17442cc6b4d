//! Chains: elementwise operations in each other's arguments, computed in one pass.
//!
//! Operands are evaluated and shape rules applied in the order of the program, so errors are those of the operations one by
//! one. Only the elements are computed later: an operation that another one reads is a link, and the last operation computes
//! them all. Before an operation that cannot be a link, the links that it reads are computed.
//!
//! Operands stay on the stack of values until they have been read.

use smallvec::SmallVec;
use tl_device::Layout;
use tl_syntax::Span;
use tl_tensor::ops::{Arg, Kind, Link, MAX_LINKS, MAX_WAITING, apply_at, apply_chain, link_layout};

use crate::eval::calls::OperandLocation;
use crate::eval::error::{Evaluated, raise};
use crate::eval::evaluator::Evaluator;
use crate::ir::{Argument, ExprKind, OpCall};
use crate::library::BuiltinError;
use crate::value::Value;

/// The links so far, and the locations of their operands.
#[derive(Default)]
struct Chain<'e> {
    links: SmallVec<[Link; MAX_LINKS]>,
    /// One for each `Link::Operand`, in order.
    operands: SmallVec<[OperandLocation<'e>; MAX_LINKS]>,
}

/// An operand of a link.
struct Operand {
    /// Its first link.
    first: usize,
    /// The layout of a result that is not computed yet; `None` for a value.
    planned: Option<Layout>,
    /// Intermediate results that are held at once while it is computed.
    waiting: usize,
    span: Span,
}

impl<'e> Chain<'e> {
    /// Adds a value.
    fn value(&mut self, place: OperandLocation<'e>, span: Span) -> Operand {
        let first = self.links.len();
        self.links.push(Link::Operand);
        self.operands.push(place);
        Operand { first, planned: None, waiting: 1, span }
    }

    /// The operands of the links `first..end`.
    fn operands_of(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let count = |links: Option<&[Link]>| {
            links.unwrap_or_default().iter().filter(|link| matches!(link, Link::Operand)).count()
        };
        let before = count(self.links.get(..first));
        before..before + count(self.links.get(first..end))
    }
}

impl Evaluator<'_> {
    /// An elementwise operation some of whose operands are links.
    #[inline(never)]
    pub(super) fn chain(&mut self, call: &OpCall, span: Span) -> Evaluated<Value> {
        let height = self.stack.len();
        let mut chain = Chain::default();
        let operand = self.add_link(&mut chain, call, span)?;
        let value = match &operand.planned {
            Some(layout) => self.compute(&chain, 0, chain.links.len(), layout, span)?,
            // It was applied by itself, and its result is on top of the stack.
            None => self.stack.pop().unwrap_or_default(),
        };
        self.stack.truncate(height);
        Ok(value)
    }

    /// Evaluates an operation's operands and adds it to the chain, or applies it if it cannot be a link.
    fn add_link<'e>(&mut self, chain: &mut Chain<'e>, call: &'e OpCall, span: Span) -> Evaluated<Operand> {
        let height = self.stack.len();
        let mut operands: SmallVec<[Operand; 2]> = SmallVec::new();
        for (argument, param) in call.arguments.iter().zip(call.row.params) {
            let Argument::One(expr) = argument else { continue };
            operands.push(match &expr.kind {
                _ if param.kind == Kind::DType => continue,
                ExprKind::Op(inner) if inner.is_link && chain.links.len() < MAX_LINKS / 2 => {
                    self.add_link(chain, inner, expr.span)?
                }
                // The chain is full: this operation starts another one.
                ExprKind::Op(inner) if inner.is_link => {
                    let value = self.chain(inner, expr.span)?;
                    self.stack.push(value);
                    chain.value(OperandLocation::Stack(self.stack.len() - 1), expr.span)
                }
                _ => {
                    let place = self.operand(expr, param.kind, false)?;
                    chain.value(place, expr.span)
                }
            });
        }
        let Some(layout) = self.plan(chain, &operands, call, span)? else {
            let value = self.apply_unchained(chain, &mut operands, call, span)?;
            let first = operands.first().map_or(0, |operand| operand.first);
            let operands = chain.operands_of(first, chain.links.len());
            chain.operands.truncate(operands.start);
            chain.links.truncate(first);
            self.stack.truncate(height);
            self.stack.push(value);
            return Ok(chain.value(OperandLocation::Stack(height), span));
        };
        // An operand of another size would be computed again for each element that it is broadcast to.
        let is_full = chain.links.len() + 4 > MAX_LINKS;
        for at in (0..operands.len()).rev() {
            let Some(Operand { planned: Some(planned), waiting, .. }) = operands.get(at) else { continue };
            let is_other = planned.shape().checked_elems() != layout.shape().checked_elems();
            if is_other || is_full || at + waiting > MAX_WAITING {
                self.materialize(chain, &mut operands, at)?;
            }
        }
        chain.links.push(Link::Op(call.row, layout.dtype()));
        let first = operands.first().map_or(0, |operand| operand.first);
        let waiting = operands.iter().enumerate().map(|(at, operand)| at + operand.waiting).max().unwrap_or(1);
        Ok(Operand { first, planned: Some(layout), waiting, span })
    }

    /// The layout of the operation's result if it can be a link. Its shape rule may refuse the operands.
    fn plan(&self, chain: &Chain<'_>, operands: &[Operand], call: &OpCall, span: Span) -> Evaluated<Option<Layout>> {
        let arguments = self.link_arguments(chain, operands, call, span)?;
        let layout = link_layout(&mut call.site.borrow_mut(), call.row, self.device, &arguments);
        layout.map_err(|error| raise(BuiltinError::from(error), span))
    }

    /// An operation's arguments; those not computed yet are layouts.
    fn link_arguments<'s, 'e: 's>(
        &'s self,
        chain: &Chain<'e>,
        operands: &'s [Operand],
        call: &'s OpCall,
        span: Span,
    ) -> Evaluated<SmallVec<[Arg<'s>; 3]>> {
        let mut arguments = SmallVec::new();
        let mut operands = operands.iter();
        for (argument, param) in call.arguments.iter().zip(call.row.params) {
            arguments.push(match (argument, param.kind) {
                (Argument::One(expr), Kind::DType) if let Some(Value::DType(dtype)) = expr.constant() => {
                    Arg::DType(*dtype)
                }
                _ => match operands.next() {
                    Some(Operand { planned: Some(layout), .. }) => Arg::Planned(layout),
                    Some(operand) => {
                        let at = chain.operands_of(0, operand.first).end;
                        let place = chain.operands.get(at).copied().unwrap_or(OperandLocation::Missing);
                        self.argument(place, call.row, param, span)?
                    }
                    None => Arg::None,
                },
            });
        }
        Ok(arguments)
    }

    /// Applies an operation that cannot be a link, after computing its operands.
    fn apply_unchained(
        &mut self,
        chain: &mut Chain<'_>,
        operands: &mut [Operand],
        call: &OpCall,
        span: Span,
    ) -> Evaluated<Value> {
        for at in (0..operands.len()).rev() {
            self.materialize(chain, operands, at)?;
        }
        let arguments = self.link_arguments(chain, operands, call, span)?;
        self.device.set_location(crate::location::location(span));
        match apply_at(&mut call.site.borrow_mut(), call.row, self.device, &arguments) {
            Ok(raw) => Ok(Value::tensor(raw.into())),
            Err(error) => Err(raise(BuiltinError::from(error), span)),
        }
    }

    /// Computes an operand, which becomes a value, and drops the values that it read.
    fn materialize(&mut self, chain: &mut Chain<'_>, operands: &mut [Operand], at: usize) -> Evaluated<()> {
        let end = operands.get(at + 1).map_or(chain.links.len(), |next| next.first);
        let Some(Operand { first, planned: Some(layout), span, .. }) = operands.get(at) else { return Ok(()) };
        let (first, span) = (*first, *span);
        let value = self.compute(chain, first, end, layout, span)?;
        let places = chain.operands_of(first, end);
        for place in chain.operands.drain(places.clone()) {
            if let OperandLocation::Stack(read) = place
                && let Some(read) = self.stack.get_mut(read)
            {
                *read = Value::Absent;
            }
        }
        self.stack.push(value);
        chain.operands.insert(places.start, OperandLocation::Stack(self.stack.len() - 1));
        chain.links.drain(first + 1..end);
        if let Some(link) = chain.links.get_mut(first) {
            *link = Link::Operand;
        }
        for (index, operand) in operands.iter_mut().enumerate().skip(at) {
            if index == at {
                *operand = Operand { first, planned: None, waiting: 1, span };
            } else {
                operand.first -= end - first - 1;
            }
        }
        Ok(())
    }

    /// Computes the links `first..end`, the last of which stands at `span`.
    fn compute(&self, chain: &Chain<'_>, first: usize, end: usize, layout: &Layout, span: Span) -> Evaluated<Value> {
        let places = chain.operands.get(chain.operands_of(first, end)).unwrap_or_default();
        let operands: SmallVec<[Arg<'_>; MAX_LINKS]> = places
            .iter()
            .map(|place| match self.value_at(place) {
                Some(Value::Tensor(tensor)) => Arg::from(&**tensor),
                Some(Value::Int(n)) => Arg::Int(*n),
                Some(Value::Float(x)) => Arg::Number(*x),
                _ => Arg::None,
            })
            .collect();
        let links = chain.links.get(first..end).unwrap_or_default();
        self.device.set_location(crate::location::location(span));
        match apply_chain(self.device, &operands, links, layout) {
            Ok(raw) => Ok(Value::tensor(raw.into())),
            Err(error) => Err(raise(BuiltinError::from(error), span)),
        }
    }
}
