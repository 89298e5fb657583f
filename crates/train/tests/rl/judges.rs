//! Runs whose completions models judge: the same to the bit whatever the threads and interruptions.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use crate::tiny_run::{TinyRun, metrics, rollouts, run};
use koan_cpu::{Cpu, Isa};
use koan_model::testkit;
use koan_train::{
    comm::Ranks,
    rl::{self, Forecast, RlConfig},
    stage::{Event, Launch},
};
use serde_json::{Value, json};

/// A tiny run with a reward model of another tokenizer.
fn with_reward_model() -> TinyRun {
    let tiny = TinyRun::new();
    for (name, seed) in [("rm", 5), ("other-rm", 6)] {
        let dir = tiny.folder.path().join(name);
        testkit::write_reward_model(&dir, seed, "ab9876543210+. ?=").expect("written");
    }
    tiny
}

fn reward_model(tiny: &TinyRun, name: &str, more: &str) -> String {
    let dir = tiny.folder.path().join(name);
    format!("reward=[{{kind='model', name='helpful', model='{}'{more}}}]", dir.display())
}

/// Runs to the end of step `last`, then is stopped.
fn stop_after(config: &RlConfig, last: u64) {
    let (cpu, stop) = (Cpu::new(Isa::best(), 2).expect("a processor"), AtomicBool::new(false));
    let summary = rl::run(
        &cpu,
        config,
        Launch { resume: false, threads: 2, stop: &stop, ranks: &Ranks::alone() },
        |event| {
            if matches!(event, Event::Step { step, .. } if step == last) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    );
    assert!(summary.expect("stops").stopped);
}

#[test]
fn a_reward_model_judges_whatever_the_threads_and_interruptions() {
    let tiny = with_reward_model();
    let set = reward_model(&tiny, "rm", "");
    let [one, two, stopped] = ["one", "two", "stopped"].map(|name| tiny.config(name, &[&set]));
    let want = run(&one, 1, false).expect("runs").digest;
    assert_eq!(run(&two, 2, false).expect("runs").digest, want);
    stop_after(&stopped, 1);
    assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want, "the scale of the first step is kept");
    assert_eq!(metrics(&one.stage.run_dir), metrics(&stopped.stage.run_dir));

    let lines = metrics(&one.stage.run_dir);
    let first = lines[1]["rewards/helpful"].as_f64().expect("a mean");
    assert!(first.abs() < 1.0, "standardised by itself, empty answers apart: {first}");
    assert!(lines[1..].iter().all(|line| line["log_prob_gap"] == 0.0));
    for line in rollouts(&one.stage.run_dir) {
        let term = &line["rewards"][0];
        let score = term["score"].as_f64().expect("all are decided");
        assert!(score.abs() <= 5.0, "{term}");
        let is_empty = line["completion"].as_str().expect("text").trim().is_empty();
        assert_eq!(term["outcome"] == "unparsable", is_empty);
    }
    let lineage = fs::read_to_string(one.stage.run_dir.join("lineage.json")).expect("lineage");
    let lineage: Value = serde_json::from_str(&lineage).expect("JSON");
    let inputs = lineage["inputs"].as_array().expect("a list");
    let input = inputs.iter().find(|input| input["role"] == "reward model").expect("named");
    assert_eq!(input["sha256"].as_str().map(str::len), Some(64));
    let state = fs::read_to_string(one.stage.run_dir.join("checkpoints/step-000004/trainer.json"));
    let state: Value = serde_json::from_str(&state.expect("a state")).expect("JSON");
    assert!(state["own"]["standards"]["helpful"]["deviation"].as_f64().is_some_and(|d| d > 0.0), "{state}");
}

#[test]
fn another_reward_model_does_not_go_on_with_a_run() {
    let tiny = with_reward_model();
    let config = tiny.config("run", &[&reward_model(&tiny, "rm", "")]);
    stop_after(&config, 2);
    fs::copy(
        tiny.folder.path().join("other-rm/model.safetensors"),
        tiny.folder.path().join("rm/model.safetensors"),
    )
    .expect("replaced");
    let error = run(&config, 2, true).expect_err("another reward model").to_string();
    assert!(error.contains("reward model"), "{error}");
}

#[test]
fn a_reference_is_the_scale_from_the_first_measurement_on() {
    let tiny = with_reward_model();
    let file = tiny.folder.path().join("reference.jsonl");
    let row = |i: u32| format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}\"}}\n", i + 1);
    let rows: Vec<String> = (0..20).map(row).collect();
    fs::write(&file, rows.concat()).expect("written");
    let set = reward_model(&tiny, "rm", &format!(", reference='{}'", file.display()));
    let (a, b) = (tiny.config("a", &[&set]), tiny.config("b", &[&set]));
    assert_eq!(run(&a, 1, false).expect("runs").digest, run(&b, 2, false).expect("runs").digest);
    stop_after(&tiny.config("c", &[&set]), 2);
    fs::write(&file, "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"3\"}\n").expect("changed");
    let error = run(&tiny.config("c", &[&set]), 2, true).expect_err("another reference").to_string();
    assert!(error.contains("reference"), "{error}");
}

#[test]
fn a_reward_is_in_force_in_its_steps_and_problems_choose() {
    let tiny = with_reward_model();
    let problems: String = (0..20)
        .map(|i| {
            let reward = if i % 2 == 0 { json!("number") } else { json!(["helpful"]) };
            json!({"id": i.to_string(), "prompt": format!("{i} + 1 = "), "answer": i + 1, "reward": reward})
                .to_string()
                + "\n"
        })
        .collect();
    fs::write(tiny.folder.path().join("train.jsonl"), problems).expect("written");
    let rm = tiny.folder.path().join("rm").display().to_string();
    let set = format!(
        "reward=[{{kind='number'}}, {{kind='model', name='helpful', model='{rm}', from_step=3}}, {{kind='length'}}]"
    );
    let [whole, stopped] = ["whole", "stopped"].map(|name| tiny.config(name, &[&set]));
    let (cpu, mut notes) = (Cpu::new(Isa::best(), 2).expect("a processor"), Vec::new());
    let launch = Launch { resume: false, threads: 2, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    let note = |event: rl::Event| {
        if let Event::Note { text } = event {
            notes.push(text.to_owned());
        }
    };
    let want = rl::run(&cpu, &whole, launch, note).expect("runs").digest;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("steps 1 to 2") && notes[0].contains("10 problems"), "{notes:?}");
    let lines = metrics(&whole.stage.run_dir);
    for (step, line) in lines.iter().enumerate().skip(1) {
        assert_eq!(line["rewards/helpful"].is_number(), step >= 3, "step {step}: {line}");
    }
    for line in rollouts(&whole.stage.run_dir) {
        let names: Vec<&str> =
            line["rewards"].as_array().expect("terms").iter().filter_map(|t| t["kind"].as_str()).collect();
        let is_late = line["step"].as_u64() >= Some(3);
        match line["verifier"].as_str() {
            Some("number") => assert_eq!(names, ["number", "length"]),
            _ if is_late => assert_eq!(names, ["helpful", "length"]),
            _ => assert_eq!((names, &line["advantage"]), (vec!["helpful"], &Value::Null), "masked: {line}"),
        }
    }
    stop_after(&stopped, 3);
    assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want);
}

#[test]
fn models_that_judge_are_in_the_plan() {
    let tiny = with_reward_model();
    fs::remove_file(tiny.folder.path().join("rm/model.safetensors")).expect("there");
    let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
    let plain = Forecast::of(&cpu, &tiny.config("a", &[])).expect("planned").plan;
    let judged = tiny.config("b", &[&reward_model(&tiny, "rm", "")]);
    let judged = Forecast::of(&cpu, &judged).expect("planned without its weights").plan;
    assert!(judged.judges.weights > 0 && judged.judges.working > 0 && judged.bytes() > plain.bytes());
    assert!(judged.breakdown().contains("models that judge"), "{}", judged.breakdown());
    assert!(!plain.breakdown().contains("judge"));
    let none = tiny.config("c", &[&reward_model(&tiny, "model", "")]);
    let error = Forecast::of(&cpu, &none).expect_err("no reward model");
    let causes: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
        .map(ToString::to_string)
        .collect();
    assert!(causes.join(": ").contains("is no reward model"), "{causes:?}");
}

#[test]
fn a_judge_that_answers_nonsense_decides_nothing() {
    let tiny = TinyRun::new();
    let model = tiny.folder.path().join("model").display().to_string();
    let set = format!("reward=[{{kind='judge', model='{model}', max_new_tokens=4, max_tokens=200}}]");
    let config = tiny.config("run", &[&set, "steps=2", "checkpoint_every=1"]);
    let want = run(&config, 2, false).expect("runs").digest;
    for line in &metrics(&config.stage.run_dir)[1..] {
        assert!(line["rewards/judge/undecided"].as_f64().is_some_and(|n| n > 0.0), "{line}");
        assert_eq!(line["reward"], 0.0, "what is too short is worth nothing, and all else undecided: {line}");
    }
    let other = tiny.config("other", &[&set, "steps=2", "checkpoint_every=1"]);
    assert_eq!(run(&other, 1, false).expect("runs").digest, want, "whatever the threads");
}

/// A judge on a server, which grades answers by the number of their digits. Returns its address and how often it was asked.
fn serve() -> (String, &'static AtomicUsize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let n: &'static AtomicUsize = Box::leak(Box::default());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut stream, mut length) = (BufReader::new(stream), 0);
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).expect("a body");
                n.fetch_add(1, Ordering::SeqCst);
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let prompt = body["messages"][0]["content"].as_str().expect("a prompt");
                let answer = prompt.split(" begins\n").nth(2).expect("an answer").split("\n-----").next();
                let digits = answer.expect("its end").chars().filter(char::is_ascii_digit).count();
                let said =
                    json!({"choices": [{"message": {"content": format!("[[{}]]", 1 + digits.min(9))}}]})
                        .to_string();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
                _ = stream.into_inner().write_all((head + &said).as_bytes());
            });
        }
    });
    (format!("http://{address}/v1"), n)
}

#[test]
fn a_judge_on_a_server_is_asked_once_for_each_answer() {
    let tiny = TinyRun::new();
    let (url, n) = serve();
    let set = format!("reward=[{{kind='judge', url='{url}', min_words=1, timeout_s=30, workers=4}}]");
    let [whole, stopped] = ["whole", "stopped"].map(|name| tiny.config(name, &[&set]));
    let want = run(&whole, 2, false).expect("runs").digest;
    let asked = n.load(Ordering::SeqCst);
    let completions = rollouts(&whole.stage.run_dir).len();
    assert!(asked > 0 && asked < completions, "{asked} of {completions}: equal answers are asked about once");
    assert!(whole.stage.run_dir.join("judge-cache").is_dir());
    assert!(metrics(&whole.stage.run_dir)[1]["rewards/judge"].is_number());

    stop_after(&stopped, 1);
    assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want);
    assert_eq!(n.load(Ordering::SeqCst), 2 * asked, "what the judge said before the stop is kept");
}
