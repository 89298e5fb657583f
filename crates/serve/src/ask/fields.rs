//! The fields of a request, each read once. What is left was not understood, and is refused by its name.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Most characters of a name that an error repeats.
const SHOWN_CHARS: usize = 60;

/// The fields of a JSON object that are not read yet.
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { map }
    }

    /// The value of `name`; one that is null is absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// The value of a field that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Value, ApiError> {
        self.take(name).ok_or_else(|| {
            ApiError::wrong(name, format!("Missing required parameter: '{name}'."))
                .with_code("missing_required_parameter")
        })
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(name, "a boolean", &other)),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong_type(name, "an object", &other)),
        }
    }

    /// A number from `least` to `most`.
    pub(crate) fn decimal(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a decimal", &value))?;
        let bounds = ("decimal_below_min_value", "decimal_above_max_value");
        within(name, &number, &value, &least, &most, bounds)?;
        Ok(Some(number as f32))
    }

    /// An integer from `least` to `most`.
    pub(crate) fn integer(&mut self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let bounds = ("integer_below_min_value", "integer_above_max_value");
        let number = match (value.as_i64(), value.as_f64()) {
            (Some(number), _) => number,
            // As some clients write them.
            (None, Some(number)) if number.fract() == 0.0 => {
                within(name, &number, &value, &(least as f64), &(most as f64), bounds)?;
                number as i64
            }
            _ => return Err(wrong_type(name, "an integer", &value)),
        };
        within(name, &number, &value, &least, &most, bounds)?;
        Ok(Some(number))
    }

    /// As [`integer`](Self::integer), of a count.
    pub(crate) fn count(&mut self, name: &str, least: usize, most: usize) -> Result<Option<usize>, ApiError> {
        Ok(self.integer(name, least as i64, most as i64)?.map(|n| n as usize))
    }

    /// Passes over fields that change nothing here.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Passes over a field whose value means what happens anyway; another value is refused.
    pub(crate) fn only(&mut self, name: &str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !is_neutral(&value) => {
                Err(ApiError::unsupported(name, format!("'{name}' is not supported by this server.")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what was not read.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        self.map.retain(|_, value| !value.is_null());
        let Some((name, _)) = self.map.iter().next() else { return Ok(()) };
        let name: String = name.chars().take(SHOWN_CHARS).collect();
        let message = format!("Unrecognized or unsupported request argument supplied: '{name}'.");
        Err(ApiError::wrong(name, message).with_code("unknown_parameter"))
    }
}

/// A value of the wrong type.
pub(crate) fn wrong_type(name: &str, expected: &str, value: &Value) -> ApiError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, but got {got} instead.");
    ApiError::wrong(name, message).with_code("invalid_type")
}

fn within<T: PartialOrd + Display>(
    name: &str,
    number: &T,
    shown: &Value,
    least: &T,
    most: &T,
    (below, above): (&'static str, &'static str),
) -> Result<(), ApiError> {
    let wrong = |words: String, code| {
        Err(ApiError::wrong(name, format!("Invalid '{name}': {shown} is {words}.")).with_code(code))
    };
    if number < least {
        return wrong(format!("below the minimum of {least}"), below);
    }
    if number > most {
        return wrong(format!("above the maximum of {most}"), above);
    }
    Ok(())
}
