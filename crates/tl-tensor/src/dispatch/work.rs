//! What an operation costs, by the sizes of its operands: bytes that it reads and operations, which a simulated device
//! adds up, and whether it needs the threads' workspace.
//!
//! Activations are not counted, because they stay in the caches. Operations that are not named here read their weights
//! whole.

use tl_device::{Layout, Work};

use crate::op::{Arg, Group, Op};
use crate::operand::Operand;

/// Whether an operation's kernels keep activations in the threads' workspace: matrix products, and attention, which is
/// two.
pub(super) fn uses_workspace(op: &Op) -> bool {
    op.group == Group::Linear || op.name == "attention"
}

/// The work of an operation with a result of this layout.
pub(super) fn work_of(op: &Op, args: &[Arg], layout: &Layout) -> Work {
    let operand = |index: usize| args.get(index).and_then(Arg::operand);
    let n_out: f64 = layout.shape().iter().map(|&size| size as f64).product();
    match (op.name, operand(0), operand(1)) {
        ("linear" | "matmul", Some(x), Some(w)) => Work {
            operations: 2.0 * n_out * x.dims.last().map_or(1.0, |&inner| inner as f64),
            ..weights(args, |_| whole(&w))
        },
        ("linear_experts", Some(x), Some(w)) => {
            // At most one expert for each choice of a token.
            let n_chosen: usize = layout.shape().iter().take(2).product();
            let n_experts = w.dims.first().copied().unwrap_or(0).max(1);
            let share = n_chosen.min(n_experts) as f64 / n_experts as f64;
            Work {
                operations: 2.0 * n_out * x.dims.last().map_or(1.0, |&inner| inner as f64),
                ..weights(args, |operand| (whole(operand) as f64 * share) as u64)
            }
        }
        ("embedding", Some(table), _) => {
            let rows = table.dims.first().copied().unwrap_or(0).max(1);
            let n_ids = operand(1).map_or(0, |ids| ids.n_elems());
            Work { weight_bytes: (whole(&table) / rows as u64).saturating_mul(n_ids as u64), ..Work::default() }
        }
        ("attention", Some(q), Some(k)) => attention(args, &q, &k, operand(2)),
        _ => weights(args, whole),
    }
}

/// Reads the operands that are weights.
fn weights(args: &[Arg], bytes: impl Fn(&Operand) -> u64) -> Work {
    let weights = args.iter().filter_map(Arg::operand).filter(|operand| operand.is_weight);
    Work { weight_bytes: weights.map(|operand| bytes(&operand)).sum(), ..Work::default() }
}

/// Bytes of all elements.
fn whole(operand: &Operand) -> u64 {
    let dtype = operand.dtype;
    (operand.n_elems() / dtype.block_elems() * dtype.block_bytes()) as u64
}

fn attention(args: &[Arg], q: &Operand, k: &Operand, v: Option<Operand>) -> Work {
    let Some(v) = v else { return Work::default() };
    let (n, m) = (q.dims[0], k.dims[0]);
    let is_causal = !matches!(args.get(3), Some(Arg::Bool(false)));
    let window = match args.get(5) {
        Some(Arg::Int(window)) if *window > 0 => *window as usize,
        _ => m,
    };
    let row_bytes = (whole(k) + whole(&v)) / m.max(1) as u64;
    let multiplied = q.dims[1] * (q.dims[2] + v.dims[2]);
    attention_work(n, m, is_causal, window, row_bytes, multiplied)
}

/// The work of attention of `n` queries over `m` keys: reads each key and value that some query sees once, `row_bytes` of
/// both; multiplies each query with the keys and values that it sees, `multiplied` elements of both for all heads.
pub(crate) fn attention_work(
    n: usize,
    m: usize,
    is_causal: bool,
    window: usize,
    row_bytes: u64,
    multiplied: usize,
) -> Work {
    let seen_by = |query: usize| {
        let reach = if is_causal { (query + 1 + m).saturating_sub(n) } else { m };
        reach.min(window)
    };
    let pairs: f64 = (0..n).map(|query| seen_by(query) as f64).sum();
    let rows = m.min(window.saturating_add(n.saturating_sub(1)));
    Work { weight_bytes: 0, cache_bytes: row_bytes * rows as u64, operations: 2.0 * pairs * multiplied as f64 }
}
