//! Sizes of memory as people write them: `300MB`, `1.5GiB`, `4096`.

/// Units and their bytes; those of a thousand and those of 1024, and the letter alone as the latter.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("tb", 1000 * 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
];

/// The bytes that a text names: a number, with a fraction or without, and a unit, in capitals or not. Used by the
/// arguments' parser, so that a text that names none is wrong usage.
pub(crate) fn parse(text: &str) -> Result<usize, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.trim().to_ascii_lowercase();
    let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or("expected a size such as 300MB or 2GiB")?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.parse::<u64>().map_err(|_| "expected a size such as 300MB or 2GiB".to_owned());
    // More digits of the fraction than these say less than a byte.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let part = u128::from(digits(fraction)?) * u128::from(factor) / 10u128.pow(fraction.len() as u32);
    let bytes = u128::from(digits(whole)?) * u128::from(factor) + part;
    usize::try_from(bytes).map_err(|_| "more bytes than this machine can address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<usize>| assert_eq!(parse(text).ok(), expected, "{text}");
        check("4096", Some(4096));
        check("0", Some(0));
        check("300MB", Some(300_000_000));
        check("300mb", Some(300_000_000));
        check("300 MB", Some(300_000_000));
        check("1GiB", Some(1 << 30));
        check("1.5GiB", Some(3 << 29));
        check("0.1kb", Some(100));
        check("2g", Some(2 << 30));
        check("18446744073709551615", Some(usize::MAX));
        check("1.99999999999999999999KiB", Some(2047));
        for wrong in [
            "",
            "MB",
            "-1",
            "1.5.5MB",
            "1e9",
            "10 apples",
            ".",
            "5.",
            ".5",
            "18446744073709551616",
            "1.é",
            "99999999999tib",
        ] {
            check(wrong, None);
        }
    }
}
