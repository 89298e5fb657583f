//! What the API answers: shapes, parameters, errors, streams.

mod common;

use std::{collections::BTreeMap, fs, path::PathBuf};

use common::{Options, Served, content, user};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Fields that answers of this server have besides.
const EXTRA: [&str; 3] = ["seed", "max_model_len", "reasoning_content"];

/// Says where `got` has not the shape of `wanted`: the same fields, of the same types.
fn differs(wanted: &Value, got: &Value, at: &str) -> Option<String> {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            // The keys of these are tokens.
            if at.ends_with("top_logprobs[]") && !wanted.contains_key("token") {
                return got
                    .values()
                    .all(Value::is_number)
                    .then_some(())
                    .map_or_else(|| Some(at.to_owned()), |()| None);
            }
            let missing = wanted.keys().find(|key| !got.contains_key(*key));
            let odd = got.keys().find(|key| !wanted.contains_key(*key) && !EXTRA.contains(&&***key));
            missing
                .map(|key| format!("{at}.{key} is missing"))
                .or(odd.map(|key| format!("{at}.{key} is odd")))
                .or_else(|| {
                    wanted.iter().find_map(|(key, value)| differs(value, &got[key], &format!("{at}.{key}")))
                })
        }
        (Value::Array(wanted), Value::Array(got)) => {
            let first = wanted.first()?;
            got.iter().find_map(|item| differs(first, item, &format!("{at}[]")))
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, Value::Null) => None,
        _ => Some(format!("{at} is {got}, not like {wanted}")),
    }
}

/// Pairs of requests and responses that OpenAI's client reads; none where they are not.
fn fixtures() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages/openai");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: no fixtures at {}", folder.display());
        return Vec::new();
    };
    let paths = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, serde_json::from_str(&fs::read_to_string(&path).expect("read")).expect("JSON"))
    };
    let all: BTreeMap<String, Value> = paths.map(read).collect();
    all.into_iter().collect()
}

/// The chunks of a transcript.
fn transcript(name: &str) -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages/openai");
    let text = fs::read_to_string(folder.join(name)).expect("read");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn answers_have_the_shapes_that_clients_read() {
    let server = Served::start(Options { template: None, ..Options::default() });
    for (name, pair) in fixtures() {
        let path = pair["path"].as_str().expect("a path");
        if let Some(cases) = pair["cases"].as_array() {
            for case in cases.iter().filter(|case| case["note"].is_null() && case["status"] != 500) {
                let (status, got) = server.ask(path, &case["request"]);
                assert_eq!(json!(status), case["status"], "{got}");
                let (wanted, got) = (&case["response"]["error"], &got["error"]);
                assert_eq!(
                    (&wanted["type"], &wanted["param"], &wanted["code"]),
                    (&got["type"], &got["param"], &got["code"])
                );
                // Whose messages have no sizes of the model.
                if case["response"]["error"]["code"] != "context_length_exceeded" {
                    assert_eq!(wanted["message"], got["message"]);
                }
            }
        } else if pair["method"] == "GET" {
            let got: Value = serde_json::from_str(&server.get(path).1).expect("JSON");
            assert_eq!(differs(&pair["response"], &got, &name), None);
        } else if let Some(of) = pair["transcript"].as_str() {
            let mut request = pair["request"].clone();
            request["max_completion_tokens"] = json!(6);
            let (wanted, got) = (transcript(of), server.stream(path, &request));
            assert_eq!(differs(&wanted[0], &got[0], &name), None);
            let usage = got.last().expect("a chunk");
            assert_eq!(
                usage["choices"].as_array().expect("choices").is_empty(),
                name.contains("usage"),
                "{usage}"
            );
            assert_eq!(differs(wanted.last().expect("a chunk"), usage, &name), None);
            let of_content =
                |chunks: &[Value]| chunks.iter().find(|c| c["choices"][0]["delta"]["content"] != "").cloned();
            assert_eq!(
                differs(&of_content(&wanted).expect("one"), &of_content(&got).expect("one"), &name),
                None
            );
        } else {
            let mut request = pair["request"].clone();
            if name.contains("json-schema") {
                continue; // the model's words are random: see the tests of formats
            }
            request["max_tokens"] = json!(6);
            request.as_object_mut().expect("an object").remove("max_completion_tokens");
            let got = server.answer(path, &request);
            let mut wanted = pair["response"].clone();
            if path == COMPLETIONS {
                wanted["usage"]["prompt_tokens_details"] = json!({"cached_tokens": 0});
                wanted["usage"]["completion_tokens_details"] = json!({"reasoning_tokens": 0});
            }
            assert_eq!(differs(&wanted, &got, &name), None, "{got}");
        }
    }
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let server = Served::start(Options::default());
    let ask = json!({"messages": user("Count."), "n": 3, "seed": 5, "max_tokens": 24, "logprobs": true, "top_logprobs": 2,
        "stop": ["e"]});
    let whole = server.answer(CHAT, &ask);
    let mut streamed = ask.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let chunks = server.stream(CHAT, &streamed);
    for i in 0..3 {
        let of = |chunk: &&Value| chunk["choices"][0]["index"] == i;
        let own: Vec<&Value> = chunks.iter().filter(of).collect();
        assert_eq!(own[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String = own.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, content(&whole, i));
        assert!(!text.contains('e'), "a stop string is no part of the text: {text}");
        let told = |c: &&Value| c["choices"][0]["logprobs"]["content"].as_array().cloned();
        let log_probs: Vec<Value> = own.iter().filter_map(told).flatten().collect();
        assert_eq!(json!(log_probs), whole["choices"][i]["logprobs"]["content"]);
        let last = own.last().expect("a chunk");
        assert_eq!(last["choices"][0]["finish_reason"], whole["choices"][i]["finish_reason"]);
    }
    let usage = &chunks.last().expect("a chunk")["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    let told = |i: usize| whole["choices"][i]["logprobs"]["content"].as_array().expect("a list").len();
    assert_eq!(json!((0..3).map(told).sum::<usize>()), whole["usage"]["completion_tokens"]);
}

#[test]
fn log_probs_are_of_the_tokens_and_the_likeliest_are_in_order() {
    let server = Served::start(Options::default());
    let greedy = json!({"messages": user("A"), "temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 3});
    let answer = server.answer(CHAT, &greedy);
    for entry in answer["choices"][0]["logprobs"]["content"].as_array().expect("a list") {
        let top = entry["top_logprobs"].as_array().expect("a list");
        assert_eq!(
            (top.len(), &top[0]["token"], &top[0]["logprob"]),
            (3, &entry["token"], &entry["logprob"])
        );
        let p: Vec<f64> = top.iter().map(|entry| entry["logprob"].as_f64().expect("a number")).collect();
        assert!(p[0] >= p[1] && p[1] >= p[2] && p[0] <= 0.0, "{p:?}");
    }
}

#[test]
fn an_echo_scores_the_prompt_as_completions_are_scored() {
    let server = Served::start(Options::default());
    let sampled = server
        .answer(COMPLETIONS, &json!({"prompt": "ab", "max_tokens": 5, "temperature": 0, "logprobs": 1}));
    let text = sampled["choices"][0]["text"].as_str().expect("text");
    let bytes: Vec<u64> = "ab".bytes().chain(text.bytes()).map(u64::from).collect();
    // Its tokens are bytes, so the text says them, if it is text.
    if text.contains('\u{fffd}') {
        return;
    }
    let ids = |bytes: &[u64]| server_tokens(&server, bytes);
    let echoed = server.answer(
        COMPLETIONS,
        &json!({"prompt": [ids(&bytes)], "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true}),
    );
    let (of_sampled, of_echoed) = (&sampled["choices"][0]["logprobs"], &echoed["choices"][0]["logprobs"]);
    assert_eq!(of_echoed["token_logprobs"][0], Value::Null);
    let n = of_sampled["tokens"].as_array().expect("a list").len();
    for i in 0..n {
        let [p, q] = [&of_sampled["token_logprobs"][i], &of_echoed["token_logprobs"][2 + i]]
            .map(|p| p.as_f64().expect("a number"));
        assert_eq!(p as f32, q as f32, "token {i}");
        let top = of_echoed["top_logprobs"][2 + i].as_object().expect("an object");
        let most = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(most, q, "the likeliest token was taken, and evaluation harnesses see it");
        assert_eq!(of_sampled["text_offset"][i], of_echoed["text_offset"][2 + i]);
    }
    let scored = server
        .answer(COMPLETIONS, &json!({"prompt": ["ab", "abc"], "max_tokens": 0, "logprobs": 0, "echo": true}));
    assert_eq!(scored["choices"][1]["text"], "abc");
    assert_eq!(scored["choices"][1]["logprobs"]["tokens"], json!(["a", "b", "c"]));
    assert_eq!(scored["usage"]["completion_tokens"], 0);
}

/// The tokens of bytes: the tiny model's are in the order of bytes.
fn server_tokens(_: &Served, bytes: &[u64]) -> Vec<u64> {
    bytes.to_vec()
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    let server = Served::start(Options { template: None, ..Options::default() });
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let cases = [
        ("presence_penalty", json!(0.5), "unsupported_parameter"),
        ("logit_bias", json!({"5": 1}), "unsupported_parameter"),
        ("tools", tool, "unsupported_parameter"),
        ("functions", json!([{}]), "unsupported_parameter"),
        ("modalities", json!(["audio"]), "unsupported_parameter"),
        ("response_format", json!({"type": "grammar"}), "unsupported_parameter"),
        ("nonsense", json!(1), "unknown_parameter"),
        ("n", json!(1_000_000_000), "integer_above_max_value"),
        ("n", json!(1e300), "integer_above_max_value"),
        ("n", json!(0), "integer_below_min_value"),
        ("n", json!("1"), "invalid_type"),
        ("seed", json!(0.5), "invalid_type"),
        ("top_p", json!(-0.1), "decimal_below_min_value"),
        ("top_logprobs", json!(21), "integer_above_max_value"),
        ("stream", json!("yes"), "invalid_type"),
        ("stop", json!([1]), "invalid_type"),
        ("messages", json!([]), "empty_array"),
        ("messages", json!("Hi"), "invalid_type"),
    ];
    for (name, value, code) in cases {
        let mut ask = json!({"messages": user("Hi"), "max_tokens": 1});
        ask[name] = value;
        let (status, answer) = server.ask(CHAT, &ask);
        let error = &answer["error"];
        assert_eq!((status, &error["param"], &error["code"]), (400, &json!(name), &json!(code)), "{answer}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(name)), "{answer}");
    }
    // What changes nothing is taken.
    let neutral = json!({"messages": user("Hi"), "max_tokens": 1, "presence_penalty": 0, "logit_bias": {}, "user": "u", "n": null,
        "nonsense": null, "tools": [], "response_format": {"type": "text"}, "store": false, "top_k": -1});
    server.answer(CHAT, &neutral);
}

#[test]
fn without_a_seed_one_is_drawn_and_told() {
    let server = Served::start(Options::default());
    let ask = json!({"messages": user("Hi"), "max_tokens": 12});
    let (first, second) = (server.answer(CHAT, &ask), server.answer(CHAT, &ask));
    assert_ne!(first["seed"], second["seed"]);
    let mut again = ask.clone();
    again["seed"] = first["seed"].clone();
    assert_eq!(server.answer(CHAT, &again)["choices"], first["choices"]);
    assert_eq!(server.answer(CHAT, &again)["system_fingerprint"], first["system_fingerprint"]);
}

#[test]
fn models_have_names() {
    let server = Served::start(Options { models: 2, ..Options::default() });
    let ask = |model: &str| {
        let ask = json!({"model": model, "messages": user("Hi"), "max_tokens": 16, "temperature": 0});
        content(&server.answer(CHAT, &ask), 0)
    };
    assert_ne!(ask("koan-tiny"), ask("koan-tiny-2"));
    let listed: Value = serde_json::from_str(&server.get("/v1/models").1).expect("JSON");
    assert_eq!(listed["data"][1]["id"], "koan-tiny-2");
    assert_eq!(server.get("/v1/models/koan-tiny-2").0, 200);
    assert_eq!(server.get("/v1/models/other").0, 404);
}

#[test]
fn health_and_metrics_say_how_it_is() {
    let server = Served::start(Options::default());
    assert_eq!(server.get("/health").0, 200);
    server.answer(
        CHAT,
        &json!({"messages": user("Hi"), "max_tokens": 7, "temperature": 0, "ignore_eos": true}),
    );
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "koan:generation_tokens_total{model_name=\"koan-tiny\"} 7",
        "koan:request_success_total{model_name=\"koan-tiny\",finished_reason=\"length\"} 1",
        "koan:time_to_first_token_seconds_count{model_name=\"koan-tiny\"} 1",
        "# TYPE koan:num_requests_waiting gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn who_has_no_key_is_not_answered() {
    let server = Served::start(Options { key: Some("sesame"), ..Options::default() });
    let body = json!({"messages": user("Hi"), "max_tokens": 1}).to_string();
    let with = |headers: &str| common::response(server.send("POST", CHAT, headers, body.as_bytes()));
    let refused = with("");
    assert_eq!(refused.status, 401);
    let error: Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!(error["error"]["message"], "No API key was given. Send it as 'Authorization: Bearer KEY'.");
    assert_eq!(with("authorization: Bearer sesam\r\n").status, 401);
    assert_eq!(with("authorization: Bearer sesame\r\n").status, 200);
    assert_eq!(server.get("/health").0, 200);
}
