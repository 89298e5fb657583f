//! `koan pretrain` and `koan sft`

use koan_backend::Backend;
use koan_train::supervised::{self, Metrics, Stage, SupervisedConfig};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{STOPPING, Screen, StageArgs, Words},
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
    args: StageArgs,
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
    args: StageArgs,
}

impl Pretrain {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        run(Stage::Pretrain, self.args)
    }
}

impl Sft {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        run(Stage::Sft, self.args)
    }
}

/// Runs `stage` as `args` say.
fn run(stage: Stage, args: StageArgs) -> anyhow::Result<()> {
    let config = SupervisedConfig::load(stage, &args.config, &args.set)?;
    let device = args.device.clone();
    device.run(Run { stage, config, args })
}

struct Run {
    stage: Stage,
    config: SupervisedConfig,
    args: StageArgs,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let stop = stop_on_signal(STOPPING);
        let mut screen = Screen::new(running);
        let launch = self.args.launch(running, &stop);
        let summary =
            supervised::run(b, self.stage, &self.config, launch, |event| screen.show(event, in_words))?;
        screen.finish();
        self.args.conclude(&summary, self.stage.name())
    }
}

/// A line for each of about a hundred steps, and for each measurement.
fn in_words(m: &Metrics, steps: u64) -> Words {
    let shown = m.eval_loss.is_some() || m.step.is_multiple_of((steps / 100).max(1));
    Words { line: shown.then(|| line(m)), brief: format!("loss {:.4}", m.loss) }
}

fn line(m: &Metrics) -> String {
    let held_out = m.eval_loss.map_or(String::new(), |loss| format!("  held out {loss:.4}"));
    format!(
        "step {:5}  loss {:.4}{held_out}  grad {:.3}  lr {:.2e}  {:.0} tokens/s",
        m.step, m.loss, m.grad_norm, m.lr, m.tokens_per_s
    )
}
