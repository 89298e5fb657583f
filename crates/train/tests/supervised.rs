//! Learning by imitation in small: it learns, it repeats itself to the bit, and whatever interrupts it changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use koan_backend::Reference;
use koan_cpu::{Cpu, Isa};
use koan_model::{Targets, checkpoint, testkit};
use koan_text::Tokenizer;
use koan_train::{
    TrainError,
    comm::{Ranks, threads},
    optim::{OptimConfig, Optimizer},
    stage::{Event, Launch, RunSummary},
    supervised::{
        self, Stage, SupervisedConfig,
        next_token::{NextToken, Text},
    },
};
use proptest::prelude::*;
use serde_json::Value;

/// A folder with a tiny model and data.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        testkit::write_model(&bench.at("model"), 4).expect("a model");
        let lines =
            |line: &dyn Fn(u32) -> String, range: std::ops::Range<u32>| range.map(line).collect::<String>();
        let text = |i: u32| format!("{{\"text\": \"{i} + {i} 0{}\"}}\n", i % 7);
        let reply = |i: u32| format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}.\"}}\n", i + 1);
        for (name, content) in [
            ("text.jsonl", lines(&text, 0..30)),
            ("held-out.jsonl", lines(&text, 30..34)),
            ("replies.jsonl", lines(&reply, 0..30)),
        ] {
            fs::write(bench.at(name), content).expect("written");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, stage: Stage, run: &str, set: &[&str]) -> Result<SupervisedConfig, TrainError> {
        let at = |name: &str| self.at(name).display().to_string();
        let data = at(if stage == Stage::Pretrain { "text.jsonl" } else { "replies.jsonl" });
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{data}'\nepochs = 2\nbatch_tokens = 64\nmax_tokens = 16\n\
             checkpoint_every = 2\nseed = 7\n[optim]\nlr = 1e-2\nschedule = 'wsd'\nmicro_batch_tokens = 20\n",
            at(run),
            at("model"),
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        SupervisedConfig::load(stage, &file, &set)
    }

    fn config(&self, stage: Stage, run: &str) -> SupervisedConfig {
        self.load(stage, run, &[]).expect("a config")
    }
}

fn run(
    stage: Stage,
    config: &SupervisedConfig,
    threads: usize,
    resume: bool,
) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    let launch = Launch { resume, threads, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    supervised::run(&cpu, stage, config, launch, |_| {})
}

fn metrics(config: &SupervisedConfig) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(config.stage.run_dir.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

fn status(config: &SupervisedConfig) -> serde_json::Value {
    let text = fs::read_to_string(config.stage.run_dir.join("status.json")).expect("a status");
    serde_json::from_str(&text).expect("an object")
}

#[test]
fn a_run_learns_and_repeats_itself_whatever_the_threads() {
    let bench = Bench::new();
    for stage in [Stage::Pretrain, Stage::Sft] {
        let name = stage.name();
        let (a, b) = (bench.config(stage, &format!("{name}-1")), bench.config(stage, &format!("{name}-2")));
        let digest = run(stage, &a, 1, false).expect("runs").digest;
        assert_eq!(digest, run(stage, &b, 2, false).expect("runs").digest);
        let lines = metrics(&a);
        let loss = |i: usize| lines[i]["loss"].as_f64().expect("a loss");
        assert!(lines.len() > 2 && loss(lines.len() - 1) < 0.8 * loss(0), "{lines:?}");
        let lineage = fs::read_to_string(a.stage.run_dir.join("lineage.json")).expect("lineage");
        assert!(lineage.contains(name), "{lineage}");
    }
}

/// The sum over shards has an order of its own, which is the same for any number of threads; that of one shard is the plain sum.
#[test]
fn shards_are_summed_in_one_order() {
    let bench = Bench::new();
    let digest = |name: &str, threads: usize, set: &[&str]| {
        let config = bench.load(Stage::Sft, name, set).expect("a config");
        let digest = run(Stage::Sft, &config, threads, false).expect("runs").digest;
        let lines = metrics(&config);
        (digest, lines.last().expect("a line")["loss"].as_f64().expect("a loss"))
    };
    let (plain, loss) = digest("plain", 2, &[]);
    assert_eq!(digest("one", 1, &["shards=1"]).0, plain);
    let (four, of_four) = digest("four", 2, &["shards=4"]);
    assert_eq!(digest("four-1", 1, &["shards=4"]).0, four);
    assert!(four != plain && (loss - of_four).abs() < 0.02 * loss, "{loss} {of_four}");

    let refused = bench.load(Stage::Sft, "three", &["shards=3"]).expect_err("no tree").to_string();
    assert!(refused.contains("`shards` is 3: a power of two"), "{refused}");
}

#[test]
fn an_interrupted_run_ends_as_if_it_never_was() {
    interrupted(&["optim.moments=f32"], "F32");
    interrupted(&["optim.moments=bf16", "shards=4"], "BF16");
}

/// Growing updates, joined texts, middles last, and a longer context.
#[test]
fn an_interrupted_run_of_the_preset_ends_as_if_it_never_was() {
    let set = [
        "preset=deepseek-v3",
        "optim.schedule=wsd",
        "batch_growth.until=0.7",
        "fim={rate = 0.5, tokens = ['7', '8', '9']}",
        "context={length = 512, rope = {type = 'yarn'}}",
        "max_tokens=20",
    ];
    interrupted(&set, "BF16");
}

/// With settings `set`, moments are stored as `stored`.
fn interrupted(set: &[&str], stored: &str) {
    let bench = Bench::new();
    let config = |run: &str| bench.load(Stage::Pretrain, run, set).expect("a config");
    let want = run(Stage::Pretrain, &config("whole"), 2, false).expect("runs");
    let stopped = config("stopped");
    let (cpu, stop) = (Cpu::best(Some(2)).expect("a processor"), AtomicBool::new(false));
    let summary = supervised::run(
        &cpu,
        Stage::Pretrain,
        &stopped,
        Launch { resume: false, threads: 2, stop: &stop, ranks: &Ranks::alone() },
        |event| {
            if matches!(event, Event::Step { step: 3, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    );
    assert!(summary.expect("stops").stopped);
    assert_eq!(status(&stopped)["state"], "stopped");
    let moments =
        fs::read(stopped.stage.run_dir.join("checkpoints/step-000003/optimizer.safetensors")).expect("there");
    let header = String::from_utf8_lossy(&moments);
    assert!(header.contains(&format!("\"dtype\":\"{stored}\"")), "moments are stored as they are kept");
    // It goes on whatever became of the file.
    fs::write(stopped.stage.run_dir.join("status.json"), "{\"sta").expect("written");
    assert_eq!(run(Stage::Pretrain, &stopped, 1, true).expect("goes on").digest, want.digest);
    assert_eq!(status(&stopped)["state"], "finished");
    assert!(!stopped.stage.run_dir.join("rollouts").exists(), "nothing is drawn in learning by imitation");
    let refused = run(Stage::Pretrain, &stopped, 1, false).expect_err("a run is there");
    assert!(refused.to_string().contains("--resume"), "{refused}");
}

/// Of a demonstration only the reply is learned, and its end; what the update says of it is what the model gives it.
#[test]
fn fine_tuning_learns_replies_alone() {
    let bench = Bench::new();
    fs::write(bench.at("one.jsonl"), "{\"prompt\": \"1 + 1\", \"completion\": \"2.\"}\n").expect("written");
    let data = format!("data={}", bench.at("one.jsonl").display());
    let config = bench.load(Stage::Sft, "one", &[&data, "batch_tokens=1"]).expect("a config");
    run(Stage::Sft, &config, 1, false).expect("runs");
    let first = &metrics(&config)[0];
    assert_eq!(first["tokens"], 3, "two characters and the end");
    let tokenizer = Tokenizer::load(&bench.at("model")).expect("a tokenizer");
    let (context, mut tokens) =
        (tokenizer.encode("1 + 1", true).expect("ids"), tokenizer.encode("2.", false).expect("ids"));
    tokens.push(tokenizer.eos().expect("an end"));
    let model = checkpoint::load(&Reference, &bench.at("model"), Some(64)).expect("a model");
    let optim = &config.stage.optim;
    let optimizer = Optimizer::new(&Reference, model.config(), optim.moments).expect("memory");
    let mut learner = NextToken::new(&Reference, model, optimizer, 64, optim).expect("memory");
    let want = learner.loss(&Reference, &[Text { context: &context, tokens: &tokens }]).expect("memory");
    let loss = first["loss"].as_f64().expect("a loss");
    assert!((loss - want).abs() < 0.02, "{loss} against {want}");
}

/// Of conversations, what TRL learns with assistant-only masks is learned: the same tokens, by the same loss.
#[test]
fn conversations_are_learned_as_trl_learns_them() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages/sft");
    let (Ok(expected), Ok(rows)) =
        (fs::read_to_string(fixture.join("expected.json")), fs::read_to_string(fixture.join("rows.jsonl")))
    else {
        eprintln!("skipped: there is no {}", fixture.display());
        return;
    };
    let expected: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
    let bench = Bench::new();
    let chats: Vec<&str> = rows.lines().take(3).collect();
    fs::write(bench.at("chats.jsonl"), chats.join("\n")).expect("written");
    let model = format!("model={}", fixture.join("model").display());
    let data = format!("data={}", bench.at("chats.jsonl").display());
    let set = [&*model, &data, "max_tokens=128", "batch_tokens=30", "optim.micro_batch_tokens=128"];
    let config = bench.load(Stage::Sft, "chats", &set).expect("a config");
    let launch = Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    supervised::run(&Reference, Stage::Sft, &config, launch, |_| {}).expect("runs");
    let sum = |key: &str| -> f64 {
        let values = expected["loss"][key].as_array().expect("a list").iter().take(3);
        values.map(|value| value.as_f64().expect("a number")).sum()
    };
    let first = &metrics(&config)[0];
    assert_eq!(first["tokens"], 30);
    let (loss, want) = (first["loss"].as_f64().expect("a loss"), sum("nll_sums") / sum("counted_tokens"));
    assert!((loss - want).abs() < 1e-6 * want, "{loss} against {want}");
}

/// A model whose template opens the thinking, and ends turns with another token than texts: what is learned, what is
/// counted as left out, and what is refused.
#[test]
fn replies_that_cannot_be_learned_are_counted_or_refused() {
    let bench = Bench::new();
    let template = "{% for m in messages %}{{ m.role[0] + ':' + m.content.split('</think>')[-1] + '.' }}{% endfor %}\
        {% if add_generation_prompt %}{{ 'a:<think>' }}{% endif %}";
    fs::write(bench.at("model/chat_template.jinja"), template).expect("written");
    let run = |name: &str, rows: &str, set: &[&str]| {
        fs::write(bench.at(name), rows).expect("written");
        let data = format!("data={}", bench.at(name).display());
        let set: Vec<&str> =
            [&*data, "epochs=1", "batch_tokens=1", "max_tokens=64", "optim.micro_batch_tokens=64"]
                .into_iter()
                .chain(set.iter().copied())
                .collect();
        let config = bench.load(Stage::Sft, &format!("run-{name}"), &set)?;
        let launch =
            Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
        let mut said = String::new();
        supervised::run(&Reference, Stage::Sft, &config, launch, |event| {
            if let Event::Start { task, .. } = event {
                said = task.to_owned();
            }
        })?;
        Ok::<_, TrainError>((said, metrics(&config)[0]["tokens"].as_u64().expect("tokens")))
    };
    let thinks = r#"{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2", "reasoning_content": "1 1"}"#;
    let not = thinks.replace(", \"reasoning_content\": \"1 1\"", "");
    // `1 1`, a line, `</think>`, two lines (one token), `2.`, the end.
    let (said, tokens) = run("a.jsonl", &format!("{{\"messages\": [{thinks}]}}"), &[]).expect("runs");
    assert_eq!(tokens, 3 + 1 + 8 + 1 + 2 + 1, "{said}");
    let (said, tokens) = run("b.jsonl", &format!("{{\"messages\": [{not}, {thinks}]}}"), &[]).expect("runs");
    assert!(tokens == 16 && said.contains("1 reply left out: no thinking"), "{said}");
    let refused = run("c.jsonl", &format!("{{\"messages\": [{thinks}, {not}]}}"), &[]).expect_err("refused");
    let refused = format!("{refused:?} {refused}");
    assert!(refused.contains("demonstration 1 has no thinking"), "{refused}");
    let weighed = not.replace("\"2\"", "\"2\", \"weight\": 0");
    let (said, tokens) =
        run("d.jsonl", &format!("{{\"messages\": [{weighed}, {thinks}]}}"), &[]).expect("runs");
    assert!(tokens == 16 && !said.contains("left out"), "{said}");

    let long = format!(
        "{{\"messages\": [{thinks}]}}\n{{\"messages\": [{}]}}",
        thinks.replace("1 1\"", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\"")
    );
    let refused = run("e.jsonl", &long, &[]).expect_err("refused").to_string();
    assert!(refused.contains("max_tokens is 64") && refused.contains("`too_long`"), "{refused}");
    let (said, _) = run("f.jsonl", &long, &["too_long=leave-out"]).expect("runs");
    assert!(said.contains("1 texts") && said.contains("1 reply left out: longer than max_tokens"), "{said}");
    let (said, _) = run("g.jsonl", &long, &["too_long=truncate"]).expect("runs");
    assert!(said.contains("2 texts") && said.contains("1 reply cut off at max_tokens"), "{said}");
    let refused =
        run("h.jsonl", &long, &["too_long=leave-out", "max_tokens=9"]).expect_err("refused").to_string();
    assert!(refused.contains("no reply of"), "{refused}");
}

/// A sequence of joined texts is one text to attention and loss, and how it is cut into passes changes nothing.
#[test]
fn joined_texts_are_learned_as_one_sequence() {
    let bench = Bench::new();
    let texts = ["1 + 1", "2 + 22", "3 + 3 3"];
    let rows = texts.map(|text| format!("{{\"text\": \"{text}\"}}\n")).concat();
    fs::write(bench.at("few.jsonl"), rows).expect("written");
    let (data, eval) = (
        format!("data={}", bench.at("few.jsonl").display()),
        format!("eval={{data = '{}', every = 1}}", bench.at("held-out.jsonl").display()),
    );
    let first = |run: &str, packing: &str, rows: usize| {
        let (packing, rows) = (format!("packing={packing}"), format!("optim.micro_batch_tokens={rows}"));
        let set = [&*data, &eval, &packing, &rows, "max_tokens=12"];
        let config = bench.load(Stage::Pretrain, run, &set).expect("a config");
        let launch =
            Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
        supervised::run(&Reference, Stage::Pretrain, &config, launch, |_| {}).expect("runs");
        let line = metrics(&config)[0].clone();
        ["loss", "grad_norm", "tokens", "eval_loss"].map(|key| line[key].as_f64().expect("a number"))
    };
    let [loss, norm, tokens, held_out] = first("one-pass", "across", 100);
    let [cut_loss, cut_norm, ..] = first("passes", "across", 12);
    assert!((loss - cut_loss).abs() < 1e-9 && (norm - cut_norm).abs() < 1e-7 * norm, "{loss} {cut_loss}");
    // 18 characters and three ends: sequences of 12 and of 9 tokens.
    assert!([72.0, 75.0].contains(&tokens), "{tokens}");

    let tokenizer = Tokenizer::load(&bench.at("model")).expect("a tokenizer");
    let end = tokenizer.eos().expect("an end");
    let model = checkpoint::load(&Reference, &bench.at("model"), Some(64)).expect("a model");
    let optim = OptimConfig::default();
    let optimizer = Optimizer::new(&Reference, model.config(), optim.moments).expect("memory");
    let mut learner = NextToken::new(&Reference, model, optimizer, 64, &optim).expect("memory");
    let mut sum_of = |order: [usize; 3]| {
        let ids = |i: usize| tokenizer.encode(texts[i], false).expect("ids").into_iter().chain([end]);
        let all: Vec<u32> = order.into_iter().flat_map(ids).collect();
        let (a, b) = all.split_at(12);
        let of = [Text { context: &[end], tokens: a }, Text { context: &a[11..], tokens: b }];
        let mut loss = |text| learner.loss(&Reference, &[text]).expect("memory") * text.tokens.len() as f64;
        (loss(of[0]), loss(of[1]))
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    // 64 tokens take three passes over both sequences, and one of them once more.
    let [n, m] = if tokens == 75.0 { [4.0, 3.0] } else { [3.0, 4.0] };
    let is_one_of = orders.into_iter().any(|order| {
        let (a, b) = sum_of(order);
        ((n * a + m * b) / (n * 12.0 + m * 9.0) - loss).abs() < 1e-9
    });
    assert!(is_one_of, "{loss}");

    let [isolated, .., same_held_out] = first("isolated", "isolated", 100);
    assert!((isolated - loss).abs() > 1e-6, "a text attends to those before it");
    assert!(
        (held_out - same_held_out).abs() < 0.1,
        "held-out text is measured in one way: {held_out} {same_held_out}"
    );
}

#[test]
fn updates_grow_as_the_settings_say() {
    let bench = Bench::new();
    let set = ["epochs=4", "batch_tokens=96", "batch_growth={from = 0.25, until = 0.5}"];
    let config = bench.load(Stage::Pretrain, "grows", &set).expect("a config");
    run(Stage::Pretrain, &config, 1, false).expect("runs");
    let tokens: Vec<u64> =
        metrics(&config).iter().map(|line| line["tokens"].as_u64().expect("a count")).collect();
    assert!(tokens[0] < 24 + 16 && tokens[0] >= 24, "{tokens:?}");
    assert!(
        tokens[tokens.len() - 1] >= 96 && tokens.windows(2).all(|pair| pair[0] <= pair[1] + 16),
        "{tokens:?}"
    );
    let total: u64 = tokens.iter().sum();
    let epoch: u64 = (0..30).map(|i: u32| format!("{i} + {i} 0{}", i % 7).len() as u64 + 1).sum();
    assert!(
        total >= 4 * epoch && total < 4 * epoch + 96 + 16 * tokens.len() as u64,
        "{total} of {}",
        4 * epoch
    );
    let config = bench.load(Stage::Sft, "sft", &set).expect("fine-tuning has it too");
    run(Stage::Sft, &config, 1, false).expect("runs");
}

/// In two stages: the config that is saved says what was computed, and short and long contexts load.
#[test]
fn a_context_is_extended_in_stages() {
    let bench = Bench::new();
    let before = koan_model::Config::load(&bench.at("model")).expect("a config");
    let positions = before.max_position_embeddings;
    let context = |length: usize, rope: &str| format!("context={{length = {length}{rope}}}");
    let by_yarn = context(4 * positions, ", rope = {type = 'yarn', factor = 40}");
    let set = [&*by_yarn, "max_tokens=16", "packing=across"];
    let first = bench.load(Stage::Pretrain, "first", &set).expect("a config");
    run(Stage::Pretrain, &first, 1, false).expect("runs");
    let saved = first.stage.run_dir.join("model");
    let config = koan_model::Config::load(&saved).expect("a config");
    let computed = before
        .with_context(
            4 * positions,
            Some(koan_model::Yarn {
                factor: 40.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                mscale: None,
                mscale_all_dim: None,
            }),
        )
        .expect("extended");
    assert_eq!((config.rope_scaling, config.max_position_embeddings), (computed.rope_scaling, 4 * positions));
    assert_eq!(config.raw["rope_scaling"]["original_max_position_embeddings"], positions);
    for asked in [8, 4 * positions] {
        checkpoint::load(&Reference, &saved, Some(asked)).expect("loads");
    }
    assert!(checkpoint::load(&Reference, &saved, Some(4 * positions + 1)).is_err());

    let (model, longer) = (format!("model={}", saved.display()), context(16 * positions, ""));
    let second =
        bench.load(Stage::Pretrain, "second", &[&*model, &longer, "max_tokens=16"]).expect("a config");
    run(Stage::Pretrain, &second, 1, false).expect("runs");
    let config = koan_model::Config::load(&second.stage.run_dir.join("model")).expect("a config");
    assert_eq!(
        (config.rope_scaling, config.max_position_embeddings),
        (computed.rope_scaling, 16 * positions)
    );

    let refused = |set: &[&str]| {
        let config = bench.load(Stage::Pretrain, "bad", set).and_then(|c| run(Stage::Pretrain, &c, 1, false));
        assert!(!bench.at("bad").exists(), "nothing was begun");
        config.expect_err("refused").to_string()
    };
    assert!(refused(&[&longer]).contains("give context.rope"));
    assert!(
        refused(&[&*model, &context(8 * positions, ", rope = {type = 'yarn', factor = 8}")])
            .contains("by other constants")
    );
    assert!(refused(&[&*by_yarn, "adapter.rank=2"]).contains("[adapter]"));
    let longest = bench.load(Stage::Pretrain, "bad", &[&by_yarn]).expect("a config").max_tokens;
    assert_eq!(longest, 16, "what the file gives stays");
}

#[test]
fn held_out_text_is_measured_as_asked() {
    let bench = Bench::new();
    let eval = format!("eval.data={}", bench.at("held-out.jsonl").display());
    let config = bench.load(Stage::Pretrain, "a", &[&eval, "eval.every=2"]).expect("a config");
    run(Stage::Pretrain, &config, 2, false).expect("runs");
    let lines = metrics(&config);
    let measured = |line: &serde_json::Value| line["eval_loss"].is_number();
    assert!(!measured(&lines[0]) && measured(&lines[1]) && measured(&lines[lines.len() - 1]));
    let loss = |i: usize| lines[i]["eval_loss"].as_f64().expect("a loss");
    assert!(loss(lines.len() - 1) < loss(1));
}

#[test]
fn a_run_says_how_it_is_and_has_its_directory_for_itself() {
    let bench = Bench::new();
    let config = bench.config(Stage::Sft, "a");
    let (cpu, stop) = (Cpu::best(Some(1)).expect("a processor"), AtomicBool::new(false));
    let mut seen = 0;
    let ended = supervised::run(
        &cpu,
        Stage::Sft,
        &config,
        Launch { resume: false, threads: 1, stop: &stop, ranks: &Ranks::alone() },
        |event| {
            if let Event::Step { step, .. } = event {
                let status = status(&config);
                assert_eq!(
                    (&status["state"], &status["pid"]),
                    (&"running".into(), &std::process::id().into())
                );
                seen += 1;
                if step == 1 {
                    let second = run(Stage::Sft, &config, 1, true).expect_err("refused");
                    assert!(second.to_string().contains("another process is running"), "{second}");
                    // A checkpoint has no place any more.
                    let checkpoints = config.stage.run_dir.join("checkpoints");
                    fs::remove_dir(&checkpoints).and_then(|()| fs::write(checkpoints, "")).expect("replaced");
                }
            }
        },
    );
    let (error, status) = (ended.expect_err("fails"), status(&config));
    assert_eq!(status["state"], "failed");
    let message = status["message"].as_str().expect("a message");
    assert!(seen > 0 && message.contains(&error.to_string()), "{message}");
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let bench = Bench::new();
    let refused = |set: &[&str]| {
        let config = bench.load(Stage::Pretrain, "bad", set).and_then(|c| run(Stage::Pretrain, &c, 1, false));
        let error = config.expect_err("refused");
        assert!(!bench.at("bad").exists(), "{error}: nothing was begun");
        error.to_string()
    };
    assert!(refused(&["steps=3"]).contains("one of `steps` and `epochs`"));
    assert!(refused(&["batch_tokens=0"]).contains("batch_tokens"));
    assert!(refused(&["learning_rate=1"]).contains("learning_rate"));
    assert!(refused(&["optim.lr=-1"]).contains("optim.lr"));
    let data = |name: &str, content: &str| {
        fs::write(bench.at(name), content).expect("written");
        format!("data={}", bench.at(name).display())
    };
    assert!(refused(&[&data("ids.jsonl", "{\"token_ids\": [99]}")]).contains("token 99"));
    assert!(refused(&[&data("empty.jsonl", "{\"text\": \"\"}")]).contains("nothing to learn"));
    assert!(
        refused(&[&data("no.jsonl", "{\"prompt\": \"\"}")])
            .contains("no.jsonl:1: expected an object with `text`")
    );
    assert!(refused(&["data=absent.jsonl"]).contains("absent.jsonl"));
    let ids = data("ids.jsonl", "{\"token_ids\": [1, 2]}");
    assert!(refused(&[&ids, "fim={rate = 0.1, tokens = ['7', '8', '9']}"]).contains("gives tokens"));
    assert!(refused(&["fim.rate=0.1"]).contains("no `<|fim_begin|>`: name others"));
    assert!(refused(&["fim.rate=2"]).contains("`fim.rate` is 2"));
    assert!(refused(&["fim={tokens = ['7', '8', '9']}"]).contains("rate"));
    assert!(refused(&["packing=none"]).contains("isolated"));
    for set in ["fim.rate=0.1", "packing=across", "context.length=64", "preset=deepseek-v3"] {
        let error = bench.load(Stage::Sft, "bad", &[set]).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{}`", set.split(['=', '.']).next().expect("a key"))), "{error}");
    }

    // A window bounds what a model reads in one piece, whatever its positions.
    let config_file = bench.at("model/config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(&config_file).expect("there")).expect("an object");
    config["model_type"] = "mistral".into();
    config["sliding_window"] = 8.into();
    fs::write(&config_file, config.to_string()).expect("written");
    assert!(refused(&["max_tokens=12"]).contains("sliding_window"));
}

/// An adapter learns over frozen weights, repeats itself whatever the threads and interruptions, and the next run goes on
/// from it.
#[test]
fn an_adapter_learns_over_frozen_weights() {
    let bench = Bench::new();
    let set = ["adapter.rank=4", "adapter.targets=[\"q_proj\", \"mlp.down_proj\"]", "adapter.rslora=true"];
    let config =
        |run: &str, more: &[&str]| bench.load(Stage::Sft, run, &[&set[..], more].concat()).expect("a config");
    let whole = config("whole", &[]);
    let digest = run(Stage::Sft, &whole, 1, false).expect("runs").digest;
    let lines = metrics(&whole);
    let loss = |lines: &[serde_json::Value], i: usize| lines[i]["loss"].as_f64().expect("a loss");
    let last = lines.len() - 1;
    assert!(last > 2 && loss(&lines, last) < 0.9 * loss(&lines, 0), "{lines:?}");

    let stopped = config("stopped", &[]);
    let (cpu, stop) = (Cpu::best(Some(2)).expect("a processor"), AtomicBool::new(false));
    let launch = Launch { resume: false, threads: 2, stop: &stop, ranks: &Ranks::alone() };
    supervised::run(&cpu, Stage::Sft, &stopped, launch, |event| {
        stop.store(matches!(event, Event::Step { step: 3, .. }), Ordering::Relaxed);
    })
    .expect("stops");
    let entries = fs::read(stopped.stage.run_dir.join("checkpoints/step-000003/optimizer.safetensors"));
    let header = String::from_utf8_lossy(&entries.expect("there")).into_owned();
    assert!(
        header.contains("q_proj.lora_A.weight") && !header.contains("q_proj.weight"),
        "only what is trained"
    );
    assert_eq!(run(Stage::Sft, &stopped, 2, true).expect("goes on").digest, digest);

    let from = format!("adapter.from={}", whole.stage.run_dir.join("model").display());
    let on = bench.load(Stage::Sft, "on", &[&*from]).expect("a config");
    run(Stage::Sft, &on, 2, false).expect("runs");
    assert!(loss(&metrics(&on), 0) < loss(&lines, last) + 0.1, "it goes on where the other ended");
    let lineage = fs::read_to_string(on.stage.run_dir.join("lineage.json")).expect("lineage");
    assert!(lineage.contains("\"role\": \"adapter\""), "{lineage}");
}

#[test]
fn modules_that_predict_further_tokens_learn_with_their_model_or_stay() {
    let bench = Bench::new();
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(bench.at("model/config.json")).expect("there"))
            .expect("JSON");
    config["num_nextn_predict_layers"] = 2.into();
    fs::write(bench.at("config.json"), config.to_string()).expect("written");
    fs::remove_file(bench.at("model/config.json")).expect("there");
    fs::remove_file(bench.at("model/model.safetensors")).expect("there");
    fs::rename(bench.at("model"), bench.at("words")).expect("moved");
    let (file, words) = (bench.at("config.json"), bench.at("words"));
    koan_model::init(&file, 3, Some(&words), &bench.at("model"), &mut |_, _| {}).expect("a model");
    let module = |dir: &str| {
        let model = checkpoint::load(&Reference, bench.at(dir).as_path(), None).expect("a model");
        model
            .weights
            .multi_token
            .iter()
            .map(|module| module.eh_proj.weight.value().clone())
            .collect::<Vec<_>>()
    };
    let before = module("model");
    assert_eq!(before.len(), 2);

    let trained = |stage, name: &str, set: &[&str]| {
        let config = bench.load(stage, name, set).expect("a config");
        run(stage, &config, 2, false).expect("a run");
        metrics(&config)
    };
    let loss = |line: &Value| line["multi_token_loss"].as_f64();
    let lines = trained(Stage::Pretrain, "learned", &["epochs=8"]);
    let [first, last] = [&lines[0], &lines[lines.len() - 1]].map(|line| loss(line).expect("measured"));
    assert!(last < 0.8 * first, "{first} {last}");
    assert!(module("learned/model").iter().zip(&before).all(|(after, before)| after != before));

    let lines = trained(Stage::Sft, "left", &["multi_token.weight=0", "multi_token.late_weight=0"]);
    assert!(lines.iter().all(|line| loss(line).is_none()));
    assert_eq!(module("left/model"), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// How an update of an adapter is cut into passes changes nothing but rounding.
    #[test]
    fn cut_and_order_change_nothing_of_an_adapter(
        lengths in prop::collection::vec((1usize..6, 1usize..6), 1..5), rows in 10usize..30, seed in 0u64..1000,
    ) {
        let token = |i: usize, j: usize| ((testkit::random(seed, (16 * i + j) as u64) + 0.5) * 11.0) as u32;
        let texts: Vec<(Vec<u32>, Vec<u32>)> = lengths
            .iter()
            .enumerate()
            .map(|(i, &(n, m))| ((0..n).map(|j| token(i, j)).collect(), (n..n + m).map(|j| token(i, j)).collect()))
            .collect();
        let texts: Vec<Text> = texts.iter().map(|(context, tokens)| Text { context, tokens }).collect();
        let reversed: Vec<Text> = texts.iter().rev().copied().collect();
        let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
        let step = |texts: &[Text], rows: usize| {
            let adapter = testkit::adapter(Targets::AllLinear);
            let config = testkit::config(11, true).with_adapter(adapter).expect("an adapter");
            let model = testkit::model(&Reference, config, 5);
            let optimizer = Optimizer::new(&Reference, model.config(), optim.moments).expect("memory");
            let mut learner = NextToken::new(&Reference, model, optimizer, rows, &optim).expect("memory");
            let update = learner.update(&Reference, texts, &optim, optim.lr).expect("finite");
            (update.loss, update.grad_norm)
        };
        let (loss, norm) = step(&texts, 200);
        for (texts, rows) in [(&texts, rows), (&reversed, 200), (&reversed, rows)] {
            let (other_loss, other_norm) = step(texts, rows);
            prop_assert!((loss - other_loss).abs() < 1e-9 && (norm - other_norm).abs() < 1e-7 * (1.0 + norm));
        }
    }
}

/// Several ranks make the run of one, to the bit, with experts and held-out texts too; and go on on another number.
#[test]
fn ranks_make_the_run_of_one() {
    let bench = Bench::new();
    let on_ranks = |config: &SupervisedConfig, ranks: usize, resume: bool| {
        std::thread::scope(|scope| {
            let start = |ranks: Ranks| {
                scope.spawn(move || {
                    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
                    let launch = Launch { resume, threads: 1, stop: &AtomicBool::new(false), ranks: &ranks };
                    supervised::run(&cpu, Stage::Sft, config, launch, |_| {}).expect("runs").digest
                })
            };
            let all: Vec<_> = threads(ranks).into_iter().map(start).collect();
            let digests: Vec<_> = all.into_iter().map(|rank| rank.join().expect("no panic")).collect();
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
            digests[0].clone()
        })
    };
    let eval = format!("eval={{data = '{}', every = 2}}", bench.at("replies.jsonl").display());
    let config = |run: &str, more: &[&str]| {
        bench.load(Stage::Sft, run, &[&["shards=4", &*eval], more].concat()).expect("a config")
    };
    let numbers = |config: &SupervisedConfig| -> Vec<Vec<Value>> {
        let of =
            |line: Value| ["loss", "grad_norm", "tokens", "eval_loss", "flops"].map(|key| line[key].clone());
        metrics(config).into_iter().map(|line| of(line).to_vec()).collect()
    };
    let alone = config("alone", &[]);
    let want = on_ranks(&alone, 1, false);
    for ranks in [2, 4] {
        let config = config(&format!("on-{ranks}"), &[]);
        assert_eq!(on_ranks(&config, ranks, false), want, "{ranks} ranks");
        assert_eq!(numbers(&config), numbers(&alone), "{ranks} ranks");
    }
    let resumed = |run: &str, more: &[&str]| config(run, &[&["optim.schedule=constant"], more].concat());
    let want = on_ranks(&resumed("whole", &["epochs=2"]), 1, false);
    on_ranks(&resumed("resumed", &["epochs=1"]), 4, false);
    assert_eq!(on_ranks(&resumed("resumed", &["epochs=2"]), 2, true), want);
}
