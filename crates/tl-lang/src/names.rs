//! Suggestions for misspelled names.

/// The candidate nearest to `name`, if one is near enough to be a misspelling.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    // The distance takes quadratic time, and longer names are no misspellings.
    if length == 0 || length > 64 {
        return None;
    }
    let limit = (length / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The Damerau-Levenshtein distance: insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, a) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, c) in b.iter().enumerate() {
            let replace = last[j] + usize::from(a != *c);
            let mut best = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if j > 0 && previous == Some(*c) && b[j - 1] == a {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        previous = Some(a);
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let known = ["softmax", "sigmoid", "reshape", "sum", "π"];
        for (name, expected) in [
            ("sofmax", Some("softmax")),
            ("sfotmax", Some("softmax")),
            ("sigmiod", Some("sigmoid")),
            ("reshap", Some("reshape")),
            ("smu", Some("sum")),
            ("p", Some("π")),
            ("matmul", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
