//! Methods of texts, lists and dicts: Python's, except those that change a value.

use super::arguments::Given;
use super::meter::{Buffer, Meter};
use super::value::{SequenceKind, Value};
use crate::error::Result;

const TEXT_METHODS: [&str; 41] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "expandtabs",
];
const LIST_METHODS: [&str; 3] = ["count", "index", "copy"];
const DICT_METHODS: [&str; 5] = ["get", "items", "keys", "values", "copy"];
/// Methods that would change a value. The sandbox of `transformers` refuses them too.
const LIST_CHANGES: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// Whether values of the type of `value` have a method of this name.
pub(super) fn has_method(value: &Value, name: &str) -> bool {
    match value {
        Value::String(_) => TEXT_METHODS.contains(&name),
        Value::Sequence(sequence) => match sequence.kind {
            SequenceKind::List => LIST_METHODS.contains(&name) || LIST_CHANGES.contains(&name),
            SequenceKind::Tuple | SequenceKind::Range => LIST_METHODS[..2].contains(&name),
            SequenceKind::View | SequenceKind::Generator => false,
        },
        Value::Dict(_) => DICT_METHODS.contains(&name) || DICT_CHANGES.contains(&name),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        _ => false,
    }
}

impl Meter {
    pub(super) fn call_method(&self, value: &Value, name: &str, mut given: Given<'_>) -> Result<Value> {
        self.step(1)?;
        let result = match value {
            Value::String(text) => self.text_method(&text.text, name, &mut given)?,
            Value::Sequence(sequence) if LIST_METHODS.contains(&name) => match name {
                "copy" => value.clone(),
                _ => {
                    let wanted = given.require(self, 0, "value")?;
                    let mut positions = Vec::new();
                    for (at, item) in sequence.items.iter().enumerate() {
                        if self.equal(item, &wanted)? {
                            positions.push(at);
                        }
                    }
                    match (name, positions.first()) {
                        ("count", _) => Value::Integer(positions.len() as i128),
                        (_, Some(&first)) => Value::Integer(first as i128),
                        (_, None) => return self.error("the list does not contain the value"),
                    }
                }
            },
            Value::Dict(dict) if DICT_METHODS.contains(&name) => match name {
                "copy" => value.clone(),
                "get" => {
                    let key = given.require(self, 0, "key")?;
                    let default = given.take(1, "default").unwrap_or(Value::None);
                    self.entry(dict, &key)?.unwrap_or(default)
                }
                "items" => self.dict_items(dict, SequenceKind::View)?,
                _ => {
                    let _claim = self.claim(dict.entries.len() * size_of::<Value>())?;
                    let pick = |(key, value): &(Value, Value)| if name == "keys" { key } else { value }.clone();
                    self.sequence(SequenceKind::View, dict.entries.iter().map(pick).collect())?
                }
            },
            Value::Loop(state) if name == "cycle" => {
                let values = &mut given.positional;
                if values.is_empty() {
                    return self.error("`loop.cycle` needs values");
                }
                let at = state.index.get() % values.len();
                let value = values[at].take().unwrap_or(Value::None);
                values.clear();
                value
            }
            Value::Loop(state) if name == "changed" => {
                let values: Vec<Value> = given.positional.drain(..).flatten().collect();
                let now = self.list(values)?;
                let has_changed = match &*state.last_changed.borrow() {
                    Some(before) => !self.equal(before, &now)?,
                    None => true,
                };
                state.last_changed.replace(Some(now));
                Value::Bool(has_changed)
            }
            _ => {
                return self.error(format!(
                    "`{name}` would change a {}: templates cannot change lists and dicts; use a namespace, and `+`",
                    value.type_name()
                ));
            }
        };
        given.finish(self)?;
        Ok(result)
    }

    pub(super) fn dict_items(&self, dict: &super::value::Dict, kind: SequenceKind) -> Result<Value> {
        let mut pairs = Vec::with_capacity(dict.entries.len());
        for (key, value) in &dict.entries {
            pairs.push(self.sequence(SequenceKind::Tuple, vec![key.clone(), value.clone()])?);
        }
        self.sequence(kind, pairs)
    }

    fn text_method(&self, text: &str, name: &str, given: &mut Given<'_>) -> Result<Value> {
        self.scan(text.len())?;
        let all = |is: fn(char) -> bool| Value::Bool(!text.is_empty() && text.chars().all(is));
        Ok(match name {
            "upper" | "lower" | "casefold" | "title" | "capitalize" | "swapcase" => self.change_case(text, name)?,
            "strip" | "lstrip" | "rstrip" => {
                let characters = match given.take(0, "chars") {
                    None | Some(Value::None) => None,
                    Some(value) => match value.as_str() {
                        Some(characters) => Some(characters.to_owned()),
                        None => return self.error(format!("`{name}` takes a text")),
                    },
                };
                self.string(self.strip(text, name, characters.as_deref())?)?
            }
            "removeprefix" | "removesuffix" => {
                let affix = given.require_text(self, 0, "affix")?;
                let affix = affix.as_str().unwrap_or("");
                let rest = if name == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
                self.string(rest.unwrap_or(text))?
            }
            "startswith" | "endswith" => {
                let affix = given.require(self, 0, "affix")?;
                let affixes = match &affix {
                    Value::Sequence(sequence) if sequence.kind == SequenceKind::Tuple => sequence.items.as_slice(),
                    other => std::slice::from_ref(other),
                };
                let mut found = false;
                for affix in affixes {
                    let Some(affix) = affix.as_str() else {
                        return self.error(format!("`{name}` takes a text or a tuple of texts"));
                    };
                    found |= if name == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) };
                }
                Value::Bool(found)
            }
            "split" | "rsplit" => {
                let separator = given.take(0, "sep").filter(|value| !matches!(value, Value::None));
                let at_most = given.integer(self, 1, "maxsplit")?.and_then(|n| usize::try_from(n).ok());
                let parts = match &separator {
                    None => self.split_whitespace(text, at_most, name == "rsplit")?,
                    Some(separator) => match separator.as_str() {
                        None => return self.error(format!("`{name}` takes a text")),
                        Some("") => return self.error(format!("`{name}` by an empty text")),
                        Some(separator) => self.split(text, separator, at_most, name == "rsplit")?,
                    },
                };
                self.texts(&parts)?
            }
            "splitlines" => {
                let keep = given.truth(0, "keepends", false);
                self.texts(&self.lines(text, keep)?)?
            }
            "partition" | "rpartition" => {
                let separator = given.require_text(self, 0, "sep")?;
                let separator = separator.as_str().unwrap_or("");
                if separator.is_empty() {
                    return self.error(format!("`{name}` by an empty text"));
                }
                let found = if name == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
                let parts = match found {
                    Some((before, after)) => [before, separator, after],
                    None if name == "partition" => [text, "", ""],
                    None => ["", "", text],
                };
                let parts = parts.into_iter().map(|part| self.string(part)).collect::<Result<_>>()?;
                self.sequence(SequenceKind::Tuple, parts)?
            }
            "replace" => {
                let old = given.require_text(self, 0, "old")?;
                let new = given.require_text(self, 1, "new")?;
                let at_most = given.integer(self, 2, "count")?.and_then(|n| usize::try_from(n).ok());
                self.replace(text, old.as_str().unwrap_or(""), new.as_str().unwrap_or(""), at_most)?
            }
            "join" => {
                let items = given.require(self, 0, "iterable")?;
                let items = self.items(&items)?;
                if let Some(item) = items.iter().find(|item| item.as_str().is_none()) {
                    return self.error(format!("`join` joins texts, not a value of type {}", item.type_name()));
                }
                self.join(&items, text)?
            }
            "find" | "rfind" | "index" | "rindex" => {
                let wanted = given.require_text(self, 0, "sub")?;
                let wanted = wanted.as_str().unwrap_or("");
                let at = if name.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) };
                match at {
                    Some(at) => Value::Integer(text[..at].chars().count() as i128),
                    None if name.ends_with("find") => Value::Integer(-1),
                    None => return self.error(format!("{wanted:?} is not in the text")),
                }
            }
            "count" => {
                let wanted = given.require_text(self, 0, "sub")?;
                match wanted.as_str().unwrap_or("") {
                    "" => Value::Integer(text.chars().count() as i128 + 1),
                    wanted => Value::Integer(text.matches(wanted).count() as i128),
                }
            }
            "format" => self.format(text, given)?,
            "ljust" | "rjust" | "center" | "zfill" => self.justify(text, name, given)?,
            "expandtabs" => {
                let width = given.length(self, 0, "tabsize")?.unwrap_or(8);
                self.expand_tabs(text, width)?
            }
            "isdigit" | "isdecimal" => all(|c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())),
            "isnumeric" => all(char::is_numeric),
            "isalpha" => all(char::is_alphabetic),
            "isalnum" => all(char::is_alphanumeric),
            "isspace" => all(char::is_whitespace),
            "isascii" => Value::Bool(text.is_ascii()),
            "isupper" => Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
            "islower" => Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
            "istitle" => {
                let title = self.change_case(text, "title")?;
                Value::Bool(text.chars().any(char::is_alphabetic) && title.as_str() == Some(text))
            }
            _ => return self.error(format!("texts have no method `{name}`")),
        })
    }

    /// `upper`, `lower`, `title`, `capitalize`, `swapcase`
    pub(super) fn change_case(&self, text: &str, name: &str) -> Result<Value> {
        // A character becomes at most three.
        let _claim = self.claim(text.len().saturating_mul(3))?;
        let mut out = String::with_capacity(text.len());
        match name {
            "upper" => out = text.to_uppercase(),
            "lower" | "casefold" => out = text.to_lowercase(),
            "swapcase" => {
                for c in text.chars() {
                    if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
                }
            }
            _ => {
                let mut in_word = false;
                for c in text.chars() {
                    if in_word {
                        out.extend(c.to_lowercase())
                    } else {
                        out.extend(c.to_uppercase())
                    }
                    in_word = name == "capitalize" || c.is_alphabetic();
                }
            }
        }
        self.string(out)
    }

    pub(super) fn strip<'a>(&self, text: &'a str, name: &str, characters: Option<&str>) -> Result<&'a str> {
        // Every character of the text is looked up in the set.
        if let Some(characters) = characters {
            self.step(text.len().saturating_mul(characters.len()) / 64)?;
        }
        let goes = |c: char| characters.map_or(is_space(c), |set| set.contains(c));
        Ok(match name {
            "lstrip" => text.trim_start_matches(goes),
            "rstrip" => text.trim_end_matches(goes),
            _ => text.trim_matches(goes),
        })
    }

    fn split<'a>(&self, text: &'a str, by: &str, at_most: Option<usize>, from_end: bool) -> Result<Vec<&'a str>> {
        let n = text.matches(by).count().min(at_most.unwrap_or(usize::MAX)) + 1;
        let _claim = self.claim(n * size_of::<&str>())?;
        if from_end {
            let mut parts: Vec<&str> = text.rsplitn(n, by).collect();
            parts.reverse();
            return Ok(parts);
        }
        Ok(text.splitn(n, by).collect())
    }

    fn split_whitespace<'a>(&self, text: &'a str, at_most: Option<usize>, from_end: bool) -> Result<Vec<&'a str>> {
        let _claim = self.claim(text.len() / 2 * size_of::<&str>())?;
        let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
        let Some(at_most) = at_most.filter(|n| *n < words.len().saturating_sub(1)) else { return Ok(words) };
        // The rest after the last split stays whole, with the whitespace inside it.
        let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
        if from_end {
            let kept = words.len() - at_most;
            let last = words[kept - 1];
            let mut parts = vec![&text[..offset(last) + last.len()]];
            parts.extend(&words[kept..]);
            Ok(parts)
        } else {
            let mut parts = words[..at_most].to_vec();
            parts.push(&text[offset(words[at_most])..]);
            Ok(parts)
        }
    }

    /// The lines of a text, with or without their ends.
    pub(super) fn lines<'a>(&self, text: &'a str, keep_ends: bool) -> Result<Vec<&'a str>> {
        let n = text.bytes().filter(|b| matches!(b, b'\n' | b'\r')).count() + 1;
        let _claim = self.claim(n * size_of::<&str>())?;
        let mut lines = Vec::with_capacity(n);
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let break_len = if rest[end..].starts_with("\r\n") { 2 } else { usize::from(end < rest.len()) };
            lines.push(&rest[..if keep_ends { end + break_len } else { end }]);
            rest = &rest[end + break_len..];
        }
        Ok(lines)
    }

    /// A list of texts.
    pub(super) fn texts(&self, parts: &[&str]) -> Result<Value> {
        let _claim = self.claim(size_of_val(parts) * 2)?;
        self.list(parts.iter().map(|part| self.string(*part)).collect::<Result<_>>()?)
    }

    pub(super) fn replace(&self, text: &str, old: &str, new: &str, at_most: Option<usize>) -> Result<Value> {
        self.scan(text.len())?;
        let mut left = at_most.unwrap_or(usize::MAX);
        let mut out = Buffer::new(self)?;
        let mut plain_from = 0;
        for (at, _) in text.match_indices(old) {
            if left == 0 {
                break;
            }
            left -= 1;
            self.step(1)?;
            out.push(&text[plain_from..at])?;
            out.push(new)?;
            plain_from = at + old.len();
        }
        out.push(&text[plain_from..])?;
        Ok(self.buffer_string(out))
    }

    /// The texts of `items`, with `separator` between them.
    pub(super) fn join(&self, items: &[Value], separator: &str) -> Result<Value> {
        let mut out = Buffer::new(self)?;
        for (at, item) in items.iter().enumerate() {
            self.step(1)?;
            if at > 0 {
                out.push(separator)?;
            }
            self.write(&mut out, item)?;
        }
        Ok(self.buffer_string(out))
    }

    pub(super) fn justify(&self, text: &str, name: &str, given: &mut Given<'_>) -> Result<Value> {
        let width = given.length(self, 0, "width")?.unwrap_or(80);
        let fill = match given.take(1, "fillchar") {
            None => ' ',
            Some(value) => match value.as_str().map(|text| (text.chars().next(), text.chars().count())) {
                Some((Some(fill), 1)) => fill,
                _ => return self.error(format!("`{name}` fills with one character")),
            },
        };
        let pad = width.saturating_sub(text.chars().count());
        let mut bytes = [0; 4];
        let mut out = Buffer::new(self)?;
        if name == "zfill" {
            let sign = usize::from(text.starts_with(['+', '-']));
            out.push(&text[..sign])?;
            out.push_repeated("0", pad)?;
            out.push(&text[sign..])?;
            return Ok(self.buffer_string(out));
        }
        let before = match name {
            "ljust" => 0,
            "rjust" => pad,
            // Python puts the odd blank to the left if the width is odd.
            _ => pad / 2 + (pad & width & 1),
        };
        let fill = fill.encode_utf8(&mut bytes);
        out.push_repeated(fill, before)?;
        out.push(text)?;
        out.push_repeated(fill, pad - before)?;
        Ok(self.buffer_string(out))
    }

    fn expand_tabs(&self, text: &str, width: usize) -> Result<Value> {
        let mut out = Buffer::new(self)?;
        let mut column = 0;
        for c in text.chars() {
            match c {
                '\t' if width > 0 => {
                    let pad = width - column % width;
                    out.push_repeated(" ", pad)?;
                    column += pad;
                }
                '\t' => {}
                _ => {
                    out.push_char(c)?;
                    column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                }
            }
        }
        Ok(self.buffer_string(out))
    }
}

/// Whitespace of Python's `str.strip`: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
