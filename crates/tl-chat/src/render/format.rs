//! Texts with places to fill: Python's `%` operator and `str.format`.

use super::arguments::Given;
use super::meter::{Buffer, Meter};
use super::value::{SequenceKind, Value};
use crate::error::Result;

/// Layout of one value: `[[fill]align][sign][#][0][width][,][.precision][type]`.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouped: bool,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Maximum digits after the point: no number has more significant ones.
const MAX_PRECISION: usize = 100;

impl Meter {
    /// `format % value`
    pub(super) fn percent(&self, format: &str, value: &Value) -> Result<Value> {
        let mut out = Buffer::new(self)?;
        let positional: &[Value] = match value {
            Value::Sequence(sequence) if sequence.kind == SequenceKind::Tuple => &sequence.items,
            other => std::slice::from_ref(other),
        };
        let mut next = positional.iter();
        let mut rest = format;
        let mut uses_names = false;
        while let Some(at) = rest.find('%') {
            out.push(&rest[..at])?;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                out.push("%")?;
                rest = after;
                continue;
            }
            let mut by_name = None;
            if let Some(inner) = rest.strip_prefix('(') {
                let (Some((name, after)), Value::Dict(dict)) = (inner.split_once(')'), value) else {
                    return self.error("`%(name)` needs a closing bracket and a dict of values");
                };
                match self.entry_named(dict, name)? {
                    Some(value) => by_name = Some(value),
                    None => return self.error(format!("the dict of values has no {name:?}")),
                }
                uses_names = true;
                rest = after;
            }
            let (spec, after) = self.percent_spec(rest)?;
            rest = after;
            let value = match &by_name {
                Some(value) => value,
                None => match next.next() {
                    Some(value) => value,
                    None => return self.error("a format has more places than there are values"),
                },
            };
            self.lay_out(&mut out, value, &spec)?;
        }
        out.push(rest)?;
        // A value with items, except a tuple, may be a mapping of which no key is used.
        let is_mapping = match value {
            Value::Dict(_) => true,
            Value::Sequence(sequence) => sequence.kind != SequenceKind::Tuple,
            _ => false,
        };
        if next.next().is_some() && !uses_names && !is_mapping {
            return self.error("a format has fewer places than there are values");
        }
        Ok(self.buffer_string(out))
    }

    fn percent_spec<'a>(&self, text: &'a str) -> Result<(Spec, &'a str)> {
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        let mut rest = text;
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = Some('+'),
                ' ' => spec.sign = spec.sign.or(Some(' ')),
                '#' => spec.alternate = true,
                _ => spec.zero = true,
            }
            rest = &rest[1..];
        }
        (spec.width, rest) = self.digits(rest)?.unwrap_or((0, rest));
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = self.digits(after)?.unwrap_or((0, after));
            spec.precision = Some(precision);
            rest = after;
        }
        let Some(kind) = rest.chars().next().filter(|kind| "sdiufFeEgGxXocr".contains(*kind)) else {
            return self.error(format!("`%{}` is no format", rest.chars().next().unwrap_or(' ')));
        };
        spec.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
        if spec.align == Some('<') {
            spec.zero = false;
        }
        Ok((spec, &rest[1..]))
    }

    fn digits<'a>(&self, text: &'a str) -> Result<Option<(usize, &'a str)>> {
        let len = text.bytes().take_while(u8::is_ascii_digit).count();
        if len == 0 {
            return Ok(None);
        }
        match text[..len].parse() {
            Ok(value) => Ok(Some((value, &text[len..]))),
            Err(_) => self.error(format!("{} is too large a width", &text[..len.min(40)])),
        }
    }

    /// `format.format(…)`
    pub(super) fn format(&self, format: &str, given: &mut Given<'_>) -> Result<Value> {
        let mut out = Buffer::new(self)?;
        let mut rest = format;
        let mut automatic = 0;
        let values: Vec<Value> = given.positional.iter_mut().filter_map(Option::take).collect();
        let named: Vec<(String, Value)> =
            given.named.iter_mut().filter_map(|(name, value)| Some((name.clone(), value.take()?))).collect();
        while let Some(at) = rest.find(['{', '}']) {
            out.push(&rest[..at])?;
            let bracket = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(bracket) {
                out.push(bracket)?;
                rest = after;
                continue;
            }
            let Some((field, after)) = rest.split_once('}').filter(|_| bracket == "{") else {
                return self.error("a format has a single `{` or `}`");
            };
            rest = after;
            let (field, spec) = field.split_once(':').unwrap_or((field, ""));
            let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
            let (name, path) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
            let root = if name.is_empty() {
                automatic += 1;
                values.get(automatic - 1)
            } else if let Ok(index) = name.parse::<usize>() {
                values.get(index)
            } else {
                named.iter().find(|(found, _)| found == name).map(|(_, value)| value)
            };
            let Some(root) = root else {
                return self.error(format!("a format has no value for `{{{name}}}`"));
            };
            let value = self.format_path(root.clone(), path)?;
            let value = match conversion {
                "" => value,
                "s" => self.text_of(&value)?,
                "r" => {
                    let mut buffer = Buffer::new(self)?;
                    self.write_repr(&mut buffer, &value)?;
                    self.buffer_string(buffer)
                }
                _ => return self.error(format!("`!{conversion}` is no conversion")),
            };
            let spec = self.brace_spec(spec)?;
            self.lay_out(&mut out, &value, &spec)?;
        }
        out.push(rest)?;
        Ok(self.buffer_string(out))
    }

    /// `.name` and `[key]` after the name of a field.
    fn format_path(&self, mut value: Value, path: &str) -> Result<Value> {
        let mut rest = path;
        while !rest.is_empty() {
            let key;
            if let Some(inner) = rest.strip_prefix('[') {
                let Some((found, after)) = inner.split_once(']') else {
                    return self.error("a format has `[` without `]`");
                };
                (key, rest) = (found, after);
            } else {
                let inner = &rest[1..];
                (key, rest) = inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()));
            }
            let found = match (&value, key.parse::<i128>()) {
                (Value::Dict(dict), Err(_)) => self.entry_named(dict, key)?,
                (Value::Sequence(_) | Value::Dict(_), Ok(index)) => self.index(&value, &Value::Integer(index))?,
                _ => None,
            };
            match found {
                Some(found) => value = found,
                None => return self.error(format!("a format's value has no {key:?}")),
            }
        }
        Ok(value)
    }

    fn brace_spec(&self, text: &str) -> Result<Spec> {
        let mut spec = Spec::default();
        let mut rest = text;
        let mut characters = rest.chars();
        let (first, second) = (characters.next(), characters.next());
        let is_align = |c: Option<char>| c.is_some_and(|c| "<>^=".contains(c));
        if let Some(fill) = first.filter(|_| is_align(second)) {
            spec.fill = Some(fill);
            spec.align = second;
            rest = &rest[fill.len_utf8() + 1..];
        } else if is_align(first) {
            spec.align = first;
            rest = &rest[1..];
        }
        if let Some(sign) = rest.chars().next().filter(|c| "+- ".contains(*c)) {
            spec.sign = Some(sign).filter(|sign| *sign != '-');
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('#') {
            spec.alternate = true;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('0') {
            spec.zero = true;
            rest = after;
        }
        (spec.width, rest) = self.digits(rest)?.unwrap_or((0, rest));
        if let Some(after) = rest.strip_prefix([',', '_']) {
            spec.grouped = true;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let Some((precision, after)) = self.digits(after)? else {
                return self.error("a format has `.` without a number");
            };
            spec.precision = Some(precision);
            rest = after;
        }
        let mut characters = rest.chars();
        spec.kind = characters.next();
        if characters.next().is_some() || spec.kind.is_some_and(|kind| !"sdfFeEgGxXobc%n".contains(kind)) {
            return self.error(format!("`:{text}` is no format"));
        }
        Ok(spec)
    }

    fn lay_out(&self, out: &mut Buffer, value: &Value, spec: &Spec) -> Result<()> {
        let mut content = Buffer::new(self)?;
        let kind = spec.kind.unwrap_or(match value {
            Value::Integer(_) => 'd',
            Value::Float(_) if spec.precision.is_some() => 'g',
            _ => 's',
        });
        let mut is_number = false;
        match kind {
            's' | 'r' => {
                if kind == 'r' {
                    self.write_repr(&mut content, value)?
                } else {
                    self.write(&mut content, value)?
                }
                is_number = spec.kind.is_none() && value.as_float().is_some() && !matches!(value, Value::Bool(_));
            }
            'c' => {
                let character = value.as_integer().and_then(|code| char::from_u32(u32::try_from(code).ok()?));
                match (character, value.as_str()) {
                    (Some(character), _) => content.push_char(character)?,
                    (None, Some(text)) if text.chars().count() == 1 => content.push(text)?,
                    _ => return self.error("`c` formats one character"),
                }
            }
            _ => {
                is_number = true;
                content.push(&self.number_text(value, kind, spec)?)?;
            }
        }
        let text = content.as_str();
        let text = match spec.precision.filter(|_| !is_number) {
            Some(precision) => &text[..text.char_indices().nth(precision).map_or(text.len(), |(at, _)| at)],
            None => text,
        };
        self.scan(text.len())?;
        let pad = spec.width.saturating_sub(text.chars().count());
        if is_number && spec.zero && spec.fill.is_none() && matches!(spec.align, None | Some('>' | '=')) {
            let sign = text.len() - text.trim_start_matches(['+', '-', ' ']).len();
            out.push(&text[..sign])?;
            out.push_repeated("0", pad)?;
            return out.push(&text[sign..]);
        }
        let align = spec.align.unwrap_or(if is_number { '>' } else { '<' });
        let before = match align {
            '<' => 0,
            '^' => pad / 2,
            _ => pad,
        };
        let mut fill = [0; 4];
        let fill = spec.fill.unwrap_or(' ').encode_utf8(&mut fill);
        out.push_repeated(fill, before)?;
        out.push(text)?;
        out.push_repeated(fill, pad - before)
    }

    /// A number in the notation `kind`, with its sign.
    fn number_text(&self, value: &Value, kind: char, spec: &Spec) -> Result<String> {
        let sign = |is_negative: bool| match (is_negative, spec.sign) {
            (true, _) => "-".to_owned(),
            (false, Some(sign)) => sign.to_string(),
            (false, None) => String::new(),
        };
        if matches!(kind, 'd' | 'x' | 'X' | 'o' | 'b' | 'n') {
            let integer = value.as_integer().or(match value {
                // `%d` cuts off what follows the point.
                Value::Float(value) if kind == 'd' && value.is_finite() => Some(value.trunc() as i128),
                _ => None,
            });
            let Some(integer) = integer else {
                return self.error(format!("`{kind}` formats an integer, not a value of type {}", value.type_name()));
            };
            let magnitude = integer.unsigned_abs();
            let digits = match kind {
                'x' => format!("{magnitude:x}"),
                'X' => format!("{magnitude:X}"),
                'o' => format!("{magnitude:o}"),
                'b' => format!("{magnitude:b}"),
                _ => magnitude.to_string(),
            };
            let prefix = match kind {
                'd' | 'n' => String::new(),
                _ if spec.alternate => format!("0{kind}"),
                _ => String::new(),
            };
            let digits = if spec.grouped { grouped(&digits) } else { digits };
            return Ok(sign(integer < 0) + &prefix + &digits);
        }
        let Some(number) = value.as_float() else {
            return self.error(format!("`{kind}` formats a number, not a value of type {}", value.type_name()));
        };
        let precision = spec.precision.unwrap_or(6);
        if precision > MAX_PRECISION {
            return self.error(format!("a format asks for {precision} digits; at most {MAX_PRECISION} are written"));
        }
        let magnitude = number.abs();
        let text = if !number.is_finite() {
            if number.is_nan() { "nan" } else { "inf" }.to_owned()
        } else {
            match kind {
                'f' | 'F' => format!("{magnitude:.precision$}"),
                '%' => format!("{:.precision$}%", magnitude * 100.0),
                'e' | 'E' => exponent_text(magnitude, precision),
                _ => general_text(magnitude, precision.max(1)),
            }
        };
        let text = if kind.is_ascii_uppercase() { text.to_uppercase() } else { text };
        let text = match text.split_once('.') {
            Some((whole, fraction)) if spec.grouped => format!("{}.{fraction}", grouped(whole)),
            None if spec.grouped => grouped(&text),
            _ => text,
        };
        Ok(sign(number.is_sign_negative() && !number.is_nan()) + &text)
    }
}

/// Digits with a comma before every third one from the end.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `d.ddde±dd`
fn exponent_text(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(digits) => format!("{mantissa}e-{digits:0>2}"),
        None => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// The shorter notation with `precision` significant digits, without zeros at the end.
fn general_text(value: f64, precision: usize) -> String {
    let scientific = exponent_text(value, precision - 1);
    let exponent: i32 = scientific.rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
        return format!("{}e{exponent}", trimmed(mantissa));
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}
