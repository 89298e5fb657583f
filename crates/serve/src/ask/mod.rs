//! What is asked: requests, read and checked. What the API has and this server has not is refused by its name.

mod chat;
mod completion;
mod fields;

use koan_generate::Sampling;
use serde_json::{Map, Value};

pub(crate) use chat::{ChatAsk, Format};
pub(crate) use completion::{CompletionAsk, Prompt};
pub(crate) use fields::Fields;
use fields::wrong_type;

use crate::error::ApiError;

/// Most choices of a request.
pub const MAX_CHOICES: usize = 128;
/// Most stop strings of a request.
pub const MAX_STOPS: usize = 4;
/// Longest stop string, bytes.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most likeliest tokens that are listed in the place of one.
pub const MAX_TOP: usize = 20;
/// Most log-probabilities that an answer may hold: choices × tokens × (1 + those listed).
pub const MAX_LOG_PROBS: usize = 1 << 21;

/// What chat and completion requests have in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Common {
    /// The model's name; none: the first.
    pub(crate) model: Option<String>,
    /// Choices of each prompt.
    pub(crate) n: usize,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) top_k: usize,
    pub(crate) min_p: f32,
    pub(crate) seed: Option<u64>,
    pub(crate) stops: Vec<String>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stream: bool,
    /// Whether a stream ends with its usage.
    pub(crate) stream_usage: bool,
    /// Whether tokens that end a text are sampled over.
    pub(crate) ignore_eos: bool,
}

impl Common {
    /// Reads its fields.
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let model = fields.text("model")?;
        let n = fields.count("n", 1, MAX_CHOICES)?.unwrap_or(1);
        let temperature = fields.decimal("temperature", 0.0, 2.0)?.unwrap_or(1.0);
        let top_p = fields.decimal("top_p", 0.0, 1.0)?.unwrap_or(1.0);
        let top_k = fields.integer("top_k", -1, i64::from(u32::MAX))?.unwrap_or(0).max(0) as usize;
        let min_p = fields.decimal("min_p", 0.0, 1.0)?.unwrap_or(0.0);
        let seed = seed(fields)?;
        let stops = stops(fields.take("stop"))?;
        let stream = fields.flag("stream")?;
        let stream_usage = stream_usage(fields, stream)?;
        let ignore_eos = fields.flag("ignore_eos")?;
        for penalty in ["frequency_penalty", "presence_penalty"] {
            fields.only(penalty, |value| value.as_f64() == Some(0.0))?;
        }
        fields.only("repetition_penalty", |value| value.as_f64() == Some(1.0))?;
        fields.only("logit_bias", |value| value.as_object().is_some_and(Map::is_empty))?;
        fields.only("skip_special_tokens", |value| *value == Value::Bool(true))?;
        // Whose request it is, and what becomes of it elsewhere.
        fields.ignore(&[
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
        ]);
        Ok(Self {
            model,
            n,
            temperature,
            top_p,
            top_k,
            min_p,
            seed,
            stops,
            max_tokens: None,
            stream,
            stream_usage,
            ignore_eos,
        })
    }

    /// How tokens are sampled, with this seed.
    pub(crate) fn sampling(&self, seed: u64, max_new_tokens: usize, stop_ids: Vec<u32>) -> Sampling {
        let &Self { temperature, top_p, top_k, min_p, ignore_eos, .. } = self;
        let stop_ids = if ignore_eos { Vec::new() } else { stop_ids };
        Sampling { temperature, top_k, top_p, min_p, max_new_tokens, stop_ids, seed, ..Sampling::default() }
    }

    /// Refuses answers with more log-probabilities than are held for one.
    pub(crate) fn check_log_probs(choices: usize, tokens: usize, top: usize) -> Result<(), ApiError> {
        let held = choices.saturating_mul(tokens).saturating_mul(1 + top);
        if held <= MAX_LOG_PROBS {
            return Ok(());
        }
        let message = format!(
            "{choices} choices of up to {tokens} tokens with {top} likeliest tokens each are {held} log-probabilities, more than \
             {MAX_LOG_PROBS}: ask for fewer tokens, choices or likeliest tokens."
        );
        Err(ApiError::wrong("logprobs", message))
    }
}

/// What is wrong with a body as a request for chat, and as one for completions, in words; nothing is asked of a model.
///
/// # Errors
/// What is wrong.
pub fn check_request(body: &[u8]) -> [Result<(), String>; 2] {
    let chat = object(body).and_then(ChatAsk::read).map(|_| ());
    let completion = object(body).and_then(CompletionAsk::read).map(|_| ());
    [chat, completion].map(|checked| checked.map_err(|error| error.message))
}

/// A request's body, as an object.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let wrong = |what: String| {
        let message = format!("The body of the request is not a JSON object that can be read: {what}.");
        ApiError::invalid(axum::http::StatusCode::BAD_REQUEST, message)
    };
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(wrong("it is another value".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// A seed of 64 bits, with a sign or without.
fn seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    match fields.take("seed") {
        None => Ok(None),
        Some(value) => match value.as_u64().or(value.as_i64().map(|seed| seed as u64)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(wrong_type("seed", "an integer of 64 bits", &value)),
        },
    }
}

fn stops(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let stops = match value {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => stops
            .into_iter()
            .map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                other => Err(wrong_type("stop", "a string or a list of strings", &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("stop", "a string or a list of strings", &other)),
    };
    if stops.len() > MAX_STOPS {
        let message = format!("Invalid 'stop': {} sequences, at most {MAX_STOPS}.", stops.len());
        return Err(ApiError::wrong("stop", message).with_code("array_above_max_length"));
    }
    if let Some(long) = stops.iter().find(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("Invalid 'stop': a text of {} bytes, at most {MAX_STOP_BYTES}.", long.len());
        return Err(ApiError::wrong("stop", message).with_code("string_above_max_length"));
    }
    Ok(stops)
}

fn stream_usage(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(ApiError::wrong("stream_options", "'stream_options' needs 'stream' to be true."));
    }
    let mut options = Fields::new(options);
    let usage = options.flag("include_usage")?;
    options.ignore(&["include_obfuscation"]);
    options.finish().map(|()| usage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Any JSON, a little deep.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(|x| json!(x)),
            ".{0,8}".prop_map(Value::from),
            prop::sample::select(vec!["user", "text", "json_schema", "auto", "function"])
                .prop_map(Value::from),
        ];
        let names = || {
            prop::sample::select(vec![
                "role",
                "content",
                "type",
                "text",
                "function",
                "name",
                "arguments",
                "tool_calls",
                "schema",
                "json_schema",
                "include_usage",
            ])
        };
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names(), inner), 0..4).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_request_is_read_or_refused_whatever_it_holds(
            fields in prop::collection::vec((0..FIELDS.len(), values()), 0..6),
            own in any::<bool>(),
        ) {
            let mut map: Map<String, Value> = fields.into_iter().map(|(i, value)| (FIELDS[i].to_owned(), value)).collect();
            if own {
                map.insert("messages".into(), json!([{"role": "user", "content": "Hi"}]));
                map.insert("prompt".into(), json!("Hi"));
            }
            for refusal in check_request(Value::from(map).to_string().as_bytes()).into_iter().filter_map(Result::err) {
                prop_assert!(!refusal.is_empty());
            }
        }

        #[test]
        fn a_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check_request(&body);
        }
    }

    const FIELDS: [&str; 22] = [
        "messages",
        "prompt",
        "model",
        "n",
        "stop",
        "seed",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "response_format",
        "echo",
        "logit_bias",
        "chat_template_kwargs",
    ];

    #[test]
    fn limits_hold_to_the_last() {
        let with = |name: &str, value: Value| {
            let mut ask = json!({"messages": [{"role": "user", "content": "Hi"}]});
            ask[name] = value;
            check_request(ask.to_string().as_bytes())[0].clone()
        };
        assert_eq!(with("n", json!(MAX_CHOICES)), Ok(()));
        assert!(with("n", json!(MAX_CHOICES + 1)).is_err());
        assert_eq!(with("stop", json!(vec!["a"; MAX_STOPS])), Ok(()));
        assert_eq!(with("stop", json!("a".repeat(MAX_STOP_BYTES))), Ok(()));
        assert!(with("stop", json!("a".repeat(MAX_STOP_BYTES + 1))).is_err());
        assert_eq!(with("seed", json!(i64::MIN)), Ok(()));
        assert_eq!(with("seed", json!(u64::MAX)), Ok(()));
        assert!(with("seed", json!(1e30)).is_err());
        assert_eq!(with("temperature", json!(2)), Ok(()));
        assert_eq!(
            with("temperature", json!(2.01)),
            Err("Invalid 'temperature': 2.01 is above the maximum of 2.".into())
        );
    }
}
