//! Odd rewards and odd data: each does what docs/guide/troubleshooting.md says.

use std::fs;

use crate::tiny_run::{TinyRun, metrics, rollouts, run};

/// A reward that answers every request by what `script` does.
fn external(script: &str) -> String {
    let command = format!("while read -r line; do {script}; done");
    // Time enough for a busy machine, except for what never answers.
    let timeout_s = if script.contains("sleep") { 0.1 } else { 30.0 };
    format!(
        "reward=[{{kind='external', timeout_s={timeout_s:?}, max_failures=2, command=['sh', '-c', '{command}']}}]"
    )
}

#[test]
fn rewards_that_are_all_the_same_teach_nothing_and_say_so() {
    let tiny = TinyRun::new();
    let base = koan_files::hash_file(&tiny.folder.path().join("model/model.safetensors")).expect("a model");
    for (score, accuracy) in [(0, 0.0), (1, 1.0)] {
        let config =
            tiny.config(&format!("all-{score}"), &[&external(&format!("echo {score}")), "algorithm.kl=0"]);
        run(&config, 2, false).expect("runs");
        for line in &metrics(&config.stage.run_dir)[1..] {
            assert_eq!((&line["accuracy"], &line["reward"]), (&accuracy.into(), &f64::from(score).into()));
            assert_eq!((&line["zero_spread_groups"], &line["grad_norm"]), (&3.into(), &0.0.into()), "{line}");
        }
        let weights =
            koan_files::hash_file(&config.stage.run_dir.join("model/model.safetensors")).expect("a model");
        assert_eq!(weights, base, "nothing was learned");
    }
}

#[test]
fn as_many_threads_judge_as_the_caller_says() {
    // Notes how many judge beside it, itself too.
    let script = "touch busy.$$; sleep 0.02; ls | grep -c busy >> counts; rm busy.$$; echo 0";
    for threads in [1, 3] {
        let tiny = TinyRun::new();
        let at = tiny.folder.path().join("judging");
        fs::create_dir(&at).expect("made");
        let command = format!("cd {}; while read -r line; do {script}; done", at.display());
        let reward = format!("reward=[{{kind='external', workers=8, command=['sh', '-c', '{command}']}}]");
        let config = tiny.config("run", &[&reward, "rollout.group_size=16", "steps=1", "eval.samples=4"]);
        run(&config, threads, false).expect("runs");
        let counts = fs::read_to_string(at.join("counts")).expect("judged");
        let most = counts.lines().map(|n| n.parse().expect("a count")).max();
        assert_eq!(most, Some(threads), "in rollouts and in held-out measurements");
    }
}

#[test]
fn rewards_that_never_judge_end_the_run_with_their_reason() {
    let tiny = TinyRun::new();
    for (name, script, reason) in [
        ("crashes", "exit 3", "exit status: 3"),
        ("hangs", "sleep 60", "within 0.1 s"),
        ("nan", "echo NaN", "neither a finite number"),
        ("null", "echo null", "not decided"),
    ] {
        let config = tiny.config(name, &[&external(script), "rollout.group_size=2", "steps=9"]);
        let error = run(&config, 2, false).expect_err("nothing to learn from").to_string();
        let said = error.contains(reason) || error.contains("given up");
        assert!(
            error.contains("no completion of the last 3 steps could be judged") && said,
            "{name}: {error}"
        );
        let reasons: Vec<_> = rollouts(&config.stage.run_dir)
            .iter()
            .map(|line| line["rewards"][0]["reason"].to_string())
            .collect();
        assert!(reasons.iter().any(|r| r.contains(reason)), "{name}: {reasons:?}");
    }
}

#[test]
fn one_problem_is_drawn_as_often_as_a_step_asks_for() {
    let tiny = TinyRun::new();
    let problem = "{\"id\": \"only\", \"prompt\": \"1 + 1?\", \"answer\": 2}\n";
    fs::write(tiny.folder.path().join("train.jsonl"), problem).expect("written");
    let config = tiny.config("run", &["steps=2", "rollout.group_size=4"]);
    run(&config, 2, false).expect("runs");
    let lines = rollouts(&config.stage.run_dir);
    assert_eq!(lines.len(), 2 * 3 * 4, "three groups a step, all of one problem");
    let group = |i: usize| lines[4 * i..][..4].iter().map(|l| l["completion"].clone()).collect::<Vec<_>>();
    assert!(group(0) != group(1) && group(1) != group(2), "each drawn with numbers of its own");
}

#[test]
fn without_a_chat_template_a_prompt_is_its_text() {
    let tiny = TinyRun::new();
    let weights = |name: &str, set: &[&str]| {
        let config = tiny.config(name, set);
        run(&config, 2, false).expect("runs");
        koan_files::hash_file(&config.stage.run_dir.join("model/model.safetensors")).expect("a model")
    };
    // A system message has no place in a text, so it is not there either.
    let as_text = weights("raw", &["rollout.raw=true"]);
    assert_eq!(weights("none", &[]), as_text);
    assert_eq!(weights("system", &["rollout.system='1'"]), as_text);
    let template = "{\"eos_token\": \"<eos>\", \"chat_template\": \"+{{ messages[0].content }}+\"}";
    fs::write(tiny.folder.path().join("model/tokenizer_config.json"), template).expect("written");
    assert_ne!(weights("template", &[]), as_text);
}

#[test]
fn an_empty_completion_is_unparsable_and_takes_part() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["rollout.max_new_tokens=1"]);
    run(&config, 2, false).expect("runs");
    let lines = rollouts(&config.stage.run_dir);
    let ended = |l: &&serde_json::Value| l["completion"] == "" && l["finish_reason"] == "stop";
    let empty: Vec<_> = lines.iter().filter(ended).collect();
    assert!(!empty.is_empty());
    for line in empty {
        assert_eq!(
            (&line["completion_tokens"], &line["rewards"][0]["outcome"]),
            (&1.into(), &"unparsable".into())
        );
        assert!(line["reward"] == 0.0 && line["advantage"].is_number(), "{line}");
    }
}
