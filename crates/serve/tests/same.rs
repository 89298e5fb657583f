//! Same seed, same answer, whatever else is served: as `koan generate` answers.

mod common;

use std::{
    collections::BTreeSet,
    io::Write,
    net::Shutdown,
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

use common::{Options, Served, content, response, user};
use koan_cpu::Cpu;
use koan_generate::{Drafts, Limits, Sampling};
use koan_infer::{Codec, Engine, PromptStyle, Prompts, Work};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// What `koan generate --n 4` makes of a question, one at a time.
fn generated(
    server: &Served,
    model: &str,
    question: &str,
    seed: u64,
    stops: &[String],
) -> Vec<(String, &'static str)> {
    let cpu = Cpu::best(Some(1)).expect("a CPU");
    let codec = Codec::open_at(&server.model(model), PromptStyle::default()).expect("a codec");
    let sampling = Sampling {
        max_new_tokens: 20,
        temperature: 0.8,
        top_p: 0.9,
        stop_ids: codec.stop_ids(),
        seed,
        ..Sampling::default()
    };
    let prompts = Prompts::of_texts([question.to_owned()], "a question", None, &codec).expect("prompts");
    let limits = Limits { sequences: 1, prompt_tokens: 128, new_tokens: 20, drafts: Drafts::Off };
    let mut engine = Engine::load(&cpu, codec, 148, limits, None).expect("an engine");
    let mut all = Vec::new();
    let done = BTreeSet::new();
    let work = Work { prompts, samples: 4, sampling: &sampling, stops, done: &done };
    engine
        .complete(work, |_, line| {
            all.extend(line.completions.into_iter().map(|c| (c.text, c.finish_reason)));
            ControlFlow::Continue(())
        })
        .expect("completed");
    all
}

fn ask(question: &str, seed: u64, stops: &[String]) -> Value {
    json!({"messages": user(question), "n": 4, "seed": seed, "max_tokens": 20, "temperature": 0.8, "top_p": 0.9, "stop": stops})
}

#[test]
fn an_adapter_and_its_base_answer_side_by_side_as_they_do_alone() {
    let server = Served::start(Options { adapter: true, ..Options::default() });
    let questions: Vec<String> = (0..4).map(|i| format!("Question {i}?")).collect();
    let answers: Vec<_> = thread::scope(|scope| {
        let ask_both = |question: &str| {
            ["koan-tiny", "adapter"].map(|model| {
                let mut asked = ask(question, 5, &[]);
                asked["model"] = model.into();
                let (status, answer) = server.ask(CHAT, &asked);
                assert_eq!((status, &answer["model"]), (200, &json!(model)), "{answer}");
                answer
            })
        };
        let asking: Vec<_> = questions.iter().map(|q| scope.spawn(move || ask_both(q))).collect();
        asking.into_iter().map(|asking| asking.join().expect("answered")).collect()
    });
    let texts = |answer: &Value| (0..4).map(|choice| content(answer, choice)).collect::<Vec<_>>();
    for (question, both) in questions.iter().zip(&answers) {
        for (model, answer) in ["koan-tiny", "adapter"].iter().zip(both) {
            let want = generated(&server, model, question, 5, &[]);
            let want: Vec<String> = want.into_iter().map(|(text, _)| text).collect();
            assert_eq!(texts(answer), want, "{model}: {question}");
        }
        assert_ne!(texts(&both[0]), texts(&both[1]), "the adapter changes what is said");
    }
}

#[test]
fn an_answer_is_what_generate_says_whatever_else_is_served() {
    let server = Served::start(Options { sequences: 5, ..Options::default() });
    let stops = ["a".to_owned(), "Q\u{e9}".to_owned()];
    let asked: Vec<(String, u64)> = (0..12u64).map(|i| (format!("Question {}?", i % 5), i / 2)).collect();
    thread::scope(|scope| {
        // Others come and go: cut off, of other settings, with scores.
        for i in 0..6 {
            let server = &server;
            scope.spawn(move || {
                let mut other = ask("Another", i, &[]);
                other["stream"] = json!(true);
                other["max_tokens"] = json!(200);
                let mut stream = server.send("POST", CHAT, "", other.to_string().as_bytes());
                thread::sleep(Duration::from_millis(20 * i));
                let _ = stream.flush();
                let _ = stream.shutdown(Shutdown::Both);
                let echo = json!({"prompt": "abc", "echo": true, "logprobs": 2, "max_tokens": 9, "n": 3});
                server.answer("/v1/completions", &echo);
            });
        }
        for (question, seed) in &asked {
            let (server, stops) = (&server, &stops);
            scope.spawn(move || {
                let answer = server.answer(CHAT, &ask(question, *seed, stops));
                let wanted = generated(server, "koan-tiny", question, *seed, stops);
                for (i, (text, reason)) in wanted.into_iter().enumerate() {
                    assert_eq!(content(&answer, i), text, "{question} {seed} {i}");
                    assert_eq!(answer["choices"][i]["finish_reason"], reason);
                }
            });
        }
    });
}

#[test]
fn who_leaves_makes_room() {
    let server = Served::start(Options { sequences: 1, context: 4000, ..Options::default() });
    let long =
        json!({"messages": user("Hi"), "n": 128, "max_tokens": 3900, "ignore_eos": true, "stream": true});
    let streams: Vec<_> =
        (0..3).map(|_| server.send("POST", CHAT, "", long.to_string().as_bytes())).collect();
    thread::sleep(Duration::from_millis(100));
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
    let start = Instant::now();
    server.answer(CHAT, &json!({"messages": user("Hi"), "max_tokens": 2}));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("finished_reason=\"abort\"} 3"), "{metrics}");
}

#[test]
fn many_choices_of_one_do_not_keep_others_waiting() {
    let server = Served::start(Options { sequences: 2, context: 2000, ..Options::default() });
    let many = json!({"messages": user("Hi"), "n": 128, "max_tokens": 400, "ignore_eos": true});
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            server.answer(CHAT, &many);
            Instant::now()
        });
        thread::sleep(Duration::from_millis(100));
        server.answer(CHAT, &json!({"messages": user("Ho"), "max_tokens": 2}));
        let quick = Instant::now();
        assert!(slow.join().expect("joined") > quick);
    });
}

#[test]
fn a_full_queue_is_said_and_a_long_request_given_up() {
    let server = Served::start(Options {
        sequences: 1,
        queue: 1,
        context: 4000,
        timeout: Duration::from_secs(2),
        ..Options::default()
    });
    let long = json!({"messages": user("Hi"), "n": 128, "max_tokens": 3900, "ignore_eos": true}).to_string();
    let first = server.send("POST", CHAT, "", long.as_bytes());
    thread::sleep(Duration::from_millis(300));
    let second = server.send("POST", CHAT, "", long.as_bytes());
    thread::sleep(Duration::from_millis(300));
    let third = response(server.send("POST", CHAT, "", long.as_bytes()));
    assert_eq!(third.status, 429, "{}", third.body);
    assert!(third.head.to_lowercase().contains("retry-after: 1"), "{}", third.head);
    assert!(third.body.contains("The queue is full (1 requests)."), "{}", third.body);
    for waiting in [first, second] {
        let got = response(waiting);
        assert!(got.status == 504 && got.body.contains("longer than this server allows"), "{}", got.body);
    }
}

#[test]
fn what_was_begun_is_whole_before_the_server_ends() {
    let server = Served::start(Options { context: 2000, ..Options::default() });
    let begun = json!({"messages": user("Hi"), "max_tokens": 400, "ignore_eos": true, "stream": true});
    let stream = server.send("POST", CHAT, "", begun.to_string().as_bytes());
    thread::sleep(Duration::from_millis(200));
    server.stop();
    let whole = response(stream);
    assert!(whole.body.ends_with("data: [DONE]\n\n"), "{}", whole.body);
    assert!(whole.body.contains("\"finish_reason\":\"length\""));
}

/// A template whose prompt opens the thinking.
const THINKS: &str = "{%- for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}\
     {%- if add_generation_prompt %}<|assistant|><think>\n{% endif %}";

#[test]
fn a_header_asks_for_the_sample_of_another_place() {
    for (template, opening) in [(common::TEMPLATE, ""), (THINKS, "<think>\n")] {
        let server = Served::start(Options { template: Some(template), ..Options::default() });
        let cpu = Cpu::best(Some(1)).expect("a CPU");
        let codec = Codec::open_at(&server.model("koan-tiny"), PromptStyle::default()).expect("a codec");
        let seed = u64::MAX;
        let sampling = Sampling {
            max_new_tokens: 12,
            temperature: 0.7,
            top_p: 0.95,
            stop_ids: codec.stop_ids(),
            seed,
            ..Sampling::default()
        };
        let questions = ["a", "b?", "1 + 2"].map(str::to_owned);
        let prompts = Prompts::of_texts(questions.clone(), "questions", None, &codec).expect("prompts");
        let limits = Limits { sequences: 4, prompt_tokens: 128, new_tokens: 12, drafts: Drafts::Off };
        let mut engine = Engine::load(&cpu, codec, 140, limits, None).expect("an engine");
        let (mut lines, done) = (Vec::new(), BTreeSet::new());
        let work = Work { prompts, samples: 3, sampling: &sampling, stops: &[], done: &done };
        engine
            .complete(work, |_, line| {
                lines.push(
                    line.completions.into_iter().map(|c| (c.text, c.token_ids.len())).collect::<Vec<_>>(),
                );
                ControlFlow::Continue(())
            })
            .expect("completed");
        for (problem, (question, wanted)) in questions.iter().zip(&lines).enumerate() {
            for (sample, (text, tokens)) in wanted.iter().enumerate() {
                let body = json!({
                    "messages": user(question), "seed": 3, "max_tokens": 12, "temperature": 0.7, "top_p": 0.95,
                });
                let header = format!("x-koan-sample: {seed} {problem} {sample}\r\n");
                let answer = response(server.send("POST", CHAT, &header, body.to_string().as_bytes()));
                let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
                assert_eq!(content(&answer, 0), format!("{opening}{text}"), "{problem} {sample}");
                assert_eq!(answer["usage"]["completion_tokens"], *tokens, "with the one that ended it");
                assert_eq!(answer["seed"], seed);
            }
        }
    }
}

#[test]
fn a_place_that_is_none_is_refused_by_name() {
    let server = Served::start(Options::default());
    let body = json!({"prompt": "7", "max_tokens": 2}).to_string();
    for wrong in ["1 2", "1 2 3 4", "a b c", "-1 0 0", "1 2 18446744073709551616", ""] {
        let headers = format!("x-koan-sample: {wrong}\r\n");
        let answer = response(server.send("POST", "/v1/completions", &headers, body.as_bytes()));
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
        assert!(answer.body.contains("x-koan-sample"), "{}", answer.body);
    }
    let headers = "x-koan-sample: 9 0 0\r\n";
    let answer = response(server.send("POST", "/v1/completions", headers, body.as_bytes()));
    assert!(answer.status == 200 && answer.head.to_lowercase().contains("x-koan-seed: 9"), "{}", answer.head);
}
