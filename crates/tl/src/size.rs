//! Sizes of memory as people write them: `300MB`, `1.5GiB`, `4096`.

use bytesize::ByteSize;

/// Parses a number of bytes. The argument parser calls this, so that a malformed text is wrong usage.
pub(crate) fn parse(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| "expected a size such as 300MB or 2GiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "more bytes than this machine can address".to_owned())
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
        check("2g", Some(2_000_000_000));
        for wrong in ["", "MB", "-1", "1.5.5MB", "10 apples", "."] {
            check(wrong, None);
        }
    }
}
