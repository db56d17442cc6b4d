//! Reading the fields of a JSON object from a client: each is taken once, and what is left over at the end is an error.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use tl_chat::json_kind;

use super::error::{ApiError, ApiResult};

/// An object of which fields are taken.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object is, for messages: empty, or a path with a dot behind it.
    place: String,
}

impl Fields {
    /// The fields of a body.
    pub(crate) fn new(map: Map<String, Value>) -> Fields {
        Fields { map, place: String::new() }
    }

    /// The fields of an object within a body.
    ///
    /// # Errors
    /// Another value than an object.
    pub(crate) fn within(value: Value, place: &str) -> ApiResult<Fields> {
        match value {
            Value::Object(map) => Ok(Fields { map, place: format!("{place}.") }),
            other => Err(ApiError::param(place, format_args!("expected an object, found {}", json_kind(&other)))),
        }
    }

    /// A field's name with the place of its object.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// Takes a field; null is no field.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> ApiError {
        let found = if found.is_number() { found.to_string() } else { json_kind(found).to_owned() };
        ApiError::param(&self.name(name), format_args!("expected {expected}, found {found}"))
    }

    /// Takes a number within a range.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> ApiResult<Option<f32>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        number.map(|number| Some(number as f32)).ok_or_else(|| self.wrong(name, &expected(), &value))
    }

    /// Takes a whole number within a range.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<usize>) -> ApiResult<Option<usize>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        let expected = || match range.end() {
            &usize::MAX => format!("a whole number of at least {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        let number = number.filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| self.wrong(name, &expected(), &value))
    }

    /// Takes true or false.
    pub(crate) fn truth(&mut self, name: &str) -> ApiResult<Option<bool>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "true or false", &value))
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, name: &str) -> ApiResult<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    /// Takes a text that must be there.
    pub(crate) fn required_text(&mut self, name: &str) -> ApiResult<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// Takes a list.
    pub(crate) fn list(&mut self, name: &str) -> ApiResult<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(name, "a list", &other)),
        }
    }

    /// Takes one text or a list of them.
    pub(crate) fn texts(&mut self, name: &str) -> ApiResult<Vec<String>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    other => Err(self.wrong(name, "a list of texts", &other)),
                })
                .collect(),
            Some(other) => Err(self.wrong(name, "a text or a list of texts", &other)),
        }
    }

    /// The error for a field that must be there.
    pub(crate) fn missing(&self, name: &str) -> ApiError {
        ApiError::param(&self.name(name), "it is missing")
    }

    /// Takes a parameter that is not supported, and is neutral only with these values.
    ///
    /// # Errors
    /// Another value.
    pub(crate) fn neutral(&mut self, name: &str, values: &[Value]) -> ApiResult<()> {
        match self.take(name) {
            Some(value) if !values.contains(&value) => {
                let name = self.name(name);
                Err(ApiError::param(&name, "this server does not support this value; leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The fields that were not taken.
    pub(crate) fn end(self) -> ApiResult<()> {
        let left: Option<(&String, &Value)> = self.map.iter().find(|(_, value)| !value.is_null());
        match left {
            Some((name, _)) => {
                let name: String = self.name(name).chars().take(100).collect();
                Err(ApiError::param(&name, "this server does not know this parameter; leave it out"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields() -> Fields {
        let Value::Object(map) = json!({"n": 3, "x": 0.5, "t": "a", "l": ["a", "b"], "b": true, "none": null}) else {
            panic!("no object");
        };
        Fields::new(map)
    }

    #[test]
    fn what_is_taken() {
        let mut f = fields();
        assert_eq!(f.integer("n", 1..=3), Ok(Some(3)));
        assert_eq!(f.number("x", 0.0..=1.0), Ok(Some(0.5)));
        assert_eq!(f.text("t"), Ok(Some("a".to_owned())));
        assert_eq!(f.texts("l"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(f.truth("b"), Ok(Some(true)));
        assert_eq!((f.truth("none"), f.text("other")), (Ok(None), Ok(None)));
        assert_eq!(f.end(), Ok(()));
    }

    #[test]
    fn what_is_wrong() {
        let check = |read: &dyn Fn(&mut Fields) -> Option<ApiError>, expected: &str| {
            let error = read(&mut fields()).map(|error| error.json().to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{error}: {expected}");
        };
        check(&|f| f.integer("n", 4..=5).err(), "n: expected a whole number from 4 to 5, found 3");
        check(&|f| f.integer("x", 0..=usize::MAX).err(), "expected a whole number of at least 0, found 0.5");
        check(&|f| f.number("x", 1.0..=2.0).err(), "expected a number from 1 to 2, found 0.5");
        check(&|f| f.number("t", 1.0..=2.0).err(), "found a text");
        check(&|f| f.texts("n").err(), "a text or a list of texts");
        check(&|f| f.neutral("n", &[json!(1)]).err(), "does not support");
        check(&|f| f.required_text("none").err(), "missing");
        check(&|f| std::mem::replace(f, fields()).end().err(), "does not know");
    }
}
