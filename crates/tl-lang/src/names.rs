//! Suggestions for misspelled names.

/// The candidate nearest to `name`, if one is near enough to be a misspelling.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    // The distance takes quadratic time, and longer names are no misspellings.
    if length == 0 || length > 64 {
        return None;
    }
    let limit = (length / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (strsim::osa_distance(name, candidate), candidate));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
