//! `koan rl`

mod plan;

use std::sync::{Arc, atomic::AtomicBool};

use koan_backend::Backend;
use koan_train::rl::{self, Metrics, RlConfig};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{STOPPING, Screen, StageArgs, Words},
};

/// Train a model by reinforcement learning from verified answers
///
/// Ctrl-C finishes the step, writes a checkpoint and says how to go on. A run that was killed goes on with --resume from
/// its newest checkpoint, to the bits of a run that never stopped.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan rl recipes/smollm2-arithmetic.toml --set optim.lr=1e-5 --set run_dir=runs/first")]
pub(crate) struct Rl {
    #[command(flatten)]
    args: StageArgs,
    /// Print the formula in force, and stop
    #[arg(long)]
    explain: bool,
    /// Print what the run will take (memory, disk, time), and stop; the model needs no weights for it
    #[arg(long)]
    plan: bool,
}

impl Rl {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = RlConfig::load(&self.args.config, &self.args.set)?;
        if self.explain {
            say!("{}", config.explain())?;
            return Ok(());
        }
        let device = self.args.device.clone();
        if self.plan {
            return device.run(plan::Planned(config));
        }
        let stop = stop_on_signal(STOPPING);
        device.run(Run { config, args: self.args, stop })
    }
}

struct Run {
    config: RlConfig,
    args: StageArgs,
    stop: Arc<AtomicBool>,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let mut screen = Screen::new(running);
        let launch = self.args.launch(running, &self.stop);
        let summary = rl::run(b, &self.config, launch, |event| screen.show(event, in_words))?;
        screen.finish();
        self.args.conclude(&summary, "rl")
    }
}

fn in_words(m: &Metrics, _: u64) -> Words {
    if m.nothing_judged.is_some() {
        return Words {
            line: Some(line(m)),
            brief: format!("nothing judged, {:.0} tokens/s", m.tokens_per_s),
        };
    }
    let brief = format!(
        "reward {:.3}, {:.1}% right, {:.0} tokens long, {:.0} tokens/s",
        m.reward,
        100.0 * m.accuracy,
        m.completion_tokens,
        m.tokens_per_s
    );
    Words { line: Some(line(m)), brief }
}

fn line(m: &Metrics) -> String {
    if let Some(reason) = &m.nothing_judged {
        return format!(
            "step {:4}  nothing was judged, so nothing was learned: {reason}  ({} completions, {:.1} s)",
            m.step, m.undecided, m.step_s
        );
    }
    format!(
        "step {:4}  reward {:.3}  accuracy {:5.1}%  tokens {:5.1}  cut {:4.1}%  entropy {:.3}  kl {:.4}  grad {:.3}  same {}/{}  gap {:?}  {:.1} s (generate {:.1}, train {:.1})  {:.0} tokens/s",
        m.step,
        m.reward,
        100.0 * m.accuracy,
        m.completion_tokens,
        100.0 * m.truncated,
        m.entropy,
        m.kl,
        m.grad_norm,
        m.zero_spread_groups,
        m.drawn_groups,
        m.log_prob_gap,
        m.step_s,
        m.generate_s,
        m.train_s,
        m.tokens_per_s
    )
}
