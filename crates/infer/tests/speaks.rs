//! A model of random weights speaks: completions, stop rules and conversations.

use std::{collections::BTreeSet, fs, ops::ControlFlow, path::Path};

use koan_backend::Reference;
use koan_generate::{Drafts, Limits, Sampling};
use koan_infer::{Codec, Completed, Conversation, Engine, InferError, PromptStyle, Prompts, Work};
use koan_model::testkit;
use koan_text::RowTemplate;
use serde_json::json;

const LIMITS: Limits = Limits { sequences: 3, prompt_tokens: 100, new_tokens: 20, drafts: Drafts::Text };

fn model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    testkit::write_model(&dir.path().join("model"), 3).expect("written");
    dir
}

fn engine(dir: &Path) -> Engine<'static, Reference> {
    let codec = Codec::open(&dir.join("model"), PromptStyle::default()).expect("a model");
    Engine::load(&Reference, codec, 120, LIMITS, None).expect("loaded")
}

/// Completions of prompts that are written as lines.
fn complete(
    dir: &Path,
    prompts: &[serde_json::Value],
    sampling: &Sampling,
    stops: &[String],
) -> Vec<Completed> {
    let file = dir.join("prompts.jsonl");
    fs::write(&file, prompts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        .expect("written");
    let mut engine = engine(dir);
    let prompts = Prompts::read(&file.clone().into(), None, &engine.codec).expect("prompts");
    let mut all: Vec<Option<Completed>> = (0..prompts.len()).map(|_| None).collect();
    let done = &BTreeSet::new();
    let work = Work { prompts, samples: 2, sampling, stops, done };
    let each = |i: usize, completed| {
        assert!(all[i].replace(completed).is_none(), "each line once");
        ControlFlow::Continue(())
    };
    engine.complete(work, each).expect("drawn");
    all.into_iter().map(|line| line.expect("every line")).collect()
}

#[test]
fn a_template_makes_prompts_of_rows_which_keep_their_fields() {
    let dir = model();
    let engine = engine(dir.path());
    let file = dir.path().join("rows.jsonl");
    let read = |source: &str, rows: &[serde_json::Value]| {
        let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
        fs::write(&file, rows.join("\n")).expect("written");
        let template = RowTemplate::new(source).expect("a template");
        Prompts::read(&file.clone().into(), Some(&template), &engine.codec)
    };
    let row = json!({"prompt": "1+1", "draft": "3", "prompt_ids": [1], "completions": [{"text": "4"}], "note": "n"});
    let prompts = read("{{ prompt }}.{{ draft }}.{{ completions[0].text }}", &[row]).expect("prompts");
    assert_eq!(prompts.longest(), "1+1.3.4".len(), "a token is a character");
    let mut engine = self::engine(dir.path());
    let sampling = Sampling { max_new_tokens: 2, ..Sampling::default() };
    let done = &BTreeSet::new();
    let work = Work { prompts, samples: 1, sampling: &sampling, stops: &[], done };
    let mut line = None;
    let each = |_, completed| {
        line = Some(completed);
        ControlFlow::Continue(())
    };
    engine.complete(work, each).expect("drawn");
    let line = serde_json::to_string(&line.expect("a line")).expect("JSON");
    assert_eq!(line.matches("\"completions\"").count(), 1, "{line}");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["prompt"], &line["draft"], &line["note"]), (&json!("1+1"), &json!("3"), &json!("n")));
    assert_eq!(
        (&line["rendered_prompt"], line["prompt_ids"].as_array().map(Vec::len)),
        (&json!("1+1.3.4"), Some(7))
    );
    let rows = [json!({"draft": "1"}), json!({"darft": "1", "id": 2})];
    let error = read("{{ draft }}", &rows).err().expect("refused").to_string();
    assert!(error.ends_with("rows.jsonl:2: `draft` is not in the row, which has: darft, id"), "{error}");
    let error = read("{{ draft }}", &[json!({"draft": ""})]).err().expect("refused").to_string();
    assert!(error.contains("the prompt has no tokens"), "{error}");
}

#[test]
fn every_place_that_names_a_stop_token_is_heard() {
    let dir = model();
    let generation = json!({"eos_token_id": [0, 5]}).to_string();
    fs::write(dir.path().join("model/generation_config.json"), generation).expect("written");
    let tokenizer = json!({"eos_token": "<unk>"}).to_string();
    fs::write(dir.path().join("model/tokenizer_config.json"), tokenizer).expect("written");
    let codec = Codec::open(&dir.path().join("model"), PromptStyle::default()).expect("a model");
    assert_eq!(codec.stop_ids(), [0, 5, codec.tokenizer().expect("one").eos().expect("one")]);
}

#[test]
fn a_stop_text_ends_a_completion_even_with_its_last_token() {
    let dir = model();
    let drawn = |max_new_tokens, seed, stops: &[String]| {
        let sampling = Sampling { max_new_tokens, seed, ..Sampling::default() };
        let all = complete(dir.path(), &[json!({"prompt": "1+2"})], &sampling, stops);
        all.into_iter().next().and_then(|line| line.completions.into_iter().next()).expect("a completion")
    };
    // A completion without special tokens: a token is a character.
    let mut seeds = (0..).map(|seed| (seed, drawn(12, seed, &[]))).filter(|(_, c)| c.text.len() == 12);
    let (seed, whole) = seeds.next().expect("endless");
    assert_eq!((whole.finish_reason, whole.token_ids.len()), ("length", 12));
    for n in [0, 5, 10] {
        let stop = whole.text[n..n + 2].to_owned();
        let at = whole.text.find(&stop).expect("it is there");
        for max_new_tokens in [at + 2, 12] {
            let cut = drawn(max_new_tokens, seed, std::slice::from_ref(&stop));
            assert_eq!(cut.token_ids, whole.token_ids[..at + 2], "{stop:?}");
            assert_eq!((cut.finish_reason, &*cut.text), ("stop", &whole.text[..at]));
        }
    }
}

#[test]
fn a_prompt_that_makes_no_sense_is_named_by_its_line() {
    let dir = model();
    let engine = engine(dir.path());
    for (line, what) in [
        (json!({"prompt_ids": []}), "p.jsonl:2: the prompt has no tokens"),
        (json!({"prompt_ids": [1, 99]}), "p.jsonl:2: token 99 of the prompt is outside of the vocabulary"),
        (json!({"answer": "7"}), "p.jsonl:2"),
    ] {
        let file = dir.path().join("p.jsonl");
        fs::write(&file, format!("{}\n{line}\n", json!({"prompt": "1"}))).expect("written");
        let error =
            Prompts::read(&file.clone().into(), None, &engine.codec).err().expect("refused").to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// All of a reply's text.
fn reply(conversation: &mut Conversation<'_, Reference>, text: &str) -> String {
    let mut reply = conversation.say(text).expect("room");
    let mut all = String::new();
    while let Some(pieces) = reply.step().expect("text") {
        all.extend(pieces.into_iter().map(|piece| piece.text));
    }
    all.extend(reply.finish().expect("text").into_iter().map(|piece| piece.text));
    all
}

#[test]
fn a_reply_is_what_its_messages_are_completed_with() {
    let dir = model();
    let engine = engine(dir.path());
    let sampling = Sampling { max_new_tokens: 20, stop_ids: engine.codec.stop_ids(), ..Sampling::default() };
    let mut conversation = Conversation::new(engine, sampling.clone(), 100);
    let mut said = Vec::new();
    for (turn, text) in ["1+2", "3.", "12"].into_iter().enumerate() {
        // A reply that is given up leaves nothing behind, except that its random numbers are used.
        if turn == 1 {
            conversation.say("999").expect("room").step().expect("text");
        }
        let lines: Vec<_> = (0..4)
            .map(|_| {
                let mut messages = said.clone();
                messages.push(json!({"role": "user", "content": text}));
                json!({"messages": messages})
            })
            .collect();
        let all = complete(dir.path(), &lines, &sampling, &[]);
        let want = &all[turn + usize::from(turn > 0)].completions[0].text;
        assert_eq!(&reply(&mut conversation, text), want, "turn {turn}");
        said.push(json!({"role": "user", "content": text}));
        said.push(json!({"role": "assistant", "content": want}));
        assert_eq!(json!(conversation.messages()), json!(said));
    }
    let long = "1".repeat(100);
    let error = conversation.say(&long).err().expect("no room");
    assert!(matches!(error, InferError::ConversationLength { context: 100, .. }), "{error}");
    assert_eq!(conversation.messages().len(), 6);
    conversation.reset();
    assert!(conversation.messages().is_empty());
}
