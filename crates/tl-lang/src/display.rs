//! How values are printed: numbers so that they read back the same, tensors as NumPy prints them, with dtype and shape.

use std::fmt::Write;

use tl_device::DType;
use tl_tensor::Tensor;

use crate::library::{BuiltinError, elements};
use crate::reserve_statement::reserve_statement;
use crate::types::Shown;
use crate::value::{Handle, Record, Value};

/// Tensors with more elements than this are shortened.
const MAX_ELEMENTS: usize = 1000;

/// Bytes that an element takes while its tensor is printed: as stored, and as a number.
const ELEMENT_BYTES: usize = 12;

/// Elements shown at each end of a shortened dimension.
const EDGE: usize = 3;

/// The longest text of a value other than a string: nested lists that share their elements print exponentially long.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// A value as `print` and `str` show it.
pub(crate) fn show(value: &Value) -> Result<String, BuiltinError> {
    let mut text = String::new();
    write_value(&mut text, value, false)?;
    Ok(text)
}

/// Appends what [`show`] gives; strings inside lists are quoted.
pub(crate) fn write_value(text: &mut String, value: &Value, quoted: bool) -> Result<(), BuiltinError> {
    if text.len() > MAX_TEXT_BYTES && !matches!(value, Value::Str(_)) {
        let limit = tl_device::bytes(MAX_TEXT_BYTES as u64);
        return Err(BuiltinError::new(format!("the text of this value is longer than {limit}; print its parts")));
    }
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Absent | Value::Unit => write!(text, "()"),
        Value::None => write!(text, "none"),
        Value::Int(n) => write!(text, "{n}"),
        Value::Float(x) => write!(text, "{x:?}"),
        Value::Bool(b) => write!(text, "{b}"),
        Value::Str(s) if quoted => write!(text, "{:?}", &**s),
        Value::Str(s) => write!(text, "{}", &**s),
        Value::DType(dtype) => write!(text, "{dtype}"),
        Value::Range(start, end) => write!(text, "{start}..{end}"),
        Value::Ints(ints) => write!(text, "{:?}", ints.as_slice()),
        Value::List(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_value(text, value, true)?;
            }
            write!(text, "]")
        }
        Value::Record(record) => {
            write_record(text, record)?;
            Ok(())
        }
        Value::Tensor(tensor) => {
            write_tensor(text, tensor)?;
            Ok(())
        }
        Value::Handle(Handle::Model(model, _)) => write!(text, "Model({})", model.path().display()),
        Value::Handle(Handle::Node(node)) => write!(text, "ModelNode({})", node.path()),
        Value::Handle(Handle::Plan(plan)) => {
            let statements: Vec<String> = plan.rows.iter().map(reserve_statement).collect();
            text.push_str(&statements.join("\n"));
            Ok(())
        }
        Value::Handle(handle) => write!(text, "{}", handle.kind().name()),
        Value::Recycled(_) => write!(text, "recycled"),
    };
    Ok(())
}

fn write_record(text: &mut String, record: &Record) -> Result<(), BuiltinError> {
    text.push('{');
    let mut separator = "";
    for ((name, _), value) in record.ty.fields.iter().zip(&record.values) {
        let shown = record.ty.shown(name);
        if shown == Shown::Hidden {
            continue;
        }
        let _ = write!(text, "{separator} {name}: ");
        separator = ",";
        match (shown, value) {
            (Shown::Percent, Value::Float(x)) => {
                let _ = write!(text, "{:.1}%", x * 100.0);
            }
            (_, value) => write_value(text, value, true)?,
        }
    }
    text.push_str(" }");
    Ok(())
}

/// The elements in brackets, then dtype and shape.
fn write_tensor(text: &mut String, tensor: &Tensor) -> Result<(), BuiltinError> {
    let n = tensor.n_elems();
    tensor.device().check_heap(n.saturating_mul(ELEMENT_BYTES), || format!("the text of {}", tensor.layout()))?;
    match elements(tensor) {
        Ok(elements) => {
            let shortened = elements.len() > MAX_ELEMENTS;
            let format = ElementFormat::of(tensor.dtype(), &elements);
            let dims = tensor.dims();
            let mut printer = Printer { text, dims, elements: &elements, format, shortened };
            printer.axis(0, 0, elements.len());
            let _ = write!(text, " {}", tensor.layout());
        }
        // Weights in blocks have no elements that can be read.
        Err(_) => {
            let _ = write!(text, "{}", tensor.layout());
        }
    }
    Ok(())
}

/// How all elements of one tensor are written.
#[derive(Clone, Copy)]
enum ElementFormat {
    Truth,
    Whole,
    Fixed(usize),
    Scientific,
}

impl ElementFormat {
    fn of(dtype: DType, elements: &[f64]) -> ElementFormat {
        match dtype {
            DType::Bool => return ElementFormat::Truth,
            DType::I32 => return ElementFormat::Whole,
            _ => {}
        }
        let sizes = elements.iter().map(|x| x.abs()).filter(|x| x.is_finite() && *x > 0.0);
        let (smallest, largest) = sizes.fold((f64::INFINITY, 0.0_f64), |(min, max), x| (min.min(x), max.max(x)));
        if largest >= 1e6 || (smallest < 1e-4 && smallest < largest / 1e4) || largest < 1e-3 && largest > 0.0 {
            return ElementFormat::Scientific;
        }
        let needed = |places: usize| elements.iter().all(|x| is_exact(*x, places));
        ElementFormat::Fixed((1..4).find(|places| needed(*places)).unwrap_or(4))
    }

    fn write(self, text: &mut String, x: f64) {
        let _ = match self {
            ElementFormat::Truth => write!(text, "{}", x != 0.0),
            ElementFormat::Whole => write!(text, "{x}"),
            _ if x.is_nan() => write!(text, "nan"),
            _ if x.is_infinite() => write!(text, "{}", if x > 0.0 { "inf" } else { "-inf" }),
            ElementFormat::Fixed(places) => write!(text, "{x:.places$}"),
            ElementFormat::Scientific => write!(text, "{x:.4e}"),
        };
    }
}

/// Whether `places` decimals show the number as exactly as four do.
fn is_exact(x: f64, places: usize) -> bool {
    let scaled = x * 10_f64.powi(places as i32);
    !x.is_finite() || (scaled - scaled.round()).abs() * 10_f64.powi(4 - places as i32) < 0.5
}

struct Printer<'a> {
    text: &'a mut String,
    dims: &'a [usize],
    elements: &'a [f64],
    format: ElementFormat,
    shortened: bool,
}

impl Printer<'_> {
    /// Writes the elements of one axis: `len` of them in all its subaxes, from index `at` on.
    fn axis(&mut self, axis: usize, at: usize, len: usize) {
        let Some(&dim) = self.dims.get(axis) else {
            if let Some(x) = self.elements.get(at) {
                self.format.write(self.text, *x);
            }
            return;
        };
        let is_last = axis + 1 == self.dims.len();
        let step = len.checked_div(dim).unwrap_or(0);
        self.text.push('[');
        let mut index = 0;
        while index < dim {
            if index > 0 {
                self.separate(axis, is_last);
            }
            if self.shortened && dim > 2 * EDGE && index == EDGE {
                self.text.push_str("...");
                index = dim - EDGE;
                continue;
            }
            self.axis(axis + 1, at + index * step, step);
            index += 1;
        }
        self.text.push(']');
    }

    fn separate(&mut self, axis: usize, is_last: bool) {
        if is_last {
            self.text.push_str(", ");
            return;
        }
        // One newline for each inner axis, so that blocks stand apart.
        self.text.push(',');
        for _ in axis + 1..self.dims.len() {
            self.text.push('\n');
        }
        for _ in 0..=axis {
            self.text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tl_device::Device;

    use super::*;

    fn check(value: Value, expected: &str) {
        assert_eq!(show(&value).unwrap(), expected);
    }

    #[test]
    fn plain_values() {
        check(Value::Float(1.0), "1.0");
        check(Value::Float(0.1), "0.1");
        check(Value::Float(1e300), "1e300");
        check(Value::ints(&[1, -2]), "[1, -2]");
        check(Value::ints(&[]), "[]");
        check(Value::text("a\"b"), "a\"b");
        check(Value::list([Value::text("a\"b"), Value::Unit]), "[\"a\\\"b\", ()]");
        check(Value::List(Arc::new(vec![Value::Float(2.5), Value::Bool(true)])), "[2.5, true]");
        check(Value::Range(0, 3), "0..3");
        check(Value::DType(DType::F16), "float16");
    }

    #[test]
    fn tensors() {
        let device = Device::cpu();
        let tensor = |values: &[f32], dims: &[usize]| {
            Value::Tensor(Tensor::<f32>::from_slice(&device, values, dims).unwrap().into_dyn())
        };
        check(tensor(&[1.0, 2.5, -3.0, 4.0], &[2, 2]), "[[1.0, 2.5],\n [-3.0, 4.0]] float32[2, 2]");
        check(tensor(&[0.333_333, 1.0], &[2]), "[0.3333, 1.0000] float32[2]");
        check(tensor(&[7.0], &[]), "7.0 float32[]");
        check(tensor(&[], &[0, 3]), "[] float32[0, 3]");
        check(tensor(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5], &[4]), "[nan, inf, -inf, 0.5] float32[4]");
        check(tensor(&[1e-7, 1.0], &[2]), "[1.0000e-7, 1.0000e0] float32[2]");
        check(tensor(&[1.0; 4], &[2, 1, 2]), "[[[1.0, 1.0]],\n\n [[1.0, 1.0]]] float32[2, 1, 2]");
        check(tensor(&[2.0; 1001], &[1001]), "[2.0, 2.0, 2.0, ..., 2.0, 2.0, 2.0] float32[1001]");
        let ints = Tensor::<i32>::from_slice(&device, &[-1, 20], [2]).unwrap().into_dyn();
        check(Value::Tensor(ints), "[-1, 20] int32[2]");
        let bools = Tensor::<bool>::from_slice(&device, &[true, false], [2]).unwrap().into_dyn();
        check(Value::Tensor(bools), "[true, false] bool[2]");
    }
}
