//! Tables for people: columns as wide as their contents, wrapped on a terminal that is too narrow.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use std::io::IsTerminal;

/// A table of these rows. The columns `right`, such as numbers, are right-aligned.
pub(crate) fn table(rows: impl IntoIterator<Item = Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    let is_terminal = std::io::stdout().is_terminal();
    let arrangement = if is_terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.load_style(NOTHING).set_content_arrangement(arrangement);
    for row in rows {
        let cells = row.into_iter().enumerate().map(|(at, text)| {
            let alignment = if right.contains(&at) { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(text).set_alignment(alignment)
        });
        table.add_row(cells);
    }
    // Each cell has a space at both sides.
    let line = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n";
    table.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "10", "short"], ["longer", "7", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(rows, &[1]), "a       10  short\nlonger   7\n");
    }
}
