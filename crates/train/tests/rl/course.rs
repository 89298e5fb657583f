//! A run in small: it learns, it repeats itself to the bit, and whatever interrupts it changes nothing.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::tiny_run::{TinyRun, metrics, rollouts, run};
use koan_cpu::{Cpu, Isa};
use koan_reward::{Context, Replay, Rewards, replay};
use koan_train::{
    comm::Ranks,
    rl::{self, Forecast, RlConfig},
    stage::{Event, Launch},
};

#[test]
fn a_run_repeats_itself_whatever_the_threads() {
    let tiny = TinyRun::new();
    let (a, b) = (tiny.config("a", &[]), tiny.config("b", &[]));
    let (one, two) = (run(&a, 1, false).expect("runs"), run(&b, 2, false).expect("runs"));
    assert_eq!(one.digest, two.digest);
    assert_eq!(metrics(&a.stage.run_dir), metrics(&b.stage.run_dir));
    let lines = metrics(&a.stage.run_dir);
    assert_eq!((&lines[0]["step"], lines.len()), (&0.into(), 5), "where it starts from, and four steps");
    assert!(lines[0]["eval"]["accuracy"].is_number());
    for line in &lines[1..] {
        assert_eq!(line["log_prob_gap"], 0.0, "{line}");
    }
    assert!(lines[1..].iter().any(|line| line["grad_norm"] != 0.0), "something was learned from");
    for file in ["config.toml", "lineage.json", "rollouts/step-000004.jsonl", "model/model.safetensors"] {
        assert!(a.stage.run_dir.join(file).exists(), "{file}");
    }
    let other = tiny.config("c", &["seed=8"]);
    assert_ne!(run(&other, 2, false).expect("runs").digest, one.digest, "another seed, another run");
}

#[test]
fn an_interrupted_run_ends_as_if_it_never_was() {
    interrupted("optim.moments=f32");
    interrupted("optim.moments=bf16");
    // Interrupted before its completions may be longer, and after.
    interrupted("rollout.max_new_tokens=[{tokens=2}, {from_step=4, tokens=5}]");
    interrupted("rollout.max_new_tokens=[{tokens=2}, {from_step=2, tokens=5}]");
    interrupted("rollout.drafts=text");
}

#[test]
fn drafts_change_no_bit_of_a_run() {
    let tiny = TinyRun::new();
    let long = ["rollout.max_new_tokens=40", "rollout.group_size=3", "rollout.sequences=2"];
    let made = |name: &str, drafts: &str| {
        let config = tiny.config(name, &[&long[..], &[drafts]].concat());
        run(&config, 2, false).expect("runs");
        let dir = config.stage.run_dir;
        (fs::read(dir.join("model/model.safetensors")).expect("a model"), rollouts(&dir), metrics(&dir))
    };
    let (mut without, mut with) =
        (made("without", "rollout.drafts=off"), made("with", "rollout.drafts=text"));
    let share = |line: &serde_json::Value| line["draft_acceptance"].as_f64();
    assert!(with.2.iter().filter_map(share).any(|share| (0.0..=1.0).contains(&share)), "tokens were guessed");
    assert!(without.2.iter().all(|line| share(line).is_none()), "none were");
    for line in without.2.iter_mut().chain(&mut with.2) {
        let line = line.as_object_mut().expect("an object");
        line.retain(|key, _| !["draft_acceptance", "tokens_per_pass", "flops"].contains(&&**key));
    }
    assert!(without == with, "the same model, completions and metrics");
}

#[test]
fn completions_are_as_long_as_their_step_allows() {
    let tiny = TinyRun::new();
    let grows = "rollout.max_new_tokens=[{tokens=2}, {from_step=3, tokens=5}]";
    let config = tiny.config("run", &[grows]);
    run(&config, 2, false).expect("runs");
    let lines = metrics(&config.stage.run_dir);
    let limits: Vec<_> = lines[1..].iter().map(|line| line["max_new_tokens"].as_u64()).collect();
    assert_eq!(limits, [2, 2, 5, 5].map(Some));
    let longest = |step: u64| {
        let of_step = rollouts(&config.stage.run_dir).into_iter().filter(move |line| line["step"] == step);
        of_step.filter_map(|line| line["completion_tokens"].as_u64()).max()
    };
    assert_eq!([1, 2, 3, 4].map(longest), [2, 2, 5, 5].map(Some));
    // Memory is planned for the longest, time for each.
    let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
    let forecast = |set: &str| Forecast::of(&cpu, &tiny.config("planned", &[set])).expect("a forecast");
    let (grown, long) = (forecast(grows), forecast("rollout.max_new_tokens=5"));
    assert_eq!((grown.plan.bytes(), grown.tokens), (long.plan.bytes(), long.tokens));
    assert!(
        grown.estimate.total_s
            < 4.0 * (grown.estimate.generate_s + grown.estimate.train_s) + 3.0 * grown.estimate.eval_s
    );
    // What `length` compares with can't be guessed.
    let error =
        run(&tiny.config("wrong", &[grows, "reward=[{kind='length'}]"]), 2, false).expect_err("no length");
    assert!(error.to_string().contains("write `max_tokens`"), "{error}");
}

fn interrupted(set: &str) {
    let tiny = TinyRun::new();
    let whole = tiny.config("whole", &[set]);
    let want = run(&whole, 2, false).expect("runs");

    // Stopped after its third step, between checkpoints.
    let stopped = tiny.config("stopped", &[set]);
    let (cpu, stop) = (Cpu::best(Some(2)).expect("a processor"), AtomicBool::new(false));
    let summary = rl::run(
        &cpu,
        &stopped,
        Launch { resume: false, threads: 2, stop: &stop, ranks: &Ranks::alone() },
        |event| {
            if matches!(event, Event::Step { step: 3, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    );
    assert!(summary.expect("stops").stopped);
    assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want.digest);
    assert_eq!(metrics(&whole.stage.run_dir), metrics(&stopped.stage.run_dir));

    // Killed in the middle of writing its second checkpoint: what a kill leaves is a hidden directory, later metrics and
    // later rollouts.
    let killed = tiny.config("killed", &[set, "steps=2"]);
    run(&killed, 2, false).expect("runs");
    let dir = &killed.stage.run_dir;
    fs::create_dir(dir.join("checkpoints/.step-000004.part")).expect("made");
    fs::write(dir.join("checkpoints/.step-000004.part/model.safetensors"), "half").expect("written");
    fs::write(dir.join("rollouts/step-000003.jsonl"), "{\"half\"").expect("written");
    let metrics_path = dir.join("metrics.jsonl");
    let mut text = fs::read_to_string(&metrics_path).expect("metrics");
    text.push_str("{\"step\": 3, \"step_s\": 1}\n{\"step\": 4, \"st");
    fs::write(&metrics_path, text).expect("written");
    let killed = tiny.config("killed", &[set]);
    assert_eq!(run(&killed, 2, true).expect("goes on").digest, want.digest);
    assert_eq!(metrics(&whole.stage.run_dir), metrics(&killed.stage.run_dir));
}

#[test]
fn a_run_refuses_what_would_change_its_course() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["steps=2"]);
    run(&config, 2, false).expect("runs");
    let error = |config: &RlConfig, resume| run(config, 2, resume).expect_err("refused").to_string();
    assert!(error(&config, false).contains("--resume"), "an existing run is not overwritten");
    for (set, key) in [("optim.lr=1e-2", "optim.lr"), ("optim.moments=bf16", "optim.moments")] {
        assert!(error(&tiny.config("run", &[set]), true).contains(key));
    }
    let longer = tiny.config("run", &["steps=3", "checkpoint_every=1"]);
    assert_eq!(run(&longer, 2, true).expect("a longer run goes on").step, 3);
    fs::write(tiny.folder.path().join("train.jsonl"), "{\"prompt\": \"1 + 1?\", \"answer\": 2}\n")
        .expect("written");
    assert!(error(&tiny.config("run", &["steps=4"]), true).contains("the data changed"));
    let settings = fs::read_to_string(config.stage.run_dir.join("config.toml")).expect("there");
    assert!(settings.contains("steps = 3"), "a refused run is left as it was: {settings}");
    let nothing = tiny.config("nothing", &[]);
    assert!(error(&nothing, true).contains("nothing to resume"));
}

#[test]
fn a_run_says_what_it_was_made_from_and_whose_run_made_that() {
    let tiny = TinyRun::new();
    let first = tiny.config("first", &["steps=1"]);
    run(&first, 2, false).expect("runs");
    let model = format!("model={}", first.stage.run_dir.join("model").display());
    let second = tiny.config("second", &["steps=1", &model]);
    run(&second, 2, false).expect("runs");
    let lineage = |config: &RlConfig| -> serde_json::Value {
        let text = fs::read_to_string(config.stage.run_dir.join("lineage.json")).expect("there");
        serde_json::from_str(&text).expect("an object")
    };
    let (before, after) = (lineage(&first), lineage(&second));
    let inputs = after["inputs"].as_array().expect("a list");
    let roles: Vec<_> = inputs.iter().filter_map(|input| input["role"].as_str()).collect();
    let template = "chat template and special tokens";
    assert_eq!(roles, ["model", "tokenizer", template, "model's config", "data", "held-out data"]);
    assert_eq!(inputs[0]["sha256"], before["weights_sha256"]);
    for input in &inputs[..4] {
        assert_eq!(input["made_by"]["run"], first.stage.run_dir.display().to_string());
        assert_eq!(input["made_by"]["weights_sha256"], before["weights_sha256"]);
    }
    let made = |input: &serde_json::Value| input["made_by"].is_object();
    assert!(!inputs[4..].iter().any(made) && !before["inputs"].as_array().expect("a list").iter().any(made));
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let tiny = TinyRun::new();
    let at = |name: &str| tiny.folder.path().join(name);
    fs::write(at("empty.jsonl"), "").expect("written");
    fs::write(at("file"), "").expect("written");
    let missing = at("missing").display().to_string();
    for (set, expected) in [
        (format!("data={missing}"), "cannot read"),
        (format!("data={}", at("empty.jsonl").display()), "has no lines"),
        (format!("model={missing}"), "is no model directory"),
        (format!("run_dir={}", at("file").join("run").display()), "cannot create"),
        ("reward=[{kind='maths'}]".to_owned(), "there is no verifier `maths`"),
        ("rollout.max_prompt_tokens=3".to_owned(), "rollout.max_prompt_tokens is 3"),
        ("rollout.max_new_tokens=300".to_owned(), "max_position_embeddings"),
        ("optim.micro_batch_tokens=1048576000".to_owned(), "1 to 1048576"),
    ] {
        let error = match tiny.load("wrong", &[&set]) {
            Ok(config) => run(&config, 2, false).expect_err(&set).to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{set}: {error}");
        assert!(!at("wrong").join("metrics.jsonl").exists(), "{set}: nothing was begun");
    }
    // A window bounds what a model reads in one piece, whatever its positions.
    let config_file = at("model").join("config.json");
    let text = fs::read_to_string(&config_file).expect("there");
    let mut windowed: serde_json::Value = serde_json::from_str(&text).expect("an object");
    windowed["model_type"] = "mistral".into();
    windowed["sliding_window"] = 8.into();
    fs::write(&config_file, windowed.to_string()).expect("written");
    let error = run(&tiny.config("wrong", &[]), 2, false).expect_err("too long").to_string();
    assert!(error.contains("sliding_window"), "{error}");
    assert!(!at("wrong").exists(), "nothing was begun");
    fs::write(&config_file, text).expect("written");

    let weights = at("model").join("model.safetensors");
    let bytes = fs::read(&weights).expect("there");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("written");
    let error = run(&tiny.config("wrong", &[]), 2, false).expect_err("truncated").to_string();
    assert!(error.contains("truncated"), "{error}");
    assert!(!at("wrong").exists(), "nothing was begun");
}

#[test]
fn bad_references_are_left_out_and_a_problem_chooses_its_reward() {
    let tiny = TinyRun::new();
    let problems = "{\"id\": \"good\", \"prompt\": \"1 + 1?\", \"answer\": 2, \"meta\": {\"level\": 1}}\n\
                    {\"id\": \"bad\", \"prompt\": \"1 + 2?\", \"answer\": \"three\"}\n\
                    {\"id\": \"form\", \"prompt\": \"1 + 3?\", \"answer\": \"four\", \"reward\": \"format\"}\n";
    fs::write(tiny.folder.path().join("train.jsonl"), problems).expect("written");
    let config = tiny.config("run", &["reward=[{kind='number'}, {kind='repetition', ngram=1, weight=0.5}]"]);
    let mut left_out = Vec::new();
    let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
    let launch = Launch { resume: false, threads: 2, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    rl::run(&cpu, &config, launch, |event| {
        if let Event::BadReferences { bad, .. } = event {
            left_out.extend(bad.iter().map(|bad| bad.id.clone()));
        }
    })
    .expect("runs");
    assert_eq!(left_out, ["bad"]);
    let resolved = fs::read_to_string(config.stage.run_dir.join("config.toml")).expect("written");
    assert!(resolved.contains("ngram = 1"), "every option with its value: {resolved}");
    let lines = rollouts(&config.stage.run_dir);
    for line in &lines {
        let kinds: Vec<_> =
            line["rewards"].as_array().expect("terms").iter().map(|term| term["kind"].as_str()).collect();
        match line["id"].as_str() {
            Some("good") => {
                assert_eq!(kinds, [Some("number"), Some("repetition")]);
                assert_eq!(line["meta"]["level"], 1);
            }
            Some("form") => assert_eq!(kinds, [Some("format"), Some("repetition")]),
            other => panic!("{other:?} was drawn"),
        }
    }
    fs::write(tiny.folder.path().join("train.jsonl"), problems.lines().nth(1).expect("bad"))
        .expect("written");
    let error = run(&tiny.config("none", &["reward=[{kind='number'}]"]), 2, false)
        .expect_err("all are bad")
        .to_string();
    assert!(error.contains("all 1 problems") && error.contains("`three`"), "{error}");
}

#[test]
fn a_run_whose_rewards_never_decide_ends_and_says_why() {
    let tiny = TinyRun::new();
    let failing =
        "reward=[{kind='external', command=['sh', '-c', 'read -r line; echo out of order >&2; exit 7']}]";
    let config = tiny.config("failing", &[failing, "steps=9"]);
    let error = run(&config, 2, false).expect_err("nothing to learn from").to_string();
    assert!(error.contains("last 3 steps") && error.contains("exit status: 7"), "{error}");
    let log = fs::read_to_string(config.stage.run_dir.join("reward-sh.log")).expect("kept");
    assert!(log.contains("out of order"));
    let lines = metrics(&config.stage.run_dir);
    assert_eq!((lines.len(), &lines[1]["undecided"]), (3, &96.into()), "two steps, all of them masked");
}

#[test]
fn the_reference_becomes_a_copy_of_the_policy_and_survives_a_kill() {
    let tiny = TinyRun::new();
    let set = ["algorithm.mini_batches=1", "algorithm.reference_every=2", "checkpoint_every=1"];
    let whole = tiny.config("whole", &set);
    let want = run(&whole, 2, false).expect("runs");
    let kl = |dir| metrics(dir)[1..].iter().map(|line| line["kl"].as_f64().expect("kl")).collect::<Vec<_>>();
    let found = kl(&whole.stage.run_dir);
    // Before the first update, and right after a copy, policy and reference are one.
    assert!(found[0] == 0.0 && found[1] > 0.0 && found[2] == 0.0 && found[3] > 0.0, "{found:?}");
    let never = tiny.config("never", &["algorithm.mini_batches=1"]);
    assert_ne!(run(&never, 2, false).expect("runs").digest, want.digest);
    assert!(kl(&never.stage.run_dir)[2] > 0.0, "the base model stays the reference");
    assert!(!never.stage.run_dir.join("checkpoints/step-000004/reference").exists());

    for steps in 1..4 {
        let part = tiny.config("part", &[&set[..], &[&format!("steps={steps}")]].concat());
        run(&part, 2, part.stage.run_dir.exists()).expect("runs");
        let reference =
            part.stage.run_dir.join(format!("checkpoints/step-{steps:06}/reference/model.safetensors"));
        assert_eq!(reference.exists(), steps >= 2, "saved once it is not the base model any more");
    }
    let rest = run(&tiny.config("part", &set), 1, true).expect("goes on");
    assert_eq!(rest.digest, want.digest);
    assert_eq!(kl(&whole.stage.run_dir), kl(&tiny.config("part", &set).stage.run_dir));
}

/// Pays, for sums whose first operand is even, the length of what was written, and nothing for the others.
const EVEN: &str = "reward=[{kind='external', command=['sh', '-c', \
    'while read -r line; do case $line in *[02468]\\ +*) echo ${#line};; *) echo 0;; esac; done']}]";

#[test]
fn dynamic_sampling_draws_until_there_is_enough_to_learn_from() {
    let tiny = TinyRun::new();
    let algorithm = "algorithm={preset='dapo', mini_batches=2, mask_truncated=false}";
    let set = [algorithm, "rollout.group_size=8", EVEN];
    let config = tiny.config("whole", &set);
    let want = run(&config, 2, false).expect("runs");
    let lines = metrics(&config.stage.run_dir);
    let count = |line: &serde_json::Value, key: &str| line[key].as_u64().expect("a count");
    assert!(lines[1..].iter().any(|line| count(line, "rounds") > 1), "{lines:?}");
    for line in &lines[1..] {
        let (drawn, same) = (count(line, "drawn_groups"), count(line, "zero_spread_groups"));
        assert!(drawn == 3 * count(line, "rounds") && drawn - same >= 3, "{line}");
    }
    let drawn = rollouts(&config.stage.run_dir);
    let mut learned = 0;
    for group in drawn.chunks(8) {
        let spread = group.iter().any(|line| line["reward"] != group[0]["reward"]);
        let advantages = group.iter().filter(|line| line["advantage"].is_number()).count();
        assert!(spread || advantages == 0, "a group without spread takes no part: {group:?}");
        learned += usize::from(advantages > 0);
    }
    assert_eq!((learned, drawn.len() % 8), (4 * 3, 0), "three groups a step");

    // Killed and resumed, the data go on where they were, though no step took a fixed number of problems.
    for steps in 1..4 {
        let steps = format!("steps={steps}");
        let set = [&set[..], &[&steps, "checkpoint_every=1"]].concat();
        let part = tiny.config("part", &set);
        run(&part, 1, part.stage.run_dir.exists()).expect("runs");
    }
    let part = tiny.config("part", &set);
    assert_eq!(run(&part, 1, true).expect("goes on").digest, want.digest);

    // The rounds are bounded: then a step learns from what there is, were it nothing.
    let bounded = tiny.config("bounded", &[&set[..], &["algorithm.max_rounds=1"]].concat());
    run(&bounded, 2, false).expect("runs");
    let lines = metrics(&bounded.stage.run_dir);
    assert!(lines[1..].iter().all(|line| line["drawn_groups"] == 3));
    let same = "reward=[{kind='external', command=['sh', '-c', 'while read -r line; do echo 1; done']}]";
    let nothing = tiny.config("nothing", &[&set[..2], &[same, "algorithm.max_rounds=2"]].concat());
    run(&nothing, 2, false).expect("runs");
    for line in &metrics(&nothing.stage.run_dir)[1..] {
        assert_eq!((&line["rounds"], &line["zero_spread_groups"]), (&2.into(), &6.into()));
        assert_eq!((&line["loss"], &line["grad_norm"]), (&0.0.into(), &0.0.into()), "nothing to learn from");
    }
}

#[test]
fn rollouts_show_every_token_and_replay_to_the_same_verdicts() {
    let tiny = TinyRun::new();
    let problems = "{\"id\": \"a\", \"prompt\": \"1 + 1?\", \"answer\": 2}\n\
                    {\"id\": \"b\", \"prompt\": \"1 + 3?\", \"answer\": \"4\", \"reward\": \"words\", \
                     \"tests\": [{\"stdin\": \"1\", \"stdout\": \"4\"}], \"step\": \"not the run's\"}\n";
    fs::write(tiny.folder.path().join("train.jsonl"), problems).expect("written");
    let set = ["reward=[{kind='number'}, {kind='length'}]", "steps=1"];
    let plain = tiny.config("plain", &set);
    let config = tiny.config("run", &[&set[..], &["rollout.log_probs=true"]].concat());
    let digests = [&plain, &config].map(|config| run(config, 2, false).expect("runs").digest);
    assert_eq!(digests[0], digests[1], "what is written changes nothing");
    assert!(rollouts(&plain.stage.run_dir).iter().all(|line| line["logprobs"].is_null()));
    let lines = rollouts(&config.stage.run_dir);
    for line in &lines {
        let list = |key: &str| line[key].as_array().expect("a list");
        assert_eq!(line["completion_tokens"], list("token_texts").len());
        let text: String = list("token_texts").iter().map(|t| t.as_str().expect("text")).collect();
        assert_eq!(text.replace("<eos>", "").replace("<unk>", ""), line["completion"]);
        let sum: f64 = list("logprobs").iter().map(|p| p.as_f64().expect("a number")).sum();
        assert!((sum - line["log_prob_sum"].as_f64().expect("a sum")).abs() < 1e-4, "{line}");
        let own = line["id"] == "b";
        assert_eq!(line["verifier"], if own { "words".into() } else { serde_json::Value::Null });
        assert_eq!((line["tests"].is_array(), &line["step"]), (own, &1.into()));
    }

    let rollouts = config.stage.run_dir.join("rollouts/step-000001.jsonl");
    let rollouts = koan_data::rows::Rows::open(&rollouts).expect("there");
    let context = Context { max_new_tokens: config.rollout.max_new_tokens.fixed(), log_dir: None };
    let rewards = Rewards::build(&config.reward, context).expect("builds");
    let (stop, mut replayed) = (AtomicBool::new(false), Vec::new());
    let replay = Replay { file: "rollouts", rewards: &rewards, threads: 1, keep_going: false, stop: &stop };
    let keep = |event: replay::Event| {
        if let replay::Event::Judged(judged) = event {
            replayed.push(serde_json::from_slice::<serde_json::Value>(&judged.json).expect("JSON"));
        }
        Ok(())
    };
    replay.run(rollouts, keep).expect("replays");
    assert_eq!(replayed.len(), lines.len());
    for (replayed, line) in replayed.iter().zip(&lines) {
        assert_eq!((&replayed["score"], &replayed["rewards"]), (&line["reward"], &line["rewards"]));
    }
}

#[test]
fn a_plan_needs_no_weights_and_says_what_does_not_fit() {
    let tiny = TinyRun::new();
    fs::remove_file(tiny.folder.path().join("model/model.safetensors")).expect("there");
    let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
    let before = fs::read_dir(tiny.folder.path()).expect("a folder").count();
    let forecast = Forecast::of(&cpu, &tiny.config("run", &[])).expect("a forecast");
    assert_eq!(forecast.obstacles(), [] as [String; 0]);
    let (time, speed) = (forecast.estimate, forecast.speed);
    for positive in [time.generate_s, time.train_s, time.eval_s, speed.sample, speed.update] {
        assert!(positive > 0.0 && positive.is_finite(), "{forecast:?}");
    }
    assert!(
        time.total_s > 4.0 * (time.generate_s + time.train_s),
        "four steps, and three held-out measurements"
    );
    let left = fs::read_dir(tiny.folder.path()).expect("a folder").count();
    assert_eq!(left, before + 1, "nothing but the config's file was written");

    // What a machine would need is known where it is not there.
    let huge = r#"{"model_type": "llama", "vocab_size": 15, "hidden_size": 16384, "intermediate_size": 65536,
        "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 100, "eos_token_id": 0}"#;
    fs::write(tiny.folder.path().join("model/config.json"), huge).expect("written");
    let set = ["rollout.max_new_tokens=200", "algorithm.mini_batches=1"];
    let forecast = Forecast::of(&cpu, &tiny.config("run", &set)).expect("a forecast");
    let obstacles = forecast.obstacles();
    for (obstacle, said) in obstacles.iter().zip(["exceed the model's 100", "GiB of memory", "GiB of disk"]) {
        assert!(obstacle.contains(said), "{obstacle}");
    }
    assert_eq!(obstacles.len(), 3);
    assert!(forecast.estimate.total_s > 1e6 * time.total_s);
}
