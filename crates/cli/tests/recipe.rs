//! `koan recipe` as its users meet it.

mod folder;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use folder::Folder;
use koan_model::testkit;
use serde_json::Value;

/// Every kind of artefact: problems, rejection sampling, pairs, a reward model, fine-tuning, RL, measurements.
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
against = "test.jsonl"

[[step]]
name = "before"
kind = "eval"
model = "model"
data = "@halves.held-out"
reward = "number"
n = 4
max_new_tokens = 3

[[step]]
name = "chosen"
kind = "reject"
model = "model"
data = "@clean"
[step.rollout]
problems = 8
group_size = 32
max_new_tokens = 3
[step.filter]
cut = false
language = "off"
[[step.reward]]
kind = "number"

[[step]]
name = "pairs"
kind = "reject"
model = "model"
data = "@clean"
[step.rollout]
problems = 8
group_size = 32
max_new_tokens = 3
[step.filter]
cut = false
language = "off"
wrong = false
[step.keep]
which = "preference"
[[step.reward]]
kind = "number"

[[step]]
name = "scores"
kind = "prefer"
model = "model"
data = "@pairs"
steps = 3
batch = 4
[step.algorithm]
loss = "reward-model"

[[step]]
name = "blend"
kind = "mix"
rows = 12
[[step.part]]
data = "@chosen"
share = 0.5
repeat = true
[[step.part]]
data = "general.jsonl"
share = 0.5
repeat = true

[[step]]
name = "taught"
kind = "sft"
model = "model"
data = "@blend"
steps = 6
batch_tokens = 40
checkpoint_every = 2

[[step]]
name = "reinforced"
kind = "rl"
model = "@taught"
data = "@clean"
steps = 4
checkpoint_every = 1
[step.rollout]
problems = 4
group_size = 4
max_new_tokens = 3
[[step.reward]]
kind = "number"
[[step.reward]]
kind = "model"
name = "liked"
model = "@scores"
weight = 0.1

[[step]]
name = "after"
kind = "eval"
model = "@reinforced"
data = "@halves.held-out"
reward = "number"
n = 4
max_new_tokens = 3
"#;

/// With the recipe and what it reads.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write(
        "general.jsonl",
        "{\"prompt\": \"1+\", \"completion\": \"2.\"}\n{\"prompt\": \"3+\", \"completion\": \"4.\"}\n",
    );
    folder.write("test.jsonl", "{\"prompt\": \"what will never be asked\", \"answer\": \"1\"}\n");
    folder.write("r.toml", RECIPE);
    folder
}

/// The hash of everything that the steps made.
fn hashes(folder: &Folder) -> BTreeMap<String, String> {
    let (said, _) = folder.done("recipe show r.toml --json");
    let all: Value = serde_json::from_str(&said).expect("JSON");
    let mut hashes = BTreeMap::new();
    for step in all["steps"].as_array().expect("steps") {
        assert_eq!(step["state"], "done", "{step}");
        for output in step["outputs"].as_array().expect("outputs") {
            let [path, hash] = ["path", "sha256"].map(|key| output[key].as_str().expect(key).to_owned());
            hashes.insert(path, hash);
        }
    }
    hashes
}

/// The steps that a run made, and those that it found made.
fn made(said: &str) -> (Vec<&str>, Vec<&str>) {
    let lines = || said.lines().filter_map(|line| line.strip_prefix("== "));
    let name = |line: &'static str| move |l: &&str| l.contains(line);
    let first = |line: &str| line.split([':', ' ']).next().map_or(0, str::len);
    let names = |what: &'static str| lines().filter(name(what)).map(|line| &line[..first(line)]).collect();
    (names(": made in "), names(": made already"))
}

#[test]
fn killed_at_random_it_ends_with_the_hashes_of_a_recipe_that_never_was() {
    let (whole, parts) = (folder(), folder());
    let start = Instant::now();
    let (said, steps) = whole.done("recipe run r.toml");
    let whole_ms = start.elapsed().as_millis() as u64;
    assert!(said.contains("all is made") && made(&steps).0.len() == 11, "{said} {steps}");
    let expected = hashes(&whole);
    assert_eq!(expected.len(), 12, "{expected:?}");

    let mut kills = 0;
    for i in 0..40 {
        let mut command = parts.koan(&format!("recipe run r.toml --threads {}", 1 + i % 2));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let share = testkit::random(9, i) + 0.5;
        std::thread::sleep(Duration::from_millis((share * whole_ms as f32 * 0.35) as u64));
        if let Some(status) = child.try_wait().expect("asked") {
            assert!(status.success());
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        kills += 1;
    }
    assert!(kills >= 2, "{kills}");
    parts.done("recipe run r.toml");
    assert_eq!(hashes(&parts), expected);

    // A row, back to where it comes from.
    let rows = fs::read_to_string(parts.at("run/chosen/data/sft.jsonl")).expect("rows");
    let row: Value = serde_json::from_str(rows.lines().next().expect("a row")).expect("JSON");
    let id = row["id"].as_str().expect("an id");
    let (traced, _) = parts.done(&format!("recipe show r.toml --trace {id}"));
    for words in [
        "chosen (reject)  run/chosen/data/sft.jsonl, row 1",
        "written by model (sha256 ",
        "origin {\"model\":\"model\"",
        "← clean (decontaminate)  run/clean/data.jsonl, row ",
        "← problems (problems)  run/problems/data.jsonl, row ",
        "source: koan data generate arithmetic, seed 3",
    ] {
        assert!(traced.contains(words), "{words}: {traced}");
    }
    assert!(parts.refused("recipe show r.toml --trace none").contains("no row that is made or read"));

    // Nothing is made twice.
    let (_, steps) = parts.done("recipe run r.toml");
    assert_eq!((made(&steps).0.len(), made(&steps).1.len()), (0, 11), "{steps}");

    // What one step reads changed: it and what reads it are made again, and the old is kept.
    parts.write("general.jsonl", "{\"prompt\": \"5+\", \"completion\": \"6.\"}\n");
    let (_, steps) = parts.done("recipe run r.toml");
    assert_eq!(made(&steps).0, ["blend", "taught", "reinforced", "after"], "{steps}");
    assert!(steps.contains("what `part[1].data` holds"), "{steps}");
    assert!(parts.at("run/superseded/taught-1/model/model.safetensors").exists());
    // A setting of the last alone.
    let (_, steps) = parts.done("recipe run r.toml --set after.n=2");
    assert_eq!(made(&steps).0, ["after"], "{steps}");
    assert!(steps.contains("`n` (4, now 2)"), "{steps}");

    // Somebody changed what a step made.
    let clean = parts.at("run/clean/data.jsonl");
    let text = fs::read_to_string(&clean).expect("read");
    fs::write(&clean, &text[text.find('\n').expect("a line") + 1..]).expect("written");
    let (_, steps) = parts.done("recipe run r.toml --set after.n=2");
    assert_eq!(made(&steps).0, ["clean"], "it came out as before, so the rest stands: {steps}");
    assert!(steps.contains("clean/data.jsonl` was changed since"), "{steps}");
}

#[test]
fn a_part_of_a_recipe_is_run_only_on_what_is_made() {
    let folder = folder();
    let error = folder.refused("recipe run r.toml --from chosen");
    assert!(error.contains("step `problems`, which `chosen` needs, is not made yet"), "{error}");
    assert!(error.contains("(without --from)"), "{error}");
    let (_, steps) = folder.done("recipe run r.toml --until clean");
    assert_eq!(made(&steps).0, ["problems", "halves", "clean"]);
    let (_, steps) = folder.done("recipe run r.toml --only before");
    assert_eq!((made(&steps).0, made(&steps).1.len()), (vec!["before"], 0), "{steps}");
    let error = folder.refused("recipe run r.toml --only reinforced");
    assert!(error.contains("is not made yet: run it too (without --only)"), "{error}");
    let error = folder.refused("recipe run r.toml --only befor");
    assert!(error.contains("did you mean `before`?"), "{error}");
    let error = folder.refused("recipe run r.toml --from clean --until halves");
    assert!(error.contains("`clean` comes after `halves`"), "{error}");
    let (shown, _) = folder.done("recipe show r.toml --price-per-hour 1 --watts 3600");
    for words in [
        "└─ problems (problems)  made",
        "   └─ halves (split)  made",
        "      └─ before (eval)  made",
        "           from @halves.held-out, model",
        "% right (95% interval",
        "└─ after (eval)  not begun",
        "4 of 11 steps are made",
        "time     drawn   trained     FLOPs   of peak    energy     money",
        "Wh    0.0",
        "DeepSeek-R1-Zero  101000 h",
        "$294000",
        "energy: stated watts × time",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn a_plan_makes_nothing_and_refuses_what_does_not_fit() {
    let folder = folder();
    let (plan, _) = folder.done("recipe plan r.toml --price-per-hour 2");
    for words in [
        "problems (problems): is made",
        "halves (split): is made, after problems",
        "memory for prompts of 512 tokens (rollout.max_prompt_tokens)",
        "more can be told after `clean`, `scores`, `taught`",
        "the whole: memory ",
        "of at most 8 rows, which are not made yet, each as long as it may become",
        "up to 96 tokens drawn",
        " tokens trained, ",
        " FLOPs, time about ",
        ", cost 0.",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(!folder.at("run").exists());
    let huge = "--set reinforced.rollout.max_new_tokens=1000000 --set reinforced.rollout.group_size=60000";
    let error = folder.refused(&format!("recipe plan r.toml {huge}"));
    assert!(error.contains("it does not fit here: reinforced: it needs "), "{error}");
    let error = folder.refused(&format!("recipe run r.toml {huge}"));
    assert!(error.contains("step `reinforced` does not fit here: "), "{error}");
    assert!(!folder.at("run").exists(), "refused before the first step");
    folder.done("recipe run r.toml --until taught");
    let (plan, _) = folder.done("recipe plan r.toml --price-per-hour 2");
    for words in ["taught (sft): made already", "time about ", ", cost "] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
}

#[test]
fn mistakes_are_named_before_anything_is_made() {
    let folder = folder();
    for (set, said) in [
        ("taught.step=1", "unknown field `step`"),
        ("reinforced.rollout.group_sise=2", "did you mean `group_size`?"),
        ("taught.epochs=1", "one of `steps` and `epochs`"),
        ("before.max_new_token=3", "did you mean `max_new_tokens`?"),
        ("before.n=0", "write a number from 1"),
        ("problems.generator=arithmetics", "there is no generator `arithmetics`"),
        ("problems.n=1000000", "and 1000000 were asked for"),
        ("problems.out=x", "unknown field `out`"),
        ("blend.row=3", "did you mean `rows`?"),
        ("halves.held_out=0", "a share above 0"),
        ("clean.against=[]", "--against"),
        ("chosen.data=none.jsonl", "`data`: `none.jsonl` is not there"),
        ("before.model=none", "`model`: `none` is not there"),
        ("taught.run_dir=x", "`run_dir` is the recipe's"),
    ] {
        let error = folder.refused(&format!("recipe run r.toml --set {set}"));
        let step = set.split('.').next().expect("a step");
        assert!(error.contains(said) && error.contains(&format!("`{step}`")), "{set}: {error}");
    }
    let error = folder.refused("recipe run none.toml");
    assert!(error.contains("cannot read the recipe `none.toml`"), "{error}");
    assert!(!folder.at("run").exists());
}

#[test]
fn a_directory_has_one_recipe_and_one_process() {
    let folder = folder();
    folder.done("recipe run r.toml --until halves");
    let lock = File::open(folder.at("run")).expect("opened");
    lock.lock().expect("locked");
    let error = folder.refused("recipe run r.toml");
    assert!(error.contains("another process is running a recipe in `run`"), "{error}");
    drop(lock);

    folder.write("other.toml", &RECIPE.replace("seed = 3", "seed = 4"));
    let error = folder.refused("recipe run other.toml");
    assert!(
        error.contains("r.toml` made; this one is `") && error.contains("choose another run_dir"),
        "{error}"
    );
    // A copy is the same recipe, and one may take over.
    folder.write("copy.toml", RECIPE);
    let (_, steps) = folder.done("recipe run copy.toml --until halves");
    assert_eq!(made(&steps).1, ["problems", "halves"]);
    fs::remove_file(folder.at("run/recipe.json")).expect("removed");
    let (_, steps) = folder.done("recipe run other.toml --until halves");
    assert_eq!(made(&steps).0, ["problems", "halves"], "another seed");
    assert!(
        steps.contains("`seed` (3, now 4)") && folder.at("run/superseded/problems-1").exists(),
        "{steps}"
    );

    // What no recipe made is not touched.
    fs::create_dir(folder.at("run/clean")).expect("made");
    let error = folder.refused("recipe run other.toml");
    assert!(error.contains("`run/clean` is there already, and no step of a recipe made it"), "{error}");
}

#[test]
fn a_step_that_fails_keeps_what_was_made() {
    let folder = folder();
    let set = "--set chosen.filter.min_tokens=100";
    let error = folder.refused(&format!("recipe run r.toml --until taught {set}"));
    assert!(error.contains("step `chosen` failed; what was made is kept"), "{error}");
    let (shown, _) = folder.done("recipe show r.toml");
    assert!(shown.contains("chosen (reject)  failed") && shown.contains("4 of 11"), "{shown}");
    // The same command fails again, another setting mends it; what failed is kept aside.
    folder.refused(&format!("recipe run r.toml --until taught {set}"));
    let (_, steps) = folder.done("recipe run r.toml --until taught");
    assert_eq!(made(&steps).1.len(), 4, "{steps}");
    assert!(folder.at("run/superseded/chosen-1/rollouts").exists(), "{steps}");
}

#[test]
fn a_recipe_waits_for_people() {
    let folder = folder();
    folder.write(
        "r.toml",
        "run_dir = 'run'\n[[step]]\nname = 'answers'\nkind = 'generate'\nmodel = 'model'\ndata = 'asked.jsonl'\nn = 2\n\
         max_new_tokens = 4\n[[step]]\nname = 'people'\nkind = 'label'\ndata = '@answers'\nvotes_per_pair = 2\n\
         [[step]]\nname = 'sure'\nkind = 'filter'\ndata = '@people'\nwhere = [{field = 'margin', min = 1}]\n",
    );
    folder.write("asked.jsonl", "{\"prompt\": \"1+1\"}\n{\"prompt\": \"2+2\"}\n");
    let (said, _) = folder.done("recipe run r.toml");
    let command = "koan label --votes-per-pair=2 --out=run/people/labels.jsonl -- run/answers/data.jsonl";
    assert!(said.contains(command), "{said}");
    let (shown, _) = folder.done("recipe show r.toml");
    assert!(shown.contains("people (label)  waits for people"), "{shown}");
    let rows = "{\"prompt\": \"1+1\", \"chosen\": \"2\", \"rejected\": \"3\", \"margin\": 2}\n";
    folder.write("run/people/labels.jsonl", rows);
    let (_, steps) = folder.done("recipe run r.toml");
    assert_eq!(made(&steps).0, ["people", "sure"], "{steps}");
    // People go on.
    folder.write("run/people/labels.jsonl", &rows.repeat(2));
    let (_, steps) = folder.done("recipe run r.toml");
    assert_eq!(made(&steps).0, ["people", "sure"], "{steps}");
    // Other answers: the old labels are not theirs.
    folder.write("asked.jsonl", "{\"prompt\": \"1+2\"}\n{\"prompt\": \"2+2\"}\n");
    let (said, _) = folder.done("recipe run r.toml");
    assert!(said.contains("`people` waits for people"), "{said}");
    assert!(folder.at("run/superseded/people-1.jsonl").exists());
    assert!(Path::new(&folder.at("run/people")).exists());
}

#[test]
fn a_recipe_that_comes_with_koan_is_known_by_its_name() {
    let folder = folder();
    let (listed, _) = folder.done("recipe list");
    assert!(listed.contains("self-taught-arithmetic  SmolLM2-135M-Instruct learns sums"), "{listed}");
    let error = folder.refused("recipe plan self-taught");
    assert!(error.contains("there is no file `self-taught`; unknown recipe"), "{error}");
    assert!(error.contains("did you mean `self-taught-arithmetic`?"), "{error}");

    let model = "--set measured-before.model=model --set chosen.model=model --set taught.model=model";
    let until = format!("--until held-out {model}");
    let (_, steps) = folder.done(&format!("recipe run self-taught-arithmetic {until}"));
    assert_eq!(made(&steps).0, ["problems", "held-out"]);
    let rows = |file: &str| fs::read_to_string(folder.at(file)).expect(file).lines().count();
    assert_eq!(rows("runs/self-taught-arithmetic/problems/data.jsonl"), 800);
    let (said, steps) = folder.done(&format!("recipe run self-taught-arithmetic --quick {until}"));
    assert_eq!(made(&steps).0, ["problems", "held-out"]);
    assert!(said.contains("koan recipe show self-taught-arithmetic --quick"), "{said}");
    assert_eq!(rows("runs/self-taught-arithmetic-quick/problems/data.jsonl"), 60);
    // One directory holds one of the two.
    let error = folder.refused(&format!(
        "recipe run self-taught-arithmetic --quick --run-dir runs/self-taught-arithmetic {until}"
    ));
    let said = "holds what the recipe `self-taught-arithmetic` made; this one is `self-taught-arithmetic` in its quick form";
    assert!(error.contains(said), "{error}");
    assert!(folder.refused("recipe run r.toml --quick").contains("it has no quick form"));

    // A copy is the same recipe, and goes before it where it has its name.
    folder.done("recipe copy self-taught-arithmetic");
    let copy = folder.at("self-taught-arithmetic.toml");
    assert!(folder.refused("recipe copy self-taught-arithmetic").contains("is there already"));
    let (_, steps) = folder.done(&format!("recipe run self-taught-arithmetic.toml {until}"));
    assert_eq!(made(&steps).1, ["problems", "held-out"]);
    fs::rename(copy, folder.at("self-taught-arithmetic")).expect("renamed");
    folder.write("self-taught-arithmetic", "run_dir = 1");
    assert!(folder.refused("recipe show self-taught-arithmetic").contains("`run_dir` is no name"));
    assert!(folder.refused("recipe copy none").contains("unknown recipe `none`"));
}

#[test]
fn sampling_that_was_killed_goes_on_with_what_it_has_and_its_rows_are_traced() {
    let (whole, parts) = (folder(), folder());
    let recipe = "run_dir = 'run'\nseed = 3\n[[step]]\nname = 'problems'\nkind = 'problems'\ngenerator = 'arithmetic'\nlevels = 1\n\
         n = 40\nphrasing = '{expression}='\n[[step]]\nname = 'answers'\nkind = 'generate'\nmodel = 'model'\ndata = '@problems'\n\
         n = 200\nmax_new_tokens = 40\n[[step]]\nname = 'shown'\nkind = 'convert'\ndata = '@answers'\n";
    for folder in [&whole, &parts] {
        folder.write("r.toml", recipe);
    }
    whole.done("recipe run r.toml --threads 1");
    let (part, mut kills) = (parts.at("run/answers/data.jsonl.part"), 0);
    let lines = || fs::read_to_string(&part).map_or(0, |text| text.lines().count());
    while kills < 3 {
        let before = lines();
        let mut command = parts.koan("recipe run r.toml --threads 1");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        while lines() < before + 6 && child.try_wait().expect("asked").is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        kills += 1;
    }
    assert!(part.exists() && !parts.at("run/answers/data.jsonl").exists());
    let (_, said) = parts.done("recipe run r.toml --threads 2");
    assert!(said.contains("goes on from run/answers/data.jsonl.part, which has "), "{said}");
    assert!(!part.exists());
    assert_eq!(hashes(&parts), hashes(&whole));

    let row = fs::read_to_string(parts.at("run/shown/data.jsonl")).expect("rows");
    let row: Value = serde_json::from_str(row.lines().next().expect("a row")).expect("JSON");
    let id = row["id"].as_str().expect("an id");
    let (traced, _) = parts.done(&format!("recipe show r.toml --trace {id}"));
    for words in [
        "shown (convert)  run/shown/data.jsonl, row 1\n",
        "← answers (generate)  run/answers/data.jsonl, row ",
        "written by model (sha256 ",
        "origin {\"model\":\"model\",\"model_sha256\":\"",
        "← problems (problems)  run/problems/data.jsonl, row ",
    ] {
        assert!(traced.contains(words), "{words}: {traced}");
    }
}
