//! How a byte-level vocabulary spells bytes in printable letters: GPT-2's way.

/// The byte that a character of a byte-level vocabulary spells. Printable ones of Latin-1 spell themselves; the others
/// are numbered from U+0100 on.
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(n as u8),
        n @ 0x100..=0x120 => Some((n - 0x100) as u8),
        n @ 0x121..=0x142 => Some((n - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The character that spells a byte.
pub(super) fn char_of(byte: u8) -> char {
    let code = match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte - 0x7F),
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Appends the bytes that a text of a byte-level vocabulary spells; a text that is no such spelling is itself. Says
/// whether it was one.
pub(super) fn push_spelled(text: &str, bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(text.as_bytes());
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters: std::collections::HashSet<char> = (0..=255).map(char_of).collect();
        assert_eq!(letters.len(), 256);
        assert!(letters.iter().all(|c| !c.is_control() && !c.is_whitespace()));
        (0..=255).for_each(|byte| assert_eq!(byte_of(char_of(byte)), Some(byte)));
        for (byte, c) in [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'a', 'a'), (0x7F, 'ġ'), (0xAD, 'Ń'), (0xFF, 'ÿ')] {
            assert_eq!(char_of(byte), c);
        }
        assert_eq!(['\u{144}', ' ', '\n', '漢'].map(byte_of), [None; 4]);
    }

    #[test]
    fn a_text_that_spells_no_bytes_is_itself() {
        let check = |text: &str, expected: &[u8], is_spelled| {
            let mut bytes = b"x".to_vec();
            assert_eq!(push_spelled(text, &mut bytes), is_spelled, "{text:?}");
            assert_eq!(bytes.strip_prefix(b"x").unwrap(), expected, "{text:?}");
        };
        check("Ġa", b" a", true);
        check("", b"", true);
        check("ð", b"\xF0", true);
        check("Ġ a", "Ġ a".as_bytes(), false);
        check("a漢", "a漢".as_bytes(), false);
    }
}
