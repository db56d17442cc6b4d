//! Reservations as a program writes them.

use tl_device::{DType, Error, PlanRow, ReserveKind, SymbolicReservation};

/// The statement that makes a reservation.
///
/// ```
/// use tl_device::{Layout, PlanRow, ReserveKind};
/// let row = PlanRow { layout: Layout::from(vec![8, 512]), kind: ReserveKind::Exact, count: 4 };
/// assert_eq!(tl_lang::reserve_statement(&row), "buffer_reserve([8, 512], 4)");
/// ```
pub fn reserve_statement(row: &PlanRow) -> String {
    statement(row.kind, &row.layout.shape().to_string(), &row.count.to_string(), row.layout.dtype())
}

/// The statement that makes a reservation whose dimensions and count are formulas of sizes.
///
/// ```
/// let plan: tl_device::SymbolicPlan = "with n = 1..8\nup_to float32[n, 4] 2\n".parse()?;
/// let row = plan.reservations().next().unwrap();
/// assert_eq!(tl_lang::symbolic_reserve_statement(&row), "buffer_reserve_up_to([n, 4], 2, float32)");
/// # Ok::<(), tl_device::PlanError>(())
/// ```
pub fn symbolic_reserve_statement(row: &SymbolicReservation) -> String {
    statement(row.kind, &row.shape, &row.count, row.dtype)
}

fn statement(kind: ReserveKind, shape: &str, count: &str, dtype: DType) -> String {
    let function = match kind {
        ReserveKind::Exact => "buffer_reserve",
        ReserveKind::UpTo => "buffer_reserve_up_to",
        ReserveKind::Learnable => "buffer_reserve_learnable",
    };
    match dtype {
        DType::F16 => format!("{function}({shape}, {count})"),
        dtype => format!("{function}({shape}, {count}, {dtype})"),
    }
}

/// A message of this error with the statement that the program lacks, if it lacks a reservation.
pub(crate) fn with_missing_statement(message: String, error: &Error) -> String {
    let Some(row) = error.missing_reservation() else { return message };
    let statement = reserve_statement(&row);
    match row.kind {
        // A parameter is mostly made from a buffer that the program has a name for.
        ReserveKind::Learnable => {
            format!("{message}: {statement}, or alloc_learnable on the buffer that it is made from")
        }
        _ => format!("{message}: {statement}"),
    }
}
