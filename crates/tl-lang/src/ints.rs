//! Lists of ints: shapes, token ids, positions. A short one takes no memory of its own after warm-up.

use std::sync::Arc;

use crate::pooled::{Pooled, poolable};

/// A list of ints; a short one lies in a box of the pool.
#[derive(Clone)]
pub(crate) enum Ints {
    Short(Pooled<ShortInts>),
    Shared(Arc<Vec<i64>>),
}

/// At most [`Ints::SHORT`] ints.
#[derive(Clone, Default)]
pub(crate) struct ShortInts {
    values: [i64; Ints::SHORT],
    len: u8,
}

impl ShortInts {
    fn as_slice(&self) -> &[i64] {
        self.values.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// False if there is no room.
    fn push(&mut self, value: i64) -> bool {
        let place = self.values.get_mut(usize::from(self.len));
        let has_room = place.is_some();
        if let Some(place) = place {
            *place = value;
            self.len += 1;
        }
        has_room
    }
}

poolable!(ShortInts);

impl Ints {
    /// The most ints of a short list.
    const SHORT: usize = 8;

    pub(crate) fn new(values: &[i64]) -> Ints {
        if values.len() > Ints::SHORT { Ints::Shared(Arc::new(values.to_vec())) } else { Ints::short(values) }
    }

    /// A short list of these values, of which there are no more than fit.
    fn short(values: impl IntoIterator<Item = impl std::borrow::Borrow<i64>>) -> Ints {
        let mut short = ShortInts::default();
        values.into_iter().for_each(|value| {
            short.push(*value.borrow());
        });
        Ints::Short(Pooled::new(short))
    }

    pub(crate) fn from_sizes(sizes: &[usize]) -> Ints {
        let values: smallvec::SmallVec<[i64; 8]> = sizes.iter().map(|size| *size as i64).collect();
        Ints::new(&values)
    }

    pub(crate) fn as_slice(&self) -> &[i64] {
        match self {
            Ints::Short(short) => short.as_slice(),
            Ints::Shared(values) => values,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// The ids of tokens.
    pub(crate) fn of_tokens(tokens: &[u32]) -> Ints {
        let ids = tokens.iter().map(|&token| i64::from(token));
        if tokens.len() > Ints::SHORT { Ints::Shared(Arc::new(ids.collect())) } else { Ints::short(ids) }
    }

    /// Replaces the number at `index`, in place unless another value shares the list.
    pub(crate) fn set(&mut self, index: usize, value: i64) {
        let place = match self {
            Ints::Short(short) => {
                let len = usize::from(short.len);
                short.values.get_mut(..len).and_then(|values| values.get_mut(index))
            }
            Ints::Shared(values) => Arc::make_mut(values).get_mut(index),
        };
        if let Some(place) = place {
            *place = value;
        }
    }

    /// Appends numbers, in place unless another value shares the list.
    pub(crate) fn extend(&mut self, values: &[i64]) {
        if let Ints::Shared(all) = self {
            return Arc::make_mut(all).extend_from_slice(values);
        }
        values.iter().for_each(|value| self.push(*value));
    }

    /// Appends a number, in place unless another value shares the list.
    pub(crate) fn push(&mut self, value: i64) {
        match self {
            Ints::Short(short) => {
                if !short.push(value) {
                    let mut all = Vec::with_capacity(Ints::SHORT * 4);
                    all.extend_from_slice(short.as_slice());
                    all.push(value);
                    *self = Ints::Shared(Arc::new(all));
                }
            }
            Ints::Shared(values) => Arc::make_mut(values).push(value),
        }
    }
}

impl std::fmt::Debug for Ints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_short_and_shared() {
        let mut ints = Ints::new(&[]);
        for n in 0..40 {
            assert_eq!(ints.len(), n as usize);
            ints.push(n);
        }
        let copy = ints.clone();
        ints.push(40);
        assert_eq!((copy.len(), ints.len()), (40, 41));
        assert_eq!(ints.as_slice(), (0..41).collect::<Vec<_>>());
    }
}
