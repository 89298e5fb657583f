//! `koan pretrain` and `koan sft`

use std::path::PathBuf;

use koan_backend::Backend;
use koan_train::{
    stage::Launch,
    supervised::{self, Event, Metrics, Stage, SupervisedConfig},
};

use crate::{
    device::{Device, Job, Running},
    interrupt::stop_on_ctrl_c,
    output,
    progress::Progress,
};

/// Train a model to predict text: every token of it
///
/// The data is a .txt file, JSON Lines with `text` or `token_ids`, or a .bin file of tokens. Ctrl-C finishes the step, writes a
/// checkpoint and says how to go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan model init --config config.json --tokenizer models/smollm2 --out models/fresh
  koan pretrain pretrain.toml

A file of settings:
  run_dir = \"runs/base\"
  model = \"models/fresh\"
  data = \"data/text.jsonl\"
  epochs = 1")]
pub(crate) struct Pretrain {
    #[command(flatten)]
    args: Args,
}

/// Train a model to reply as demonstrations do: the assistant's messages are learned, what comes before is read
///
/// The data is JSON Lines with `messages`, or `prompt` and `completion`. Ctrl-C finishes the step, writes a checkpoint and says
/// how to go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan sft sft.toml --set optim.lr=2e-5

A file of settings:
  run_dir = \"runs/sft\"
  model = \"models/smollm2\"
  data = \"data/demonstrations.jsonl\"
  epochs = 2")]
pub(crate) struct Sft {
    #[command(flatten)]
    args: Args,
}

#[derive(clap::Args)]
struct Args {
    /// Settings of the run (TOML)
    config: PathBuf,
    /// Change one setting, e.g. `--set optim.lr=3e-4`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the newest checkpoint of the run directory
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    device: Device,
}

impl Pretrain {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.args.run(Stage::Pretrain)
    }
}

impl Sft {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.args.run(Stage::Sft)
    }
}

impl Args {
    fn run(self, stage: Stage) -> anyhow::Result<()> {
        let config = SupervisedConfig::load(stage, &self.config, &self.set)?;
        let device = self.device.clone();
        device.run(Run { stage, config, args: self })
    }
}

struct Run {
    stage: Stage,
    config: SupervisedConfig,
    args: Args,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let stop = stop_on_ctrl_c("finishing the step, then writing a checkpoint")?;
        let mut progress: Option<Progress> = None;
        let mut steps = 0;
        let launch = Launch { resume: self.args.resume, threads: running.judges, stop: &stop };
        let summary = supervised::run(b, self.stage, &self.config, launch, |event| match event {
            Event::Start { step, steps: all, pieces, tokens, memory } => {
                steps = all;
                let bar = Progress::new("steps", all as usize);
                bar.print(&format!("{running}; {memory}"));
                bar.print(&format!("{pieces} texts, {tokens} tokens to learn in a pass over the data"));
                if step > 0 {
                    bar.print(&format!("going on after step {step}"));
                }
                progress = Some(bar);
            }
            Event::Step(metrics) => {
                if let Some(bar) = &mut progress {
                    // A line for each of about a hundred steps, and for each measurement.
                    if metrics.eval_loss.is_some() || metrics.step.is_multiple_of((steps / 100).max(1)) {
                        bar.print(&line(metrics));
                    }
                    bar.set(metrics.step as usize, &format!("loss {:.4}", metrics.loss));
                }
            }
            Event::Checkpoint { path, digest } => {
                if let Some(bar) = &progress {
                    bar.print(&format!("checkpoint {} sha256 {digest}", path.display()));
                }
            }
        })?;
        if let Some(bar) = progress {
            bar.finish();
        }
        output::conclude(&summary, self.stage.name(), &self.args.config)
    }
}

fn line(m: &Metrics) -> String {
    let held_out = m.eval_loss.map_or(String::new(), |loss| format!("  held out {loss:.4}"));
    format!(
        "step {:5}  loss {:.4}{held_out}  grad {:.3}  lr {:.2e}  {:.0} tokens/s",
        m.step, m.loss, m.grad_norm, m.lr, m.tokens_per_s
    )
}
