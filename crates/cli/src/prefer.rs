//! `koan prefer`

use koan_backend::Backend;
use koan_train::{
    prefer::{self, Metrics, PreferConfig},
    stage::{Launch, RunSummary},
};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{Course, STOPPING, Screen, Shown, StageArgs, Words},
};

/// Train a model on preferences: DPO, IPO, KTO, ORPO, SimPO and their kin
///
/// The data is JSON Lines with `prompt`, `chosen` and `rejected`, or for KTO with `prompt`, `completion` and `label`. What the
/// reference policy says is computed once, before the first step. Ctrl-C finishes the step, writes a checkpoint and says how to
/// go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan prefer prefer.toml --set algorithm.beta=0.2

A file of settings:
  run_dir = \"runs/dpo\"
  model = \"runs/sft/model\"
  data = \"data/preferences.jsonl\"
  epochs = 1
  [algorithm]
  loss = \"dpo\"      # robust, dpo-norm, ipo, ipo-sum, hinge, cpo, simpo, orpo, kto
  beta = 0.1")]
pub(crate) struct Prefer {
    #[command(flatten)]
    args: StageArgs,
    /// Print the formula in force, and stop
    #[arg(long)]
    explain: bool,
}

impl Prefer {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = PreferConfig::load(&self.args.config, &self.args.set)?;
        if self.explain {
            say!("{}", config.explain())?;
            return Ok(());
        }
        let device = self.args.device.clone();
        device.run(Run { config, args: self.args })
    }
}

struct Run {
    config: PreferConfig,
    args: StageArgs,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let stop = stop_on_signal(STOPPING);
        let summary = show(b, running, &self.config, self.args.launch(running, &stop))?;
        self.args.conclude(&summary, "prefer")
    }
}

/// Runs `config`, and shows it.
pub(crate) fn show<B: Backend>(
    b: &B,
    running: Running,
    config: &PreferConfig,
    launch: Launch,
) -> anyhow::Result<RunSummary> {
    let eval_every = config.eval.as_ref().map(|eval| eval.every);
    let course = Course { eval_every, checkpoint_every: config.stage.checkpoint_every };
    Screen::of(running, course, |on| prefer::run(b, config, launch, on))
}

/// A line for each of about a hundred steps, and for each measurement.
impl Shown for Metrics {
    const HEADER: &'static str = "  step      loss   right   margin  held out   right  tokens/s   left";

    fn seconds(&self) -> f64 {
        self.step_s
    }

    fn in_words(&self, steps: u64, left: &str) -> Words {
        let shown = self.held_out.is_some() || self.step.is_multiple_of((steps / 100).max(1));
        Words { line: shown.then(|| line(self, left)), brief: format!("loss {:.4}", self.loss) }
    }
}

fn line(m: &Metrics, left: &str) -> String {
    let percent = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.1}%", 100.0 * share));
    let held_out = m.held_out.map_or(String::new(), |held_out| format!("{:.4}", held_out.loss));
    format!(
        "{:6} {:9.4} {:>7} {:+8.3} {held_out:>9} {:>7} {:9.0} {left:>6}",
        m.step,
        m.loss,
        percent(m.accuracy),
        m.margin,
        percent(m.held_out.and_then(|held_out| held_out.accuracy)),
        m.tokens_per_s
    )
}
