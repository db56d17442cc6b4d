//! How tensors are printed: as NumPy prints arrays, with dtype and shape behind; a single number as a number.
//!
//! Columns are aligned, rows longer than a line wrap, and the inner part of a long dimension is left out.

use std::fmt::Write;

use smallvec::SmallVec;
use tl_device::DType;
use tl_tensor::Tensor;

use crate::library::{BuiltinError, elements};

/// The longest line of a wrapped text, in characters.
pub(crate) const MAX_LINE: usize = 80;

/// Tensors with more elements than this are shortened.
const MAX_ELEMENTS: usize = 1000;

/// Bytes that an element takes while its tensor is printed: as stored, and as a number.
const ELEMENT_BYTES: usize = 12;

/// Elements shown at each end of a shortened dimension.
const EDGE: usize = 3;

/// The most decimal places of an element.
const MAX_PLACES: usize = 4;

/// The characters since the last newline; where they are many more than a line has, fewer.
pub(crate) fn column(text: &str) -> usize {
    // Only the end of a long text is read.
    let end = &text[text.floor_char_boundary(text.len().saturating_sub(8 * MAX_LINE))..];
    end.rsplit('\n').next().unwrap_or_default().chars().count()
}

/// Starts a new line with this many spaces.
pub(crate) fn new_line(text: &mut String, indent: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
}

/// Appends the elements in brackets, then dtype and shape. Lines after the first begin below the text's end.
pub(crate) fn write_tensor(text: &mut String, tensor: &Tensor) -> Result<(), BuiltinError> {
    let n = tensor.n_elems();
    tensor.device().check_heap(n.saturating_mul(ELEMENT_BYTES), || format!("the text of {}", tensor.layout()))?;
    if let DType::Block(_) = tensor.dtype() {
        // Weights in blocks have no elements that can be read.
        let _ = write!(text, "{}", tensor.layout());
        return Ok(());
    }
    let elements = elements(tensor)?;
    if let ([], Some(x)) = (tensor.dims(), elements.first()) {
        write_number(text, tensor.dtype(), *x);
        return Ok(());
    }
    let printer = Printer::new(tensor, &elements, column(text));
    printer.axis(text, 0, 0, elements.len());
    let label = tensor.layout().to_string();
    match column(text) + 1 + label.chars().count() > printer.max_column {
        true => new_line(text, printer.indent),
        false => text.push(' '),
    }
    text.push_str(&label);
    Ok(())
}

/// A single number, in as few digits as tell it from its dtype's other numbers.
fn write_number(text: &mut String, dtype: DType, x: f64) {
    // Writing to a string cannot fail.
    let _ = match dtype {
        DType::Bool => write!(text, "{}", x != 0.0),
        DType::I32 => write!(text, "{x}"),
        DType::F32 => write!(text, "{:?}", x as f32),
        _ => {
            let is_told = |decimal: &f64| half::f16::from_f64(*decimal).to_f64() == x;
            let shorter = (0..5).filter_map(|places| format!("{x:.places$e}").parse().ok());
            write!(text, "{:?}", shorter.into_iter().find(is_told).unwrap_or(x))
        }
    };
}

/// How all elements of one tensor are written.
#[derive(Clone, Copy)]
enum ElementFormat {
    Truth,
    Whole,
    /// With this many decimal places.
    Fixed(usize),
    /// With this many decimal places before the exponent.
    Scientific(usize),
}

impl ElementFormat {
    fn of(dtype: DType, elements: impl Iterator<Item = f64> + Clone) -> ElementFormat {
        match dtype {
            DType::Bool => return ElementFormat::Truth,
            DType::I32 => return ElementFormat::Whole,
            _ => {}
        }
        let sizes = elements.clone().map(f64::abs).filter(|x| x.is_finite() && *x > 0.0);
        let (smallest, largest) = sizes.fold((f64::INFINITY, 0.0_f64), |(min, max), x| (min.min(x), max.max(x)));
        let is_scientific =
            largest >= 1e6 || (smallest < 1e-4 && smallest < largest / 1e4) || largest < 1e-3 && largest > 0.0;
        let format = if is_scientific { ElementFormat::Scientific } else { ElementFormat::Fixed };
        // Places that would be zeros everywhere are left out.
        let value = |places, x| format(places).text(x).parse::<f64>().ok();
        let suffices =
            |places: &usize| elements.clone().all(|x| !x.is_finite() || value(*places, x) == value(MAX_PLACES, x));
        format((1..MAX_PLACES).find(suffices).unwrap_or(MAX_PLACES))
    }

    fn text(self, x: f64) -> String {
        match self {
            ElementFormat::Truth => (x != 0.0).to_string(),
            ElementFormat::Whole => x.to_string(),
            _ if x.is_nan() => "nan".to_owned(),
            _ if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_owned(),
            ElementFormat::Fixed(places) => format!("{x:.places$}"),
            ElementFormat::Scientific(places) => format!("{x:.places$e}"),
        }
    }
}

struct Printer<'a> {
    dims: &'a [usize],
    elements: &'a [f64],
    format: ElementFormat,
    /// Characters of the widest element.
    width: usize,
    /// Spaces before each line but the first.
    indent: usize,
    max_column: usize,
    is_shortened: bool,
}

impl<'a> Printer<'a> {
    /// `start`: the column where the text begins. Far to the right, the following lines begin at 0 instead.
    fn new(tensor: &'a Tensor, elements: &'a [f64], start: usize) -> Printer<'a> {
        let (indent, max_column) = if start > MAX_LINE / 2 { (0, start + MAX_LINE) } else { (start, MAX_LINE) };
        let is_shortened = elements.len() > MAX_ELEMENTS;
        let (dims, format) = (tensor.dims(), ElementFormat::Whole);
        let mut printer = Printer { dims, elements, format, width: 0, indent, max_column, is_shortened };
        let mut places = SmallVec::new();
        printer.shown_elements(0, 0, elements.len(), &mut places);
        let shown = places.iter().filter_map(|at: &usize| elements.get(*at).copied());
        printer.format = ElementFormat::of(tensor.dtype(), shown.clone());
        printer.width = shown.map(|x| printer.format.text(x).len()).max().unwrap_or(0);
        printer
    }

    /// The indices along a dimension, without those that are left out.
    fn shown(&self, dim: usize) -> impl Iterator<Item = usize> {
        let left_out = if self.is_shortened && dim > 2 * EDGE { EDGE..dim - EDGE } else { dim..dim };
        (0..left_out.start).chain(left_out.end..dim)
    }

    /// Whether indices before this one are left out.
    fn is_after_gap(&self, dim: usize, index: usize) -> bool {
        self.is_shortened && dim > 2 * EDGE && index == dim - EDGE
    }

    /// The places of the elements of one axis that are shown: `len` of them in all its subaxes, from `at` on.
    fn shown_elements(&self, axis: usize, at: usize, len: usize, places: &mut SmallVec<[usize; 64]>) {
        let Some(&dim) = self.dims.get(axis) else {
            places.push(at);
            return;
        };
        let step = len.checked_div(dim).unwrap_or(0);
        for index in self.shown(dim).take_while(|_| len > 0) {
            self.shown_elements(axis + 1, at + index * step, step, places);
        }
    }

    /// Writes one axis: `len` elements in all its subaxes, from `at` on.
    fn axis(&self, text: &mut String, axis: usize, at: usize, len: usize) {
        let dim = self.dims.get(axis).copied().unwrap_or(0);
        let n_inner = self.dims.len() - axis - 1;
        let step = len.checked_div(dim).unwrap_or(0);
        text.push('[');
        let mut column = column(text);
        for index in self.shown(dim).take_while(|_| len > 0) {
            if self.is_after_gap(dim, index) {
                column = self.part(text, column, "...");
                self.separate(text, axis);
            }
            if n_inner > 0 {
                self.axis(text, axis + 1, at + index * step, step);
            } else if let Some(x) = self.elements.get(at + index) {
                let word = format!("{:>width$}", self.format.text(*x), width = self.width);
                column = self.part(text, column, &word);
            }
            if index + 1 < dim {
                self.separate(text, axis);
                column += 2;
            }
        }
        text.push(']');
    }

    /// Writes an element, on a new line where this one is full, and gives the column behind it.
    fn part(&self, text: &mut String, column: usize, word: &str) -> usize {
        let rank = self.dims.len();
        // Behind it stands a comma, or the brackets of all axes.
        let mut column = column + word.len();
        let start = self.indent + rank;
        if column + rank > self.max_column && column > start + word.len() && !text.ends_with('\n') {
            text.truncate(text.trim_end_matches(' ').len());
            new_line(text, start);
            column = start + word.len();
        }
        text.push_str(word);
        column
    }

    fn separate(&self, text: &mut String, axis: usize) {
        let n_inner = self.dims.len() - axis - 1;
        if n_inner == 0 {
            text.push_str(", ");
            return;
        }
        // One newline for each inner axis, so that blocks stand apart.
        text.push(',');
        text.extend(std::iter::repeat_n('\n', n_inner - 1));
        new_line(text, self.indent + axis + 1);
    }
}

#[cfg(test)]
mod tests {
    use tl_device::Device;

    use super::*;

    fn check(tensor: &Tensor, expected: &str) {
        let mut text = String::new();
        write_tensor(&mut text, tensor).unwrap();
        assert_eq!(text, expected);
    }

    fn tensor(values: &[f32], dims: &[usize]) -> Tensor {
        Tensor::<f32>::from_slice(&Device::cpu(), values, dims).unwrap().into_dyn()
    }

    fn counted(dims: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| i as f32).collect();
        tensor(&values, dims)
    }

    #[test]
    fn small_tensors() {
        check(&tensor(&[1.0, 2.5, -3.0, 4.0], &[2, 2]), "[[ 1.0,  2.5],\n [-3.0,  4.0]] float32[2, 2]");
        check(&tensor(&[0.333_333, 1.0], &[2]), "[0.3333, 1.0000] float32[2]");
        check(&tensor(&[], &[0, 3]), "[] float32[0, 3]");
        check(&tensor(&[], &[2, 0]), "[] float32[2, 0]");
        check(&tensor(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5], &[4]), "[ nan,  inf, -inf,  0.5] float32[4]");
        check(&tensor(&[1e-7, 1.0], &[2]), "[1.0e-7,  1.0e0] float32[2]");
        check(&tensor(&[1.234_567e-7, -1.5], &[2]), "[1.2346e-7, -1.5000e0] float32[2]");
        check(&tensor(&[1.0; 4], &[2, 1, 2]), "[[[1.0, 1.0]],\n\n [[1.0, 1.0]]] float32[2, 1, 2]");
        let ints = Tensor::<i32>::from_slice(&Device::cpu(), &[-1, 20], [2]).unwrap();
        check(&ints.into_dyn(), "[-1, 20] int32[2]");
        let bools = Tensor::<bool>::from_slice(&Device::cpu(), &[true, false], [2]).unwrap();
        check(&bools.into_dyn(), "[ true, false] bool[2]");
    }

    #[test]
    fn single_numbers() {
        check(&tensor(&[7.0], &[]), "7.0");
        check(&tensor(&[0.1], &[]), "0.1");
        check(&tensor(&[f32::NAN], &[]), "NaN");
        let device = Device::cpu();
        for (x, expected) in [(-0.118_26, "-0.1183"), (0.1, "0.1"), (65504.0, "65500.0"), (6e-8, "6e-8"), (1.0, "1.0")]
        {
            let x = half::f16::from_f64(x);
            check(&Tensor::<half::f16>::from_slice(&device, &[x], []).unwrap().into_dyn(), expected);
        }
        check(&Tensor::<i32>::from_slice(&device, &[-7], []).unwrap().into_dyn(), "-7");
        check(&Tensor::<bool>::from_slice(&device, &[true], []).unwrap().into_dyn(), "true");
    }

    #[test]
    fn long_tensors() {
        check(&tensor(&[2.0; 1001], &[1001]), "[2.0, 2.0, 2.0, ..., 2.0, 2.0, 2.0] float32[1001]");
        let row = |first: f32| {
            let word = |x: f32| format!("{x:>6.1}");
            let words: Vec<String> = [first, first + 1.0, first + 2.0].map(word).into();
            let last: Vec<String> = [first + 97.0, first + 98.0, first + 99.0].map(word).into();
            format!("[{}, ..., {}]", words.join(", "), last.join(", "))
        };
        let rows = |rows: &[f32]| rows.iter().map(|first| row(*first)).collect::<Vec<_>>().join(",\n ");
        let (first, last) = (rows(&[0.0, 100.0, 200.0]), rows(&[1700.0, 1800.0, 1900.0]));
        check(&counted(&[20, 100]), &format!("[{first},\n ...,\n {last}] float32[20, 100]"));
    }

    #[test]
    fn wide_rows_wrap_below_their_start() {
        let mut text = "x: ".to_owned();
        write_tensor(&mut text, &counted(&[2, 40])).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_LINE), "{text}");
        assert!(lines[0].starts_with("x: [[ 0.0,  1.0, ") && lines[0].ends_with("11.0,"), "{text}");
        assert!(lines[1].starts_with("     12.0, 13.0") && lines[4].starts_with("    [40.0, 41.0"), "{text}");
        assert!(lines[7].ends_with("79.0]] float32[2, 40]"), "{text}");
    }
}
