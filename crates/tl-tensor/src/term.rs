//! Expressions over named sizes, in a normal form: polynomials with whole coefficients, whose variables are symbols. A quotient
//! that is not exact is a symbol of its own, so that equal quotients are equal.
//!
//! The expressions of a check lie in a table of its thread, so that a size is a number that can be copied. [`clear`] empties it. No
//! running program makes terms.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

/// An expression, by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Term(u32);

/// A number or an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Number {
    Known(i64),
    Term(Term),
}

/// What a symbol may be equal to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symbol {
    /// A size that stands for all sizes: nothing else is equal to it.
    Rigid,
    /// A size that may turn out equal to anything but 0: what works with nothing only is wrong.
    Dimension,
    /// A number that may turn out equal to anything, and may be negative.
    Int,
}

/// A point in the sequence of symbols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(usize);

/// The most terms and symbols of a check; beyond them sizes are unknown.
const MAX_TERMS: usize = 1 << 17;

/// The most products that are added up in one expression, and factors in one product.
const MAX_PRODUCTS: usize = 24;
const MAX_FACTORS: usize = 8;

/// The longest text of a quotient, in bytes.
const MAX_TEXT: usize = 200;

/// Symbols in ascending order.
type Product = SmallVec<[u32; 4]>;

/// Products with their coefficients, which are not 0, in ascending order.
type Polynomial = SmallVec<[(Product, i64); 2]>;

struct SymbolRow {
    text: Rc<str>,
    kind: Symbol,
    /// Dividend and divisor of a quotient, which may be 0.
    quotient_of: Option<(Polynomial, Polynomial)>,
}

#[derive(Default)]
struct Table {
    symbols: Vec<SymbolRow>,
    terms: Vec<Rc<Polynomial>>,
    places: HashMap<Rc<Polynomial>, u32>,
    quotients: HashMap<(Polynomial, Polynomial), Number>,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

/// Forgets all terms of this thread. Those that are left mean nothing.
pub fn clear() {
    TABLE.with_borrow_mut(|table| *table = Table::default());
}

/// The point after all symbols so far.
pub fn mark() -> Mark {
    TABLE.with_borrow(|table| Mark(table.symbols.len()))
}

/// A new symbol; `None` if there are too many.
pub(crate) fn symbol(name: &str, kind: Symbol) -> Option<Number> {
    TABLE.with_borrow_mut(|table| table.symbol(name.into(), kind, None))
}

/// `a + factor * b`; `None` if it is too large for the table, as with the other results.
pub(crate) fn sum(a: Number, b: Number, factor: i64) -> Option<Number> {
    TABLE.with_borrow_mut(|table| {
        let (a, b) = (table.polynomial(a)?, table.polynomial(b)?);
        table.number(add(&a, &b, factor)?)
    })
}

pub(crate) fn product(a: Number, b: Number) -> Option<Number> {
    TABLE.with_borrow_mut(|table| {
        let (a, b) = (table.polynomial(a)?, table.polynomial(b)?);
        let mut result = Polynomial::new();
        for (factors, coefficient) in &b {
            let part: Option<Polynomial> = a
                .iter()
                .map(|(own, own_coefficient)| {
                    let mut all: Product = own.iter().chain(factors).copied().collect();
                    all.sort_unstable();
                    (all.len() <= MAX_FACTORS).then_some((all, own_coefficient.checked_mul(*coefficient)?))
                })
                .collect();
            let mut part = part?;
            part.sort_unstable();
            result = add(&result, &part, 1)?;
        }
        table.number(result)
    })
}

/// The truncated quotient.
pub(crate) fn quotient(a: Number, b: Number) -> Option<Number> {
    TABLE.with_borrow_mut(|table| {
        let (a, b) = (table.polynomial(a)?, table.polynomial(b)?);
        if let Some(exact) = exact_quotient(&a, &b) {
            return table.number(exact);
        }
        if let Some(known) = table.quotients.get(&(a.clone(), b.clone())) {
            return Some(*known);
        }
        let is_natural = table.is_natural(&a) && table.is_natural(&b);
        let text = format!("{} / {}", table.operand(&a, false), table.operand(&b, true));
        // A quotient of quotients names each of them, twice or more often.
        if text.len() > MAX_TEXT {
            return None;
        }
        let kind = if is_natural { Symbol::Dimension } else { Symbol::Int };
        let quotient = table.symbol(text.into(), kind, Some((a.clone(), b.clone())))?;
        table.quotients.insert((a, b), quotient);
        Some(quotient)
    })
}

/// Whether it is certainly not 0: for no values of its symbols, or because it is a product of sizes.
pub(crate) fn is_other_than_0(term: Term) -> bool {
    TABLE.with_borrow(|table| {
        let is_product = table.terms.get(term.0 as usize).is_some_and(|polynomial| polynomial.len() == 1);
        let is_size = |row: &SymbolRow| row.kind != Symbol::Int && row.quotient_of.is_none();
        table.all_symbols(term, |row| row.kind == Symbol::Rigid) || (is_product && table.all_symbols(term, is_size))
    })
}

pub(crate) fn is_over_sizes(term: Term) -> bool {
    TABLE.with_borrow(|table| table.all_symbols(term, |row| row.kind != Symbol::Int))
}

/// Whether it is certainly not negative.
pub(crate) fn is_natural(term: Term) -> bool {
    TABLE.with_borrow(|table| table.terms.get(term.0 as usize).is_some_and(|all| table.is_natural(all)))
}

pub(crate) fn loosen(term: Term) {
    TABLE.with_borrow_mut(|table| {
        let symbols = |polynomial: &Polynomial| -> Vec<u32> {
            polynomial.iter().flat_map(|(factors, _)| factors).copied().collect()
        };
        let Some(polynomial) = table.terms.get(term.0 as usize) else { return };
        let mut pending = symbols(polynomial);
        let mut seen = std::collections::HashSet::new();
        while let Some(symbol) = pending.pop() {
            let Some(row) = table.symbols.get_mut(symbol as usize).filter(|_| seen.insert(symbol)) else { continue };
            if row.kind == Symbol::Rigid {
                row.kind = Symbol::Dimension;
            }
            if let Some((dividend, divisor)) = &row.quotient_of {
                pending.extend(symbols(dividend).into_iter().chain(symbols(divisor)));
            }
        }
    });
}

pub(crate) fn is_older_than(term: Term, mark: Mark) -> bool {
    TABLE.with_borrow(|table| {
        let polynomial = table.terms.get(term.0 as usize);
        polynomial.is_some_and(|all| all.iter().flat_map(|(factors, _)| factors).all(|at| (*at as usize) < mark.0))
    })
}

impl Table {
    fn symbol(&mut self, text: Rc<str>, kind: Symbol, quotient_of: Option<(Polynomial, Polynomial)>) -> Option<Number> {
        if self.symbols.len() >= MAX_TERMS {
            return None;
        }
        let symbol = self.symbols.len() as u32;
        self.symbols.push(SymbolRow { text, kind, quotient_of });
        self.number(smallvec![(smallvec![symbol], 1)])
    }

    fn polynomial(&self, number: Number) -> Option<Polynomial> {
        match number {
            Number::Known(0) => Some(Polynomial::new()),
            Number::Known(n) => Some(smallvec![(Product::new(), n)]),
            Number::Term(term) => self.terms.get(term.0 as usize).map(|polynomial| (**polynomial).clone()),
        }
    }

    fn number(&mut self, polynomial: Polynomial) -> Option<Number> {
        match polynomial.as_slice() {
            [] => return Some(Number::Known(0)),
            [(factors, n)] if factors.is_empty() => return Some(Number::Known(*n)),
            _ => {}
        }
        if let Some(place) = self.places.get(&polynomial) {
            return Some(Number::Term(Term(*place)));
        }
        if polynomial.len() > MAX_PRODUCTS || self.terms.len() >= MAX_TERMS {
            return None;
        }
        let (place, polynomial) = (self.terms.len() as u32, Rc::new(polynomial));
        self.terms.push(Rc::clone(&polynomial));
        self.places.insert(polynomial, place);
        Some(Number::Term(Term(place)))
    }

    fn all_symbols(&self, term: Term, is_kind: impl Fn(&SymbolRow) -> bool) -> bool {
        let Some(polynomial) = self.terms.get(term.0 as usize) else { return false };
        let mut symbols = polynomial.iter().flat_map(|(factors, _)| factors);
        symbols.all(|symbol| self.symbols.get(*symbol as usize).is_some_and(&is_kind))
    }

    fn is_natural(&self, polynomial: &Polynomial) -> bool {
        let is_natural = |symbol: &u32| self.symbols.get(*symbol as usize).is_some_and(|row| row.kind != Symbol::Int);
        polynomial.iter().all(|(factors, n)| *n > 0 && factors.iter().all(is_natural))
    }

    /// The expression, in brackets where an operator before or behind it would bind tighter.
    fn operand(&self, polynomial: &Polynomial, is_divisor: bool) -> String {
        let text = self.text(polynomial);
        let is_product = polynomial.len() == 1 && !text.contains(" / ");
        let is_single = is_product && !text.contains(' ');
        if is_single || (is_product && !is_divisor) { text } else { format!("({text})") }
    }

    fn text(&self, polynomial: &Polynomial) -> String {
        let mut text = String::new();
        // What is added stands before what is subtracted, and the plain number last.
        let mut parts: Vec<&(Product, i64)> = polynomial.iter().collect();
        parts.sort_by_key(|(factors, n)| (*n < 0, factors.is_empty()));
        for (at, (factors, n)) in parts.into_iter().enumerate() {
            let sign = match (at, *n < 0) {
                (0, true) => "-",
                (0, false) => "",
                (_, true) => " - ",
                (_, false) => " + ",
            };
            text.push_str(sign);
            let names = factors.iter().map(|symbol| self.name(*symbol, factors.len() > 1 || n.abs() != 1));
            let number = (factors.is_empty() || n.abs() != 1).then(|| n.unsigned_abs().to_string());
            let all: Vec<String> = number.into_iter().chain(names).collect();
            text.push_str(&all.join(" * "));
        }
        text
    }

    fn name(&self, symbol: u32, is_factor: bool) -> String {
        let text = self.symbols.get(symbol as usize).map_or("?", |row| &*row.text);
        if is_factor && text.contains(' ') { format!("({text})") } else { text.to_owned() }
    }
}

/// `a + factor * b`; `None` on overflow.
fn add(a: &Polynomial, b: &Polynomial, factor: i64) -> Option<Polynomial> {
    let mut result = a.clone();
    for (factors, coefficient) in b {
        let added = coefficient.checked_mul(factor)?;
        match result.binary_search_by(|(own, _)| own.cmp(factors)) {
            Ok(at) => {
                let own = result.get_mut(at)?;
                own.1 = own.1.checked_add(added)?;
                if own.1 == 0 {
                    result.remove(at);
                }
            }
            Err(at) => result.insert(at, (factors.clone(), added)),
        }
    }
    Some(result)
}

/// The quotient by a single product that divides every product of `a`.
fn exact_quotient(a: &Polynomial, b: &Polynomial) -> Option<Polynomial> {
    if a == b {
        return Some(smallvec![(Product::new(), 1)]);
    }
    let [(divisor, n)] = b.as_slice() else { return None };
    let mut result: Polynomial = a
        .iter()
        .map(|(factors, coefficient)| {
            let mut rest = factors.clone();
            for symbol in divisor {
                let at = rest.iter().position(|own| own == symbol)?;
                rest.remove(at);
            }
            (coefficient.checked_rem(*n)? == 0).then_some((rest, coefficient.checked_div(*n)?))
        })
        .collect::<Option<_>>()?;
    result.sort_unstable();
    Some(result)
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = TABLE.with_borrow(|table| table.terms.get(self.0 as usize).map(|polynomial| table.text(polynomial)));
        match text {
            Some(text) => f.write_str(&text),
            None => f.write_char('?'),
        }
    }
}
