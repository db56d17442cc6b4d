//! Every operation against a plain reference in `f64`: every row of the table × data types × arrangements in memory.
//!
//! A row of `ops::all()` without a reference fails the test with its name. To add an operation, add its reference to the
//! table of its kind: a line in `elementwise.rs` or `reduce.rs`, a function elsewhere. `values.rs` has the tensors that all
//! are tried on and says how near results must come; `messages.rs` says what wrong calls answer, and `any_call.rs` tries
//! calls at random.

use tl_device::{Device, DeviceOptions};
use tl_tensor::ops::{self, Op};

#[path = "conformance/any_call.rs"]
mod any_call;
#[path = "conformance/arrangement.rs"]
mod arrangement;
#[path = "conformance/create.rs"]
mod create;
#[path = "conformance/elementwise.rs"]
mod elementwise;
#[path = "../../../tests/gpu.rs"]
mod gpu;
#[path = "conformance/messages.rs"]
mod messages;
#[path = "conformance/nd.rs"]
mod nd;
#[path = "conformance/products.rs"]
mod products;
#[path = "conformance/reduce.rs"]
mod reduce;
#[path = "conformance/shaders.rs"]
mod shaders;
#[path = "conformance/transformer.rs"]
mod transformer;
#[path = "conformance/values.rs"]
mod values;
use gpu::gpu;

/// Tries one operation in every way that its reference knows.
type Try = fn(&Device, &'static Op);

fn options() -> DeviceOptions {
    let mut options = DeviceOptions::default();
    options.threads = 3;
    // What a kernel reads without anybody having written it shows in the result.
    options.memory.nan_fill = true;
    options
}

fn device() -> Device {
    Device::cpu_with(&options())
}

fn reference(name: &str) -> Option<Try> {
    [
        elementwise::reference,
        reduce::reference,
        create::reference,
        arrangement::reference,
        products::reference,
        transformer::reference,
    ]
    .iter()
    .find_map(|table| table(name))
}

#[test]
fn every_row_agrees_with_its_reference() {
    let missing: Vec<&str> = ops::all().map(|op| op.name).filter(|name| reference(name).is_none()).collect();
    assert!(missing.is_empty(), "operations without a reference: {missing:?}");
    // The rows are shared out between two threads, each with a device of its own.
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                let device = device();
                for op in ops::all().skip(half).step_by(2) {
                    reference(op.name).expect("none is missing")(&device, op);
                }
            });
        }
    });
}

/// `TL_OPS`, where it is set, names the operations to try, separated by commas.
fn is_asked_for(op: &Op) -> bool {
    std::env::var("TL_OPS").map_or(true, |names| names.split(',').any(|name| name == op.name))
}

#[test]
fn every_row_agrees_with_its_reference_on_a_gpu() {
    // With everything that the device offers, and with what every device has.
    let plain = {
        let mut options = options();
        (options.gpu.use_f16, options.gpu.use_subgroups, options.gpu.use_matrix) = (false, false, false);
        options
    };
    std::thread::scope(|scope| {
        for options in [options(), plain] {
            scope.spawn(move || {
                let Some(device) = gpu(&options) else { return };
                for op in ops::all().filter(|op| is_asked_for(op)) {
                    reference(op.name).expect("none is missing")(&device, op);
                }
            });
        }
    });
}

#[test]
fn names_are_unique_and_rows_documented() {
    for op in ops::all() {
        assert_eq!(ops::all().filter(|other| other.name == op.name).count(), 1, "{}", op.name);
        assert!(std::ptr::eq(ops::by_name(op.name).unwrap(), op));
        assert!(op.doc.len() > 10, "{}", op.name);
        let first_optional = op.params.iter().position(|param| param.default.is_some()).unwrap_or(op.params.len());
        let is_in_order = op.params[first_optional..].iter().all(|param| param.default.is_some());
        assert!(is_in_order, "{}: a required parameter after an optional one", op.name);
    }
    assert!(ops::by_name("no_such_operation").is_none());
}
