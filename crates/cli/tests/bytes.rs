//! What every kind of step makes is held to a hash, on the instruction set whose results are those of every machine.
//!
//! A change that alters bytes fails here. If it is meant to: raise the version of what was altered in `crates/recipe/src/kind.rs`
//! (`COMPUTED` where a model computes, `WORKED` elsewhere), so that recipes make again what they made before, and put the new hashes here.

use std::{
    fs,
    process::{Command, Stdio},
};

use koan_files::sha256;
use serde_json::Value;

/// Steps with the hashes of what they make: the first 12 digits of their SHA-256.
const MADE: [(&str, &str); 17] = [
    ("model", "372d729525c6"),
    ("problems", "38b4046aeddd"),
    ("halves", "4a5a0efe070e"),
    ("clean", "3e251239bbcf"),
    ("easy", "3e251239bbcf"),
    ("shown", "5f5294079fc6"),
    ("read", "39b89395ce1b"),
    ("taught", "a9630d266e85"),
    ("chosen", "61d9bcc3dbea"),
    ("pairs", "8f944610fb7e"),
    ("blend", "4b2d451261dc"),
    ("preferred", "5bff09b16001"),
    ("scores", "db242db98742"),
    ("reinforced", "cb4e7334430e"),
    ("student", "9ed02124b020"),
    ("answers", "7941b49db82a"),
    ("measured", "664aadbea310"),
];

const RECIPE: &str = r#"
run_dir = "run"
seed = 3
[[step]]
name = "model"
kind = "init"
tiny = true
[[step]]
name = "problems"
kind = "problems"
generator = "arithmetic"
levels = 1
n = 40
phrasing = "{expression} ="
[[step]]
name = "halves"
kind = "split"
data = "@problems"
held_out = 8
[[step]]
name = "clean"
kind = "decontaminate"
data = "@halves.train"
against = "@halves.held-out"
[[step]]
name = "easy"
kind = "filter"
data = "@clean"
where = [{ field = "meta.level", max = 1 }]
[[step]]
name = "shown"
kind = "convert"
data = "@easy"
map = "prompt=prompt,completion=answer"
[[step]]
name = "read"
kind = "pretrain"
model = "@model"
data = "text.jsonl"
steps = 3
batch_tokens = 64
[[step]]
name = "taught"
kind = "sft"
model = "@read"
data = "@shown"
steps = 60
batch_tokens = 64
optim.lr = 3e-3
[[step]]
name = "chosen"
kind = "reject"
model = "@taught"
data = "@clean"
rollout = { problems = 16, group_size = 8, max_new_tokens = 4, top_p = 0.95 }
filter = { cut = false, language = "off" }
reward = [{ kind = "number" }]
[[step]]
name = "pairs"
kind = "reject"
model = "@taught"
data = "@clean"
rollout = { problems = 16, group_size = 16, max_new_tokens = 4 }
filter = { cut = false, language = "off" }
keep = { which = "preference", length_balance = 1.0 }
reward = [{ kind = "number" }]
[[step]]
name = "blend"
kind = "mix"
part = [{ data = "@chosen", share = 1 }, { data = "@shown", share = 1 }]
[[step]]
name = "preferred"
kind = "prefer"
model = "@taught"
data = "@pairs"
steps = 3
batch = 4
[[step]]
name = "scores"
kind = "prefer"
model = "@taught"
data = "@pairs"
steps = 3
batch = 4
algorithm.loss = "reward-model"
[[step]]
name = "reinforced"
kind = "rl"
model = "@taught"
data = "@clean"
steps = 3
rollout = { problems = 8, group_size = 4, max_new_tokens = [{ tokens = 3 }, { from_step = 2, tokens = 4 }] }
reward = [{ kind = "number" }, { kind = "model", model = "@scores", weight = 0.1 }]
[[step]]
name = "student"
kind = "distill"
model = "@model"
teacher = "@reinforced"
data = "@blend"
steps = 3
batch_tokens = 64
[[step]]
name = "answers"
kind = "generate"
model = "@reinforced"
data = "@halves.held-out"
n = 2
max_new_tokens = 4
[[step]]
name = "measured"
kind = "eval"
model = "@student"
data = "@halves.held-out"
reward = "number"
n = 2
max_new_tokens = 4
"#;

#[test]
fn each_kind_of_step_makes_the_bytes_that_are_on_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("r.toml", RECIPE);
    write("text.jsonl", &"{\"text\": \"3 + 4 = 7, and that is what is read again and again.\"}\n".repeat(8));
    let koan = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words).current_dir(folder.path()).env("KOAN_ISA", "portable").stdin(Stdio::null());
        let output = command.output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    koan(&["recipe", "run", "r.toml"]);
    let shown: Value = serde_json::from_str(&koan(&["recipe", "show", "r.toml", "--json"])).expect("JSON");
    let steps = shown["steps"].as_array().expect("steps");
    let of_step = |step: &Value| {
        let outputs = step["outputs"].as_array().expect("outputs").iter();
        let hashes: Vec<&str> = outputs.map(|output| output["sha256"].as_str().expect("a hash")).collect();
        (step["name"].as_str().expect("a name").to_owned(), sha256(hashes.join("\n"))[..12].to_owned())
    };
    let made: Vec<(String, String)> = steps.iter().map(of_step).collect();
    let on_record: Vec<(String, String)> =
        MADE.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
    assert_eq!(made, on_record, "see the head of this file");
}
