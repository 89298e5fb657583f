//! Replies that must be JSON; thinking; calls of tools.

mod common;

use common::{Options, Served, TEMPLATE, content, user};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn schema(schema: Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "result", "strict": true, "schema": schema}})
}

#[test]
fn a_reply_is_json_by_its_schema_whatever_the_model_would_say() {
    let server = Served::start(Options { context: 1000, ..Options::default() });
    let result = schema(json!({
        "type": "object",
        "properties": {
            "answer": {"type": "integer", "minimum": 0, "maximum": 999},
            "unit": {"enum": ["apples", "pears"]},
            "sure": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        },
        "required": ["answer", "unit", "sure", "list"],
        "additionalProperties": false,
    }));
    let ask = |seed: u64, temperature: f64| {
        json!({"messages": user("As JSON."), "response_format": result, "n": 4, "seed": seed, "max_tokens": 240, "temperature": temperature,
            "top_p": 0.9})
    };
    for (seed, temperature) in [(1, 1.0), (2, 0.7), (3, 0.0)] {
        let answer = server.answer(CHAT, &ask(seed, temperature));
        for i in 0..4 {
            if answer["choices"][i]["finish_reason"] == "length" {
                continue; // white space is JSON too
            }
            let text = content(&answer, i);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(value["answer"].as_u64().is_some_and(|n| n < 1000), "{text}");
            assert!(value["unit"] == "apples" || value["unit"] == "pears", "{text}");
            assert!(
                value["sure"].is_boolean() && value["list"].as_array().is_some_and(|list| list.len() <= 3),
                "{text}"
            );
        }
        assert_eq!(
            server.answer(CHAT, &ask(seed, temperature))["choices"],
            answer["choices"],
            "same seed, same answer"
        );
    }
    let object = json!({"messages": user("As JSON."), "response_format": {"type": "json_object"}, "max_tokens": 30, "logprobs": true});
    let answer = server.answer(CHAT, &object);
    assert!(content(&answer, 0).trim_start().starts_with('{'), "{answer}");
}

#[test]
fn a_schema_that_cannot_be_held_to_is_refused() {
    let server = Served::start(Options::default());
    let deep = (0..60).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}));
    for (wrong, status) in [
        (json!({"type": "nonsense"}), 400),
        (json!({"$ref": "http://evil.example/schema.json"}), 400),
        // Found anywhere in the text, and never built as a whole.
        (json!({"type": "string", "pattern": "((((a{1,1000}){1,1000}){1,1000}){1,1000})"}), 200),
        (json!({"type": "string", "pattern": "("}), 400),
        (deep, 200),
    ] {
        let ask = json!({"messages": user("Hi"), "response_format": schema(wrong.clone()), "max_tokens": 3});
        let (got, answer) = server.ask(CHAT, &ask);
        assert_eq!(got, status, "{wrong}: {answer}");
        if status == 400 {
            assert_eq!(answer["error"]["param"], "response_format", "{answer}");
        }
    }
    server.answer(CHAT, &json!({"messages": user("Hi"), "max_tokens": 1}));
}

#[test]
fn thinking_is_told_apart() {
    let template =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|><think>\n";
    let server = Served::start(Options { template: Some(template), ..Options::default() });
    let answer = server.answer(
        CHAT,
        &json!({"messages": user("Hi"), "max_tokens": 20, "temperature": 0, "ignore_eos": true}),
    );
    let message = &answer["choices"][0]["message"];
    // The model never closes what the prompt opened: it is random.
    assert_eq!(message["content"], "");
    assert!(message["reasoning_content"].as_str().is_some_and(|thinking| !thinking.is_empty()), "{message}");
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 20);
}

#[test]
fn tools_reach_the_template_and_turns_that_called_them_come_back() {
    let server = Served::start(Options { context: 2000, ..Options::default() });
    let tool =
        json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    let messages = json!([
        {"role": "user", "content": "How is it in Oslo?"},
        {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]);
    let without = json!({"messages": messages, "max_tokens": 1});
    let mut with = without.clone();
    with["tools"] = tool;
    let tokens = |answer: Value| answer["usage"]["prompt_tokens"].as_u64().expect("a number");
    let (plain, told) = (tokens(server.answer(CHAT, &without)), tokens(server.answer(CHAT, &with)));
    assert!(told > plain + 60, "{plain} and {told} tokens");
    let mut none = with.clone();
    none["tool_choice"] = json!("none");
    assert_eq!(tokens(server.answer(CHAT, &none)), plain);
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "weather"}})] {
        let mut forced = with.clone();
        forced["tool_choice"] = choice;
        assert_eq!(server.ask(CHAT, &forced).0, 400);
    }
    assert!(TEMPLATE.contains("<tool_call>"));
}
