//! Runs that take a second: a tiny model, a few sums, four steps.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use koan_cpu::{Cpu, Isa};
use koan_data::{Arithmetic, Split, write_problems};
use koan_model::testkit;
use koan_train::{
    TrainError,
    comm::Ranks,
    rl::{self, RlConfig},
    stage::{Launch, RunSummary},
};

/// A folder with a tiny model, problems, and a config.
pub(crate) struct TinyRun {
    pub(crate) folder: tempfile::TempDir,
}

impl TinyRun {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        testkit::write_model(&folder.path().join("model"), 4).expect("a model");
        let problems =
            |split, n| Arithmetic { n, levels: vec![1], split, ..Arithmetic::default() }.generate();
        for (name, split, n) in [("train", Split::Train, 20), ("test", Split::Test, 4)] {
            let problems = problems(split, n).expect("problems");
            write_problems(&folder.path().join(format!("{name}.jsonl")), &problems).expect("written");
        }
        Self { folder }
    }

    pub(crate) fn config(&self, run: &str, set: &[&str]) -> RlConfig {
        self.load(run, set).expect("a config")
    }

    pub(crate) fn load(&self, run: &str, set: &[&str]) -> Result<RlConfig, TrainError> {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 4\ncheckpoint_every = 2\nseed = 7\n\
             [rollout]\nproblems = 3\ngroup_size = 32\nmax_new_tokens = 3\nsequences = 7\n\
             [algorithm]\nkl = 0.02\nmini_batches = 2\n[optim]\nlr = 1e-3\nmicro_batch_tokens = 64\n\
             [eval]\ndata = '{}'\nevery = 2\n",
            at(run),
            at("model"),
            at("train.jsonl"),
            at("test.jsonl")
        );
        let file = self.folder.path().join(format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        RlConfig::load(&file, &set)
    }
}

pub(crate) fn run(config: &RlConfig, threads: usize, resume: bool) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    rl::run(
        &cpu,
        config,
        Launch { resume, threads, stop: &AtomicBool::new(false), ranks: &Ranks::alone() },
        |_| {},
    )
}

/// metrics.jsonl without what differs between two runs: seconds.
pub(crate) fn metrics(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("a line");
            let line_map = line.as_object_mut().expect("an object");
            line_map.retain(|key, _| !key.ends_with("_s"));
            line
        })
        .collect()
}

/// All lines of all rollouts.
pub(crate) fn rollouts(dir: &Path) -> Vec<serde_json::Value> {
    let files = fs::read_dir(dir.join("rollouts")).expect("rollouts");
    let texts = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("read"));
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| serde_json::from_str(&line).expect("a line")).collect()
}
