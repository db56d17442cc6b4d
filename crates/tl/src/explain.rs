//! `tl explain`: what an error's code means, with a wrong and a right program.

use tl_syntax::{Code, Explanation};

use crate::output::{self, Stop};

/// Explains a code, or lists all.
pub(crate) fn run(code: Option<&str>) -> Result<(), Stop> {
    let Some(name) = code else {
        let line = |code: &Code| {
            let Explanation { name, text, .. } = code.explanation();
            format!("{name}  {}\n", text.split_once(['.', ':']).map_or(*text, |(first, _)| first))
        };
        return output::print(&Code::ALL.iter().map(line).collect::<String>());
    };
    let Some(code) = Code::named(name) else {
        return Err(Stop::Failed(format!("there is no code `{name}`; `tl explain` lists all")));
    };
    let Explanation { name, text, wrong, right, .. } = code.explanation();
    let mut explained = format!("{name}: {text}\n");
    for (what, program) in [("Wrong", wrong), ("Right", right)] {
        if !program.is_empty() {
            let lines: String = program.lines().map(|line| format!("    {line}\n")).collect();
            explained += &format!("\n{what}:\n\n{lines}");
        }
    }
    output::print(&explained)
}
