//! Reservations as data: found by a trace, printed as lines, kept in a file, carried out.

use std::fmt;
use std::str::FromStr;

use super::row::{SymbolicRow, word};
use crate::layout::{ALIGN, Layout};
use crate::stats::ReserveKind;

/// A reservation.
///
/// ```
/// use tl_device::{Layout, PlanRow, ReservationPlan, ReserveKind};
/// let row = PlanRow { layout: Layout::from(vec![32, 2048]), kind: ReserveKind::UpTo, count: 2 };
/// let plan = ReservationPlan { rows: vec![row] };
/// assert_eq!(plan.to_string(), "up_to float16[32, 2048] 2\n");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    /// The layout that each buffer serves, or its bound.
    pub layout: Layout,
    /// The kind of the reservation.
    pub kind: ReserveKind,
    /// The number of buffers.
    pub count: usize,
}

impl PlanRow {
    /// Total bytes of its buffers.
    ///
    /// ```
    /// use tl_device::{Layout, PlanRow, ReserveKind};
    /// let row = PlanRow { layout: Layout::from(vec![8]), kind: ReserveKind::Exact, count: 3 };
    /// assert_eq!(row.bytes(), 3 * 64); // 16 bytes each, rounded up to 64
    /// ```
    pub fn bytes(&self) -> u64 {
        let each =
            self.layout.len_bytes().unwrap_or(usize::MAX).max(1).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        (each as u64).saturating_mul(self.count as u64)
    }

    /// Whether its buffers can hold a tensor of this layout, regardless of its role: see [`ReserveKind`].
    ///
    /// ```
    /// use tl_device::{Layout, PlanRow, ReserveKind};
    /// let row = PlanRow { layout: Layout::from(vec![32, 2048]), kind: ReserveKind::UpTo, count: 2 };
    /// assert!(row.serves(&Layout::from(vec![32, 7])) && !row.serves(&Layout::from(vec![33, 7])));
    /// ```
    pub fn serves(&self, layout: &Layout) -> bool {
        match self.kind {
            ReserveKind::Exact | ReserveKind::Learnable => self.layout == *layout,
            ReserveKind::UpTo => self.layout.covers(layout),
        }
    }
}

/// The reservations of a program or a step.
///
/// Its text form is a small file: a line for each reservation, with remarks after `#`.
///
/// ```
/// use tl_device::{Device, ReservationPlan, TensorBuffer};
/// let plan: ReservationPlan = "# two steps\nexact float16[8, 512] 4\nup_to float16[32, 2048] 2\n".parse()?;
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// plan.reserve(&buffer)?;
/// assert_eq!(buffer.stats().reserved_bytes, plan.bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReservationPlan {
    /// The reservations.
    pub rows: Vec<PlanRow>,
}

/// An invalid line of a plan.
///
/// ```
/// use tl_device::ReservationPlan;
/// let error = "exact float16[8] 4\nexact float17[8] 1".parse::<ReservationPlan>().unwrap_err();
/// assert_eq!((error.line, error.text.as_str()), (2, "exact float17[8] 1"));
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "line {line} of the plan, {text:?}: {problem}; a line is `exact float16[8, 512] 4`, or `up_to`, or `learnable`"
)]
#[non_exhaustive]
pub struct PlanError {
    /// The line number, from 1.
    pub line: usize,
    /// The text of the line.
    pub text: String,
    /// The reason.
    pub problem: String,
}

impl ReservationPlan {
    /// Total bytes of all buffers.
    ///
    /// ```
    /// use tl_device::ReservationPlan;
    /// let plan: ReservationPlan = "exact float16[8, 512] 4\nexact float32[512] 1".parse()?;
    /// assert_eq!(plan.bytes(), 4 * 8192 + 2048);
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(PlanRow::bytes).fold(0, u64::saturating_add)
    }

    /// Total number of buffers.
    ///
    /// ```
    /// use tl_device::ReservationPlan;
    /// let plan: ReservationPlan = "exact float16[8, 512] 4\nexact float32[512] 1".parse()?;
    /// assert_eq!(plan.count(), 5);
    /// # Ok::<(), tl_device::PlanError>(())
    /// ```
    pub fn count(&self) -> usize {
        self.rows.iter().map(|row| row.count).fold(0, usize::saturating_add)
    }

    /// Raises the plan's count for a layout to at least `count`.
    ///
    /// ```
    /// use tl_device::{Layout, ReservationPlan, ReserveKind};
    /// let mut plan = ReservationPlan::default();
    /// for count in [2, 4, 3] {
    ///     plan.need(&Layout::from(vec![8, 512]), ReserveKind::Exact, count);
    /// }
    /// assert_eq!(plan.to_string(), "exact float16[8, 512] 4\n");
    /// ```
    pub fn need(&mut self, layout: &Layout, kind: ReserveKind, count: usize) {
        match self.rows.iter_mut().find(|row| row.kind == kind && row.layout == *layout) {
            Some(row) => row.count = row.count.max(count),
            None => self.rows.push(PlanRow { layout: layout.clone(), kind, count }),
        }
    }

    /// Adds `count` buffers for a layout to the plan.
    ///
    /// ```
    /// use tl_device::{Layout, ReservationPlan, ReserveKind};
    /// let mut plan = ReservationPlan::default();
    /// for count in [2, 1] {
    ///     plan.add(&Layout::from(vec![8, 512]), ReserveKind::Exact, count);
    /// }
    /// assert_eq!(plan.to_string(), "exact float16[8, 512] 3\n");
    /// ```
    pub fn add(&mut self, layout: &Layout, kind: ReserveKind, count: usize) {
        match self.rows.iter_mut().find(|row| row.kind == kind && row.layout == *layout) {
            Some(row) => row.count = row.count.saturating_add(count),
            None => self.rows.push(PlanRow { layout: layout.clone(), kind, count }),
        }
    }
}

impl fmt::Display for ReservationPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{} {} {}", word(row.kind), row.layout, row.count)?;
        }
        Ok(())
    }
}

impl FromStr for ReservationPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = ReservationPlan::default();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.split('#').next().unwrap_or_default().trim();
            if line_text.is_empty() {
                continue;
            }
            let row = SymbolicRow::parse(line_text, &[]);
            let row = row.map_err(|problem| PlanError { line: index + 1, text: line.to_owned(), problem })?;
            plan.rows.push(PlanRow { layout: row.layout_at(&[]), kind: row.kind, count: row.count.at(&[]) });
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_are_written() {
        let text = "exact float16[8, 512] 4\nup_to float32[32, 2048] 2\nlearnable int32[] 1\nexact q8_0[9, 4, 64] 2\n";
        assert_eq!(text.parse::<ReservationPlan>().unwrap().to_string(), text);
        let check = |text: &str, line, problem: &str| {
            let error = text.parse::<ReservationPlan>().unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem));
        };
        check("exact float16[8] 4\n\nsome float16[8] 4", 3, "it does not begin with exact, up_to or learnable");
        check("exact float16[8 4", 1, "the dimensions do not end with `]`");
        check("exact float16[8]", 1, "there is no count");
        check("exact float17[8] 1", 1, "the data type is none of float16, float32, int32, bool, q8_0");
        check("exact float16[8] -1", 1, "the count is not a number");
        check("exact float16[x] 1", 1, "a dimension is not a number");
    }
}
