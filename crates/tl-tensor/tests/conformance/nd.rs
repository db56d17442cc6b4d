//! An array of `f64` in the plainest form: what references are written in.

#[derive(Clone, Debug)]
pub(crate) struct Nd {
    pub(crate) dims: Vec<usize>,
    /// In the order of the indices, the last one fastest.
    pub(crate) data: Vec<f64>,
}

impl Nd {
    pub(crate) fn from_fn(dims: &[usize], mut element: impl FnMut(&[usize]) -> f64) -> Nd {
        let n: usize = dims.iter().product();
        let mut data = Vec::with_capacity(n);
        let mut index = vec![0; dims.len()];
        for _ in 0..n {
            data.push(element(&index));
            for axis in (0..dims.len()).rev() {
                index[axis] += 1;
                if index[axis] < dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Nd { dims: dims.to_vec(), data }
    }

    pub(crate) fn new(dims: &[usize], data: Vec<f64>) -> Nd {
        assert_eq!(data.len(), dims.iter().product());
        Nd { dims: dims.to_vec(), data }
    }

    pub(crate) fn scalar(value: f64) -> Nd {
        Nd::new(&[], vec![value])
    }

    pub(crate) fn rank(&self) -> usize {
        self.dims.len()
    }

    pub(crate) fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.rank());
        let offset = index.iter().zip(&self.dims).fold(0, |offset, (&i, &dim)| {
            assert!(i < dim, "{index:?} in {:?}", self.dims);
            offset * dim + i
        });
        self.data[offset]
    }

    /// The element at an index of an array that this one broadcasts to.
    pub(crate) fn broadcast_at(&self, index: &[usize]) -> f64 {
        let own = &index[index.len() - self.rank()..];
        let offset = own.iter().zip(&self.dims).fold(0, |at, (&i, &dim)| at * dim + if dim == 1 { 0 } else { i });
        self.data[offset]
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Nd {
        Nd { dims: self.dims.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    pub(crate) fn reshaped(&self, dims: &[usize]) -> Nd {
        Nd::new(dims, self.data.clone())
    }

    /// Dimension `i` of the result is dimension `axes[i]` of this.
    pub(crate) fn permuted(&self, axes: &[usize]) -> Nd {
        let dims: Vec<usize> = axes.iter().map(|&axis| self.dims[axis]).collect();
        let mut own = vec![0; axes.len()];
        Nd::from_fn(&dims, |index| {
            axes.iter().zip(index).for_each(|(&axis, &i)| own[axis] = i);
            self.at(&own)
        })
    }

    pub(crate) fn sliced(&self, axis: usize, start: usize, end: usize) -> Nd {
        let mut dims = self.dims.clone();
        dims[axis] = end - start;
        Nd::from_fn(&dims, |index| {
            let mut own = index.to_vec();
            own[axis] += start;
            self.at(&own)
        })
    }

    pub(crate) fn broadcast_to(&self, dims: &[usize]) -> Nd {
        Nd::from_fn(dims, |index| self.broadcast_at(index))
    }

    /// Each line along `axis` replaced by what `f` makes of it: one element for one, or another number of them.
    pub(crate) fn along(&self, axis: usize, n_out: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Nd {
        let mut dims = self.dims.clone();
        dims[axis] = n_out;
        let (n, inner) = (self.dims[axis], self.dims[axis + 1..].iter().product::<usize>());
        let mut result = Nd::from_fn(&dims, |_| f64::NAN);
        let outer: usize = self.dims[..axis].iter().product();
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let line: Vec<f64> = (0..n).map(|j| self.data[(o * n + j) * inner + i]).collect();
            for (j, value) in f(&line).into_iter().enumerate() {
                result.data[(o * n_out + j) * inner + i] = value;
            }
        }
        result
    }
}

/// The shape that NumPy's broadcasting gives two shapes.
pub(crate) fn broadcast_dims(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| if i < rank - dims.len() { 1 } else { dims[i - (rank - dims.len())] };
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}
