//! The specification of an `einsum`: its letters, and the sizes that they stand for.

use smallvec::{SmallVec, smallvec};

use crate::OpError;
use crate::op::rule::{broadcast, same};
use crate::size::{Size, Sizes};

/// A letter of each dimension of an operand or the result. A dimension that `...` stands for has one of `ELLIPSIS`.
pub(super) type Letters = SmallVec<[u8; 8]>;

/// The letters of the dimensions that `...` stands for, counted from the last one, so that they align at the end.
const ELLIPSIS: std::ops::Range<u8> = b'0'..b'A';

/// In a part that is not yet expanded: `...`.
const DOTS: u8 = b'.';

/// Whether `...` stands for the dimension, so that sizes of 1 repeat along it.
pub(super) fn is_ellipsis(letter: u8) -> bool {
    ELLIPSIS.contains(&letter)
}

/// A parsed specification.
pub(super) struct Spec<'a> {
    text: &'a str,
    pub(super) operands: SmallVec<[Letters; 2]>,
    pub(super) result: Letters,
}

impl<'a> Spec<'a> {
    /// Parses the specification for operands with these numbers of dimensions. The result, where there is none written,
    /// has `...` and then, in alphabetical order, the letters that stand once.
    pub(super) fn parse(text: &'a str, ranks: &[usize]) -> Result<Spec<'a>, OpError> {
        let mut spec = Spec { text, operands: SmallVec::new(), result: Letters::new() };
        let (operands, result) = match text.split_once("->") {
            Some((operands, result)) => (operands, Some(result)),
            None => (text, None),
        };
        for part in operands.split(',') {
            let letters = spec.letters(part)?;
            spec.operands.push(letters);
        }
        if spec.operands.len() != ranks.len() {
            let (n, given) = (spec.operands.len(), ranks.len());
            let are = if n == 1 { "is 1 operand" } else { &format!("are {n} operands") };
            return Err(spec.error(format!("there {are} in it, and {given} in the call")));
        }
        let n_dots = spec.expand_operands(ranks)?;
        let result = match result {
            Some(result) => spec.letters(result)?,
            None => spec.implicit_result(),
        };
        spec.result = spec.expanded(&result, n_dots);
        if n_dots > 0 && !result.contains(&DOTS) {
            return Err(spec.error("the result has no `...`, whose dimensions cannot be summed over".to_owned()));
        }
        spec.check_result()?;
        Ok(spec)
    }

    pub(super) fn error(&self, problem: String) -> OpError {
        OpError::Spec { spec: self.text.to_owned(), problem }
    }

    /// The letters of a part, with [`DOTS`] for `...`.
    fn letters(&self, part: &str) -> Result<Letters, OpError> {
        let mut letters = Letters::new();
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let after_dots = rest.strip_prefix("...");
            match first {
                '.' if after_dots.is_some() && letters.contains(&DOTS) => {
                    return Err(self.error("`...` stands twice in a part".to_owned()));
                }
                '.' if after_dots.is_some() => letters.push(DOTS),
                ' ' => {}
                letter if letter.is_ascii_alphabetic() => letters.push(letter as u8),
                other => return Err(self.error(format!("`{other}` is neither a letter, `,`, `->` nor `...`"))),
            }
            rest = match (first, after_dots) {
                ('.', Some(rest)) => rest,
                _ => &rest[first.len_utf8()..],
            };
        }
        Ok(letters)
    }

    /// Expands `...` in the operands, and gives the number of dimensions that it stands for.
    fn expand_operands(&mut self, ranks: &[usize]) -> Result<usize, OpError> {
        let mut most = 0;
        for (index, &rank) in ranks.iter().enumerate() {
            let Some(part) = self.operands.get(index) else { continue };
            let has_dots = part.contains(&DOTS);
            let n_letters = part.len() - usize::from(has_dots);
            if rank < n_letters || (rank > n_letters && !has_dots) {
                let (operand, least) = (index + 1, if has_dots { "at least " } else { "" });
                let dimensions = if rank == 1 { "1 dimension" } else { &format!("{rank} dimensions") };
                return Err(
                    self.error(format!("operand {operand} has {dimensions}, and its part has {least}{n_letters}"))
                );
            }
            let n_dots = rank - n_letters;
            if n_dots > ELLIPSIS.len() {
                return Err(self.error(format!("`...` stands for more than {} dimensions", ELLIPSIS.len())));
            }
            let letters = self.expanded(part, n_dots);
            self.operands[index] = letters;
            most = most.max(n_dots);
        }
        Ok(most)
    }

    fn expanded(&self, part: &Letters, n_dots: usize) -> Letters {
        let mut letters = Letters::new();
        for &letter in part {
            match letter {
                DOTS => letters.extend((0..n_dots as u8).rev().map(|place| ELLIPSIS.start + place)),
                letter => letters.push(letter),
            }
        }
        letters
    }

    fn implicit_result(&self) -> Letters {
        let mut all: Letters = self.operands.iter().flatten().copied().filter(|letter| !is_ellipsis(*letter)).collect();
        all.sort_unstable();
        let mut result: Letters = smallvec![DOTS];
        result.extend(all.chunk_by(|a, b| a == b).filter_map(|equal| match equal {
            [letter] => Some(*letter),
            _ => None,
        }));
        result
    }

    fn check_result(&self) -> Result<(), OpError> {
        for (place, &letter) in self.result.iter().enumerate() {
            if self.result[..place].contains(&letter) {
                return Err(self.error(format!("`{}` stands twice in the result", char::from(letter))));
            }
            if !self.operands.iter().any(|part| part.contains(&letter)) {
                return Err(self.error(format!("`{}` of the result stands in no operand", char::from(letter))));
            }
        }
        Ok(())
    }

    /// The sizes of the result of operands with these dimensions. A letter has one size everywhere; where `...` stands
    /// for it, a size of 1 repeats.
    pub(super) fn result_sizes(&self, operands: &[&[Size]]) -> Result<Sizes, OpError> {
        let mut sizes: SmallVec<[(u8, Size, usize); 8]> = SmallVec::new();
        for (index, (part, operand)) in self.operands.iter().zip(operands).enumerate() {
            for (&letter, &size) in part.iter().zip(*operand) {
                match sizes.iter_mut().find(|(known, ..)| *known == letter) {
                    Some((_, known, _)) if is_ellipsis(letter) => {
                        let both = broadcast(&[*known], &[size])?;
                        *known = both.first().copied().unwrap_or(size);
                    }
                    Some((_, known, first)) => {
                        *known = same("", *known, size).map_err(|_| OpError::Letter {
                            letter: char::from(letter),
                            operands: [*first + 1, index + 1],
                            left: *known,
                            right: size,
                        })?;
                    }
                    None => sizes.push((letter, size, index)),
                }
            }
        }
        let size =
            |letter: &u8| sizes.iter().find(|(known, ..)| known == letter).map_or(Size::Unknown, |(_, size, _)| *size);
        Ok(self.result.iter().map(size).collect())
    }
}
