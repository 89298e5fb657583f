//! The parameters of a request.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use percent_encoding::percent_decode_str;

use crate::ViewError;

/// Most parameters of a request.
const MAX_PARAMETERS: usize = 512;
/// Most characters of a parameter that an error repeats.
const SHOWN_CHARS: usize = 60;

/// The parameters of a request, decoded, in their order. A `+` is a `+`.
#[derive(Debug)]
pub(crate) struct Parameters(pub(crate) Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parse(parts.uri.query().unwrap_or_default()).map_err(|why| (StatusCode::BAD_REQUEST, why))
    }
}

fn parse(query: &str) -> Result<Parameters, &'static str> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(Into::into);
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS + 1);
    let pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| Ok::<_, std::str::Utf8Error>((decode(key)?, decode(value)?)))
        .collect::<Result<_, _>>()
        .map_err(|_| "the query is not UTF-8")?;
    if pairs.len() > MAX_PARAMETERS {
        return Err("the query has too many parameters");
    }
    Ok(Parameters(pairs))
}

/// The error of a parameter whose value is not what was `expected`.
pub(crate) fn wrong(key: &str, value: &str, expected: &'static str) -> ViewError {
    let short = |text: &str| text.chars().take(SHOWN_CHARS).collect();
    ViewError::Query { key: short(key), value: short(value), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_in_their_order() {
        let Parameters(pairs) = parse("a=1&b=%C3%A4%26+c&flag&&a=2").expect("parameters");
        let expected = [("a", "1"), ("b", "ä&+c"), ("flag", ""), ("a", "2")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(parse("a=%FF").is_err());
        assert!(parse(&"a=1&".repeat(MAX_PARAMETERS)).is_ok());
        assert!(parse(&"a=1&".repeat(MAX_PARAMETERS + 1)).is_err());
    }
}
