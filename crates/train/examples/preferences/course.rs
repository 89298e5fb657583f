//! The stages of the small world: a base model, DPO and a reward model by the same labels, and reinforcement by that model.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use koan_cpu::Cpu;
use koan_train::{
    prefer::{self, PreferConfig},
    stage::Launch,
    supervised::{self, Stage, SupervisedConfig},
};
use serde_json::Value;

/// Where a run is made, by whom.
pub struct Course<'a> {
    /// The directory of [`world::write`](crate::world::write).
    pub dir: &'a Path,
    pub cpu: &'a Cpu,
    pub threads: usize,
}

impl Course<'_> {
    fn launch<'s>(&self, stop: &'s AtomicBool) -> Launch<'s> {
        Launch { resume: false, threads: self.threads, stop }
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
    pub fn base(&self) {
        let settings = "data = 'DIR/text.jsonl'\nepochs = 1\nbatch_tokens = 1024\nmax_tokens = 128\n\
            [optim]\nlr = 3e-3\nwarmup_steps = 20\nschedule = 'cosine'\nbeta2 = 0.99\nmicro_batch_tokens = 1280\n";
        let file = self.file("base", "fresh", settings);
        let config = SupervisedConfig::load(Stage::Pretrain, &file, &[]).expect("settings");
        let stop = AtomicBool::new(false);
        supervised::run(self.cpu, Stage::Pretrain, &config, self.launch(&stop), |_| {}).expect("runs");
    }

    /// Learns from the labels by `loss`; the accuracy on held-out pairs that are labelled right.
    pub fn prefer(&self, name: &str, loss: &str, lr: f64, epochs: u64) -> f64 {
        let settings = format!(
            "data = 'DIR/pairs.jsonl'\nepochs = {epochs}\nbatch = 32\nmax_tokens = 128\n[algorithm]\n{loss}\n\
             [optim]\nlr = {lr}\nwarmup_steps = 10\nschedule = 'linear'\nmicro_batch_tokens = 1280\n\
             [eval]\ndata = 'DIR/held-out.jsonl'\nevery = 1000000\n"
        );
        let file = self.file(name, "base/model", &settings);
        let config = PreferConfig::load(&file, &[]).expect("settings");
        let stop = AtomicBool::new(false);
        prefer::run(self.cpu, &config, self.launch(&stop), |_| {}).expect("runs");
        let lines = self.metrics(name);
        let last = &lines[lines.len() - 1];
        last["eval_rewards/accuracies"].as_f64().expect("measured at the end")
    }

    fn metrics(&self, run: &str) -> Vec<Value> {
        lines(&self.dir.join(run).join("metrics.jsonl"))
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("a file of a run");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}
