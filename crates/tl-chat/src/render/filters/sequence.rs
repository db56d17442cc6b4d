//! Filters over the items of a value.

use crate::error::Result;
use crate::render::Renderer;
use crate::render::arguments::Given;
use crate::render::value::{SequenceKind, Value};

impl Renderer<'_> {
    /// The value for comparison: texts in lower case, unless case matters.
    pub(super) fn fold_case(&self, value: &Value, case_sensitive: bool) -> Result<Value> {
        match value.as_str() {
            Some(text) if !case_sensitive => self.meter.change_case(text, "lower"),
            _ => Ok(value.clone()),
        }
    }

    /// The value at `a.b.0`.
    fn at_path(&self, value: &Value, path: &Value) -> Result<Value> {
        let Some(path) = path.as_str() else {
            return Ok(self.meter.index(value, path)?.unwrap_or(Value::Undefined(0)));
        };
        let mut value = value.clone();
        for part in path.split('.') {
            value = match part.parse::<i128>() {
                Ok(index) => self.meter.index(&value, &Value::Integer(index))?.unwrap_or(Value::Undefined(0)),
                Err(_) => self.meter.item_or_attribute(&value, part)?,
            };
        }
        Ok(value)
    }

    pub(super) fn sequence_filter(&mut self, name: &str, value: &Value, given: &mut Given<'_>) -> Result<Value> {
        let meter = self.meter.clone();
        match name {
            "first" | "last" | "join" | "min" | "max" | "sum" | "sort" | "unique" | "reverse" | "batch" | "slice"
            | "groupby" => {}
            _ => return meter.error(format!("there is no filter `{name}`")),
        }
        if let (Value::String(text), "reverse") = (value, name) {
            let _claim = meter.claim(text.text.len())?;
            return meter.string(text.text.chars().rev().collect::<String>());
        }
        let items = meter.items(value)?;
        let _claim = meter.claim(items.len() * 2 * size_of::<Value>())?;
        Ok(match name {
            "first" => items.into_iter().next().unwrap_or(Value::Undefined(0)),
            "last" => items.into_iter().next_back().unwrap_or(Value::Undefined(0)),
            "join" => {
                let separator = given.take(0, "d").map_or_else(|| meter.string(""), |value| meter.text_of(&value))?;
                let items = match given.take(1, "attribute").filter(|value| !matches!(value, Value::None)) {
                    Some(path) => items.iter().map(|item| self.at_path(item, &path)).collect::<Result<_>>()?,
                    None => items,
                };
                meter.join(&items, separator.as_str().unwrap_or(""))?
            }
            "reverse" => meter.sequence(SequenceKind::Generator, items.into_iter().rev().collect())?,
            "batch" | "slice" => {
                let n = given.length(&meter, 0, "n")?.unwrap_or(0);
                let filler = given.take(1, "fill_with").filter(|value| !matches!(value, Value::None));
                self.chunks(name, &items, n, filler)?
            }
            "sum" => {
                let path = given.take(0, "attribute").filter(|value| !matches!(value, Value::None));
                let mut total = given.take(1, "start").unwrap_or(Value::Integer(0));
                for item in &items {
                    let item = match &path {
                        Some(path) => self.at_path(item, path)?,
                        None => item.clone(),
                    };
                    total = meter.add(&total, &item)?;
                }
                total
            }
            _ => {
                let reverse = name == "sort" && given.truth(0, "reverse", false);
                let first = usize::from(name == "sort");
                if name == "groupby" {
                    return self.group_by(items, given);
                }
                let case_sensitive = given.truth(first, "case_sensitive", false);
                let path = given.take(first + 1, "attribute").filter(|value| !matches!(value, Value::None));
                let mut keyed = Vec::with_capacity(items.len());
                for item in items {
                    let key = match &path {
                        Some(path) => self.at_path(&item, path)?,
                        None => item.clone(),
                    };
                    keyed.push((self.fold_case(&key, case_sensitive)?, item));
                }
                self.by_key(name, keyed, reverse)?
            }
        })
    }

    /// `sort`, `unique`, `min` and `max` over items with their keys.
    fn by_key(&self, name: &str, keyed: Vec<(Value, Value)>, reverse: bool) -> Result<Value> {
        let meter = &self.meter;
        match name {
            "sort" => meter.list(meter.sort(keyed, reverse)?),
            "unique" => {
                let mut kept: Vec<(Value, Value)> = Vec::new();
                'items: for (key, item) in keyed {
                    for (found, _) in &kept {
                        if meter.equal(found, &key)? {
                            continue 'items;
                        }
                    }
                    kept.push((key, item));
                }
                meter.sequence(SequenceKind::Generator, kept.into_iter().map(|(_, item)| item).collect())
            }
            _ => {
                let mut keyed = keyed.into_iter();
                let Some(mut best) = keyed.next() else { return Ok(Value::Undefined(0)) };
                for candidate in keyed {
                    let order = meter.compare(&candidate.0, &best.0)?;
                    if if name == "min" { order.is_lt() } else { order.is_gt() } {
                        best = candidate;
                    }
                }
                Ok(best.1)
            }
        }
    }

    fn group_by(&self, items: Vec<Value>, given: &mut Given<'_>) -> Result<Value> {
        let meter = &self.meter;
        let path = given.require(meter, 0, "attribute")?;
        let default = given.take(1, "default");
        let case_sensitive = given.truth(2, "case_sensitive", false);
        let mut keyed = Vec::with_capacity(items.len());
        for item in items {
            let mut key = self.at_path(&item, &path)?;
            if let (Value::Undefined(_), Some(default)) = (&key, &default) {
                key = default.clone();
            }
            let pair = meter.sequence(SequenceKind::Tuple, vec![key.clone(), item])?;
            keyed.push((self.fold_case(&key, case_sensitive)?, pair));
        }
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for pair in meter.sort(keyed, false)? {
            let Value::Sequence(pair) = pair else { continue };
            let (key, item) = (pair.items[0].clone(), pair.items[1].clone());
            match groups.last_mut() {
                Some((found, items))
                    if meter
                        .equal(&self.fold_case(found, case_sensitive)?, &self.fold_case(&key, case_sensitive)?)? =>
                {
                    items.push(item);
                }
                _ => groups.push((key, vec![item])),
            }
        }
        let mut out = Vec::with_capacity(groups.len());
        for (key, items) in groups {
            out.push(meter.sequence(SequenceKind::Tuple, vec![key, meter.list(items)?])?);
        }
        meter.list(out)
    }

    /// `batch`: lists of `n` items. `slice`: `n` lists of about the same length.
    fn chunks(&self, name: &str, items: &[Value], n: usize, filler: Option<Value>) -> Result<Value> {
        let meter = &self.meter;
        if n == 0 {
            return meter.error(format!("`{name}` takes a number above 0"));
        }
        let _claim = meter.claim(n.saturating_mul(size_of::<Value>()))?;
        let mut lists = Vec::new();
        if name == "batch" {
            for chunk in items.chunks(n) {
                let mut chunk = chunk.to_vec();
                if let Some(filler) = &filler {
                    chunk.resize(n, filler.clone());
                }
                lists.push(meter.list(chunk)?);
            }
        } else {
            let (len, longer) = (items.len() / n, items.len() % n);
            let mut from = 0;
            for at in 0..n {
                let to = from + len + usize::from(at < longer);
                let mut part = items[from..to].to_vec();
                if at >= longer
                    && longer > 0
                    && let Some(filler) = &filler
                {
                    part.push(filler.clone());
                }
                lists.push(meter.list(part)?);
                from = to;
            }
        }
        meter.sequence(SequenceKind::Generator, lists)
    }

    /// `map`, `select`, `reject` and the two by attribute.
    pub(super) fn per_item(&mut self, name: &str, value: Value, mut given: Given<'_>) -> Result<Value> {
        let meter = self.meter.clone();
        // A false value has no items here; that includes none.
        let items = if value.is_true() { meter.items(&value)? } else { Vec::new() };
        let _claim = meter.claim(items.len() * size_of::<Value>())?;
        let mut out = Vec::with_capacity(items.len());
        let mut arguments = std::mem::take(&mut given.positional).into_iter().flatten();
        let mut named: Vec<(String, Value)> =
            given.named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if let (Some((_, path)), "map") = (named.iter().find(|(name, _)| name == "attribute"), name) {
            let path = path.clone();
            let default = named.iter().find(|(name, _)| name == "default").map(|(_, value)| value.clone());
            named.retain(|(name, _)| name != "attribute" && name != "default");
            if arguments.next().is_some() || !named.is_empty() {
                return meter.error("`map` takes an attribute, or a filter with its arguments");
            }
            for item in &items {
                out.push(match (self.at_path(item, &path)?, &default) {
                    (Value::Undefined(_), Some(default)) => default.clone(),
                    (value, _) => value,
                });
            }
            return meter.sequence(SequenceKind::Generator, out);
        }
        let path = match name {
            "selectattr" | "rejectattr" => match arguments.next() {
                Some(path) => Some(path),
                None => return meter.error(format!("`{name}` needs an attribute")),
            },
            _ => None,
        };
        let function = arguments.next();
        let function = match &function {
            None if name == "map" => return meter.error("`map` needs an attribute or a filter"),
            None => None,
            Some(function) => match function.as_str() {
                Some(function) => Some(function),
                None => return meter.error(format!("`{name}` takes the name of a filter or a test")),
            },
        };
        let arguments: Vec<Value> = arguments.collect();
        for item in items {
            let subject = match &path {
                Some(path) => self.at_path(&item, path)?,
                None => item.clone(),
            };
            let Some(function) = function else {
                if subject.is_true() != name.starts_with("reject") {
                    out.push(item);
                }
                continue;
            };
            let given = Given {
                callee: function,
                positional: arguments.iter().cloned().map(Some).collect(),
                named: named.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
            };
            if name == "map" {
                out.push(self.nested(|renderer| renderer.filter(function, subject, given))?);
            } else if meter.test(function, &subject, given)? != name.starts_with("reject") {
                out.push(item);
            }
        }
        meter.sequence(SequenceKind::Generator, out)
    }
}
