//! `koan distill`

use koan_backend::Backend;
use koan_train::{
    distill::{self, DistillConfig, Metrics},
    stage::{Launch, RunSummary},
};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{Course, STOPPING, Screen, Shown, StageArgs, Words},
};

/// Train a model to do as a better one does: by its texts, by its distributions, or by what it says of the student's own
///
/// Method `samples`: the data are problems, the teacher answers them, and the student is fine-tuned on its answers; they may be
/// judged and filtered as by `koan reject`, and the teacher may be on a server with OpenAI's API. Method `logits`: the data are demonstrations, and the student learns the teacher's distribution at each token of the replies.
/// Method `on-policy`: the data are problems; the student answers, and each token's reward is how much likelier it is to the
/// teacher. The last two need a teacher with the student's tokenizer. Ctrl-C finishes the step, writes a checkpoint and says how to go
/// on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan distill distill.toml --set algorithm.divergence=reverse

A file of settings:
  run_dir = \"runs/distilled\"
  model = \"models/small\"
  teacher = \"models/large\"
  data = \"data/demonstrations.jsonl\"
  epochs = 2
  [algorithm]
  method = \"logits\"         # samples, on-policy
  divergence = \"forward\"    # reverse, jsd
  temperature = 1.0
  top_k = 0                 # all tokens

Of method \"samples\", in the place of `teacher`:
  [server]
  url = \"https://api.deepseek.com/v1\"
  model = \"deepseek-reasoner\"
  api_key_env = \"DEEPSEEK_API_KEY\"")]
pub(crate) struct Distill {
    #[command(flatten)]
    args: StageArgs,
    /// Print the formula in force, and stop
    #[arg(long)]
    explain: bool,
}

impl Distill {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = DistillConfig::load(&self.args.config, &self.args.set)?;
        if self.explain {
            say!("{}", config.explain())?;
            return Ok(());
        }
        let device = self.args.device.clone();
        device.run(Run { config, args: self.args })
    }
}

struct Run {
    config: DistillConfig,
    args: StageArgs,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let stop = stop_on_signal(STOPPING);
        let summary = show(b, running, &self.config, self.args.launch(running, &stop))?;
        self.args.conclude(&summary, "distill")
    }
}

/// Runs `config`, and shows it.
pub(crate) fn show<B: Backend>(
    b: &B,
    running: Running,
    config: &DistillConfig,
    launch: Launch,
) -> anyhow::Result<RunSummary> {
    let eval_every = config.eval.as_ref().map(|eval| eval.every);
    let course = Course { eval_every, checkpoint_every: config.stage.checkpoint_every };
    Screen::of(running, course, |on| distill::run(b, config, launch, on))
}

/// A line for each of about a hundred steps, and for each measurement.
impl Shown for Metrics {
    const HEADER: &'static str = "  step      loss  held out  teacher  tokens/answer  cut  tokens/s   left";

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
    let [teacher, length, cut] = match &m.sampled {
        Some(s) => [
            format!("{:.4}", s.teacher_kl),
            format!("{:.1}", s.completion_tokens),
            format!("{:.0}%", 100.0 * s.truncated),
        ],
        None => [const { String::new() }; 3],
    };
    format!(
        "{:6} {:9.4} {held_out:>9} {teacher:>8} {length:>14} {cut:>4} {:9.0} {left:>6}",
        m.step, m.loss, m.tokens_per_s
    )
}
