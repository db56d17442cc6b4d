//! Reservations whose sizes have names: a plan for every value of them.

use std::fmt;
use std::str::FromStr;

use super::formula::{MAX_SIZES, Polynomial};
use super::reservations::{PlanError, PlanRow, ReservationPlan};
use super::row::{SymbolicRow, word};
use crate::layout::DType;
use crate::stats::ReserveKind;

/// A variable size and its range, both ends included.
///
/// ```
/// use tl_device::SizeRange;
/// let range: SizeRange = "n=1..512".parse()?;
/// assert_eq!((range.name.as_str(), range.min, range.max), ("n", 1, 512));
/// assert_eq!("n=64".parse::<SizeRange>()?.to_string(), "n = 64");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeRange {
    /// Its name.
    pub name: String,
    /// The lowest value.
    pub min: usize,
    /// The highest.
    pub max: usize,
}

impl SizeRange {
    /// Maximum value of a size.
    pub const MAX: usize = 1 << 40;

    /// Whether the range has one value.
    ///
    /// ```
    /// assert!("n=64".parse::<tl_device::SizeRange>()?.is_fixed());
    /// # Ok::<(), String>(())
    /// ```
    pub fn is_fixed(&self) -> bool {
        self.min == self.max
    }

    /// Whether the value is in the range.
    ///
    /// ```
    /// assert!("n=8..64".parse::<tl_device::SizeRange>()?.contains(64));
    /// # Ok::<(), String>(())
    /// ```
    pub fn contains(&self, value: usize) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_fixed() {
            true => write!(f, "{} = {}", self.name, self.max),
            false => write!(f, "{} = {}..{}", self.name, self.min, self.max),
        }
    }
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<SizeRange, String> {
        let problem = || format!("expected NAME=VALUE or NAME=LOWEST..HIGHEST, such as n=1..512, not {text:?}");
        let (name, values) = text.split_once('=').ok_or_else(problem)?;
        let (min, max) = values.split_once("..").unwrap_or((values, values));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&value| value <= SizeRange::MAX);
        let (min, max) = (number(min).ok_or_else(problem)?, number(max).ok_or_else(problem)?);
        let name = name.trim();
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name {
            return Err(problem());
        }
        if min > max {
            return Err(format!("{name}: the lowest value, {min}, is above the highest, {max}"));
        }
        Ok(SizeRange { name: name.to_owned(), min, max })
    }
}

/// A reservation of a [`SymbolicPlan`], its formulas as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicReservation {
    /// The kind of the reservation.
    pub kind: ReserveKind,
    /// The data type of its layout.
    pub dtype: DType,
    /// The dimensions of its layout, `[n, 4]`.
    pub shape: String,
    /// The number of buffers, `2 * n`.
    pub count: String,
    /// Total bytes, without rounding each buffer up to 64 bytes.
    pub bytes: String,
}

/// Reservations as functions of variable sizes, each in a range.
///
/// Its text form is a small file like that of a [`ReservationPlan`], with a line `with` for each size.
/// Reserved for the largest values ([`SymbolicPlan::largest`]), it serves all smaller ones. [`SymbolicPlan::fit`] makes
/// one from recordings.
///
/// ```
/// use tl_device::SymbolicPlan;
/// let text = "with n = 1..512\nup_to float16[n, 2048] 3\nexact float16[1, 2048] 1\n";
/// let plan: SymbolicPlan = text.parse()?;
/// assert_eq!(plan.to_string(), text);
/// assert_eq!(plan.at(&[8]).to_string(), "up_to float16[8, 2048] 3\nexact float16[1, 2048] 1\n");
/// assert_eq!(plan.bytes_formula(), "12288 * n + 4096");
/// # Ok::<(), tl_device::PlanError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SymbolicPlan {
    pub(crate) sizes: Vec<SizeRange>,
    pub(crate) rows: Vec<SymbolicRow>,
}

impl SymbolicPlan {
    /// The variable sizes, in the order of their values.
    ///
    /// ```
    /// let plan: tl_device::SymbolicPlan = "with n = 1..8\nwith m = 1..9\n".parse()?;
    /// assert_eq!(plan.sizes()[1].max, 9);
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn sizes(&self) -> &[SizeRange] {
        &self.sizes
    }

    /// The reservations for these values of the sizes.
    ///
    /// ```
    /// let plan: tl_device::SymbolicPlan = "with n = 1..8\nup_to float16[2 * n] n + 1\n".parse()?;
    /// assert_eq!(plan.at(&[4]).to_string(), "up_to float16[8] 5\n");
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn at(&self, values: &[usize]) -> ReservationPlan {
        let mut plan = ReservationPlan { rows: Vec::with_capacity(self.rows.len()) };
        for row in &self.rows {
            let row = PlanRow { layout: row.layout_at(values), kind: row.kind, count: row.count.at(values) };
            // Different formulas may have the same value.
            match plan.rows.iter_mut().find(|known| known.kind == row.kind && known.layout == row.layout) {
                Some(known) => known.count += row.count,
                None => plan.rows.push(row),
            }
        }
        plan
    }

    /// The reservations for the largest values, which serve all others.
    ///
    /// ```
    /// let plan: tl_device::SymbolicPlan = "with n = 1..512\nup_to float16[n, 4] 3\n".parse()?;
    /// assert_eq!(plan.largest().bytes(), 3 * 4096);
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn largest(&self) -> ReservationPlan {
        self.at(&self.sizes.iter().map(|size| size.max).collect::<Vec<_>>())
    }

    /// Total bytes as a formula, without rounding each buffer up to 64 bytes.
    ///
    /// ```
    /// let plan: tl_device::SymbolicPlan = "with n = 1..8\nup_to float16[n, n] 2\nexact int32[4] 1\n".parse()?;
    /// assert_eq!(plan.bytes_formula(), "4 * n * n + 16");
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn bytes_formula(&self) -> String {
        let mut sum = Polynomial::default();
        self.rows.iter().for_each(|row| sum.add(&row.bytes()));
        sum.text(&self.names())
    }

    /// Each reservation with its formulas as text.
    ///
    /// ```
    /// let plan: tl_device::SymbolicPlan = "with n = 1..8\nup_to float32[n, 4] 2\n".parse()?;
    /// let row = plan.reservations().next().unwrap();
    /// assert_eq!((row.shape.as_str(), row.count.as_str(), row.bytes.as_str()), ("[n, 4]", "2", "32 * n"));
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn reservations(&self) -> impl Iterator<Item = SymbolicReservation> + '_ {
        let names = self.names();
        self.rows.iter().map(move |row| SymbolicReservation {
            kind: row.kind,
            dtype: row.dtype,
            shape: row.shape(&names),
            count: row.count.text(&names),
            bytes: row.bytes().text(&names),
        })
    }

    /// Removes the rows whose kind and data type `is_wanted` rejects.
    ///
    /// ```
    /// use tl_device::ReserveKind;
    /// let mut plan: tl_device::SymbolicPlan = "exact float32[4] 2\nlearnable float32[4] 2\n".parse()?;
    /// plan.retain(|kind, _| kind != ReserveKind::Learnable);
    /// assert_eq!(plan.to_string(), "exact float32[4] 2\n");
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn retain(&mut self, is_wanted: impl Fn(ReserveKind, DType) -> bool) {
        self.rows.retain(|row| is_wanted(row.kind, row.dtype));
    }

    fn names(&self) -> Vec<&str> {
        self.sizes.iter().map(|size| size.name.as_str()).collect()
    }
}

impl fmt::Display for SymbolicPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        for size in &self.sizes {
            writeln!(f, "with {size}")?;
        }
        for row in &self.rows {
            writeln!(f, "{} {}{} {}", word(row.kind), row.dtype, row.shape(&names), row.count.text(&names))?;
        }
        Ok(())
    }
}

impl FromStr for SymbolicPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = SymbolicPlan::default();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.split('#').next().unwrap_or_default().trim();
            if line_text.is_empty() {
                continue;
            }
            let added = match line_text.strip_prefix("with ") {
                Some(size) => plan.add_size(size),
                None => SymbolicRow::parse(line_text, &plan.names()).map(|row| plan.rows.push(row)),
            };
            added.map_err(|problem| PlanError { line: index + 1, text: line.to_owned(), problem })?;
        }
        Ok(plan)
    }
}

impl SymbolicPlan {
    fn add_size(&mut self, text: &str) -> Result<(), String> {
        let size: SizeRange = text.parse()?;
        if self.sizes.iter().any(|known| known.name == size.name) {
            return Err(format!("the size {} is there twice", size.name));
        }
        if self.sizes.len() == MAX_SIZES {
            return Err(format!("a plan has at most {MAX_SIZES} sizes that vary"));
        }
        self.sizes.push(size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_are_written() {
        let text = "with n = 1..512\nwith context = 2048\nup_to float16[n, 2 * n + 1] 3\n\
                    exact float32[] n + context - 1\nlearnable int32[4] 1\nexact q8_0[context, 4, 64] 2\n";
        let plan: SymbolicPlan = text.parse().unwrap();
        assert_eq!(plan.to_string(), text);
        assert_eq!(plan.bytes_formula(), "12 * n * n + 10 * n + 548 * context + 12");
        let check = |text: &str, line, problem: &str| {
            let error = text.parse::<SymbolicPlan>().unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem), "{text}");
        };
        check("up_to float16[n] 1", 1, "a dimension is not a number");
        check("with n = 1..8\nup_to float16[m] 1", 2, "a dimension has a name that no line `with` above it gives");
        check("with n = 1..8\nup_to float16[n] m", 2, "the count has a name that no line `with` above it gives");
        check("with n = 9..8", 1, "n: the lowest value, 9, is above the highest, 8");
        check("with n = 1..8\nwith n = 1..9", 2, "the size n is there twice");
        check("with 3 = 1", 1, "expected NAME=VALUE or NAME=LOWEST..HIGHEST, such as n=1..512, not \"3 = 1\"");
        let many: String = (0..5).map(|i| format!("with n{i} = 1\n")).collect();
        check(&many, 5, "a plan has at most 4 sizes that vary");
    }

    #[test]
    fn formulas_of_one_value_become_one_row() {
        let plan: SymbolicPlan = "with n = 1..8\nup_to float16[n, 4] 2\nup_to float16[8, 4] 1\n".parse().unwrap();
        assert_eq!(plan.largest().to_string(), "up_to float16[8, 4] 3\n");
        assert_eq!(plan.at(&[2]).count(), 3);
    }
}
