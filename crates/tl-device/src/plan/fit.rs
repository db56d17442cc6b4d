//! A symbolic plan from recordings of one program at several sizes.
//!
//! Requests of one operation at one place of the program are a group. Where a group has equally many requests in every
//! recording, each is fitted by itself; otherwise (a loop that runs longer for larger sizes) the group is split by the
//! dimensions that take the same few values in every recording, and each part has one bound. A fit goes through the
//! corners of the ranges and must match every other recording. A value that is no sum of the sizes is bounded by the
//! largest value seen.
//!
//! A buffer serves every layout that it covers, so that requests of one row can take the buffers of another. Each row
//! therefore has room also for the rows that may take from it before their own, unless one row for both is cheaper. So
//! no order of requests and returns within the counts leaves a request without a buffer: each row has as many buffers
//! as all requests that may try it first, so no request ever needs to try a second row.

use std::collections::{BTreeSet, HashMap};

use super::formula::Formula;
use super::row::SymbolicRow;
use super::symbolic::{SizeRange, SymbolicPlan};
use crate::error::Error;
use crate::layout::{ALIGN, DType, Layout};
use crate::purpose::Role;
use crate::stats::ReserveKind;
use crate::trace::{Action, Source, Trace};

/// More fits than this at one place are a growing sequence, and become one bound.
const MAX_FITS: usize = 8;

/// Reason for a failed fit.
///
/// ```
/// use tl_device::{Device, FitError, SymbolicPlan};
/// let sizes = ["n=1..8".parse()?];
/// assert_eq!(SymbolicPlan::fit(&sizes, &[]), Err(FitError::NoRuns));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// No recordings.
    #[error("no recording was given")]
    NoRuns,
    /// An incomplete recording.
    #[error(transparent)]
    Recording(#[from] Error),
    /// A recording that left out events, which are needed to find what was live at once.
    #[error(
        "at {values:?} the program took {take_count} tensors, more than a recording of {max_bytes} bytes keeps; \
         plan a shorter run"
    )]
    Thinned {
        /// The values of the sizes.
        values: Vec<usize>,
        /// Tensors that the program took.
        take_count: u64,
        /// The cap of the recording.
        max_bytes: u64,
    },
}

/// A symbolic plan fitted to recordings, and the parts of it that are no formula.
///
/// ```
/// use tl_device::{Device, Layout, Role, SymbolicPlan};
/// let sizes = ["n=1..512".parse()?];
/// let record = |values: Vec<usize>| {
///     let device = Device::cpu();
///     device.start_trace();
///     let _held = [4, 8].map(|d| device.take(&Layout::from(vec![values[0], d]), Role::Activation));
///     (values, device.stop_trace())
/// };
/// let runs: Vec<_> = SymbolicPlan::points(&sizes).into_iter().map(record).collect();
/// let fitted = SymbolicPlan::fit(&sizes, &runs)?;
/// assert_eq!(fitted.plan.to_string(), "with n = 1..512\nup_to float16[n, 4] 1\nup_to float16[n, 8] 1\n");
/// assert!(fitted.seen_only.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FittedPlan {
    /// The plan.
    pub plan: SymbolicPlan,
    /// Indices of the rows with a dimension or count that is no sum of the sizes: it is the largest recorded value.
    pub seen_only: Vec<usize>,
}

impl SymbolicPlan {
    /// The values of the sizes to record a program at: lowest, highest and some between, the lowest first and the
    /// highest last.
    ///
    /// ```
    /// use tl_device::SymbolicPlan;
    /// let points = SymbolicPlan::points(&["n=1..512".parse()?]);
    /// assert_eq!(points, [[1], [2], [171], [257], [512]]);
    /// # Ok::<(), String>(())
    /// ```
    pub fn points(sizes: &[SizeRange]) -> Vec<Vec<usize>> {
        let all = |of: fn(&SizeRange) -> usize| -> Vec<usize> { sizes.iter().map(of).collect() };
        let mut points = BTreeSet::from([all(|size| size.min), all(|size| size.max)]);
        for (i, size) in sizes.iter().enumerate() {
            let mut corner = all(|size| size.min);
            corner[i] = size.max;
            points.insert(corner);
        }
        points.insert(all(|size| (size.min + 1).min(size.max)));
        points.insert(all(|size| size.min + (size.max - size.min) / 3));
        // Usually one even and one odd point, to reveal rounding.
        points.insert(all(|size| (size.min + (size.max - size.min) / 2 + 1).min(size.max)));
        points.into_iter().collect()
    }

    /// The plan that serves the recorded runs and the sizes between them, as far as those follow the fits. The values
    /// of the recordings should be [`SymbolicPlan::points`].
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, SymbolicPlan};
    /// let sizes = ["n=2..9".parse()?];
    /// let record = |values: Vec<usize>| {
    ///     let device = Device::cpu();
    ///     device.start_trace();
    ///     // A sequence that grows, and what is as long as it is.
    ///     for t in 1..=values[0] {
    ///         let _held = [t, 1].map(|n| device.take(&Layout::from(vec![n, 64]), Role::Activation));
    ///     }
    ///     (values, device.stop_trace())
    /// };
    /// let runs: Vec<_> = SymbolicPlan::points(&sizes).into_iter().map(record).collect();
    /// let fitted = SymbolicPlan::fit(&sizes, &runs)?;
    /// assert_eq!(fitted.plan.to_string(), "with n = 2..9\nup_to float16[n, 64] 2\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If a recording is incomplete or left out events, or if there is none.
    pub fn fit(sizes: &[SizeRange], runs: &[(Vec<usize>, Trace)]) -> Result<FittedPlan, FitError> {
        if runs.is_empty() {
            return Err(FitError::NoRuns);
        }
        let runs = runs.iter().map(|(values, trace)| Run::new(values, trace)).collect::<Result<_, _>>()?;
        let mut fit = Fit { sizes, runs, classes: Vec::new() };
        for group in fit.groups() {
            fit.classify(group);
        }
        fit.count_all();
        fit.join();
        Ok(fit.plan())
    }
}

/// The requesting operation and place, and the kind of tensor.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    op: &'static str,
    location: u64,
    is_learnable: bool,
    dtype: DType,
    rank: usize,
}

struct Taken {
    key: Key,
    layout: Layout,
    /// The index of its class.
    class: usize,
}

/// A recording.
struct Run<'a> {
    values: &'a [usize],
    takes: Vec<Taken>,
    /// Takes and returns in order: the number of the take, and whether it is the return.
    order: Vec<(usize, bool)>,
}

impl<'a> Run<'a> {
    fn new(values: &'a [usize], trace: &Trace) -> Result<Run<'a>, FitError> {
        trace.check_whole()?;
        if trace.is_thinned() {
            let (take_count, max_bytes) = (trace.totals().take_count, trace.max_bytes);
            return Err(FitError::Thinned { values: values.to_vec(), take_count, max_bytes });
        }
        let (mut takes, mut order, mut open) = (Vec::new(), Vec::new(), HashMap::new());
        for event in trace.events() {
            match event.action {
                Action::Take { id, layout, role, op, location, source } if source != Source::File => {
                    let (dtype, rank) = (layout.dtype(), layout.shape().len());
                    let key = Key { op, location, is_learnable: role == Role::Learnable, dtype, rank };
                    open.insert(id, takes.len());
                    order.push((takes.len(), false));
                    takes.push(Taken { key, layout, class: usize::MAX });
                }
                Action::Return { id } => order.extend(open.remove(&id).map(|take| (take, true))),
                _ => {}
            }
        }
        Ok(Run { values, takes, order })
    }
}

/// The numbers of takes of each run.
type Takes = Vec<Vec<usize>>;

/// Requests served by one reservation.
#[derive(Clone)]
struct Class {
    row: SymbolicRow,
    /// The minimum of its requests along each dimension.
    low: Vec<usize>,
    /// Whether each of its requests has exactly these dimensions, for all sizes.
    is_met: bool,
    /// Whether all its formulas match all recordings.
    is_fitted: bool,
    /// Whether it was merged into another.
    is_gone: bool,
}

struct Fit<'a> {
    sizes: &'a [SizeRange],
    runs: Vec<Run<'a>>,
    classes: Vec<Class>,
}

impl Fit<'_> {
    /// The takes of each key, in the order of the last run.
    fn groups(&self) -> Vec<(Key, Takes)> {
        let (mut groups, mut index): (Vec<(Key, Takes)>, HashMap<Key, usize>) = Default::default();
        // The last run has the largest sizes.
        for (at, run) in self.runs.iter().enumerate().rev() {
            for (number, take) in run.takes.iter().enumerate() {
                let group = *index.entry(take.key.clone()).or_insert(groups.len());
                if group == groups.len() {
                    groups.push((take.key.clone(), vec![Vec::new(); self.runs.len()]));
                }
                groups[group].1[at].push(number);
            }
        }
        groups
    }

    /// Assigns each take of a group to a class.
    fn classify(&mut self, (key, takes): (Key, Takes)) {
        if key.is_learnable {
            return self.classify_learnable(&takes);
        }
        let len = takes.last().map_or(0, Vec::len);
        if takes.iter().all(|takes| takes.len() == len) {
            let columns: Vec<Takes> = (0..len).map(|i| takes.iter().map(|takes| vec![takes[i]]).collect()).collect();
            let fits: Vec<_> = columns.iter().map(|column| self.bounds(&key, column)).collect();
            let distinct: BTreeSet<&Vec<Formula>> = fits.iter().map(|(dims, _)| dims).collect();
            if distinct.len() <= MAX_FITS {
                let fits: Vec<_> = columns.into_iter().zip(fits).collect();
                return fits.into_iter().for_each(|(column, (dims, is_fitted))| {
                    self.assign(&key, &column, dims, is_fitted);
                });
            }
        }
        self.classify_parts(&key, takes, 0);
    }

    /// Splits by the dimensions from `axis` on that have the same few values in every run.
    fn classify_parts(&mut self, key: &Key, takes: Takes, axis: usize) {
        if axis == key.rank {
            let (dims, is_fitted) = self.bounds(key, &takes);
            return self.assign(key, &takes, dims, is_fitted);
        }
        let dim = |run: usize, take: usize| self.runs[run].takes[take].layout.shape()[axis];
        let sets: Vec<BTreeSet<usize>> =
            takes.iter().enumerate().map(|(run, takes)| takes.iter().map(|&take| dim(run, take)).collect()).collect();
        if sets[0].len() > MAX_FITS || sets.iter().any(|set| *set != sets[0]) {
            return self.classify_parts(key, takes, axis + 1);
        }
        let part = |value: usize| -> Takes {
            let of_run = |(run, takes): (usize, &Vec<usize>)| {
                takes.iter().copied().filter(|&take| dim(run, take) == value).collect()
            };
            takes.iter().enumerate().map(of_run).collect()
        };
        let parts: Vec<Takes> = sets[0].iter().map(|&value| part(value)).collect();
        parts.into_iter().for_each(|part| self.classify_parts(key, part, axis + 1));
    }

    /// Parameters are served by exact layout: each of the last run's layouts has a class.
    fn classify_learnable(&mut self, takes: &Takes) {
        let n_runs = self.runs.len();
        for &take in takes.last().into_iter().flatten() {
            let Taken { key, layout, .. } = &self.runs[n_runs - 1].takes[take];
            let (key, dims) = (key.clone(), layout.shape().iter().map(|&dim| Formula::constant(dim)).collect());
            let mut alone = vec![Vec::new(); n_runs];
            alone[n_runs - 1].push(take);
            self.assign(&key, &alone, dims, true);
        }
    }

    /// The formula of the largest value of each dimension, and whether all are sums of the sizes.
    fn bounds(&self, key: &Key, takes: &Takes) -> (Vec<Formula>, bool) {
        let mut is_fitted = true;
        let dims = (0..key.rank).map(|axis| {
            let largest = takes.iter().zip(&self.runs).filter_map(|(takes, run)| {
                let dims = takes.iter().map(|&take| run.takes[take].layout.shape()[axis]);
                Some((run.values, dims.max()?))
            });
            let (formula, is_sum) = fit(self.sizes, &largest.collect::<Vec<_>>());
            is_fitted &= is_sum;
            formula
        });
        (dims.collect(), is_fitted)
    }

    /// Assigns takes to the class with these bounds.
    fn assign(&mut self, key: &Key, takes: &Takes, dims: Vec<Formula>, is_fitted: bool) {
        let lowest: Vec<usize> = self.sizes.iter().map(|size| size.min).collect();
        // A dimension that equals the formula in every recording is never below the formula's minimum; others may have
        // any value.
        let is_met = |axis: usize| {
            let is_met_in = |(takes, run): (&Vec<usize>, &Run<'_>)| {
                let size = dims[axis].at(run.values);
                takes.iter().all(|&take| run.takes[take].layout.shape()[axis] == size)
            };
            takes.iter().zip(&self.runs).all(is_met_in)
        };
        let least = |(axis, dim): (usize, &Formula)| if is_met(axis) { dim.at(&lowest) } else { 0 };
        let low: Vec<usize> = dims.iter().enumerate().map(least).collect();
        let is_met = (0..key.rank).all(is_met);
        let mut of_class = takes.iter().zip(&self.runs).flat_map(|(takes, run)| takes.iter().map(|&at| &run.takes[at]));
        let is_constant = dims.iter().all(Formula::is_constant);
        let first = of_class.next().map(|take| take.layout.clone());
        let is_one = is_constant && is_fitted && of_class.all(|take| Some(&take.layout) == first.as_ref());
        let kind = match () {
            () if key.is_learnable => ReserveKind::Learnable,
            () if is_one => ReserveKind::Exact,
            () => ReserveKind::UpTo,
        };
        let row = SymbolicRow { dtype: key.dtype, dims, kind, count: Formula::default() };
        let class = match self.classes.iter().position(|known| known.row == row) {
            Some(at) => {
                let known = &mut self.classes[at];
                known.low.iter_mut().zip(low).for_each(|(known, low)| *known = low.min(*known));
                known.is_fitted &= is_fitted;
                known.is_met &= is_met;
                at
            }
            None => {
                self.classes.push(Class { row, low, is_met, is_fitted, is_gone: false });
                self.classes.len() - 1
            }
        };
        for (takes, run) in takes.iter().zip(&mut self.runs) {
            takes.iter().for_each(|&take| run.takes[take].class = class);
        }
    }

    /// Counts for each class how many were live at once.
    fn count_all(&mut self) {
        let n_classes = self.classes.len();
        let mut counts = vec![vec![0; self.runs.len()]; n_classes];
        for (at, run) in self.runs.iter().enumerate() {
            let mut live = vec![0; n_classes];
            for &(take, is_return) in &run.order {
                // A parameter missing from the last run has no class.
                let class = run.takes[take].class;
                let Some(now) = live.get_mut(class) else { continue };
                *now = if is_return { *now - 1 } else { *now + 1 };
                counts[class][at] = counts[class][at].max(*now);
            }
        }
        for (class, counts) in self.classes.iter_mut().zip(counts) {
            let counts: Vec<_> = self.runs.iter().zip(counts).map(|(run, count)| (run.values, count)).collect();
            let is_learnable = class.row.kind == ReserveKind::Learnable;
            let counts = if is_learnable { &counts[counts.len() - 1..] } else { &counts[..] };
            let (count, is_sum) = fit(self.sizes, counts);
            class.row.count = count;
            class.is_fitted &= is_sum;
        }
    }

    /// Merges pairs of rows as long as a merge takes fewer bytes than room in one row for the other's requests.
    fn join(&mut self) {
        loop {
            let pairs = self.pairs();
            let joined = pairs.iter().filter_map(|&(guest, host)| {
                let classes = joined(self.sizes, &self.classes, guest, host)?;
                Some((self.bytes(&classes), guest, host, classes))
            });
            let best = joined.min_by_key(|(bytes, ..)| *bytes);
            let Some((_, guest, host, classes)) = best.filter(|(bytes, ..)| *bytes < self.bytes(&self.classes)) else {
                return;
            };
            self.classes = classes;
            for take in self.runs.iter_mut().flat_map(|run| &mut run.takes) {
                take.class = if take.class == guest { host } else { take.class };
            }
            self.count_all();
        }
    }

    /// Pairs of a guest and a host: the guest's requests may take the host's buffers before their own.
    fn pairs(&self) -> Vec<(usize, usize)> {
        pairs(self.sizes, &self.classes)
    }

    /// Bytes of all rows for the largest sizes, with room for guests.
    fn bytes(&self, classes: &[Class]) -> u128 {
        let highest: Vec<usize> = self.sizes.iter().map(|size| size.max).collect();
        let of =
            |class: &Class, count: &Formula| buffer_bytes(&class.row, &highest) as u128 * count.at(&highest) as u128;
        let own = classes.iter().filter(|class| !class.is_gone).map(|class| of(class, &class.row.count));
        let guests = pairs(self.sizes, classes);
        let guests = guests.into_iter().map(|(guest, host)| of(&classes[host], &classes[guest].row.count));
        own.sum::<u128>() + guests.sum::<u128>()
    }

    fn plan(self) -> FittedPlan {
        let pairs = self.pairs();
        let mut fitted =
            FittedPlan { plan: SymbolicPlan { sizes: self.sizes.to_vec(), rows: Vec::new() }, seen_only: Vec::new() };
        for (at, class) in self.classes.iter().enumerate().filter(|(_, class)| !class.is_gone) {
            let guests = pairs.iter().filter(|(_, host)| *host == at).map(|(guest, _)| &self.classes[*guest].row.count);
            let count = guests.fold(class.row.count.clone(), |sum, guest| sum.plus(guest));
            if !class.is_fitted {
                fitted.seen_only.push(fitted.plan.rows.len());
            }
            fitted.plan.rows.push(SymbolicRow { count, ..class.row.clone() });
        }
        fitted
    }
}

/// The bytes of one buffer of a row.
fn buffer_bytes(row: &SymbolicRow, values: &[usize]) -> usize {
    let bytes = row.layout_at(values).len_bytes().unwrap_or(usize::MAX / 2);
    bytes.max(1).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
}

fn pairs(sizes: &[SizeRange], classes: &[Class]) -> Vec<(usize, usize)> {
    let corners = corners(sizes);
    let all = || classes.iter().enumerate().filter(|(_, class)| !class.is_gone);
    let pairs = all().flat_map(|(guest, a)| all().map(move |(host, b)| (guest, a, host, b)));
    let pairs = pairs.filter(|(guest, a, host, b)| guest != host && may_take(&corners, a, b));
    pairs.map(|(guest, _, host, _)| (guest, host)).collect()
}

/// Whether a request of one class may take a buffer of another class before one of its own, in a plan for the highest
/// sizes or for just those that the program runs with. Exact layouts are looked up first, then bounds, those with the
/// fewest bytes first.
///
/// In a plan for just its sizes, a bound that covers exactly what the class asks for has no fewer bytes than the
/// class's own.
fn may_take(corners: &[Vec<usize>], guest: &Class, host: &Class) -> bool {
    let (a, b) = (&guest.row, &host.row);
    let is_possible = a.kind == ReserveKind::UpTo && a.dtype == b.dtype && a.dims.len() == b.dims.len();
    let Some(highest) = corners.last().filter(|_| is_possible) else { return false };
    let is_above_least = guest.low.iter().zip(&b.dims).all(|(low, dim)| *low <= dim.at(highest));
    match b.kind {
        ReserveKind::Learnable => false,
        ReserveKind::Exact => is_above_least && a.dims.iter().zip(&b.dims).all(|(a, b)| b.at(highest) <= a.at(highest)),
        ReserveKind::UpTo => {
            let len = |row: &SymbolicRow, values: &[usize]| row.layout_at(values).len_bytes().unwrap_or(usize::MAX);
            let is_first = |values: &Vec<usize>| len(b, values) <= len(a, values);
            let orders = if guest.is_met { &corners[corners.len() - 1..] } else { corners };
            is_above_least && orders.iter().any(is_first)
        }
    }
}

/// The classes with the guest merged into its host, whose bounds become the larger of both; `None` if neither formula
/// is the larger one everywhere.
fn joined(sizes: &[SizeRange], classes: &[Class], guest: usize, host: usize) -> Option<Vec<Class>> {
    let (a, b) = (&classes[guest], &classes[host]);
    let corners = corners(sizes);
    let larger = |(a, b): (&Formula, &Formula)| {
        let is_above = |a: &Formula, b: &Formula| corners.iter().all(|values| a.at(values) >= b.at(values));
        if is_above(a, b) { Some(a.clone()) } else { is_above(b, a).then(|| b.clone()) }
    };
    let dims = a.row.dims.iter().zip(&b.row.dims).map(larger).collect::<Option<Vec<_>>>()?;
    let low = a.low.iter().zip(&b.low).map(|(a, b)| *a.min(b)).collect();
    let row = SymbolicRow { dims, kind: ReserveKind::UpTo, count: a.row.count.plus(&b.row.count), dtype: a.row.dtype };
    let mut classes = classes.to_vec();
    let is_fitted = classes[guest].is_fitted && classes[host].is_fitted;
    classes[guest].is_gone = true;
    classes[host] = Class { row, low, is_met: false, is_fitted, is_gone: false };
    Some(classes)
}

/// The corners of the ranges, the one of the highest values last.
fn corners(sizes: &[SizeRange]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![Vec::new()], |corners, size| {
        let ends = |end: usize| corners.iter().map(move |corner| [corner.as_slice(), &[end]].concat());
        ends(size.min).chain(ends(size.max)).collect()
    })
}

/// The least sum of the sizes that is nowhere below the known values of a function, and whether the function is a sum
/// of the sizes. A function that falls with a size has its value for the lowest; one that is no sum, its largest known
/// value.
fn fit(sizes: &[SizeRange], known: &[(&[usize], usize)]) -> (Formula, bool) {
    let largest = known.iter().map(|(_, value)| *value).max().unwrap_or(0);
    let bound = || (Formula::constant(largest), known.iter().all(|(_, value)| *value == largest));
    let Some((factors, constant)) = sum_through(sizes, known) else { return bound() };
    let falling = factors.iter().zip(sizes).filter(|(factor, _)| **factor < 0);
    let constant = constant + falling.map(|(factor, size)| factor * size.min as i128).sum::<i128>();
    let factors: Option<Vec<i64>> = factors.iter().map(|&factor| i64::try_from(factor).ok()).collect();
    match (factors, i64::try_from(constant)) {
        (Some(factors), Ok(constant)) => (Formula::new(&factors, constant), true),
        _ => bound(),
    }
}

/// Factors and constant of the sum through all these values.
fn sum_through(sizes: &[SizeRange], known: &[(&[usize], usize)]) -> Option<(Vec<i128>, i128)> {
    let (base, at_base) = *known.first()?;
    let factor = |size: usize| {
        let is_beside = |point: &[usize]| {
            point[size] != base[size] && point.iter().zip(base).enumerate().all(|(i, (a, b))| i == size || a == b)
        };
        if sizes[size].is_fixed() || known.iter().all(|(_, value)| *value == at_base) {
            return Some(0);
        }
        let (point, value) = known.iter().rev().find(|(point, _)| is_beside(point))?;
        let rise = *value as i128 - at_base as i128;
        let run = point[size] as i128 - base[size] as i128;
        (rise % run == 0).then(|| rise / run)
    };
    let factors = (0..sizes.len()).map(factor).collect::<Option<Vec<i128>>>()?;
    let of_sizes =
        |point: &[usize]| factors.iter().zip(point).map(|(factor, value)| factor * *value as i128).sum::<i128>();
    let constant = at_base as i128 - of_sizes(base);
    let is_met = known.iter().all(|(point, value)| of_sizes(point) + constant == *value as i128);
    is_met.then_some((factors, constant))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{Device, DeviceOptions, Purpose, Simulation, TensorBuffer};

    fn device() -> Device {
        Device::cpu_with(&DeviceOptions { simulation: Some(Simulation::default()), ..DeviceOptions::default() })
    }

    fn sizes(texts: &[&str]) -> Vec<SizeRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn functions_of_sizes() {
        let ranges = sizes(&["n=1..512", "m=2..64"]);
        let check = |f: fn(usize, usize) -> usize, expected: &str, is_sum: bool| {
            let points = SymbolicPlan::points(&ranges);
            let known: Vec<(&[usize], usize)> =
                points.iter().map(|point| (point.as_slice(), f(point[0], point[1]))).collect();
            let (formula, fits) = fit(&ranges, &known);
            assert_eq!((formula.text(&["n", "m"]).as_str(), fits), (expected, is_sum));
        };
        check(|_, _| 7, "7", true);
        check(|n, m| n + 3 * m + 1, "n + 3 * m + 1", true);
        check(|n, _| 2 * n - 1, "2 * n - 1", true);
        check(|n, _| 600 - n, "599", true);
        check(|n, m| m + 512 - n, "m + 511", true);
        check(|n, m| n * m, "32768", false);
        check(|n, _| n.div_ceil(32) * 32, "512", false);
    }

    #[test]
    fn points_are_inside_and_few() {
        let check = |texts: &[&str], expected: usize| {
            let ranges = sizes(texts);
            let points = SymbolicPlan::points(&ranges);
            assert!(points.iter().all(|point| ranges.iter().zip(point).all(|(range, value)| range.contains(*value))));
            assert_eq!(points.len(), expected, "{points:?}");
            assert!(points.last().unwrap().iter().zip(&ranges).all(|(value, range)| *value == range.max));
        };
        check(&[], 1);
        check(&["n=7"], 1);
        check(&["n=7..8"], 2);
        check(&["n=1..512", "m=64"], 5);
        check(&["n=1..512", "m=1..64"], 7);
    }

    /// A request: two dimensions, each a factor of n and a constant, and how many requests later it is back.
    type Request = ((usize, usize), (usize, usize), usize);

    /// Runs a program: its requests one after the other, `repeats` times, and at the end a sequence of n that grows.
    fn run_program(device: &Device, n: usize, requests: &[Request], growing: usize) -> Result<(), Error> {
        let mut held = HashMap::new();
        for (i, &((a, b), (c, d), life)) in requests.iter().enumerate() {
            held.retain(|_, (until, _)| *until > i);
            let layout = Layout::from(vec![a * n + b, c * n + d]);
            device.set_location(1 + i as u64 % 5);
            held.insert(i, (i + life, device.take(&layout, Purpose { role: Role::Activation, op: "test" })?));
        }
        // One size that falls, and one that rises beside it.
        device.set_location(7);
        let falling = device.take(&Layout::from(vec![40 - n, 7]), Purpose { role: Role::Activation, op: "fall" })?;
        device.set_location(8);
        let _rising =
            [falling, device.take(&Layout::from(vec![n, 7]), Purpose { role: Role::Activation, op: "rise" })?];
        let mut grown = Vec::new();
        for t in 0..n {
            device.set_location(9);
            let layout = Layout::from(vec![t + 1, 3]);
            grown.push(device.take(&layout, Purpose { role: Role::Activation, op: "grow" })?);
            if grown.len() > growing {
                grown.remove(0);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

        /// A plan that is reserved for the largest size serves every smaller one without an allocation. At every size it
        /// has at least the bytes that are live.
        #[test]
        fn a_plan_serves_every_size_and_is_never_smaller_than_what_is_live(
            requests in prop::collection::vec(((0usize..3, 0usize..5), (0usize..2, 1usize..5), 1usize..8), 1..40),
            max in 2usize..30,
            growing in 0usize..3,
        ) {
            let ranges = vec![SizeRange { name: "n".to_owned(), min: 1, max }];
            let record = |n: usize| {
                let device = device();
                device.start_trace();
                run_program(&device, n, &requests, growing).unwrap();
                device.stop_trace()
            };
            let runs: Vec<_> =
                SymbolicPlan::points(&ranges).into_iter().map(|values| (values.clone(), record(values[0]))).collect();
            let FittedPlan { plan, .. } = SymbolicPlan::fit(&ranges, &runs).unwrap();
            prop_assert_eq!(plan.to_string().parse::<SymbolicPlan>().unwrap(), plan.clone());
            for n in 1..=max {
                prop_assert!(plan.at(&[n]).bytes() >= record(n).totals().peak_live_bytes, "n = {}: {}", n, plan);
                for reserved in [plan.largest(), plan.at(&[n])] {
                    let device = device();
                    let buffer = TensorBuffer::new(&device);
                    reserved.reserve(&buffer).unwrap();
                    device.set_tensor_buffer(buffer);
                    device.seal();
                    let served = run_program(&device, n, &requests, growing);
                    prop_assert!(served.is_ok(), "n = {}: {}\n{}", n, served.unwrap_err(), plan);
                }
            }
        }
    }

    #[test]
    fn what_is_no_sum_is_bounded_by_what_was_seen() {
        let ranges = sizes(&["n=1..100"]);
        let record = |values: Vec<usize>| {
            let device = device();
            device.start_trace();
            let _held = device.take(&Layout::from(vec![values[0] * values[0], 2]), Role::Activation).unwrap();
            (values, device.stop_trace())
        };
        let runs: Vec<_> = SymbolicPlan::points(&ranges).into_iter().map(record).collect();
        let fitted = SymbolicPlan::fit(&ranges, &runs).unwrap();
        assert_eq!(fitted.plan.to_string(), "with n = 1..100\nup_to float16[10000, 2] 1\n");
        assert_eq!(fitted.seen_only, [0]);
    }

    #[test]
    fn recordings_that_say_too_little() {
        let mut options = DeviceOptions { simulation: Some(Simulation::default()), ..DeviceOptions::default() };
        options.memory.recording_max_bytes = 64 << 10;
        let device = Device::cpu_with(&options);
        device.start_trace();
        (0..1000).for_each(|_| drop(device.take(&Layout::from(vec![8]), Role::Activation)));
        let runs = [(vec![1], device.stop_trace())];
        let error = SymbolicPlan::fit(&sizes(&["n=1"]), &runs).unwrap_err();
        assert!(matches!(error, FitError::Thinned { take_count: 1000, .. }), "{error}");
    }
}
