//! `koan rl`

mod plan;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use koan_backend::Backend;
use koan_train::{
    RlConfig,
    rl::{self, Event, Metrics},
    stage::Launch,
};

use crate::{
    device::{Device, Job, Running},
    eval::warn_of_bad_references,
    interrupt::stop_on_ctrl_c,
    output,
    progress::Progress,
};

/// Train a model by reinforcement learning from verified answers
///
/// Ctrl-C finishes the step, writes a checkpoint and says how to go on. A run that was killed goes on with --resume from
/// its newest checkpoint, to the bits of a run that never stopped.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan rl recipes/smollm2-arithmetic.toml --set optim.lr=1e-5 --set run_dir=runs/first")]
pub(crate) struct Rl {
    /// Settings of the run (TOML)
    config: PathBuf,
    /// Change one setting, e.g. `--set optim.lr=3e-6`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the newest checkpoint of the run directory
    #[arg(long)]
    resume: bool,
    /// Print the formula in force, and stop
    #[arg(long)]
    explain: bool,
    /// Print what the run will take (memory, disk, time), and stop; the model needs no weights for it
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    device: Device,
}

impl Rl {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = RlConfig::load(&self.config, &self.set)?;
        if self.explain {
            say!("{}", config.explain())?;
            return Ok(());
        }
        if self.plan {
            return self.device.run(plan::Planned(config));
        }
        let stop = stop_on_ctrl_c("finishing the step, then writing a checkpoint")?;
        self.device.run(Run { config, resume: self.resume, stop, file: self.config })
    }
}

struct Run {
    config: RlConfig,
    resume: bool,
    stop: Arc<AtomicBool>,
    file: PathBuf,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let mut progress: Option<Progress> = None;
        let (mut steps_done, mut last) = (0, String::new());
        let launch = Launch { resume: self.resume, threads: running.judges, stop: &self.stop };
        let summary = rl::run(b, &self.config, launch, |event| match event {
            Event::Start { step, steps, plan, formula } => {
                let bar = Progress::new("steps", steps as usize).going_on_after(step as usize);
                bar.print(&format!("{running}; {}", plan.breakdown()));
                bar.print(formula);
                if step > 0 {
                    bar.print(&format!("going on after step {step}"));
                }
                steps_done = step as usize;
                progress = Some(bar);
            }
            Event::BadReferences { data, bad } => warn_of_bad_references(data, bad),
            Event::Drawn { done, of } => {
                if let Some(bar) = &mut progress {
                    bar.set(steps_done, &format!("{last}drawn {done}/{of}"));
                }
            }
            Event::Eval { step, interval, completion_tokens, seconds } => {
                if let Some(bar) = &progress {
                    bar.print(&format!(
                        "held out after step {step}: accuracy {:.1}% (95% interval {:.1} to {:.1}), {completion_tokens:.1} tokens, {seconds:.0} s",
                        100.0 * interval.accuracy,
                        100.0 * interval.low,
                        100.0 * interval.high
                    ));
                }
            }
            Event::Step(metrics) => {
                steps_done = metrics.step as usize;
                if let Some(bar) = &mut progress {
                    bar.print(&line(metrics));
                    last = format!(
                        "reward {:.3}, {:.1}% right, {:.0} tokens long, {:.0} tokens/s; ",
                        metrics.reward,
                        100.0 * metrics.accuracy,
                        metrics.completion_tokens,
                        metrics.tokens_per_s
                    );
                    bar.set(steps_done, last.trim_end_matches("; "));
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
        output::conclude(&summary, "rl", &self.file)
    }
}

fn line(m: &Metrics) -> String {
    format!(
        "step {:4}  reward {:.3}  accuracy {:5.1}%  tokens {:5.1}  cut {:4.1}%  entropy {:.3}  kl {:.4}  grad {:.3}  same {}/{}  gap {:?}  {:.1} s (draw {:.1}, learn {:.1})  {:.0} tokens/s",
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
