//! `koan reject` and `koan generate --prompt-template` as their users meet them.

mod folder;

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use folder::Folder;
use koan_model::testkit;

/// With problems and a config.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.done("data generate arithmetic --levels 1 --n 40 --out train.jsonl");
    let config = "run_dir = 'run'\nmodel = 'model'\ndata = 'train.jsonl'\n[rollout]\nproblems = 2\ngroup_size = 32\n\
                  max_new_tokens = 3\n[filter]\ncut = false\nlanguage = 'off'\n[[reward]]\nkind = 'number'\n";
    folder.write("reject.toml", config);
    folder
}

/// The names and hashes of what a run made.
fn made(run: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for folder in ["rollouts", "data"] {
        for entry in fs::read_dir(run.join(folder)).expect(folder).flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            all.push((name, koan_files::hash_file(&entry.path()).expect("read")));
        }
    }
    all.sort();
    all
}

#[test]
fn killed_at_random_it_ends_with_the_bytes_of_a_run_that_never_was() {
    let folder = folder();
    for which in ["random", "preference"] {
        let words = |run: &str| {
            format!(
                "reject reject.toml --set keep.which={which} --set keep.length_balance=1 --set run_dir={which}-{run}"
            )
        };
        let start = Instant::now();
        let (said, counts) = folder.done(&words("whole"));
        let whole_ms = start.elapsed().as_millis() as u64;
        assert!(said.contains(" rows are in ") && counts.contains("1280 completions: "), "{said} {counts}");
        let dir = folder.at(&format!("{which}-parts"));
        for i in 0..6 {
            let resume = if dir.join("config.toml").exists() { " --resume" } else { "" };
            let threads = 1 + i % 2;
            let mut command = folder.koan(&format!("{} --threads {threads}{resume}", words("parts")));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
            let share = testkit::random(5, i) + 0.5;
            std::thread::sleep(Duration::from_millis((share * whole_ms as f32 * 0.5) as u64));
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
        let resume = if dir.join("config.toml").exists() { " --resume" } else { "" };
        folder.done(&format!("{}{resume}", words("parts")));
        assert_eq!(made(&dir), made(&folder.at(&format!("{which}-whole"))));
    }
}

#[test]
fn a_plan_starts_nothing_and_mistakes_are_named() {
    let folder = folder();
    fs::remove_file(folder.at("model/model.safetensors")).expect("there");
    let (plan, _) = folder.done("reject reject.toml --plan");
    for word in ["20 steps of 2 problems × 32 completions, from 40 problems", "\nmemory ", "\ndisk "] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    assert!(!folder.at("run").exists());
    let refused = |words: &str| folder.refused(&format!("reject reject.toml {words}"));
    assert!(refused("--set keep.wich=all").contains("did you mean `which`?"));
    assert!(refused("--set optim.lr=1").contains("unknown field `optim`"));
    assert!(refused("").contains("model.safetensors") && !folder.at("run").exists());
}

#[test]
fn rows_are_rewritten_by_a_template_and_become_demonstrations() {
    let folder = folder();
    let rows = "{\"id\": 1, \"prompt\": \"1+1\", \"answer\": \"2\", \"draft\": \"3\"}\n{\"id\": 2, \"prompt\": \"2+2\", \"draft\": \"5\"}\n";
    fs::write(folder.at("drafts.jsonl"), rows).expect("written");
    fs::write(folder.at("refine.jinja"), "{{ prompt }} {{ draft }}\n").expect("written");
    let generate = "generate --model model --input drafts.jsonl --n 8 --max-new-tokens 12";
    folder.done(&format!("{generate} --prompt-template refine.jinja --out refined.jsonl"));
    folder.done(&format!("{generate} --prompt-template {{{{prompt}}}}.{{{{draft}}}} --out text.jsonl"));
    let text = fs::read_to_string(folder.at("refined.jsonl")).expect("written");
    let row: serde_json::Value = serde_json::from_str(text.lines().next().expect("a row")).expect("JSON");
    assert_eq!(
        (&row["rendered_prompt"], &row["prompt"], &row["draft"]),
        (&"1+1 3".into(), &"1+1".into(), &"3".into())
    );
    let (said, _) = folder.done("data convert refined.jsonl --out sft.jsonl");
    assert!(said.starts_with("generated: "), "{said}");
    let rows = fs::read_to_string(folder.at("sft.jsonl")).expect("written");
    assert!(rows.contains("\"prompt\":\"1+1\"") && rows.contains("\"completion\""), "{rows}");
    let sft = "run_dir = 'sft'\nmodel = 'model'\ndata = 'sft.jsonl'\nsteps = 1\n";
    fs::write(folder.at("sft.toml"), sft).expect("written");
    folder.done("sft sft.toml");
    let refused = |template: &str| folder.refused(&format!("{generate} --prompt-template {template}"));
    let error = refused("{{answer}}");
    assert!(
        error.contains("drafts.jsonl:2: `answer` is not in the row, which has: id, prompt, draft"),
        "{error}"
    );
    assert!(refused("{{prompt").contains("the prompt template is invalid"));
    assert!(refused("missing.jinja").contains("`missing.jinja` is no file"));
}
