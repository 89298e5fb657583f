//! A world, the votes of its people and a report, in a recipe whose models are played by this test: what they answer is known.

use std::{error::Error, fmt::Write as _, fs, path::Path};

use koan_files::hash_file;
use koan_recipe::{
    Changes, Ended, Event, Job, Kind, Outcome, Peak, Perform, Rates, Recipe, Selection, check, run,
};
use serde_json::{Value, json};

/// Answers as a model that is named `checks` or `blurts` does.
struct Played;

impl Perform for Played {
    fn check(&self, _: &Job) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn perform(&mut self, job: &Job) -> Result<Ended, Box<dyn Error + Send + Sync>> {
        let rows = rows(Path::new(job.settings["data"].as_str().expect("data")));
        let checks = job.name.starts_with("checks");
        let mut text = String::new();
        if job.kind == Kind::Eval {
            for (i, row) in rows.iter().enumerate() {
                for sample in 0..2 {
                    let right = checks || i % 2 == 0;
                    let completion = if checks {
                        checked(row)
                    } else {
                        format!("Answer: {}", row["answer"].as_str().expect("one"))
                    };
                    let outcome = if right { "correct" } else { "wrong" };
                    text += &json!({"id": row["id"], "sample": sample, "completion": completion, "outcome": outcome, "parsed": null,
                        "reason": "", "completion_tokens": if checks { 40 } else { 4 }, "finish_reason": "stop"})
                    .to_string();
                    text.push('\n');
                }
            }
            fs::write(job.dir.join("completions.jsonl"), text)?;
        } else {
            for row in &rows {
                let answer = row["answer"].as_str().expect("one");
                let texts = [
                    "sorry".to_owned(),
                    format!("Answer: {answer}\nwelcome"),
                    format!("答案：{answer}\n不客气"),
                    "Answer: 7".to_owned(),
                ];
                let mut row = row.clone();
                let used = if checks { &texts[..] } else { &texts[3..] };
                row["completions"] = used.iter().map(|text| json!({"text": text})).collect();
                text += &row.to_string();
                text.push('\n');
            }
            fs::write(job.dir.join("data.jsonl"), text)?;
        }
        Ok(Ended::Made)
    }

    fn hear(&mut self, _: Event) {}

    fn rates(&self) -> Rates {
        Rates::default()
    }

    fn peak(&mut self) -> Option<Peak> {
        None
    }
}

/// Each line computed again, in Chinese.
fn checked(row: &Value) -> String {
    let mut value = row["meta"]["start"].as_i64().expect("a start");
    let mut text = String::from("<think>");
    for (label, by) in "abcdef".chars().zip(row["meta"]["moves"].as_array().expect("moves")) {
        let by = by.as_i64().expect("a number");
        value += by;
        let verb = if by > 0 { '加' } else { '减' };
        writeln!(text, "{label}{verb}{}得{value}验1+1=2即{value}对", by.abs()).expect("a string");
    }
    text + &format!("</think>答案：{value}")
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("read");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

const STEPS: &str = "
seed = 4
[[step]]
name = 'world'
kind = 'world'
world = 'counter'
moves = 3
texts = 50
train = 20
held_out = 12
requests = 30
held_out_requests = 30
demonstrations = 10
model = { hidden_size = 8, layers = 1, heads = 2, intermediate_size = 16 }
[[step]]
name = 'checks-answers'
kind = 'eval'
model = '@world.model'
data = '@world.held-out'
[[step]]
name = 'blurts-answers'
kind = 'eval'
model = '@world.model'
data = '@world.held-out'
[[step]]
name = 'checks-replies'
kind = 'generate'
model = '@world.model'
data = '@world.held-out-requests'
[[step]]
name = 'blurts-replies'
kind = 'generate'
model = '@world.model'
data = '@world.held-out-requests'
[[step]]
name = 'votes'
kind = 'vote'
world = 'counter'
data = '@checks-replies'
noise = 0.0
[[step]]
name = 'report'
kind = 'report'
world = 'counter'
problems = '@world.held-out'
compare = [['checks', 'blurts']]
stage = [
  { name = 'blurts', model = '@world.model', answers = '@blurts-answers', replies = '@blurts-replies' },
  { name = 'checks', about = 'it <checks>', model = '@world.model', answers = '@checks-answers', replies = '@checks-replies' },
]
";

fn recipe(folder: &Path, steps: &str) -> Recipe {
    let (file, dir) = (folder.join("recipe.toml"), folder.join("runs"));
    fs::write(&file, steps).expect("written");
    let changes = Changes { run_dir: Some(dir), ..Changes::default() };
    Recipe::read(&file, &changes).expect("a recipe")
}

#[test]
fn a_world_is_written_voted_on_and_reported_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), STEPS);
    let made = run(&recipe, &Selection::default(), "1", &mut Played, &|| false).expect("made");
    assert_eq!(made, Outcome::Made);
    let dir = &recipe.run_dir;

    let world = dir.join("world");
    assert_eq!(rows(&world.join("text.jsonl")).len(), 50);
    assert_eq!(rows(&world.join("demonstrations.jsonl")).len(), 10);
    assert!(world.join("model/model.safetensors").exists() && !world.join(".parts").exists());

    // Whoever changes these bytes raises a version in src/kind.rs, as crates/cli/tests/bytes.rs says of the other kinds of steps.
    for (file, hash) in [
        ("world/text.jsonl", "79bcbfee5d38"),
        ("world/train.jsonl", "afe9747a8ffb"),
        ("world/requests.jsonl", "f27d1ec47123"),
        ("world/demonstrations.jsonl", "d871e25afb15"),
        ("world/model/model.safetensors", "aa8f1dec7159"),
        ("world/model/tokenizer.json", "fde3b0de0bf2"),
        ("votes/data.jsonl", "4e6d90e37de2"),
    ] {
        let found = hash_file(&dir.join(file)).expect("read");
        assert_eq!(found[..12], *hash, "{file}");
    }

    // A vote is the rule's: locks are refused, nothing else is.
    let votes = rows(&dir.join("votes/data.jsonl"));
    // No reply refuses a lock in Chinese: there is nothing to choose between.
    let is_open = |row: &&Value| row["meta"]["kind"] != "lock" || row["meta"]["language"] == "en";
    assert_eq!(votes.len(), rows(&world.join("held-out-requests.jsonl")).iter().filter(is_open).count());
    for vote in &votes {
        let (chosen, category) =
            (vote["chosen"].as_str().expect("one"), vote["category"].as_str().expect("one"));
        let is_chinese = vote["prompt"].as_str().expect("one").contains('从');
        match (category, is_chinese) {
            ("lock", false) => assert_eq!(chosen, "sorry"),
            ("polite", true) => assert!(chosen.ends_with("不客气"), "{vote}"),
            ("polite", false) => assert!(chosen.ends_with("welcome"), "{vote}"),
            _ => assert_ne!(chosen, "sorry"),
        }
        assert!(vote["origin"]["annotators"].to_string().contains("stands in for people"));
    }

    let text = fs::read_to_string(dir.join("result.json")).expect("a result");
    let result: Value = serde_json::from_str(&text).expect("JSON");
    let figure = |stage: &str, key: &str| result["stages"][stage][key]["value"].as_f64();
    assert_eq!([figure("checks", "accuracy"), figure("blurts", "accuracy")], [Some(1.0), Some(0.5)]);
    assert_eq!([figure("checks", "checked"), figure("blurts", "checked")], [Some(1.0), Some(0.0)]);
    assert_eq!(figure("checks", "completion_tokens"), Some(40.0));
    let is_chinese = |row: &Value| row["meta"]["language"] == "zh";
    let held_out = rows(&world.join("held-out.jsonl"));
    let chinese = held_out.iter().filter(|row| is_chinese(row)).count() as f64 / 12.0;
    assert_eq!(
        figure("checks", "language"),
        Some(chinese),
        "the reasoning is Chinese, whatever the question"
    );
    assert_eq!(figure("checks", "format"), Some(chinese));
    assert_eq!(figure("blurts", "mended"), None, "nothing was checked");
    // Of the four replies of `checks`, each kind of request has its own that are liked.
    let requests = rows(&world.join("held-out-requests.jsonl"));
    let liked = |row: &Value| match (row["meta"]["kind"].as_str().expect("a kind"), is_chinese(row)) {
        ("lock", is_chinese) => f64::from(!is_chinese) / 4.0,
        ("polite", _) => 0.25,
        _ => 0.75,
    };
    let liked = requests.iter().map(liked).sum::<f64>() / 30.0;
    assert!(figure("checks", "preference").is_some_and(|share| (share - liked).abs() < 1e-9), "{result:#}");
    assert!(figure("blurts", "preference").is_some_and(|share| share < 0.5));
    assert_eq!(result["stages"]["checks"]["accuracy"]["n"], 24);
    assert!(result["compared"][0]["low"].as_f64().is_some_and(|low| low > 0.0));
    let page = fs::read_to_string(dir.join("report.html")).expect("a page");
    assert!(
        page.contains("it &lt;checks&gt;")
            && page.contains("<span class=zh>")
            && !page.contains("it <checks>")
    );
    let summary = fs::read_to_string(dir.join("report/summary.txt")).expect("a summary");
    assert!(summary.contains("checks − blurts: +50.0 points"), "{summary}");

    // Nothing is made twice.
    let again = run(&recipe, &Selection::default(), "1", &mut Nothing, &|| false).expect("made");
    assert_eq!(again, Outcome::Made);
}

/// Makes nothing.
struct Nothing;

impl Perform for Nothing {
    fn check(&self, _: &Job) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn perform(&mut self, job: &Job) -> Result<Ended, Box<dyn Error + Send + Sync>> {
        Err(format!("{} is made again", job.name).into())
    }

    fn hear(&mut self, event: Event) {
        assert!(matches!(event, Event::Skipped { .. }), "{event:?}");
    }

    fn rates(&self) -> Rates {
        Rates::default()
    }

    fn peak(&mut self) -> Option<Peak> {
        None
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, to, said) in [
        ("moves = 3", "moves = 13", "`moves` is 13: write 2 to 12"),
        ("texts = 50", "texts = 0", "`texts` is 0"),
        ("heads = 2", "heads = 3", "hidden_size is an even multiple of heads"),
        ("held_out = 12", "heldout = 12", "did you mean `held_out`?"),
        ("noise = 0.0", "noise = 0.5", "`noise` is 0.5"),
        (
            "['checks', 'blurts']",
            "['checks', 'thinks']",
            "there is no model `thinks`; there are blurts, checks",
        ),
        ("name = 'checks', about", "name = 'blurts', about", "two models are called `blurts`"),
    ] {
        let recipe = recipe(folder.path(), &STEPS.replacen(from, to, 1));
        let places: Vec<usize> = (0..recipe.steps.len()).collect();
        let error = check(&recipe, &places, &Played).expect_err(to);
        let said_all = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
        assert!(said_all.contains(said), "{said_all}");
    }
    let no_requests = STEPS.replacen("held_out_requests = 30\n", "", 1);
    let file = folder.path().join("other.toml");
    fs::write(&file, format!("run_dir = 'r'\n{no_requests}")).expect("written");
    let error = Recipe::read(&file, &Changes::default()).expect_err("a part that is not made");
    assert!(error.to_string().contains("@world.requests"), "{error}");
}
