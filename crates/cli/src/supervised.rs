//! `koan pretrain` and `koan sft`

use koan_backend::Backend;
use koan_train::{
    stage::{Launch, RunSummary},
    supervised::{self, Metrics, Stage, SupervisedConfig},
};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{Course, STOPPING, Screen, Shown, StageArgs, Words},
};

/// Train a model to predict text: every token of it
///
/// The data is a .txt file, JSON Lines with `text` or `token_ids`, or a .bin file of tokens. Phases of the learning rate, updates
/// that grow, joined texts, fill-in-the-middle and longer contexts are settings; `preset` makes DeepSeek-V3's choices of them.
/// Ctrl-C finishes the step, writes a checkpoint and says how to go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan model init --config config.json --tokenizer models/smollm2 --out models/fresh
  koan pretrain pretrain.toml

A file of settings:
  run_dir = \"runs/base\"
  model = \"models/fresh\"
  data = \"data/text.jsonl\"
  epochs = 1
  preset = \"deepseek-v3\"    # optional; --explain says what it sets

docs/guide/pretraining.md has every setting.")]
pub(crate) struct Pretrain {
    #[command(flatten)]
    args: StageArgs,
    /// Print the settings in force, every constant with its value, and stop
    #[arg(long)]
    explain: bool,
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
    /// Print the settings in force, every constant with its value, and stop
    #[arg(long)]
    explain: bool,
}

impl Pretrain {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        run(Stage::Pretrain, self.args, self.explain)
    }
}

impl Sft {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        run(Stage::Sft, self.args, self.explain)
    }
}

/// Runs `stage` as `args` say.
fn run(stage: Stage, args: StageArgs, explain: bool) -> anyhow::Result<()> {
    let config = SupervisedConfig::load(stage, &args.config, &args.set)?;
    if explain {
        say!("{}", config.explain(stage))?;
        return Ok(());
    }
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
        let launch = self.args.launch(running, &stop);
        let summary = show(b, running, self.stage, &self.config, launch)?;
        self.args.conclude(&summary, self.stage.name())
    }
}

/// Runs `config`, and shows it.
pub(crate) fn show<B: Backend>(
    b: &B,
    running: Running,
    stage: Stage,
    config: &SupervisedConfig,
    launch: Launch,
) -> anyhow::Result<RunSummary> {
    let eval_every = config.eval.as_ref().map(|eval| eval.every);
    let course = Course { eval_every, checkpoint_every: config.stage.checkpoint_every };
    Screen::of(running, course, |on| supervised::run(b, stage, config, launch, on))
}

/// A line for each of about a hundred steps, and for each measurement.
impl Shown for Metrics {
    const HEADER: &'static str = "  step      loss  held out    grad        lr  tokens/s   left";

    fn seconds(&self) -> f64 {
        self.step_s
    }

    fn in_words(&self, steps: u64, left: &str) -> Words {
        let shown = self.eval_loss.is_some() || self.step.is_multiple_of((steps / 100).max(1));
        Words { line: shown.then(|| line(self, left)), brief: format!("loss {:.4}", self.loss) }
    }
}

fn line(m: &Metrics, left: &str) -> String {
    let held_out = m.eval_loss.map_or(String::new(), |loss| format!("{loss:.4}"));
    format!(
        "{:6} {:9.4} {held_out:>9} {:7.3} {:9.2e} {:9.0} {left:>6}",
        m.step, m.loss, m.grad_norm, m.lr, m.tokens_per_s
    )
}
