//! The stages of the small world: a base model, DPO and a reward model by the same labels, and reinforcement by that model.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use koan_cpu::Cpu;
use koan_train::{
    comm::Ranks,
    prefer::{self, PreferConfig},
    rl::{self, RlConfig},
    stage::Launch,
    supervised::{self, Stage, SupervisedConfig},
};
use serde_json::Value;

use crate::world::Request;

/// The run that makes the reward model.
pub(crate) const REWARD_MODEL: &str = "reward-model";

/// What the samples of a step were worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) step: u64,
    /// Mean standardised score of the reward model.
    pub(crate) reward: f64,
    /// How much the rule likes them.
    pub(crate) liked: f64,
    /// Share that the rule prefers to the plain reply.
    pub(crate) preferred: f64,
    pub(crate) tokens: f64,
}

/// Where a run is made, by whom.
pub(crate) struct Course<'a> {
    /// The directory of [`world::write`](crate::world::write).
    pub(crate) dir: &'a Path,
    pub(crate) cpu: &'a Cpu,
    pub(crate) threads: usize,
    pub(crate) ranks: &'a Ranks,
}

impl Course<'_> {
    fn launch<'s>(&'s self, stop: &'s AtomicBool) -> Launch<'s> {
        Launch { resume: false, threads: self.threads, stop, ranks: self.ranks }
    }

    /// Writes the settings of run `name`.
    fn file(&self, name: &str, model: &str, settings: &str) -> std::path::PathBuf {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let text = format!("run_dir = '{}'\nmodel = '{}'\nseed = 1\n{settings}", at(name), at(model));
        let file = self.dir.join(format!("{name}.toml"));
        fs::write(&file, text.replace("DIR", &self.dir.display().to_string())).expect("written");
        file
    }

    /// Reads the text once.
    pub(crate) fn base(&self) {
        let settings = "data = 'DIR/text.jsonl'\nepochs = 1\nbatch_tokens = 1024\nmax_tokens = 128\n\
            [optim]\nlr = 3e-3\nwarmup_steps = 20\nschedule = 'cosine'\nbeta2 = 0.99\nmicro_batch_tokens = 1280\n";
        let file = self.file("base", "fresh", settings);
        let config = SupervisedConfig::load(Stage::Pretrain, &file, &[]).expect("settings");
        let stop = AtomicBool::new(false);
        supervised::run(self.cpu, Stage::Pretrain, &config, self.launch(&stop), |_| {}).expect("runs");
    }

    /// DPO by the labels; its accuracy on held-out pairs, which are labelled right.
    pub(crate) fn dpo(&self) -> f64 {
        self.prefer("dpo", "loss = 'dpo'", 2)
    }

    /// A reward model by the same labels; its accuracy on the same pairs.
    pub(crate) fn reward_model(&self) -> f64 {
        self.prefer(REWARD_MODEL, "loss = 'reward-model'\ncentering = 0.01", 5)
    }

    fn prefer(&self, name: &str, loss: &str, epochs: u64) -> f64 {
        let settings = format!(
            "data = 'DIR/pairs.jsonl'\nepochs = {epochs}\nbatch = 32\nmax_tokens = 128\n[algorithm]\n{loss}\n\
             [optim]\nlr = 1e-3\nwarmup_steps = 10\nschedule = 'linear'\nmicro_batch_tokens = 1280\n\
             [eval]\ndata = 'DIR/held-out.jsonl'\nevery = 1000\n"
        );
        let file = self.file(name, "base/model", &settings);
        let config = PreferConfig::load(&file, &[]).expect("settings");
        let stop = AtomicBool::new(false);
        prefer::run(self.cpu, &config, self.launch(&stop), |_| {}).expect("runs");
        let lines = self.metrics(name);
        let last = &lines[lines.len() - 1];
        last["eval_rewards/accuracies"].as_f64().expect("measured at the end")
    }

    /// Reinforces the base model by the reward model; a point for each step.
    pub(crate) fn reinforce(&self, name: &str, steps: u64, kl: f64) -> Vec<Point> {
        let settings = format!(
            "data = 'DIR/requests.jsonl'\nsteps = {steps}\n[rollout]\nproblems = 16\ngroup_size = 8\n\
             temperature = 1.0\nmax_new_tokens = 64\nraw = true\n[algorithm]\npreset = 'dr-grpo'\nkl = {kl}\n\
             [optim]\nlr = 1e-3\nwarmup_steps = 5\nbeta2 = 0.99\n\
             [[reward]]\nkind = 'model'\nmodel = 'DIR/{REWARD_MODEL}/model'\npart = 'completion'\n"
        );
        let file = self.file(name, "base/model", &settings);
        let config = RlConfig::load(&file, &[]).expect("settings");
        let stop = AtomicBool::new(false);
        rl::run(self.cpu, &config, self.launch(&stop), |_| {}).expect("runs");
        let metrics = self.metrics(name);
        let point = |line: &Value| {
            let step = line["step"].as_u64().expect("a step");
            let file = self.dir.join(name).join(format!("rollouts/step-{step:06}.jsonl"));
            let (mut liked, mut preferred, mut n) = (0.0, 0.0, 0.0);
            for row in lines(&file) {
                let text = |value: &Value| value.as_str().expect("a text").to_owned();
                let request = Request::of(&text(&row["prompt"][0]["content"]));
                let by_rule = request.liked(&text(&row["completion"]));
                liked += by_rule;
                preferred += request.preferred(by_rule);
                n += 1.0;
            }
            Point {
                step,
                reward: line["reward"].as_f64().expect("a reward"),
                liked: liked / n,
                preferred: preferred / n,
                tokens: line["completion_tokens"].as_f64().expect("a length"),
            }
        };
        metrics.iter().map(point).collect()
    }

    fn metrics(&self, run: &str) -> Vec<Value> {
        lines(&self.dir.join(run).join("metrics.jsonl"))
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("a file of a run");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}
