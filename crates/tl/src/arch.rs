//! `tl arch`: the scripts of the architectures that come with the program.

use tl_engine::Architecture;

use crate::output::{self, Stop};

/// Lists the architectures, or prints the script of one.
pub(crate) fn run(name: Option<&str>) -> Result<(), Stop> {
    let Some(name) = name else {
        let line = |name| {
            // The first line of a script describes it.
            let what = Architecture::source(name).and_then(|text| text.lines().next()).unwrap_or_default();
            format!("{name:<12} {}\n", what.trim_start_matches("//").trim())
        };
        return output::print(&Architecture::names().map(line).collect::<String>());
    };
    // The library that architectures share can be printed too.
    match Architecture::source(name).or_else(|| Architecture::library(name)) {
        Some(script) => output::print(script),
        None => {
            let known = Architecture::names().collect::<Vec<_>>().join(", ");
            Err(Stop::Failed(format!(
                "no script of an architecture `{name}` comes with the program; there are {known}"
            )))
        }
    }
}
