//! `/v1/completions`.

use serde_json::{Map, Value};

use super::{Common, Fields, wrong_type};
use crate::error::ApiError;

/// Most prompts of a request.
const MAX_PROMPTS: usize = 256;
/// Most likeliest tokens that are listed in the place of one.
const MAX_TOP: usize = 5;
/// New tokens of a request that does not say.
const DEFAULT_TOKENS: usize = 16;

/// A text to go on from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// A request for completions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionAsk {
    pub(crate) common: Common,
    pub(crate) prompts: Vec<Prompt>,
    /// Whether the answer begins with the prompt.
    pub(crate) echo: bool,
    /// How many likeliest tokens are listed, where log-probabilities are wanted.
    pub(crate) top: Option<usize>,
}

impl CompletionAsk {
    /// Reads a request.
    pub(crate) fn read(map: Map<String, Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::new(map);
        let prompts = prompts(fields.required("prompt")?)?;
        let mut common = Common::read(&mut fields)?;
        let echo = fields.flag("echo")?;
        // Nothing but the prompt's own log-probabilities may be wanted.
        let least = usize::from(!echo);
        let max_tokens = fields.count("max_tokens", least, u32::MAX as usize)?;
        common.max_tokens = Some(max_tokens.unwrap_or(DEFAULT_TOKENS));
        let top = match fields.take("logprobs") {
            None | Some(Value::Bool(false)) => None,
            Some(Value::Bool(true)) => Some(1),
            Some(value) => {
                let mut one = Fields::new(Map::from_iter([("logprobs".to_owned(), value)]));
                one.count("logprobs", 0, MAX_TOP)?
            }
        };
        if let Some(best_of) = fields.count("best_of", 1, super::MAX_CHOICES)?
            && best_of != common.n
        {
            let message = "'best_of' other than 'n' is not supported by this server.";
            return Err(ApiError::unsupported("best_of", message));
        }
        fields.only("suffix", |value| value.as_str() == Some(""))?;
        fields.finish()?;
        Ok(Self { common, prompts, echo, top })
    }
}

/// A text, a list of texts, the tokens of one, or a list of those.
fn prompts(value: Value) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, a list of strings, a list of tokens or a list of lists of tokens";
    let prompts = match value {
        Value::String(text) => vec![Prompt::Text(text)],
        Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![tokens(&items)?],
        Value::Array(items) => {
            let one = |item: Value| match item {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(items) => tokens(&items),
                other => Err(wrong_type("prompt", expected, &other)),
            };
            items.into_iter().map(one).collect::<Result<_, _>>()?
        }
        other => return Err(wrong_type("prompt", expected, &other)),
    };
    match prompts.len() {
        0 => {
            Err(ApiError::wrong("prompt", "Invalid 'prompt': an empty list; at least one prompt is needed.")
                .with_code("empty_array"))
        }
        n if n > MAX_PROMPTS => {
            let message = format!("Invalid 'prompt': {n} prompts, at most {MAX_PROMPTS}.");
            Err(ApiError::wrong("prompt", message).with_code("array_above_max_length"))
        }
        _ => Ok(prompts),
    }
}

fn tokens(items: &[Value]) -> Result<Prompt, ApiError> {
    let token = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
    let wrong = |item: &Value| {
        let shown: String = item.to_string().chars().take(60).collect();
        ApiError::wrong("prompt", format!("Invalid 'prompt': {shown} is not a token."))
            .with_code("invalid_type")
    };
    items
        .iter()
        .map(|item| token(item).ok_or_else(|| wrong(item)))
        .collect::<Result<_, _>>()
        .map(Prompt::Tokens)
}
