//! `koan rl`

mod plan;

use std::sync::{Arc, atomic::AtomicBool};

use koan_backend::Backend;
use koan_train::{
    rl::{self, Metrics, RlConfig},
    stage::{Launch, RunSummary},
};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    numbers::{amount, count},
    stage::{Course, STOPPING, Screen, Shown, StageArgs, Words},
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
    /// With --plan: on so many ranks, machines like this one
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, requires = "plan", value_parser = count::<usize>)]
    ranks: usize,
    /// With --ranks: Gbit/s between them
    #[arg(long, value_name = "GBIT", default_value = "10", requires = "ranks", value_parser = amount)]
    network: f64,
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
            let Self { ranks, network, .. } = self;
            return device.run(plan::Planned { config, ranks, network });
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
        let summary = show(b, running, &self.config, self.args.launch(running, &self.stop))?;
        self.args.conclude(&summary, "rl")
    }
}

/// Runs `config`, and shows it.
pub(crate) fn show<B: Backend>(
    b: &B,
    running: Running,
    config: &RlConfig,
    launch: Launch,
) -> anyhow::Result<RunSummary> {
    let eval_every = config.eval.as_ref().map(|eval| eval.every);
    let course = Course { eval_every, checkpoint_every: config.stage.checkpoint_every };
    Screen::of(running, course, |on| rl::run(b, config, launch, on))
}

impl Shown for Metrics {
    const HEADER: &'static str =
        " step  reward  right tokens  cut entropy      kl    grad    same  step s   left";

    fn seconds(&self) -> f64 {
        self.step_s
    }

    fn in_words(&self, _: u64, left: &str) -> Words {
        let judged = match self.nothing_judged {
            Some(_) => "nothing judged".to_owned(),
            None => format!("{:.1}% right, {:.0} tokens long", 100.0 * self.accuracy, self.completion_tokens),
        };
        let brief = format!("{judged}, {:.0} tokens/s", self.tokens_per_s);
        Words { line: Some(line(self, left)), brief }
    }
}

/// The columns of [`Metrics::HEADER`]; words in the place of numbers that say nothing.
fn line(m: &Metrics, left: &str) -> String {
    if let Some(reason) = &m.nothing_judged {
        return format!(
            "{:5}  nothing was judged, so nothing was learned:{:>22}{left:>7}\n       {reason}",
            m.step,
            fit(m.step_s, 1, 7)
        );
    }
    let [reward, tokens, step_s] = [fit(m.reward, 3, 7), fit(m.completion_tokens, 1, 6), fit(m.step_s, 1, 7)];
    let right = format!("{:.1}%", 100.0 * m.accuracy);
    let middle = if m.zero_spread_groups == m.drawn_groups {
        let learned = if m.grad_norm == 0.0 {
            "learned nothing: all groups equal"
        } else {
            "only kl learned: all groups equal"
        };
        format!("  {learned:35}")
    } else {
        let same = format!("{}/{}", m.zero_spread_groups, m.drawn_groups);
        let cut = format!("{:.0}%", 100.0 * m.truncated);
        let [entropy, kl, grad] = [fit(m.entropy, 3, 7), fit(m.kl, 4, 7), fit(m.grad_norm, 3, 7)];
        format!(" {cut:>4} {entropy:>7} {kl:>7} {grad:>7} {same:>7}")
    };
    let mut line = format!("{:5} {reward:>7} {right:>6} {tokens:>6}{middle} {step_s:>7} {left:>6}", m.step);
    if let Some(why) = &m.why_undecided {
        line += &cut(&format!("\n       {} not decided: {why}", m.undecided), 80);
    }
    if m.log_prob_gap == 0.0 {
        return line;
    }
    format!("{line}\n       log_prob_gap is {:?}: sampling and training differ", m.log_prob_gap)
}

/// The first line of `text` after its line end, at most `width` characters of it.
fn cut(text: &str, width: usize) -> String {
    let line = text.trim_start_matches('\n').lines().next().unwrap_or_default();
    let short: String = line.chars().take(width - 1).collect();
    let mark = if short.len() < line.len() { "…" } else { "" };
    format!("\n{short}{mark}")
}

/// `value` with `decimals`, or as few of them, or as short a power of ten, as fit into `width` characters.
fn fit(value: f64, decimals: usize, width: usize) -> String {
    let fixed = (0..=decimals).rev().map(|decimals| format!("{value:.decimals$}"));
    fixed.into_iter().find(|text| text.len() <= width).unwrap_or_else(|| format!("{value:.0e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_below_its_header_in_80_columns() {
        let usual = Metrics {
            step: 12,
            reward: 0.345,
            accuracy: 0.345,
            completion_tokens: 14.2,
            truncated: 0.82,
            entropy: 2.17,
            grad_norm: 0.512,
            drawn_groups: 16,
            zero_spread_groups: 9,
            step_s: 14.1,
            ..Metrics::default()
        };
        assert_eq!(
            format!("{}\n{}", Metrics::HEADER, line(&usual, "12m")),
            " step  reward  right tokens  cut entropy      kl    grad    same  step s   left\n   \
             12   0.345  34.5%   14.2  82%   2.170  0.0000   0.512    9/16    14.1    12m"
        );
        let equal = Metrics { zero_spread_groups: 16, grad_norm: 0.0, ..usual.clone() };
        assert_eq!(
            line(&equal, "12m"),
            "   12   0.345  34.5%   14.2  learned nothing: all groups equal      14.1    12m"
        );
        assert!(
            line(&Metrics { zero_spread_groups: 16, ..usual.clone() }, "12m").contains("only kl learned")
        );
        let huge = Metrics {
            step: 99_999,
            reward: -123_456.789,
            accuracy: 1.0,
            completion_tokens: 123_456.7,
            truncated: 1.0,
            entropy: 12.3,
            kl: 1e12,
            grad_norm: 3.2e9,
            drawn_groups: 1024,
            zero_spread_groups: 102,
            step_s: 86_400.0,
            ..Metrics::default()
        };
        let why = Some(format!("`judge`: {}", "slow ".repeat(50)));
        let undecided = Metrics { undecided: 3, why_undecided: why, ..usual.clone() };
        assert!(line(&undecided, "12m").contains("\n       3 not decided: `judge`: slow slow"));
        for m in [
            &usual,
            &equal,
            &huge,
            &undecided,
            &Metrics { nothing_judged: Some("why".into()), ..huge.clone() },
        ] {
            for line in line(m, "23h30m").lines().chain([Metrics::HEADER]) {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
