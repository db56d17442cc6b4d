//! How a byte-level vocabulary spells bytes in printable letters: GPT-2's way.

/// The character that spells a byte. Printable bytes of Latin-1 spell themselves; the others are numbered from U+0100.
pub(super) fn char_of(byte: u8) -> char {
    char::from_u32(code_of(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

const fn code_of(byte: u8) -> u32 {
    match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u32,
        0x00..=0x20 => 0x100 + byte as u32,
        0x7F..=0xA0 => 0x121 + (byte - 0x7F) as u32,
        0xAD => 0x143,
    }
}

/// The bytes that the characters below U+0144 spell; 0xFFFF for none.
static SPELLED: [u16; 0x144] = spelled();

const fn spelled() -> [u16; 0x144] {
    let mut spelled = [u16::MAX; 0x144];
    let mut byte = 0;
    while byte <= 0xFF {
        spelled[code_of(byte as u8) as usize] = byte;
        byte += 1;
    }
    spelled
}

/// Appends the bytes that a text (UTF-8) of a byte-level vocabulary spells; a text that is not such a spelling is
/// appended verbatim. Returns whether it was one.
pub(super) fn push_spelled(text: &[u8], bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    bytes.reserve(text.len());
    let mut rest = text;
    loop {
        let code;
        (code, rest) = match *rest {
            [] => return true,
            [first @ 0..0x80, ref rest @ ..] => (usize::from(first), rest),
            [first @ 0xC2..=0xC5, second, ref rest @ ..] => {
                (usize::from(first & 0x1F) << 6 | usize::from(second & 0x3F), rest)
            }
            _ => (usize::MAX, rest),
        };
        match SPELLED.get(code).map(|&byte| u8::try_from(byte)) {
            Some(Ok(byte)) => bytes.push(byte),
            _ => {
                bytes.truncate(start);
                bytes.extend_from_slice(text);
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters: std::collections::HashSet<char> = (0..=255).map(char_of).collect();
        assert_eq!(letters.len(), 256);
        assert!(letters.iter().all(|c| !c.is_control() && !c.is_whitespace()));
        let spelled = |text: &str| {
            let mut bytes = Vec::new();
            push_spelled(text.as_bytes(), &mut bytes).then_some(bytes)
        };
        (0..=255).for_each(|byte| assert_eq!(spelled(&char_of(byte).to_string()), Some(vec![byte])));
        for (byte, c) in [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'a', 'a'), (0x7F, 'ġ'), (0xAD, 'Ń'), (0xFF, 'ÿ')] {
            assert_eq!(char_of(byte), c);
        }
        for none in ["\u{144}", "\u{17F}", " ", "\n", "漢", "\u{80}", "\u{AD}"] {
            assert_eq!(spelled(none), None);
        }
    }

    #[test]
    fn a_text_that_spells_no_bytes_is_itself() {
        let check = |text: &str, expected: &[u8], is_spelled| {
            let mut bytes = b"x".to_vec();
            assert_eq!(push_spelled(text.as_bytes(), &mut bytes), is_spelled, "{text:?}");
            assert_eq!(bytes.strip_prefix(b"x").unwrap(), expected, "{text:?}");
        };
        check("Ġa", b" a", true);
        check("", b"", true);
        check("ð", b"\xF0", true);
        check("Ġ a", "Ġ a".as_bytes(), false);
        check("a漢", "a漢".as_bytes(), false);
    }
}
