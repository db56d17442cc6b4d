//! Functions of named sizes: sums for dimensions and counts, `2 * n + context + 1`, and polynomials for bytes.

use std::collections::BTreeMap;
use std::fmt::Write;

use smallvec::SmallVec;

/// Maximum number of sizes in a plan.
pub(crate) const MAX_SIZES: usize = 4;

/// Maximum factor or constant in a formula: no product of one with a size overflows.
const MAX_FACTOR: i64 = 1 << 40;

/// A sum of sizes with whole factors, and a constant. It knows sizes by index; printing and parsing take the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Formula {
    /// Indices of sizes, in order, each with its factor, which is above 0.
    terms: SmallVec<[(u8, i64); 2]>,
    constant: i64,
}

impl Formula {
    pub(crate) fn constant(value: usize) -> Formula {
        Formula { terms: SmallVec::new(), constant: i64::try_from(value).unwrap_or(i64::MAX) }
    }

    /// The sum of `factors[i]` times size `i` and the constant. No factor may be negative.
    pub(crate) fn new(factors: &[i64], constant: i64) -> Formula {
        let terms = (0..).zip(factors).filter(|(_, factor)| **factor > 0).map(|(size, factor)| (size, *factor));
        Formula { terms: terms.collect(), constant }
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }

    /// Its value for these sizes; 0 if that would be negative.
    pub(crate) fn at(&self, values: &[usize]) -> usize {
        let term = |&(size, factor): &(u8, i64)| {
            i128::from(factor) * values.get(usize::from(size)).map_or(0, |&value| value as i128)
        };
        let sum = i128::from(self.constant) + self.terms.iter().map(term).sum::<i128>();
        usize::try_from(sum.max(0)).unwrap_or(usize::MAX)
    }

    pub(crate) fn plus(&self, other: &Formula) -> Formula {
        let mut sum = self.clone();
        sum.constant = sum.constant.saturating_add(other.constant);
        for &(size, factor) in &other.terms {
            match sum.terms.iter_mut().find(|term| term.0 == size) {
                Some(term) => term.1 = term.1.saturating_add(factor),
                None => sum.terms.push((size, factor)),
            }
        }
        sum.terms.sort_unstable();
        sum
    }

    /// The formula in TL's syntax: `2 * n + context - 1`.
    pub(crate) fn text(&self, names: &[&str]) -> String {
        let mut text = String::new();
        for &(size, factor) in &self.terms {
            let name = names.get(usize::from(size)).copied().unwrap_or("?");
            let _ = match (text.is_empty(), factor) {
                (true, 1) => write!(text, "{name}"),
                (true, _) => write!(text, "{factor} * {name}"),
                (false, 1) => write!(text, " + {name}"),
                (false, _) => write!(text, " + {factor} * {name}"),
            };
        }
        // Writing into a string cannot fail.
        let _ = match self.constant {
            constant if text.is_empty() => write!(text, "{constant}"),
            0 => Ok(()),
            constant if constant < 0 => write!(text, " - {}", constant.unsigned_abs()),
            constant => write!(text, " + {constant}"),
        };
        text
    }

    /// Parses the output of [`Formula::text`]. The error states the reason.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Formula, &'static str> {
        let mut sum = Formula::default();
        if text.trim().is_empty() || text.trim_end().ends_with(['+', '-']) {
            return Err("is not a number");
        }
        for (part, is_minus) in signed_parts(text) {
            if part.is_empty() {
                return Err("is not a number");
            }
            let (factor, name) = match part.split_once('*') {
                Some((factor, name)) => (Some(factor.trim()), Some(name.trim())),
                None if part.starts_with(|c: char| c.is_ascii_digit()) => (Some(part), None),
                None => (None, Some(part)),
            };
            let factor: i64 = factor.map_or(Ok(1), str::parse).map_err(|_| "is not a number")?;
            if !(0..=MAX_FACTOR).contains(&factor) {
                return Err("is not a number that a size can be");
            }
            let term = match name {
                None if is_minus => Formula { constant: -factor, ..Formula::default() },
                None => Formula { constant: factor, ..Formula::default() },
                Some(_) if is_minus => return Err("takes away a size, and may only grow with it"),
                Some(_) if names.is_empty() => return Err("is not a number"),
                Some(name) => {
                    let size = names.iter().position(|known| *known == name);
                    let size = size.ok_or("has a name that no line `with` above it gives")?;
                    Formula { terms: SmallVec::from_slice(&[(size as u8, factor)]), constant: 0 }
                }
            };
            sum = sum.plus(&term);
        }
        sum.terms.retain(|term| term.1 > 0);
        if sum.is_constant() && sum.constant < 0 { Err("is not a number") } else { Ok(sum) }
    }
}

/// The terms of a sum, each with whether it is subtracted.
fn signed_parts(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut is_minus = false;
    text.split_inclusive(['+', '-']).map(move |part| {
        let this = is_minus;
        is_minus = part.ends_with('-');
        (part.trim_end_matches(['+', '-']).trim(), this)
    })
}

/// A polynomial of sizes: a factor for each product of sizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Polynomial {
    /// Factors by the powers of the sizes.
    terms: BTreeMap<[u8; MAX_SIZES], i128>,
}

impl Polynomial {
    pub(crate) fn constant(value: usize) -> Polynomial {
        Polynomial { terms: BTreeMap::from([([0; MAX_SIZES], value as i128)]) }
    }

    pub(crate) fn of(formula: &Formula) -> Polynomial {
        let mut terms = BTreeMap::from([([0; MAX_SIZES], i128::from(formula.constant))]);
        for &(size, factor) in &formula.terms {
            let mut powers = [0; MAX_SIZES];
            if let Some(power) = powers.get_mut(usize::from(size)) {
                *power = 1;
            }
            terms.insert(powers, i128::from(factor));
        }
        Polynomial { terms }
    }

    pub(crate) fn times(&self, other: &Polynomial) -> Polynomial {
        let mut product = Polynomial::default();
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                let mut powers = [0; MAX_SIZES];
                powers.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum = a.saturating_add(*b));
                let term = product.terms.entry(powers).or_default();
                *term = term.saturating_add(x.saturating_mul(*y));
            }
        }
        product
    }

    pub(crate) fn add(&mut self, other: &Polynomial) {
        for (powers, factor) in &other.terms {
            let term = self.terms.entry(*powers).or_default();
            *term = term.saturating_add(*factor);
        }
    }

    /// The usual notation: `4 * n * n + 2048 * n + 64`, the highest powers first.
    pub(crate) fn text(&self, names: &[&str]) -> String {
        let mut terms: Vec<_> = self.terms.iter().filter(|(_, factor)| **factor != 0).collect();
        terms.sort_by_key(|(powers, _)| {
            std::cmp::Reverse((powers.iter().map(|&power| u32::from(power)).sum::<u32>(), **powers))
        });
        let mut text = String::new();
        for (powers, &factor) in terms {
            let sign = match (text.is_empty(), factor < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            let sizes = powers.iter().zip(names).flat_map(|(&power, name)| std::iter::repeat_n(*name, power.into()));
            let sizes: Vec<&str> = sizes.collect();
            // Writing into a string cannot fail.
            let _ = match (sizes.is_empty(), factor.unsigned_abs()) {
                (true, factor) => write!(text, "{sign}{factor}"),
                (false, 1) => write!(text, "{sign}{}", sizes.join(" * ")),
                (false, factor) => write!(text, "{sign}{factor} * {}", sizes.join(" * ")),
            };
        }
        if text.is_empty() { "0".to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["n", "context"];

    #[test]
    fn formulas_are_read_as_they_are_written() {
        let check = |text: &str, values: &[usize], expected: usize| {
            let formula = Formula::parse(text, &NAMES).unwrap();
            assert_eq!((formula.text(&NAMES).as_str(), formula.at(values)), (text, expected));
        };
        check("7", &[1, 1], 7);
        check("n", &[9, 1], 9);
        check("n + 99", &[9, 1], 108);
        check("2 * n + context - 1", &[9, 100], 117);
        check("n - 10", &[9, 100], 0);
        assert_eq!(Formula::parse("1+n", &NAMES).unwrap().text(&NAMES), "n + 1");
        for (text, names, problem) in [
            ("", &NAMES[..], "is not a number"),
            ("n +", &NAMES, "is not a number"),
            ("n * 2", &NAMES, "is not a number"),
            ("m", &NAMES, "has a name that no line `with` above it gives"),
            ("n", &[], "is not a number"),
            ("-1", &[], "is not a number"),
            ("5 - n", &NAMES, "takes away a size, and may only grow with it"),
            ("99999999999999", &[], "is not a number that a size can be"),
        ] {
            assert_eq!(Formula::parse(text, names), Err(problem), "{text:?}");
        }
    }

    #[test]
    fn products_of_formulas() {
        let [a, b] = ["n + 1", "2 * n + context"].map(|text| Formula::parse(text, &NAMES).unwrap());
        let mut product = Polynomial::of(&a).times(&Polynomial::of(&b));
        assert_eq!(product.text(&NAMES), "2 * n * n + n * context + 2 * n + context");
        product.add(&Polynomial::constant(64));
        assert_eq!(product.text(&["n", "c"]), "2 * n * n + n * c + 2 * n + c + 64");
        assert_eq!(Polynomial::default().text(&NAMES), "0");
    }
}
