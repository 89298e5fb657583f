//! `koan model card` as its users meet it: of a recipe that was run, and of runs.

mod folder;

use std::fs;

use folder::Folder;
use serde_json::Value;

const RECIPE: &str = r#"
run_dir = "run"
seed = 3

[[step]]
name = "problems"
kind = "problems"
generator = "arithmetic"
levels = 1
n = 40

[[step]]
name = "halves"
kind = "split"
data = "@problems"
held_out = 8

[[step]]
name = "clean"
kind = "decontaminate"
data = "@halves.train"
against = ["@halves.held-out", "test.jsonl"]

[[step]]
name = "before"
kind = "eval"
model = "model"
data = "@halves.held-out"
reward = "number"
n = 2
max_new_tokens = 3

[[step]]
name = "taught"
kind = "sft"
model = "model"
data = "general.jsonl"
steps = 2
batch_tokens = 40

[[step]]
name = "reinforced"
kind = "rl"
model = "@taught"
data = "@clean"
steps = 2
[step.rollout]
problems = 4
group_size = 4
max_new_tokens = 3
[[step.reward]]
kind = "number"

[[step]]
name = "after"
kind = "eval"
model = "@reinforced"
data = "@halves.held-out"
reward = "number"
n = 2
temperature = 0.5
max_new_tokens = 3
"#;

/// With the recipe and what it reads.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("model/README.md", "---\nlicense: apache-2.0\n---\n# Not this model's\n");
    let row =
        "{\"prompt\": \"1+\", \"completion\": \"2.\", \"language\": \"en\", \"source\": \"<b>|x</b>\"}\n";
    folder.write("general.jsonl", &row.repeat(3));
    folder.write("test.jsonl", "{\"prompt\": \"what will never be asked\", \"answer\": \"1\"}\n");
    folder.write("r.toml", RECIPE);
    folder
}

/// The lines of a section.
fn section<'a>(card: &'a str, name: &str) -> &'a str {
    let (_, rest) = card.split_once(&format!("\n## {name}\n")).expect(name);
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

#[test]
fn the_card_of_a_recipe_says_what_was_recorded() {
    let folder = folder();
    let error = folder.refused("model card r.toml");
    assert!(error.contains("nothing is recorded of `run`"), "{error}");
    folder.done("recipe run r.toml --until before");
    let error = folder.refused("model card run");
    assert!(error.contains("no step of `run` made a model yet"), "{error}");
    folder.done("recipe run r.toml --set reinforced.steps=1");
    let (said, _) = folder.done("model card r.toml");
    assert!(said.contains("run/reinforced/model/README.md: the card of run/reinforced/model"), "{said}");
    let card = folder.read("run/reinforced/model/README.md");

    let [step, report] = ["run/steps/reinforced.json", "run/after/report.json"]
        .map(|name| -> Value { serde_json::from_str(&folder.read(name)).expect(name) });
    let pass = &report["report"]["pass_at_1"];
    let metadata = card.split("---\n").nth(1).expect("metadata");
    for line in [
        "language:\n  - \"en\"\n",
        "license: \"apache-2.0\"\n",
        "library_name: \"transformers\"\n",
        "pipeline_tag: \"text-generation\"\n",
        "base_model: \"model\"\n",
        "base_model_relation: \"finetune\"\n",
        "datasets:\n  - \"general\"\n",
        "tags:\n  - \"koan\"\n  - \"rl\"\n  - \"sft\"\n",
        "    name: \"run-reinforced\"\n",
        "        task:\n          type: \"text-generation\"\n",
        "                temperature: 0.5\n",
    ] {
        assert!(metadata.contains(line), "{line}: {metadata}");
    }
    let value = pass["accuracy"].as_f64().expect("a number");
    assert!(metadata.contains(&format!("value: {value:?}\n")), "{value}: {metadata}");

    let data = section(&card, "Data");
    assert!(
        data.contains("| `general.jsonl` | demonstrations: \\<b\\>&#124;x\\</b\\> | given | 3 |"),
        "{data}"
    );
    assert!(data.contains("| `@problems` | problems with answers"), "{data}");
    assert!(data.contains("drawn by the generator `arithmetic` | 40 |"), "{data}");
    let training = section(&card, "Training");
    let tokens = &step["tokens"];
    assert!(training.contains("| `reinforced` | `rl` | `@taught` | `@clean` | 1 |"), "{training}");
    assert!(training.contains(&format!("| 1 | {tokens} | ")), "{training}");
    for setting in ["`optim.lr = ", "`rollout.group_size = 4`", "`reward[0].kind = \"number\"`"] {
        assert!(training.contains(setting), "{setting}: {training}");
    }
    assert!(!training.contains("checkpoint_every") && !training.contains("`before`"), "{training}");
    let [low, high] = ["low", "high"].map(|key| 100.0 * pass[key].as_f64().expect(key));
    let evaluation = section(&card, "Evaluation");
    assert!(
        evaluation.contains(&format!(
            "| {:.1}% | {low:.1} to {high:.1}% | 8 × 2 | temperature 0.5, at most 3 tokens, ",
            100.0 * value
        )),
        "{evaluation}"
    );
    assert!(evaluation.contains("| `model` | `@halves.held-out`"), "what it was before: {evaluation}");
    let contamination = section(&card, "Contamination");
    assert!(contamination.contains("| `clean` | `run/halves/held-out.jsonl` ("), "{contamination}");
    assert!(
        contamination.contains("Data that were not compared with any test: `general.jsonl`."),
        "{contamination}"
    );
    assert!(!contamination.contains("not among the tests"), "{contamination}");
    assert!(section(&card, "Safety").contains("Not measured."));
    assert!(
        section(&card, "Cost")
            .contains(&format!("| `reinforced` | {:.2} | {tokens} |", step["seconds"].as_f64().expect("s")))
    );
    assert!(section(&card, "Limits").contains("`after` has only 8 problems"));
    let reproduce = section(&card, "How to reproduce it");
    for words in [
        "`koan recipe run` of r.toml:\n\n```toml\n\nrun_dir = \"run\"",
        "`--set reinforced.steps=1`",
        step["outputs"][0]["sha256"].as_str().expect("a hash"),
        &format!("Made by koan `{}`", step["code"].as_str().expect("a version")),
    ] {
        assert!(reproduce.contains(words), "{words}: {reproduce}");
    }

    // The card is no part of what the recipe knows the model by, and is written again as it was.
    let (_, steps) = folder.done("recipe run r.toml --set reinforced.steps=1");
    assert_eq!(steps.matches(": made already").count(), 7, "{steps}");
    folder.done("model card run/reinforced/model");
    assert_eq!(folder.read("run/reinforced/model/README.md"), card);
    folder.done("model card run --step reinforced --out again.md");
    assert_eq!(folder.read("again.md"), card);

    // What somebody wrote stays.
    folder.write("run/reinforced/model/README.md", &card.replace("## Limits", "## Limits\n\nMine."));
    let error = folder.refused("model card run");
    assert!(error.contains("is not as `koan model card` wrote it"), "{error}");
    folder.done("model card run --force --base-model org/base");
    assert!(folder.read("run/reinforced/model/README.md").contains("base_model: \"org/base\"\n"));

    let error = folder.refused("model card run --step clean");
    assert!(error.contains("step `clean` makes no model"), "{error}");
    let error = folder.refused("model card run --step reinforce");
    assert!(error.contains("step `reinforce` is not made in `run`"), "{error}");
    let error = folder.refused("model card run --base-model ../x");
    assert!(error.contains("is no name of a model on a hub"), "{error}");
    let error = folder.refused("model card run --eval run/before/report.json");
    assert!(error.contains("it measured another model"), "{error}");

    // Another card for what was made on the way.
    folder.done("model card run --step taught --out taught.md");
    let taught = folder.read("taught.md");
    assert!(section(&taught, "Contamination").contains("**No decontamination was done**"));
    assert!(section(&taught, "Evaluation").contains("| `model` | "), "{taught}");

    // A record of something else than what is there.
    let config = folder.read("run/reinforced/model/config.json");
    folder.write("run/reinforced/model/config.json", &format!("{config} "));
    let error = folder.refused("model card run");
    assert!(error.contains("the model in `run/reinforced/model` is not what is recorded"), "{error}");
    folder.write("run/reinforced/model/config.json", &config);
    folder.done("recipe run r.toml --only taught --set taught.steps=1");
    let error = folder.refused("model card run");
    assert!(
        error.contains(
            "what `taught` made, of which `reinforced` was made (`model`), is not what is recorded"
        ),
        "{error}"
    );
}

#[test]
fn the_card_of_a_run_goes_back_to_the_runs_before() {
    let folder = folder();
    folder.write("test.jsonl", &"{\"prompt\": \"1+\", \"answer\": \"2\"}\n".repeat(4));
    folder.write(
        "sft.toml",
        "run_dir = 'first'\nmodel = 'model'\ndata = 'general.jsonl'\nsteps = 1\nbatch_tokens = 40\n",
    );
    folder.write(
        "rl.toml",
        "run_dir = 'second'\nmodel = 'first/model'\ndata = 'test.jsonl'\nsteps = 1\n[rollout]\nproblems = 2\ngroup_size = 2\n\
         max_new_tokens = 2\n[eval]\ndata = 'test.jsonl'\nevery = 1\n",
    );
    folder.done("sft sft.toml");
    let error = folder.refused("model card model");
    assert!(error.contains("nothing is recorded of `"), "{error}");
    folder.done("rl rl.toml");
    folder.done("eval --model second/model --data test.jsonl --max-new-tokens 2 --out report.json");
    folder.done("model card second --eval report.json");
    let card = folder.read("second/model/README.md");
    assert!(card.contains("# second\n") && card.contains("from the model in `model` "), "{card}");
    let training = section(&card, "Training");
    assert!(training.contains("| `first-before-1` | `sft` | `model` | `general.jsonl` | 1 |"), "{training}");
    assert!(training.contains("| `second` | `rl` | `@first-before-1` | `test.jsonl` | 1 |"), "{training}");
    assert!(section(&card, "Data").contains("Only measured by while training: `test.jsonl`"), "{card}");
    let evaluation = section(&card, "Evaluation");
    assert!(evaluation.contains("| **this model** | `test.jsonl` ("), "{evaluation}");
    assert!(evaluation.contains("While it trained, after its last step, it got "), "{evaluation}");
    assert!(section(&card, "Limits").contains("on data that its training read, byte for byte"), "{card}");
    let reproduce = section(&card, "How to reproduce it");
    assert!(reproduce.contains("`second`, `koan rl` of:\n\n```toml\n"), "{reproduce}");

    fs::remove_file(folder.at("second/model/model.safetensors")).expect("removed");
    fs::copy(folder.at("model/model.safetensors"), folder.at("second/model/model.safetensors"))
        .expect("copied");
    let error = folder.refused("model card second");
    assert!(error.contains("the model in `second/model` is not what is recorded"), "{error}");
}
