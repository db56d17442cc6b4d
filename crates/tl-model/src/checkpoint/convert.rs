//! The source of a tensor's bytes: stored in a file as GGUF has them, or converted at load.
//!
//! A conversion is planned when a checkpoint is opened and reads nothing before it is loaded. It must not know
//! architectures: the tables of `families.rs` say which tensor needs which.

use std::ops::Range;

use tl_device::{Device, Error, Isa, Layout, LayoutError, Lease, Mapping, Purpose, Role};
use tl_tensor::quant::{Format, format_by_gguf_id};

use crate::error::Result;
use crate::format::TensorType;

/// Bytes converted at once for a device that the host does not write to in place.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes that one thread converts at once.
const TASK_BYTES: usize = 1 << 20;
/// Rows and columns of the tiles in which elements are gathered, so that both sides stay in the cache: the elements for
/// the rows of a tile are adjacent in the file.
const TILE_ROWS: usize = 128;
const TILE_COLUMNS: usize = 32;
/// Elements widened to float32 at once.
const WIDEN_ELEMS: usize = 1024;

/// A byte range of one of a checkpoint's files.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) file: usize,
    pub(super) data: Range<usize>,
}

/// The source of a tensor's bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// Used in place.
    Stored(Part),
    /// Assembled from parts of the files, then optionally widened to float32.
    Arranged {
        /// Location of the elements.
        arrangement: Arrangement,
        /// Their stored type.
        stored: TensorType,
        /// `Some`: the elements become float32, and this is added to each.
        widen: Option<f32>,
    },
    /// Computed from the configuration, in float32.
    Computed(Vec<f32>),
}

/// Layout of a tensor's elements in the files.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arrangement {
    /// One part after another: experts stored one by one, or a single tensor.
    Stack(Vec<Part>),
    /// Element (e, r, c) of `[.., rows, columns]` is number `first + e · strides[0] + r · strides[1] + c · strides[2]`.
    /// Those that become float32 have one column.
    Gather { part: Part, first: usize, strides: [usize; 3], rows: usize, columns: usize },
    /// Rows of heads: of the first `paired` rows of every `head_rows`, two that lie half of `paired` apart become
    /// adjacent.
    Paired { part: Part, head_rows: usize, paired: usize, row_elems: usize },
}

impl Source {
    /// Whether a mapped file's bytes are used in place.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Source::Stored(_))
    }

    /// The tensor's memory on `device`, filled; on a device that only counts, only taken.
    pub(super) fn load(&self, files: &[Mapping], layout: &Layout, device: &Device) -> Result<Lease> {
        if let Source::Stored(part) = self
            && !device.is_gpu()
        {
            let mapping = files.get(part.file).ok_or(Error::OutsideFile {
                offset: part.data.start,
                len: part.data.len(),
                file_bytes: 0,
            })?;
            return Ok(device.adopt(mapping, part.data.start, part.data.len())?);
        }
        let mut lease = device.take(layout, Purpose { role: Role::Learnable, op: "load_model" })?;
        if device.is_simulated() {
            return Ok(lease);
        }
        if let Source::Stored(part) = self {
            lease.write(0, bytes_of(files, part))?;
        } else if device.is_gpu() {
            self.convert_in_chunks(files, layout, device, CHUNK_BYTES, |start, bytes| Ok(lease.write(start, bytes)?))?;
        } else {
            self.convert(files, device, 0, lease.bytes_mut());
        }
        Ok(lease)
    }

    /// The same tensor with the rows of its heads arranged in pairs: see [`Arrangement::Paired`]. `None` if it is made
    /// from several stored tensors.
    pub(super) fn paired(
        &self,
        stored: TensorType,
        head_rows: usize,
        paired: usize,
        row_elems: usize,
    ) -> Option<Source> {
        let (part, stored, widen) = match self {
            Source::Stored(part) => (part, stored, None),
            Source::Arranged { arrangement: Arrangement::Stack(parts), stored, widen } => match parts.as_slice() {
                [part] => (part, *stored, *widen),
                _ => return None,
            },
            _ => return None,
        };
        let arrangement = Arrangement::Paired { part: part.clone(), head_rows, paired, row_elems };
        Some(Source::Arranged { arrangement, stored, widen })
    }

    /// Passes the tensor's bytes from left to right, about `chunk_bytes` at a time: in whole rows if elements are
    /// gathered. Stored bytes are not copied.
    pub(super) fn read(
        &self,
        files: &[Mapping],
        layout: &Layout,
        device: &Device,
        chunk_bytes: usize,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Source::Stored(part) => bytes_of(files, part).chunks(chunk_bytes).try_for_each(take),
            _ => self.convert_in_chunks(files, layout, device, chunk_bytes, |_, bytes| take(bytes)),
        }
    }

    /// Converts about `chunk_bytes` at a time: whole rows if elements are gathered, and whole groups of 4 bytes, the
    /// unit of writes to a GPU.
    fn convert_in_chunks(
        &self,
        files: &[Mapping],
        layout: &Layout,
        device: &Device,
        chunk_bytes: usize,
        mut write: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let chunk = self.whole_rows(chunk_bytes);
        let len_bytes = layout.len_bytes().map_err(Error::from)?;
        let mut staged = Vec::new();
        for start in (0..len_bytes).step_by(chunk) {
            resize(&mut staged, chunk.min(len_bytes - start), layout)?;
            self.convert(files, device, start, &mut staged);
            write(start, &staged)?;
        }
        Ok(())
    }

    /// About `n_bytes`: at least one row if elements are gathered, and whole groups of 4 bytes.
    fn whole_rows(&self, n_bytes: usize) -> usize {
        let row = match self {
            Source::Arranged { arrangement: Arrangement::Gather { columns, .. }, stored, widen } => {
                let elem_bytes = if widen.is_some() { 4 } else { stored.block_bytes().unwrap_or(4) };
                columns.saturating_mul(elem_bytes)
            }
            _ => 4,
        };
        let row = if row.is_multiple_of(4) { row } else { row.saturating_mul(2) }.max(4);
        (n_bytes / row).max(1).saturating_mul(row)
    }

    /// Writes the tensor's bytes from `start` on, on all threads. For gathered elements, `start` and `out` are whole
    /// rows.
    fn convert(&self, files: &[Mapping], device: &Device, start: usize, out: &mut [u8]) {
        let task_bytes = self.whole_rows(TASK_BYTES);
        let isa = device.threads().isa();
        device.threads().for_chunks(out, task_bytes, &|index, out| {
            self.convert_part(files, isa, start + index * task_bytes, out);
        });
    }

    fn convert_part(&self, files: &[Mapping], isa: Isa, start: usize, out: &mut [u8]) {
        match self {
            Source::Stored(part) => copy(bytes_of(files, part), start, out),
            Source::Computed(values) => {
                let bytes = out.as_chunks_mut::<4>().0.iter_mut();
                bytes.zip(values.iter().skip(start / 4)).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
            }
            Source::Arranged { arrangement, stored, widen: None } => {
                arrangement.arrange(files, stored.block_bytes().unwrap_or(1), start, out);
            }
            Source::Arranged { arrangement, stored, widen: Some(added) } => {
                let Some(format) = format_of(*stored) else { return };
                let elem_bytes = stored.block_bytes().unwrap_or(4);
                let (mut raw, mut values) = ([0; 4 * WIDEN_ELEMS], [0.0; WIDEN_ELEMS]);
                let pieces = out.as_chunks_mut::<4>().0.chunks_mut(WIDEN_ELEMS);
                for (first, out) in (start / 4..).step_by(WIDEN_ELEMS).zip(pieces) {
                    let raw = raw.get_mut(..out.len() * elem_bytes).unwrap_or_default();
                    let values = values.get_mut(..out.len()).unwrap_or_default();
                    arrangement.arrange(files, elem_bytes, first * elem_bytes, raw);
                    (format.kernels.dequantize)(isa, raw, values);
                    out.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = (*value + added).to_le_bytes());
                }
            }
        }
    }
}

/// The format of a type, if it is supported.
pub(super) fn format_of(tensor_type: TensorType) -> Option<&'static Format> {
    format_by_gguf_id(tensor_type.id())
}

/// Whether this offset of a file is aligned for elements of this type; the start of a file is aligned for all.
pub(super) fn is_aligned(tensor_type: TensorType, offset: usize) -> bool {
    match tensor_type {
        TensorType::F32 => offset.is_multiple_of(4),
        _ => offset.is_multiple_of(tensor_type.block_bytes().filter(|&bytes| bytes == 2).unwrap_or(1)),
    }
}

impl Arrangement {
    /// Writes the bytes of the arranged elements from byte `start` on.
    fn arrange(&self, files: &[Mapping], elem_bytes: usize, start: usize, out: &mut [u8]) {
        match self {
            Arrangement::Stack(parts) => {
                let (mut skip, mut out) = (start, out);
                for part in parts {
                    let len = part.data.len();
                    let n = len.saturating_sub(skip).min(out.len());
                    let (now, later) = out.split_at_mut(n);
                    copy(bytes_of(files, part), skip, now);
                    (skip, out) = (skip.saturating_sub(len), later);
                }
            }
            Arrangement::Gather { part, first, strides, rows, columns } => {
                let gather = Gather { first: *first, strides: *strides, rows: *rows, columns: *columns };
                let bytes = bytes_of(files, part);
                match elem_bytes {
                    2 => gather.run::<2>(bytes, start, out),
                    _ => gather.run::<4>(bytes, start, out),
                }
            }
            Arrangement::Paired { part, head_rows, paired, row_elems } => {
                let (bytes, row_bytes) = (bytes_of(files, part), (row_elems * elem_bytes).max(1));
                let (mut at, mut out) = (start, out);
                while !out.is_empty() {
                    let (row, skip) = (at / row_bytes, at % row_bytes);
                    let n = (row_bytes - skip).min(out.len());
                    let (now, later) = out.split_at_mut(n);
                    copy(bytes, paired_row(row, *head_rows, *paired) * row_bytes + skip, now);
                    (at, out) = (at + n, later);
                }
            }
        }
    }
}

/// The stored row for this row.
fn paired_row(row: usize, head_rows: usize, paired: usize) -> usize {
    let (head, row) = (row / head_rows.max(1), row % head_rows.max(1));
    head * head_rows + if row < paired { row % 2 * (paired / 2) + row / 2 } else { row }
}

struct Gather {
    first: usize,
    strides: [usize; 3],
    rows: usize,
    columns: usize,
}

impl Gather {
    /// Gathers whole rows into `out`, from byte `start` on.
    fn run<const N: usize>(&self, bytes: &[u8], start: usize, out: &mut [u8]) {
        let (from, to) = (bytes.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
        let [outer, down, across] = self.strides;
        let (columns, rows) = (self.columns.max(1), self.rows.max(1));
        let place = |row: usize| self.first + row / rows * outer + row % rows * down;
        for (first_row, to) in (start / N / columns..).step_by(TILE_ROWS).zip(to.chunks_mut(TILE_ROWS * columns)) {
            let mut places = [0; TILE_ROWS];
            (first_row..).zip(&mut places).for_each(|(row, at)| *at = place(row));
            for left in (0..columns).step_by(TILE_COLUMNS) {
                for column in left..columns.min(left + TILE_COLUMNS) {
                    let to = to.iter_mut().skip(column).step_by(columns);
                    for (to, at) in to.zip(&places) {
                        *to = from.get(at + column * across).copied().unwrap_or([0; N]);
                    }
                }
            }
        }
    }
}

fn bytes_of<'a>(files: &'a [Mapping], part: &Part) -> &'a [u8] {
    files.get(part.file).and_then(|file| file.bytes().get(part.data.clone())).unwrap_or_default()
}

fn copy(from: &[u8], start: usize, out: &mut [u8]) {
    let from = start.checked_add(out.len()).and_then(|end| from.get(start..end)).unwrap_or_default();
    out.iter_mut().zip(from).for_each(|(out, from)| *out = *from);
}

/// Resizes the buffer; lack of memory gives the error of the tensor's memory.
fn resize(staged: &mut Vec<u8>, len: usize, layout: &Layout) -> Result<()> {
    let more = len.saturating_sub(staged.len());
    tl_device::heap::refusable(|| staged.try_reserve_exact(more))
        .map_err(|_| Error::from(LayoutError::TooLarge { layout: layout.clone() }))?;
    staged.resize(len, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::TempFile;

    /// Every way of being converted, with the sizes that it has once it is loaded.
    fn sources() -> Vec<(Source, TensorType, Vec<usize>)> {
        let part = |file: usize, data: Range<usize>| Part { file, data };
        let stack = Arrangement::Stack(vec![part(0, 10..18), part(1, 4..12), part(0, 3..11)]);
        let gather = |first, n, rows, columns, elems: usize, elem_bytes| Arrangement::Gather {
            part: part(1, 8..8 + elems * elem_bytes),
            first,
            strides: [n * rows * columns, n, n * rows],
            rows,
            columns,
        };
        let paired = |head_rows, paired, row_elems, elems: usize, elem_bytes| Arrangement::Paired {
            part: part(0, 6..6 + elems * elem_bytes),
            head_rows,
            paired,
            row_elems,
        };
        let arranged = |arrangement, stored, widen| Source::Arranged { arrangement, stored, widen };
        vec![
            (arranged(stack.clone(), TensorType::F16, None), TensorType::F16, vec![3, 4]),
            (arranged(stack.clone(), TensorType::F32, None), TensorType::F32, vec![3, 2]),
            (arranged(stack.clone(), TensorType::BF16, Some(0.0)), TensorType::F32, vec![3, 4]),
            (arranged(stack, TensorType::F32, Some(1.0)), TensorType::F32, vec![3, 2]),
            (arranged(gather(0, 2, 5, 7, 140, 4), TensorType::F32, None), TensorType::F32, vec![2, 5, 7]),
            (arranged(gather(1, 2, 5, 7, 140, 2), TensorType::BF16, None), TensorType::BF16, vec![2, 5, 7]),
            (arranged(gather(0, 1, 40, 50, 4000, 2), TensorType::F16, None), TensorType::F16, vec![2, 40, 50]),
            (arranged(gather(1, 2, 40, 1, 240, 2), TensorType::BF16, Some(0.0)), TensorType::F32, vec![3, 40, 1]),
            (Source::Computed(vec![1.0, 2.5, -3.0]), TensorType::F32, vec![3]),
            (arranged(paired(12, 8, 7, 504, 2), TensorType::F16, None), TensorType::F16, vec![36, 7]),
            (arranged(paired(10, 10, 3, 90, 2), TensorType::BF16, Some(0.0)), TensorType::F32, vec![30, 3]),
        ]
    }

    #[test]
    fn in_chunks_as_at_once() {
        let bytes: Vec<u8> = (0..16_384u32).map(|i| ((i * i) >> 5) as u8 & 0x3f).collect();
        let files = [1, 2].map(|_| TempFile::with("convert", &bytes));
        let mappings = files.each_ref().map(|file| Mapping::open(&file.0).unwrap());
        let device = Device::cpu();
        for (source, tensor_type, dims) in sources() {
            let layout = Layout::new(format_of(tensor_type).unwrap().dtype, dims.as_slice());
            let whole = source.load(&mappings, &layout, &device).unwrap();
            assert!(whole.bytes().iter().any(|&byte| byte != 0), "{source:?}");
            for chunk_bytes in [0, 1, 30, 64, 1000, usize::MAX] {
                let mut joined = Vec::new();
                let write = |start: usize, bytes: &[u8]| {
                    assert_eq!((start, start % 4), (joined.len(), 0), "{source:?}");
                    joined.extend_from_slice(bytes);
                    Ok(())
                };
                source.convert_in_chunks(&mappings, &layout, &device, chunk_bytes, write).unwrap();
                assert!(joined == whole.bytes(), "{source:?} in {chunk_bytes}");
            }
        }
    }

    #[test]
    fn rows_of_pairs_lie_side_by_side() {
        let check = |head_rows, paired, expected: &[usize]| {
            let found: Vec<usize> = (0..expected.len()).map(|row| paired_row(row, head_rows, paired)).collect();
            assert_eq!(found, expected, "{paired} of {head_rows}");
        };
        check(4, 4, &[0, 2, 1, 3, 4, 6, 5, 7]);
        check(6, 6, &[0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        check(6, 4, &[0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
        check(2, 2, &[0, 1, 2, 3]);
        check(3, 0, &[0, 1, 2, 3]);
    }

    /// More than one thread takes at once.
    #[test]
    fn in_many_tasks() {
        let (experts, rows, columns) = (3, 500, 701);
        let numbers = (0..2 * experts * rows * columns).map(|i| (i * 7 % 65_521) as u16);
        let file = TempFile::with("tasks", &numbers.clone().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
        let numbers: Vec<u16> = numbers.collect();
        let mapping = [Mapping::open(&file.0).unwrap()];
        let (device, part) = (Device::cpu(), Part { file: 0, data: 0..2 * numbers.len() });
        let check = |arrangement: Arrangement, expected: Vec<u16>| {
            let layout = Layout::new(format_of(TensorType::F16).unwrap().dtype, [expected.len()]);
            let source = Source::Arranged { arrangement, stored: TensorType::F16, widen: None };
            let found = source.load(&mapping, &layout, &device).unwrap();
            assert!(found.bytes().len() > TASK_BYTES);
            assert!(found.bytes() == expected.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
        };
        let strides = [2 * rows * columns, 2, 2 * rows];
        let element = |i: usize| {
            let (expert, row, column) = (i / columns / rows, i / columns % rows, i % columns);
            numbers[(expert * columns + column) * 2 * rows + 2 * row + 1]
        };
        let gather = Arrangement::Gather { part: part.clone(), first: 1, strides, rows, columns };
        check(gather, (0..experts * rows * columns).map(element).collect());
        check(Arrangement::Stack(vec![part.clone(), part]), [numbers.clone(), numbers].concat());
    }
}
