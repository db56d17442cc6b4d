//! `--with`: values of the sizes that a program requests with `size("n", default)`.

use std::collections::BTreeMap;

use tl_device::SizeRange;

use crate::arguments::RunArguments;
use crate::output::Stop;

/// The sizes of one run.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    given: BTreeMap<String, usize>,
    /// The requested sizes and their defaults.
    asked: BTreeMap<String, i64>,
}

impl Sizes {
    /// Sizes with these values, in the order of the ranges.
    pub(crate) fn new(ranges: &[SizeRange], values: &[usize]) -> Sizes {
        let given = ranges.iter().zip(values).map(|(range, value)| (range.name.clone(), *value));
        Sizes { given: given.collect(), asked: BTreeMap::new() }
    }

    /// The sizes with the highest values of their ranges.
    pub(crate) fn highest(ranges: &[SizeRange]) -> Sizes {
        Sizes::new(ranges, &ranges.iter().map(|range| range.max).collect::<Vec<_>>())
    }

    /// The sizes with fixed values; for sizes with a range the program's defaults apply.
    pub(crate) fn of_run(arguments: &RunArguments) -> Result<Sizes, Stop> {
        check_names(&arguments.with)?;
        let range = arguments.with.iter().find(|range| !range.is_fixed());
        if let Some(range) = range.filter(|_| !arguments.reservations.arena) {
            return Err(Stop::usage(&format!(
                "--with {range}: a program runs with one value; a range is for --arena and for `tl plan`"
            )));
        }
        let fixed: Vec<SizeRange> = arguments.with.iter().filter(|range| range.is_fixed()).cloned().collect();
        Ok(Sizes::highest(&fixed))
    }

    /// The value given for the size `name`, which is recorded as requested.
    pub(crate) fn ask(&mut self, name: &str, default: i64) -> Option<i64> {
        if !self.asked.contains_key(name) {
            self.asked.insert(name.to_owned(), default);
        }
        // Parsed values fit into an i64.
        self.given.get(name).map(|&value| value as i64)
    }

    /// Messages about given sizes that the program did not request.
    pub(crate) fn unasked(&self, given: &[SizeRange]) -> Vec<String> {
        let known = self.asked.iter().map(|(name, default)| format!("size(\"{name}\", {default})"));
        let known: Vec<String> = known.collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let unknown = given.iter().filter(|range| !self.asked.contains_key(&range.name));
        let message =
            |range: &SizeRange| format!("--with {range}: the program asks for no such size; it asks for {known}");
        unknown.map(message).collect()
    }
}

/// Refuses a size that is given twice.
pub(crate) fn check_names(given: &[SizeRange]) -> Result<(), Stop> {
    let is_twice = |at: usize| given[..at].iter().any(|other| other.name == given[at].name);
    match (0..given.len()).find(|&at| is_twice(at)) {
        Some(at) => Err(Stop::usage(&format!("--with {}: the size is given twice", given[at]))),
        None => Ok(()),
    }
}
