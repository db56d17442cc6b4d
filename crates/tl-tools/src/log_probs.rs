//! Files of log-probabilities: a text's tokens, and for each token of the second half of every window the
//! log-probabilities of the whole vocabulary at its position. The format is that of llama.cpp's `llama-perplexity
//! --kl-divergence-base`, so either program can read the other's files.
//!
//! All numbers little-endian: the eight characters `_logits_`; three `i32`: tokens of a window `w`, of the vocabulary `v`, and
//! the number of windows; the tokens of all windows as `i32`; then for each window `w - 1 - ⌊w / 2⌋` rows, for the tokens
//! behind the positions `⌊w / 2⌋`, … A row is a step and a lowest value, both `f32`, and `v` numbers `u16`, rounded up to an even
//! count: the n-th token's log-probability is `lowest + step · n-th number`. Logits more than 16 below the row's greatest
//! count as 16 below it.

use std::io;
use std::path::Path;

use tl_model::ModelError;
use tl_model::format::{OutputFile, Reader};

use crate::error::{Result, ToolError};

const MAGIC: &[u8; 8] = b"_logits_";
/// Step and lowest value.
const ROW_HEADER_BYTES: usize = 8;
/// The shortest window that has a prediction in its second half.
pub const SHORTEST_WINDOW: usize = 3;
/// Largest distinguished distance below the greatest logit.
const RANGE: f32 = 16.0;

/// The natural logarithm of the sum of the exponentials.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln()
}

/// The first scored position of a window: before it there is too little context.
pub fn first_scored(window: usize) -> usize {
    window / 2
}

/// Scored predictions of a window: without that of its last token, which has no successor.
pub fn rows_of(window: usize) -> usize {
    window.saturating_sub(1 + first_scored(window))
}

fn row_bytes(vocab_size: usize) -> usize {
    ROW_HEADER_BYTES + 2 * vocab_size.next_multiple_of(2)
}

/// A file of log-probabilities in memory, checked.
#[derive(Clone, Copy, Debug)]
pub struct LogProbs<'a> {
    window: usize,
    vocab_size: usize,
    tokens: &'a [u8],
    rows: &'a [u8],
}

/// The log-probabilities of all tokens at one position.
#[derive(Clone, Copy, Debug)]
pub struct LogProbsRow<'a> {
    step: f32,
    lowest: f32,
    numbers: &'a [[u8; 2]],
}

impl<'a> LogProbs<'a> {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// Another kind of file, impossible sizes, a token outside the vocabulary, a truncated file.
    pub fn parse(bytes: &'a [u8]) -> Result<LogProbs<'a>> {
        if !bytes.starts_with(MAGIC) {
            return Err(ToolError::NotLogProbs { found: bytes.iter().copied().take(MAGIC.len()).collect() });
        }
        let mut reader = Reader::at(bytes, MAGIC.len());
        let window = size(&mut reader, "the number of tokens in a window", SHORTEST_WINDOW as u32)?;
        let vocab_size = size(&mut reader, "the size of the vocabulary", 1)?;
        let n_windows = size(&mut reader, "the number of windows", 1)?;
        let tokens = reader.take(4 * n_windows as u64 * window as u64, "the tokens")?;
        let check = |(index, &bytes): (usize, &[u8; 4])| {
            let value = u32::from_le_bytes(bytes);
            let offset = (MAGIC.len() + 12 + 4 * index) as u64;
            let wrong =
                ModelError::Field { what: "a token", offset, value: value.into(), expected: "one of the vocabulary" };
            if (value as usize) < vocab_size { Ok(()) } else { Err(wrong) }
        };
        tokens.as_chunks::<4>().0.iter().enumerate().try_for_each(check)?;
        // The product of three sizes below 2^31 may overflow.
        let rows = (n_windows as u64 * rows_of(window) as u64).saturating_mul(row_bytes(vocab_size) as u64);
        let rows = reader.take(rows, "the log-probabilities")?;
        Ok(LogProbs { window, vocab_size, tokens, rows })
    }

    /// Tokens in each window.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Tokens with log-probabilities.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokens of each window.
    pub fn windows(&self) -> impl ExactSizeIterator<Item = Vec<u32>> {
        let window = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id)).collect();
        self.tokens.chunks_exact(4 * self.window).map(window)
    }

    /// The rows of all windows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = LogProbsRow<'a>> + use<'a> {
        let vocab_size = self.vocab_size;
        self.rows.chunks_exact(row_bytes(vocab_size)).map(move |row| {
            let float =
                |at: usize| row.get(at..).and_then(|rest| rest.first_chunk()).map_or(0.0, |x| f32::from_le_bytes(*x));
            let numbers = row.get(ROW_HEADER_BYTES..).unwrap_or_default().as_chunks::<2>().0;
            LogProbsRow { step: float(0), lowest: float(4), numbers: numbers.get(..vocab_size).unwrap_or_default() }
        })
    }
}

/// A count of at least `least`. The file's value is a non-negative `i32`, so it fits.
fn size(reader: &mut Reader<'_>, what: &'static str, least: u32) -> Result<usize> {
    let offset = reader.position() as u64;
    let value = reader.u32(what)?;
    if value < least || value > i32::MAX as u32 {
        let expected = if least > 1 { "3 or more" } else { "1 or more" };
        return Err(ModelError::Field { what, offset, value: value.into(), expected }.into());
    }
    Ok(value as usize)
}

impl LogProbsRow<'_> {
    /// The log-probability of each token, as in the file.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let (step, lowest) = (f64::from(self.step), f64::from(self.lowest));
        self.numbers.iter().map(move |&number| lowest + step * f64::from(u16::from_le_bytes(number)))
    }

    /// As [`LogProbsRow::values`], with minus infinity for tokens so far below the likeliest that the file has the
    /// lowest value for all of them.
    pub fn known(&self) -> impl Iterator<Item = f64> {
        let is_cut = self.step * f32::from(u16::MAX) > 0.9999 * RANGE;
        let known = move |(value, &number)| if is_cut && number == [0; 2] { f64::NEG_INFINITY } else { value };
        self.values().zip(self.numbers).map(known)
    }
}

/// A file of log-probabilities being written. Dropping it before [`LogProbsWriter::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct LogProbsWriter {
    file: OutputFile,
    vocab_size: usize,
    /// Remaining rows.
    left: usize,
    row: Vec<u8>,
    len_bytes: u64,
}

impl LogProbsWriter {
    /// Creates the file that will become `path`: `tokens` in windows of `window`, a whole number of them.
    ///
    /// # Errors
    /// [`ToolError::LogProbsSizes`]: windows of fewer than 3 tokens, no window, an incomplete window, no vocabulary,
    /// sizes that the format cannot hold. [`ModelError::TokenId`]: a token outside the vocabulary.
    /// [`ModelError::Write`]: a missing or read-only folder, a target that is not a regular file, a full disk.
    pub fn create(path: impl AsRef<Path>, window: usize, vocab_size: usize, tokens: &[u32]) -> Result<LogProbsWriter> {
        let path = path.as_ref();
        let n_windows = tokens.len() / window.max(1);
        let is_whole = window >= SHORTEST_WINDOW && n_windows > 0 && tokens.len().is_multiple_of(window);
        let sizes = [window, vocab_size, n_windows].map(i32::try_from);
        let (true, [Ok(window_i32), Ok(vocab_size_i32 @ 1..), Ok(n_windows_i32)]) = (is_whole, sizes) else {
            return Err(ToolError::LogProbsSizes { window, vocab_size, n_tokens: tokens.len() });
        };
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size }.into());
        }
        let left = n_windows * rows_of(window);
        let len_bytes = (MAGIC.len() + 12 + 4 * tokens.len()) as u64 + left as u64 * row_bytes(vocab_size) as u64;
        let failed = |source| ModelError::Write { path: path.to_owned(), len_bytes, source };
        let mut head = MAGIC.to_vec();
        [window_i32, vocab_size_i32, n_windows_i32].iter().for_each(|size| head.extend(size.to_le_bytes()));
        tokens.iter().for_each(|id| head.extend(id.to_le_bytes()));
        let mut file = OutputFile::create(path).map_err(failed)?;
        file.put(&head).map_err(failed)?;
        Ok(LogProbsWriter { file, vocab_size, left, row: Vec::new(), len_bytes })
    }

    fn failed(&self, source: io::Error) -> ModelError {
        ModelError::Write { path: self.file.path().to_owned(), len_bytes: self.len_bytes, source }
    }

    /// Writes the next row, from the logits of all tokens.
    ///
    /// # Errors
    /// [`ModelError::Write`]: a full disk, a failing medium, more rows than the windows have, a row of another length.
    pub fn row(&mut self, logits: &[f32]) -> Result<()> {
        if self.left == 0 || logits.len() != self.vocab_size {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a row that has no place in the file");
            return Err(self.failed(error).into());
        }
        self.left -= 1;
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = logits.iter().copied().fold(f32::INFINITY, f32::min).max(most - RANGE);
        let step = (most - least) / f32::from(u16::MAX);
        let lowest = (f64::from(least) - log_sum_exp(logits)) as f32;
        self.row.clear();
        self.row.extend(step.to_le_bytes());
        self.row.extend(lowest.to_le_bytes());
        for &logit in logits {
            // If all logits are equal, this is 0 / 0; the cast turns the NaN into 0.
            let number = ((logit - least) / step).round_ties_even() as u16;
            self.row.extend(number.to_le_bytes());
        }
        self.row.resize(row_bytes(self.vocab_size), 0);
        Ok(self.file.put(&self.row).map_err(|source| self.failed(source))?)
    }

    /// Completes the file, syncs it to disk, and renames it to its target. Returns its length in bytes.
    ///
    /// # Errors
    /// [`ModelError::Write`]: missing rows, a full disk, a failing medium.
    pub fn finish(self) -> Result<u64> {
        if self.left > 0 {
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidInput, "rows are missing")).into());
        }
        let LogProbsWriter { file, len_bytes, .. } = self;
        let path = file.path().to_owned();
        file.finish().map_err(|source| ModelError::Write { path, len_bytes, source })?;
        Ok(len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::TempFile;

    /// Two windows of 5 tokens, so that 2 are looked at in each; a vocabulary of `v`.
    fn written(name: &str, v: usize, logits: impl Fn(usize, usize) -> f32) -> Vec<u8> {
        let file = TempFile::new(name);
        let tokens: Vec<u32> = (0..10).map(|i| i % v as u32).collect();
        let mut writer = LogProbsWriter::create(&file.0, 5, v, &tokens).unwrap();
        for row in 0..4 {
            writer.row(&(0..v).map(|id| logits(row, id)).collect::<Vec<_>>()).unwrap();
        }
        let len = writer.finish().unwrap();
        let bytes = std::fs::read(&file.0).unwrap();
        assert_eq!(bytes.len() as u64, len);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for v in [1, 2, 7, 320] {
            let logit = |row: usize, id: usize| ((row * 31 + id * 17) % 29) as f32 / 3.0 - 4.0;
            let bytes = written(&format!("read-{v}"), v, logit);
            let file = LogProbs::parse(&bytes).unwrap();
            assert_eq!((file.window(), file.vocab_size(), file.rows().len()), (5, v, 4));
            let tokens: Vec<u32> = file.windows().flatten().collect();
            assert_eq!(tokens, (0..10).map(|i| i % v as u32).collect::<Vec<_>>());
            for (row, found) in file.rows().enumerate() {
                let logits: Vec<f32> = (0..v).map(|id| logit(row, id)).collect();
                let all = log_sum_exp(&logits);
                // Half a step of a 65,535th of the range, here 9.4, and the rounding of float32.
                let near = |(&logit, found): (&f32, f64)| (f64::from(logit) - all - found).abs() < 8e-5;
                assert!(logits.iter().zip(found.values()).all(near), "{v}");
                assert!((found.values().map(f64::exp).sum::<f64>() - 1.0).abs() < 1e-4);
            }
        }
    }

    /// Far below the greatest counts as 16 below it; one value for all has no steps.
    #[test]
    fn extremes() {
        let bytes = written("far", 3, |_, id| [0.0, -1.0, -300.0][id]);
        let values: Vec<f64> = LogProbs::parse(&bytes).unwrap().rows().next().unwrap().values().collect();
        assert!(
            (values[0] - values[2] - 16.0).abs() < 1e-3 && (values[0] - values[1] - 1.0).abs() < 1e-3,
            "{values:?}"
        );
        let known: Vec<f64> = LogProbs::parse(&bytes).unwrap().rows().next().unwrap().known().collect();
        assert_eq!(known, [values[0], values[1], f64::NEG_INFINITY]);
        let bytes = written("flat", 4, |_, _| 2.5);
        let values: Vec<f64> = LogProbs::parse(&bytes).unwrap().rows().next().unwrap().values().collect();
        assert!(values.iter().all(|x| (x - 0.25f64.ln()).abs() < 1e-6), "{values:?}");
        assert!(LogProbs::parse(&bytes).unwrap().rows().all(|row| row.known().eq(row.values())));
    }

    #[test]
    fn what_is_no_such_file() {
        let whole = written("bad", 3, |_, id| id as f32);
        let check = |bytes: &[u8], expected: &str| {
            let error = LogProbs::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let changed = |at: usize, value: u32| {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        check(b"", "no file of log-probabilities");
        check(b"GGUF\x03\0\0\0", "no file of log-probabilities");
        check(b"_logits_", "ends inside the number of tokens in a window at byte 8");
        check(&changed(8, 2), "the number of tokens in a window at byte 8 is 2, expected 3 or more");
        check(&changed(8, u32::MAX), "the number of tokens in a window");
        check(&changed(12, 0), "the size of the vocabulary at byte 12 is 0, expected 1 or more");
        check(&changed(16, 0), "the number of windows at byte 16 is 0");
        check(&changed(16, i32::MAX as u32), "ends inside the tokens at byte 20");
        check(&changed(24, 3), "a token at byte 24 is 3, expected one of the vocabulary");
        check(&whole[..whole.len() - 1], "ends inside the log-probabilities");
        let mut huge = changed(12, i32::MAX as u32);
        huge[8..12].copy_from_slice(&10u32.to_le_bytes());
        huge[16..20].copy_from_slice(&1u32.to_le_bytes());
        check(&huge, "ends inside the log-probabilities");
        assert!(LogProbs::parse(&whole).is_ok());
    }

    #[test]
    fn failures_leave_the_target_as_it_was() {
        let file = TempFile::new("failures");
        std::fs::write(&file.0, "before").unwrap();
        let check = |rows: &[usize], expected: &str| {
            let mut writer = LogProbsWriter::create(&file.0, 5, 3, &[0; 5]).unwrap();
            let rows = rows.iter().try_for_each(|&len| writer.row(&vec![0.0; len]));
            let error = rows.and_then(|()| writer.finish().map(drop)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(std::fs::read(&file.0).unwrap(), b"before");
        };
        check(&[3], "rows are missing");
        check(&[3, 3, 3], "no place in the file");
        check(&[2], "no place in the file");
        let error = LogProbsWriter::create(std::env::temp_dir(), 5, 3, &[0; 5]).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }

    /// Nothing is written that would be refused when it is read, and nothing is left out.
    #[test]
    fn sizes_that_make_no_file() {
        let file = TempFile::new("sizes");
        let check = |window: usize, vocab_size: usize, tokens: &[u32], expected: &str| {
            let error = LogProbsWriter::create(&file.0, window, vocab_size, tokens).unwrap_err().to_string();
            assert!(error.contains(expected) && !file.0.exists(), "{error}");
        };
        check(0, 3, &[0; 5], "5 tokens in windows of 0, from a vocabulary of 3");
        check(2, 3, &[0; 4], "4 tokens in windows of 2");
        check(5, 0, &[0; 5], "from a vocabulary of 0");
        check(5, 3, &[], "0 tokens in windows of 5");
        check(5, 3, &[0; 4], "4 tokens in windows of 5");
        check(5, 3, &[0; 11], "11 tokens in windows of 5");
        check(5, usize::MAX, &[0; 5], &format!("from a vocabulary of {}:", usize::MAX));
        check(5, 3, &[0, 1, 2, 3, 0], "token id 3 is outside the vocabulary of 3 tokens");
    }
}
