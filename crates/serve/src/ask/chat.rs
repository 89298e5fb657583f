//! `/v1/chat/completions`.

use koan_data::Message;
use serde_json::{Map, Value};

use super::{Common, Fields, MAX_TOP, wrong_type};
use crate::error::ApiError;

/// Most messages of a conversation.
const MAX_MESSAGES: usize = 4096;
/// Most tools of a request.
const MAX_TOOLS: usize = 128;

/// A request for the next message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatAsk {
    pub(crate) common: Common,
    pub(crate) messages: Vec<Message>,
    /// What the chat template reads besides: `tools`, `chat_template_kwargs`.
    pub(crate) row: Map<String, Value>,
    /// Whether the model may call tools.
    pub(crate) has_tools: bool,
    /// How many likeliest tokens are listed, where log-probabilities are wanted.
    pub(crate) top: Option<usize>,
    /// What the reply must be.
    pub(crate) format: Format,
}

/// What a reply must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Format {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema(Value),
}

impl ChatAsk {
    /// Reads a request.
    pub(crate) fn read(map: Map<String, Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::new(map);
        let messages = messages(fields.required("messages")?)?;
        let mut common = Common::read(&mut fields)?;
        // The new name, then the old.
        let most = u32::MAX as usize;
        let new = fields.count("max_completion_tokens", 1, most)?;
        let old = fields.count("max_tokens", 1, most)?;
        common.max_tokens = new.or(old);
        let log_probs = fields.flag("logprobs")?;
        let top = fields.count("top_logprobs", 0, MAX_TOP)?;
        if top.is_some_and(|top| top > 0) && !log_probs {
            return Err(ApiError::wrong("top_logprobs", "'top_logprobs' needs 'logprobs' to be true."));
        }
        let mut row = Map::new();
        if let Some(kwargs) = fields.object("chat_template_kwargs")? {
            row.insert("chat_template_kwargs".to_owned(), kwargs.into());
        }
        let has_tools = tools(&mut fields, &mut row)?;
        let format = format(&mut fields)?;
        fields.only("modalities", |value| *value == serde_json::json!(["text"]))?;
        for old in ["functions", "function_call"] {
            fields.only(old, |_| false)?;
        }
        fields.finish()?;
        Ok(Self { common, messages, row, has_tools, top: log_probs.then(|| top.unwrap_or(0)), format })
    }
}

/// The conversation.
fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let Value::Array(items) = value else { return Err(wrong_type("messages", "a list of messages", &value)) };
    if items.is_empty() {
        return Err(ApiError::wrong(
            "messages",
            "Invalid 'messages': an empty list; at least one message is needed.",
        )
        .with_code("empty_array"));
    }
    if items.len() > MAX_MESSAGES {
        let message = format!("Invalid 'messages': {} messages, at most {MAX_MESSAGES}.", items.len());
        return Err(ApiError::wrong("messages", message).with_code("array_above_max_length"));
    }
    items.into_iter().enumerate().map(|(i, item)| message(i, item)).collect()
}

/// Message number `i`, from 0.
fn message(i: usize, item: Value) -> Result<Message, ApiError> {
    let param = format!("messages[{i}]");
    if !item.is_object() {
        return Err(wrong_type(&param, "an object", &item));
    }
    let wrong = |what: String| ApiError::wrong(param.clone(), format!("Invalid '{param}': {what}."));
    let mut message: Message = serde_json::from_value(item).map_err(|error| wrong(error.to_string()))?;
    if message.role == "developer" {
        "system".clone_into(&mut message.role);
    }
    // What answers have and no template reads.
    for field in ["refusal", "annotations", "audio", "function_call"] {
        let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if let Some(value) = message.other.remove(field).filter(|value| !empty(value)) {
            let _ = value;
            return Err(wrong(format!("'{field}' is not supported")));
        }
    }
    message.other.retain(|_, value| !value.is_null());
    if let Some(calls) = message.other.get_mut("tool_calls") {
        read_arguments(calls);
    }
    Ok(message)
}

/// Templates read the arguments of calls as objects, where the API has them as JSON in a text.
fn read_arguments(calls: &mut Value) {
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
        else {
            continue;
        };
        if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok())
        {
            *arguments = object.into();
        }
    }
}

/// Puts the tools into `row`; whether there are any that may be called.
fn tools(fields: &mut Fields, row: &mut Map<String, Value>) -> Result<bool, ApiError> {
    let tools = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(wrong_type("tools", "a list of tools", &other)),
    };
    fields.ignore(&["parallel_tool_calls"]);
    let choice = fields.take("tool_choice");
    if tools.len() > MAX_TOOLS {
        let message = format!("Invalid 'tools': {} tools, at most {MAX_TOOLS}.", tools.len());
        return Err(ApiError::wrong("tools", message).with_code("array_above_max_length"));
    }
    for (i, tool) in tools.iter().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or("function");
        let name = tool.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
        if kind != "function" || name.is_none() {
            let message = format!(
                "Invalid 'tools[{i}]': a tool of type 'function' with a 'function' that has a 'name' is expected."
            );
            return Err(ApiError::wrong(format!("tools[{i}]"), message));
        }
    }
    match choice.as_ref().map(|choice| choice.as_str()) {
        None | Some(Some("auto")) => {}
        Some(Some("none")) => return Ok(false),
        _ => {
            let message = "'tool_choice' other than 'auto' and 'none' is not supported by this server: the model decides whether it calls a tool.";
            return Err(ApiError::unsupported("tool_choice", message));
        }
    }
    let has_tools = !tools.is_empty();
    if has_tools {
        row.insert("tools".to_owned(), tools.into());
    }
    Ok(has_tools)
}

/// What the reply must be.
fn format(fields: &mut Fields) -> Result<Format, ApiError> {
    let Some(map) = fields.object("response_format")? else { return Ok(Format::Text) };
    let mut map = Fields::new(map);
    let kind = map.text("type")?.unwrap_or_default();
    match &*kind {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let schema = map.object("json_schema")?.and_then(|mut named| named.remove("schema"));
            let missing = || {
                ApiError::wrong(
                    "response_format",
                    "Missing required parameter: 'response_format.json_schema.schema'.",
                )
                .with_code("missing_required_parameter")
            };
            schema.filter(Value::is_object).map(Format::JsonSchema).ok_or_else(missing)
        }
        _ => {
            let message = "'response_format' has a 'type' that is not supported by this server: text, json_object and json_schema are.";
            Err(ApiError::unsupported("response_format", message))
        }
    }
}
