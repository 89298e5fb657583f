//! What `--resume` goes on with, what it refuses, and that a refused run is left as it was.

use std::{fs, path::Path};

use crate::tiny_run::{TinyRun, run};
use koan_train::rl::RlConfig;

fn refused(config: &RlConfig) -> String {
    run(config, 2, true).expect_err("refused").to_string()
}

/// All files below `dir`, with what they hold.
fn everything(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("read").path();
        if path.is_dir() {
            all.extend(everything(&path));
        } else {
            all.push((path.display().to_string(), fs::read(&path).expect("read")));
        }
    }
    all.sort();
    all
}

#[test]
fn a_kill_between_a_checkpoint_and_pruning_leaves_none_too_many() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["checkpoint_every=1", "checkpoints_kept=2", "steps=3"]);
    run(&config, 2, false).expect("runs");
    let checkpoints = config.stage.run_dir.join("checkpoints");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&checkpoints).expect("there").map(|e| e.expect("read").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["step-000002", "step-000003"]);
    fs::create_dir(checkpoints.join("step-000001")).expect("as a kill left it");
    run(&config, 2, true).expect("nothing is left to do");
    assert_eq!(names(), ["step-000002", "step-000003"]);
}

#[test]
fn a_run_that_made_more_steps_than_are_asked_for_is_left_as_it_was() {
    let tiny = TinyRun::new();
    run(&tiny.config("run", &[]), 2, false).expect("runs");
    let shorter = tiny.config("run", &["steps=2"]);
    let before = everything(&shorter.stage.run_dir);
    let error = refused(&shorter);
    assert!(error.contains("has made 4 steps already, and `steps` is 2"), "{error}");
    assert!(everything(&shorter.stage.run_dir) == before);
}

#[test]
fn a_run_without_its_checkpoints_says_what_is_missing() {
    let tiny = TinyRun::new();
    let set = ["checkpoint_every=3", "steps=3"];
    for (name, lose) in [
        (
            "none in the directory",
            (|dir| fs::remove_dir_all(dir).and_then(|()| fs::create_dir(dir))) as fn(&Path) -> _,
        ),
        ("no directory", |dir| fs::remove_dir_all(dir)),
    ] {
        let config = tiny.config(name, &set);
        run(&config, 2, false).expect("runs");
        let dir = &config.stage.run_dir;
        lose(&dir.join("checkpoints")).expect("removed");
        let before = everything(dir);
        for _ in 0..2 {
            let error = refused(&config);
            for words in ["has made 3 steps", "checkpoints/step-000003`", "trainer.json", "another run_dir"] {
                assert!(error.contains(words), "{name}: {error}");
            }
            assert!(everything(dir) == before, "{name}");
        }
        // Killed, without a word of what it had.
        fs::remove_file(dir.join("lineage.json")).expect("there");
        fs::write(dir.join("status.json"), "{\"state\": \"running\"}").expect("written");
        fs::write(dir.join("metrics.jsonl"), "{\"step\": 4}\n").expect("written");
        let longer = tiny.config(name, &["checkpoint_every=3", "steps=5"]);
        assert!(refused(&longer).contains("checkpoints/step-000003`"), "{name}");
        // Killed before its first checkpoint: there is nothing to lose.
        fs::write(dir.join("metrics.jsonl"), "{\"step\": 3}\n").expect("written");
        assert_eq!(run(&config, 2, true).expect("starts over").step, 3, "{name}");
    }
}

#[test]
fn whatever_shapes_prompts_and_completions_is_compared() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["steps=2"]);
    let model = tiny.folder.path().join("model");
    let file = |name: &str| model.join(name);
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    fs::write(file("chat_template.jinja"), template).expect("written");
    run(&config, 2, false).expect("runs");
    let longer = tiny.config("run", &["steps=3"]);
    let tokenizer = fs::read_to_string(file("tokenizer.json")).expect("read");
    let swapped = tokenizer.replace("\"1\":3,\"2\":4", "\"1\":4,\"2\":3");
    assert_ne!(swapped, tokenizer, "two ids change places");
    let settings = fs::read_to_string(file("config.json")).expect("read");
    for (name, other, changed) in [
        ("tokenizer.json", Some(swapped), "the tokenizer changed"),
        (
            "chat_template.jinja",
            Some("{{ messages[0].content }} ".to_owned()),
            "the chat template and special tokens changed",
        ),
        ("chat_template.jinja", None, "the chat template and special tokens changed"),
        (
            "tokenizer_config.json",
            Some("{\"eos_token\": \"1\"}".to_owned()),
            "the chat template and special tokens changed",
        ),
        (
            "generation_config.json",
            Some("{\"eos_token_id\": [0, 3]}".to_owned()),
            "the model's config changed",
        ),
        ("config.json", Some(settings.replace("1000.0", "2000.0")), "the model's config changed"),
    ] {
        let was = fs::read(file(name)).ok();
        match other {
            Some(other) => fs::write(file(name), other).expect("written"),
            None => fs::remove_file(file(name)).expect("there"),
        }
        let error = refused(&longer);
        assert!(error.contains(changed), "{name}: {error}");
        match was {
            Some(was) => fs::write(file(name), was).expect("restored"),
            None => fs::remove_file(file(name)).expect("restored"),
        }
    }
    assert_eq!(run(&longer, 2, true).expect("as it was").step, 3);
}

#[test]
fn files_of_a_run_that_are_none_are_named_and_not_waited_for() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["steps=2"]);
    run(&config, 2, false).expect("runs");
    let longer = tiny.config("run", &["steps=3"]);
    let dir = &config.stage.run_dir;
    for name in ["config.toml", "metrics.jsonl"] {
        let (file, aside) = (dir.join(name), dir.join("aside"));
        fs::rename(&file, &aside).expect("moved");
        assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("started").success());
        let error = refused(&longer);
        assert!(error.contains(&format!("cannot read `{}`", file.display())), "{name}: {error}");
        fs::rename(&aside, &file).expect("restored");
    }
    assert_eq!(run(&longer, 2, true).expect("goes on").step, 3);
}
