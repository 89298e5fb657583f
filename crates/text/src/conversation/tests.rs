//! What is learned of replies, in the kinds of templates that models come with.

use serde_json::json;

use super::*;
use crate::tokenizer::tests::{special, with_config};

/// Tokens that the templates of `tests/chat_templates` write, and one that ends texts.
const SPECIAL: [&str; 20] = [
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<end_of_turn>",
    "<start_of_turn>",
    "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>",
    "<|user|>",
    "<|assistant|>",
    "<|start|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<SPECIAL_12>",
    "<SPECIAL_11>",
];

/// The tokenizer of a model whose template is `source` and whose texts end with `eos`.
fn model(source: &str, eos: &str) -> Tokenizer {
    let tokens = SPECIAL.iter().enumerate().map(|(i, token)| special(400 + i, token)).collect();
    with_config(tokens, &json!({"eos_token": eos, "bos_token": "<s>", "chat_template": source}))
}

macro_rules! family {
    ($name:literal) => {
        include_str!(concat!("../../tests/chat_templates/", $name, ".jinja"))
    };
}

const QWEN3: &str = family!("qwen3");
const QWEN3_THINKING: &str = family!("qwen3_thinking");
const DEEPSEEK: &str = family!("deepseek_r1");
const NEMOTRON: &str = family!("nemotron");
const LLAMA: &str = family!("llama3");
const MISTRAL: &str = family!("mistral");
const GEMMA: &str = family!("gemma");
const PHI: &str = family!("phi4");
const SMOLLM3: &str = family!("smollm3");
const GLM: &str = family!("glm");
const GPT_OSS: &str = family!("gpt_oss");
/// ChatML for a model whose texts end with another token.
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/// One that marks turns by names alone.
const PLAIN: &str = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

fn turns(json: &Value) -> Vec<Turn> {
    serde_json::from_value(json.clone()).expect("messages")
}

/// What is learned of the last message: the text of the prompt's end, and that of the tokens.
fn learned(tokenizer: &Tokenizer, messages: &Value, row: &Value) -> Result<Option<(String, String)>, String> {
    let turns = turns(messages);
    let last = turns.len() - 1;
    let row = row.as_object().cloned().unwrap_or_default();
    let conversation = Conversation::new(tokenizer, turns.clone(), &row).map_err(|e| e.to_string())?;
    let stops = Vec::from_iter(tokenizer.eos());
    let reply = conversation.expect("a template").reply(last, &stops).map_err(|e| e.to_string())?;
    let Reply::Learned { context, tokens } = reply else { return Ok(None) };
    // The prompt is the one of generation, to the token.
    let asked =
        Conversation::new(tokenizer, turns[..last].to_vec(), &row).expect("again").expect("a template");
    assert_eq!(asked.prompt().expect("a prompt"), context);
    // Generation stops at the token that ends it, and not before.
    let end = tokenizer.end_of_turn(&stops);
    let stops: Vec<u32> = stops.into_iter().chain(end).collect();
    assert!(stops.contains(tokens.last().expect("tokens")) || tokenizer.is_special(tokens[tokens.len() - 1]));
    assert!(!tokens[..tokens.len() - 1].iter().any(|id| stops.contains(id)), "{tokens:?}");
    let text = |ids: &[u32]| tokenizer.decode(ids, false).expect("text");
    let context = text(&context);
    let tail = context.char_indices().rev().nth(24).map_or(0, |(at, _)| at);
    Ok(Some((context[tail..].to_owned(), text(&tokens))))
}

fn user() -> Value {
    json!({"role": "user", "content": "6 * 7?"})
}

fn assistant(fields: &Value) -> Value {
    let mut message = json!({"role": "assistant", "content": ""});
    for (name, value) in fields.as_object().expect("an object") {
        message[name] = value.clone();
    }
    message
}

#[test]
fn a_reply_is_learned_as_it_would_be_generated() {
    let plain = json!({"content": "42"});
    let within = json!({"content": "<think>\nsix sevens\n</think>\n\n42"});
    let apart = json!({"content": "42", "reasoning_content": "six sevens"});
    let thinks = "six sevens\n</think>\n\n42";
    for (name, source, eos, reply, expected) in [
        // The template writes the thinking itself.
        ("qwen3", QWEN3, "<|im_end|>", &within, format!("<think>\n{thinks}<|im_end|>")),
        ("qwen3", QWEN3, "<|im_end|>", &apart, format!("<think>\n{thinks}<|im_end|>")),
        ("qwen3", QWEN3, "<|endoftext|>", &apart, format!("<think>\n{thinks}<|im_end|>")),
        ("qwen3", QWEN3, "<|im_end|>", &plain, "<think>\n\n</think>\n\n42<|im_end|>".to_owned()),
        ("glm", GLM, "<|endoftext|>", &within, "\n<think>six sevens</think>\n42<|endoftext|>".to_owned()),
        ("glm", GLM, "<|endoftext|>", &apart, "\n<think>six sevens</think>\n42<|endoftext|>".to_owned()),
        (
            "gpt_oss", GPT_OSS, "<|return|>", &apart,
            "<|channel|>analysis<|message|>six sevens<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>".to_owned(),
        ),
        ("gpt_oss", GPT_OSS, "<|return|>", &plain, "<|channel|>final<|message|>42<|return|>".to_owned()),
        // The prompt opens the thinking, and the template keeps it or cuts it.
        ("qwen3_thinking", QWEN3_THINKING, "<|im_end|>", &within, format!("{thinks}<|im_end|>")),
        ("qwen3_thinking", QWEN3_THINKING, "<|im_end|>", &apart, format!("{thinks}<|im_end|>")),
        ("deepseek", DEEPSEEK, "<｜end▁of▁sentence｜>", &within, format!("{thinks}<｜end▁of▁sentence｜>")),
        ("deepseek", DEEPSEEK, "<｜end▁of▁sentence｜>", &apart, format!("{thinks}<｜end▁of▁sentence｜>")),
        ("nemotron", NEMOTRON, "<SPECIAL_12>", &within, format!("{thinks}\n<SPECIAL_12>")),
        ("nemotron", NEMOTRON, "<SPECIAL_12>", &apart, format!("{thinks}\n<SPECIAL_12>")),
        // The template knows no thinking: content is content.
        ("smollm3", SMOLLM3, "<|im_end|>", &within, format!("<think>\n{thinks}<|im_end|>")),
        ("smollm3", SMOLLM3, "<|im_end|>", &plain, "42<|im_end|>".to_owned()),
        ("smollm3", SMOLLM3, "<|im_end|>", &apart, format!("<think>\n{thinks}<|im_end|>")),
        ("llama", LLAMA, "<|eot_id|>", &within, format!("<think>\n{thinks}<|eot_id|>")),
        ("llama", LLAMA, "<|endoftext|>", &plain, "42<|eot_id|>".to_owned()),
        ("mistral", MISTRAL, "</s>", &plain, " 42</s>".to_owned()),
        ("mistral", MISTRAL, "</s>", &within, format!(" <think>\n{thinks}</s>")),
        ("gemma", GEMMA, "</s>", &plain, "42<end_of_turn>".to_owned()),
        ("phi", PHI, "<|im_end|>", &plain, "42<|im_end|>".to_owned()),
        ("phi", PHI, "<|endoftext|>", &within, format!("<think>\n{thinks}<|im_end|>")),
        ("chatml", CHATML, "</s>", &plain, "42<|im_end|>".to_owned()),
        ("plain", PLAIN, "</s>", &plain, " 42</s>".to_owned()),
    ] {
        let tokenizer = model(source, eos);
        let got = learned(&tokenizer, &json!([user(), assistant(reply)]), &json!({}));
        let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got.map(|(_, text)| text), Some(expected), "{name}, {reply}");
    }
}

/// However the data write thinking, one opening and one end are learned.
#[test]
fn thinking_in_any_form_has_one_opening_and_one_end() {
    for (source, eos, opens) in [
        (QWEN3_THINKING, "<|im_end|>", true),
        (DEEPSEEK, "<｜end▁of▁sentence｜>", true),
        (NEMOTRON, "<SPECIAL_12>", true),
        (QWEN3, "<|im_end|>", false),
        (CHATML, "<|im_end|>", false),
    ] {
        let tokenizer = model(source, eos);
        for reply in [
            json!({"content": "<think>\nsix sevens\n</think>\n\n42"}),
            json!({"content": "<think>six sevens</think>42"}),
            json!({"content": "\n<think>\n\nsix\n\nsevens</think>\n42"}),
            json!({"content": "<think>6</think>6"}),
            json!({"content": "<think>think</think>42"}),
            json!({"content": "<think>six sevens</think>\n\nthe tag `</think>` ends thinking"}),
            json!({"content": "42", "reasoning_content": "\nsix sevens\n"}),
            json!({"content": "42", "reasoning": "six sevens"}),
            json!({"content": "42", "thinking": "42"}),
            json!({"content": "six sevens", "reasoning_content": "six sevens"}),
        ] {
            if source == CHATML
                && (reply.get("content") == Some(&json!("42")) || reply.get("reasoning_content").is_some())
            {
                continue; // refused, below
            }
            let (context, text) = learned(&tokenizer, &json!([user(), assistant(&reply)]), &json!({}))
                .expect("learned")
                .expect("a reply");
            let whole = format!("{context}{text}");
            assert_eq!(whole.matches("<think>").count(), 1, "{whole:?}");
            assert!(whole.contains("</think>"), "{whole:?}");
            assert_eq!(context.trim_end().ends_with("<think>"), opens, "{whole:?}");
            let said = reply["content"].as_str().expect("content");
            let answer = said.split_once("</think>").map_or(said, |(_, answer)| answer).trim();
            let after = whole.split_once("</think>").expect("an end").1;
            if !answer.contains("</think>") {
                assert_eq!(after.split('<').next().expect("a part").trim(), answer, "{whole:?}");
            }
        }
    }
}

#[test]
fn what_the_model_would_never_generate_is_not_learned() {
    for source in [DEEPSEEK, NEMOTRON] {
        let tokenizer = model(source, "</s>");
        assert_eq!(
            learned(&tokenizer, &json!([user(), assistant(&json!({"content": "42"}))]), &json!({})),
            Ok(None)
        );
    }
    let apart = assistant(&json!({"content": "42", "reasoning_content": "six sevens"}));
    for source in [LLAMA, CHATML, GEMMA, PHI, MISTRAL] {
        let error =
            learned(&model(source, "</s>"), &json!([user(), apart]), &json!({})).expect_err("refused");
        assert!(error.contains("no place for the thinking of message 2"), "{error}");
    }
    // A prompt that says there is no thinking.
    let off = json!({"chat_template_kwargs": {"enable_thinking": false}});
    for source in [QWEN3, SMOLLM3] {
        let error = learned(&model(source, "</s>"), &json!([user(), apart]), &off).expect_err("refused");
        assert!(error.contains("thinking of message 2"), "{error}");
        let plain = json!([user(), assistant(&json!({"content": "42"}))]);
        let (_, text) =
            learned(&model(source, "<|im_end|>"), &plain, &off).expect("learned").expect("a reply");
        assert_eq!(text, "42<|im_end|>");
    }
}

/// Replies before the last are learned after the history that the template makes of those before them.
#[test]
fn history_is_what_the_template_makes_of_it() {
    let messages = json!([
        user(), assistant(&json!({"content": "42", "reasoning_content": "six sevens"})),
        {"role": "user", "content": "7 * 8?"}, assistant(&json!({"content": "<think>\nseven eights\n</think>\n\n56"})),
    ]);
    for (source, eos, history) in [
        (DEEPSEEK, "<｜end▁of▁sentence｜>", "<｜Assistant｜>42<｜end▁of▁sentence｜>"),
        (QWEN3, "<|im_end|>", "assistant\n42<|im_end|>"),
        (NEMOTRON, "<SPECIAL_12>", "Assistant\n42\n<SPECIAL_12>"),
    ] {
        let tokenizer = model(source, eos);
        let conversation =
            Conversation::new(&tokenizer, turns(&messages), &Map::new()).expect("one").expect("a template");
        for (i, thought) in [(1, "six sevens"), (3, "seven eights")] {
            let Reply::Learned { context, tokens } = conversation.reply(i, &[]).expect("learned") else {
                panic!("a reply");
            };
            let text = |ids: &[u32]| tokenizer.decode(ids, false).expect("text");
            assert!(text(&tokens).contains(thought), "{}", text(&tokens));
            assert!(!text(&context).contains("six sevens"), "{}", text(&context));
            assert_eq!(text(&context).contains(history), i == 3, "{}", text(&context));
        }
    }
}

#[test]
fn tools_and_their_calls_are_written_or_refused() {
    let call = json!({"type": "function", "function": {"name": "multiply", "arguments": {"b": 7, "a": 6}}});
    let tools = json!({"tools": [{"type": "function", "function": {"name": "multiply", "parameters": {"type": "object"}}}]});
    let asks = assistant(&json!({"tool_calls": [call]}));
    let result = json!({"role": "tool", "content": "42", "name": "multiply", "tool_call_id": "1"});
    let answers = assistant(&json!({"content": "It is 42.", "reasoning_content": "that was it"}));
    for (name, source, eos, expected) in [
        (
            "qwen3_thinking",
            QWEN3_THINKING,
            "<|im_end|>",
            "\n</think>\n\n\n<tool_call>\n{\"name\": \"multiply\", \"arguments\": {\"b\": 7, \"a\": 6}}\n</tool_call><|im_end|>",
        ),
        (
            "gpt_oss",
            GPT_OSS,
            "<|return|>",
            " to=functions.multiply<|channel|>commentary json<|message|>{\"b\": 7, \"a\": 6}<|call|>",
        ),
        (
            "mistral",
            MISTRAL,
            "</s>",
            "[TOOL_CALLS] [{\"name\": \"multiply\", \"arguments\": {\"b\": 7, \"a\": 6}}]</s>",
        ),
    ] {
        let tokenizer = model(source, eos);
        let got =
            learned(&tokenizer, &json!([user(), asks]), &tools).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got.map(|(_, text)| text).as_deref(), Some(expected), "{name}");
    }
    // The result of a call is a part of the prompt.
    let tokenizer = model(QWEN3_THINKING, "<|im_end|>");
    let (_, text) =
        learned(&tokenizer, &json!([user(), asks, result, answers]), &tools).expect("learned").expect("one");
    assert_eq!(text, "that was it\n</think>\n\nIt is 42.<|im_end|>");

    for (source, messages, row, what) in [
        (CHATML, json!([user(), asks]), json!({}), "the `tool_calls` of message 2"),
        (LLAMA, json!([user(), asks]), json!({}), "the `tool_calls` of message 2"),
        (CHATML, json!([user(), asks, result, answers]), json!({}), "the `tool_calls` of message 2"),
        (CHATML, json!([user(), assistant(&json!({"content": "42"}))]), tools.clone(), "`tools`"),
        (
            PHI,
            json!([user(), {"role": "tool", "content": "42"}, assistant(&json!({"content": "42"}))]),
            json!({}),
            "message 2, whose role is `tool`",
        ),
        (
            GPT_OSS,
            json!([user(), {"role": "system", "content": "Be brief."}, assistant(&json!({"content": "42"}))]),
            json!({}),
            "message 2, whose role is `system`",
        ),
    ] {
        let error = learned(&model(source, "</s>"), &messages, &row).expect_err(what);
        assert!(error.contains(&format!("leaves out {what}")), "{error}");
    }
    // Without a template.
    let none = crate::tokenizer::tests::tiny();
    for (messages, row) in
        [(json!([user(), asks]), json!({})), (json!([user(), answers]), json!({})), (json!([user()]), tools)]
    {
        let row = row.as_object().cloned().expect("an object");
        let error = Conversation::new(&none, turns(&messages), &row).expect_err("refused").to_string();
        assert!(error.contains("without a chat template"), "{error}");
    }
    assert!(Conversation::new(&none, turns(&json!([user()])), &Map::new()).expect("fine").is_none());
    for (field, value) in [("tools", json!(7)), ("tools", json!("x")), ("chat_template_kwargs", json!([]))] {
        let row = Map::from_iter([(field.to_owned(), value)]);
        let error =
            Conversation::new(&model(QWEN3, "</s>"), turns(&json!([user()])), &row).expect_err("refused");
        assert!(error.to_string().contains(field), "{error}");
    }
}
