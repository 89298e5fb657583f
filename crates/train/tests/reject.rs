//! Rejection sampling in small: what it writes is read by the stages that learn from it, it repeats itself to the byte, and
//! whatever interrupts it changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use koan_cpu::{Cpu, Isa};
use koan_data::{Arithmetic, DataFiles, Split, read_demonstrations, read_preferences, write_problems};
use koan_model::testkit;
use koan_train::{
    TrainError,
    comm::Ranks,
    prefer::{self, PreferConfig},
    reject::{self, Event, Forecast, Made, RejectConfig},
    stage::Launch,
    supervised::{self, Stage, SupervisedConfig},
};
use serde_json::Value;

/// A folder with a tiny model and problems.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        testkit::write_model(&bench.at("model"), 4).expect("a model");
        let all = Arithmetic { n: 20, levels: vec![1], split: Split::Train, ..Arithmetic::default() };
        write_problems(&bench.at("train.jsonl"), &all.generate().expect("problems")).expect("written");
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, run: &str, set: &[&str]) -> Result<RejectConfig, TrainError> {
        let at = |name: &str| self.at(name).display().to_string();
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nseed = 7\n[rollout]\nproblems = 3\ngroup_size = 32\n\
             max_new_tokens = 3\nsequences = 17\n[filter]\ncut = false\nlanguage = 'off'\n[[reward]]\nkind = 'number'\n",
            at(run),
            at("model"),
            at("train.jsonl"),
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        RejectConfig::load(&file, &set)
    }

    fn config(&self, run: &str, set: &[&str]) -> RejectConfig {
        self.load(run, set).expect("a config")
    }
}

fn run(config: &RejectConfig, threads: usize, resume: bool) -> Result<Made, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    reject::run(
        &cpu,
        config,
        Launch { resume, threads, stop: &AtomicBool::new(false), ranks: &Ranks::alone() },
        |_| {},
    )
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("rows");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// The files of a run's rollouts and data, with what they hold.
fn written(config: &RejectConfig) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in ["rollouts", "data"] {
        for entry in fs::read_dir(config.stage.run_dir.join(folder)).expect("a folder").flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            all.insert(name, fs::read(entry.path()).expect("read"));
        }
    }
    all
}

fn in_words(error: &TrainError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn rows_carry_their_origin_and_are_learned_from() {
    let bench = Bench::new();
    let config = bench.config("run", &["keep.at_most=2"]);
    let made = run(&config, 1, false).expect("runs");
    let data = made.data.expect("data");
    let rows = rows(&data);
    assert_eq!((rows.len() as u64, made.summary.problems), (made.summary.rows, 20));
    assert_eq!(made.summary.completions.all(), 20 * 32);
    assert!(rows.len() > 5, "{:?}", made.summary);
    let lineage = fs::read_to_string(config.stage.run_dir.join("lineage.json")).expect("lineage");
    let lineage: Value = serde_json::from_str(&lineage).expect("an object");
    assert_eq!(lineage["counts"]["rows"], rows.len());
    assert_eq!(lineage["data_sha256"], koan_files::hash_file(&data).expect("a hash"));
    for row in &rows {
        let origin = &row["origin"];
        assert_eq!(origin["model_sha256"], lineage["inputs"][0]["sha256"]);
        assert_eq!((&origin["problem"], &origin["seed"]), (&row["id"], &Value::from(7)));
        assert!(origin["data"].as_str().is_some_and(|file| file.ends_with("train.jsonl")), "{row}");
        assert_eq!(origin["verdicts"][0]["outcome"], "correct", "{row}");
        let [completion, answer] = ["completion", "answer"].map(|field| row[field].as_str().expect(field));
        assert!(completion.contains(answer), "{row}");
        assert!(
            origin["pass_rate"].as_f64() > Some(0.0) && origin["sample"].is_u64() && origin["step"].is_u64()
        );
    }
    let files = DataFiles::from(data.clone());
    assert_eq!(read_demonstrations(&files).expect("demonstrations").len(), rows.len());
    let sft = bench.at("sft.toml");
    let text = format!(
        "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 2\nbatch_tokens = 32\n",
        bench.at("sft").display(),
        bench.at("model").display(),
        data.display()
    );
    fs::write(&sft, text).expect("written");
    let sft = SupervisedConfig::load(Stage::Sft, &sft, &[]).expect("a config");
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    let launch = Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    supervised::run(&cpu, Stage::Sft, &sft, launch, |_| {}).expect("learns");
    let lineage = fs::read_to_string(bench.at("sft/lineage.json")).expect("lineage");
    let lineage: Value = serde_json::from_str(&lineage).expect("an object");
    let made_by = lineage["inputs"].as_array().into_iter().flatten().find(|input| input["role"] == "data");
    assert!(made_by.is_some_and(|data| data["made_by"]["data_sha256"] == data["sha256"]), "{lineage}");
}

#[test]
fn the_best_beside_the_worst_are_preferences_to_learn_from() {
    let bench = Bench::new();
    let set = ["keep.which=preference", "keep.at_most=2", "keep.length_balance=0.5"];
    let config = bench.config("pairs", &set);
    let made = run(&config, 1, false).expect("runs");
    let data = made.data.expect("data");
    let pairs = read_preferences(&DataFiles::from(data.clone())).expect("preferences");
    assert_eq!(pairs.len() as u64, made.summary.rows - made.summary.rows_unbalanced);
    assert!(pairs.iter().all(|pair| pair.margin == Some(1.0)), "right beside wrong");
    let row = &rows(&data)[0];
    assert_eq!(row["origin"]["chosen"]["reward"], 1.0, "{row}");
    assert_eq!(row["origin"]["rejected"]["verdicts"][0]["score"], 0.0, "{row}");
    let file = bench.at("prefer.toml");
    let text = format!(
        "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 2\nbatch = 4\n",
        bench.at("prefer").display(),
        bench.at("model").display(),
        data.display()
    );
    fs::write(&file, text).expect("written");
    let prefer = PreferConfig::load(&file, &[]).expect("a config");
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    let launch = Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    prefer::run(&cpu, &prefer, launch, |_| {}).expect("learns");
}

#[test]
fn stopped_or_with_more_threads_it_writes_the_same_bytes() {
    let bench = Bench::new();
    for set in [&["keep.which=random"][..], &["keep.which=preference", "keep.length_balance=1"]] {
        let name = set[0].rsplit('=').next().expect("a name");
        let config = |run: &str| bench.config(&format!("{name}-{run}"), set);
        let (whole, parts) = (config("whole"), config("parts"));
        run(&whole, 1, false).expect("runs");
        let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
        for resume in [false, true, true] {
            let stop = AtomicBool::new(false);
            let launch = Launch { resume, threads: 2, stop: &stop, ranks: &Ranks::alone() };
            let made = reject::run(&cpu, &parts, launch, |event| {
                if let Event::Step { step: 2 | 3, .. } = event {
                    stop.store(true, Ordering::Relaxed);
                }
            });
            let made = made.expect("runs");
            assert_eq!(made.data.is_none(), made.run.stopped);
        }
        assert_eq!(written(&parts), written(&whole));
        let again = run(&parts, 1, true).expect("what is finished can be asked to go on");
        assert_eq!(again.run.step, 7);
        assert_eq!(written(&parts), written(&whole));
    }
}

#[test]
fn conversations_and_system_messages_stay_what_the_model_was_asked() {
    let bench = Bench::new();
    let problem = |i: u32| {
        let messages = format!("[{{\"role\": \"user\", \"content\": \"{i} + 1\"}}]");
        format!(
            "{{\"id\": \"{i}\", \"messages\": {messages}, \"answer\": \"{}\", \"conversations\": 1}}\n",
            i + 1
        )
    };
    fs::write(bench.at("chats.jsonl"), (0..6).map(problem).collect::<String>()).expect("written");
    let data = format!("data={}", bench.at("chats.jsonl").display());
    let made = run(&bench.config("chats", &[&data]), 1, false).expect("runs");
    let path = made.data.expect("data");
    let row = &rows(&path)[0];
    assert_eq!(row["messages"][1]["role"], "assistant", "{row}");
    assert!(row["prompt"].is_null() && row["completion"].is_null() && row["conversations"].is_null());
    read_demonstrations(&DataFiles::from(path)).expect("demonstrations");
    let set = [&*data, "keep.which=preference", "keep.length_balance=1"];
    let made = run(&bench.config("chat-pairs", &set), 1, false).expect("runs");
    read_preferences(&DataFiles::from(made.data.expect("data"))).expect("preferences");
    let made = run(&bench.config("system", &["rollout.system=1 +"]), 1, false).expect("runs");
    let row = &rows(&made.data.expect("data"))[0];
    assert_eq!(row["messages"][0]["role"], "system", "{row}");
}

#[test]
fn what_is_undecided_is_kept_out_and_counted_apart() {
    let bench = Bench::new();
    let script = bench.at("judge.sh");
    fs::write(&script, "#!/bin/sh\nwhile read -r line; do echo '{}'; done\n").expect("written");
    let with = |run: &str, set: &[&str]| {
        let mut config = bench.config(run, set);
        let program = serde_json::json!(["sh", script.display().to_string()]);
        config.reward = vec![koan_reward::RewardConfig::new("external")];
        config.reward[0].options.insert("command".to_owned(), program);
        config.checked().expect("a config")
    };
    let error = in_words(&run(&with("down", &[]), 1, false).expect_err("nothing is judged"));
    assert!(error.contains("no completion of the last 3 steps could be judged"), "{error}");
    let error =
        in_words(&run(&with("short", &["rollout.problems=20"]), 1, false).expect_err("nothing is kept"));
    assert!(error.contains("none of 640 completions was kept") && error.contains("undecided"), "{error}");
    let made = run(&with("unasked", &["filter.wrong=false"]), 1, false).expect("nobody asks");
    assert_eq!(made.summary.problems_undecided, 20);
}

#[test]
fn nothing_judges_where_there_is_no_reward() {
    let bench = Bench::new();
    let mut config = bench.config("unjudged", &["filter.wrong=false", "keep.which=all"]);
    config.reward.clear();
    let made = run(&config.checked().expect("a config"), 1, false).expect("runs");
    assert!(made.summary.completions.kept > 100, "{:?}", made.summary);
    assert_eq!(made.summary.problems_undecided, 0, "nobody was asked");
    let row = &rows(&made.data.expect("data"))[0];
    assert_eq!((&row["origin"]["reward"], &row["origin"]["pass_rate"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let bench = Bench::new();
    let refused = |config: &RejectConfig, resume| in_words(&run(config, 1, resume).expect_err("refused"));
    let config = bench.config("run", &[]);
    assert!(refused(&config, true).contains("nothing to resume"), "{}", refused(&config, true));
    run(&config, 1, false).expect("runs");
    assert!(refused(&config, false).contains("holds a run already"));
    let other = bench.config("run", &["keep.which=all"]);
    assert!(
        refused(&other, true).contains("keep.which (\"random\", now \"all\")"),
        "{}",
        refused(&other, true)
    );
    let missing = bench.config("missing", &["data=nowhere.jsonl"]);
    assert!(refused(&missing, false).contains("nowhere.jsonl"));
    fs::write(bench.at("text.jsonl"), "{\"text\": \"1\"}\n").expect("written");
    let wrong = bench.config("wrong", &[&format!("data={}", bench.at("text.jsonl").display())]);
    assert!(refused(&wrong, false).contains("text.jsonl:1"), "{}", refused(&wrong, false));
    let long = bench.config("long", &["rollout.max_prompt_tokens=1"]);
    assert!(refused(&long, false).contains("rollout.max_prompt_tokens is 1"));
    assert!(!bench.at("wrong").exists() && !bench.at("long").exists());
    let all = bench.config("strict", &["filter.min_tokens=4"]);
    let error = refused(&all, false);
    assert!(error.contains("none of 640 completions was kept: ") && error.contains(" length"), "{error}");
    assert!(!all.stage.run_dir.join("data/sft.jsonl").exists());
}

#[test]
fn a_forecast_starts_nothing() {
    let bench = Bench::new();
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    let forecast = Forecast::of(&cpu, &bench.config("forecast", &[])).expect("a forecast");
    assert_eq!((forecast.steps, forecast.problems, forecast.sequences), (7, 20, 17));
    let [weights, generating, judges] = forecast.memory;
    assert!(weights > 0 && generating > 0 && judges == 0 && forecast.disk > 0, "{:?}", forecast.memory);
    assert!(!bench.at("forecast").exists());
}
