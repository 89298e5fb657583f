//! `koan demo`

use std::path::PathBuf;

use koan_backend::Backend;
use koan_recipe::{Rates, Selection};

use crate::{
    device::{Device, Job, Running},
    recipe::{Named, run},
};

/// See it work, from nothing: pretrain a small base model, run R1-Zero on it, compare the two
///
/// It is the recipe `demo`. A text is written in which questions about a counter are answered in three ways (blurted, worked out step by step, worked
/// out and checked); a model of 0.3 million parameters is pretrained on it, and learns from verified answers alone. report.html shows both on problems neither has
/// seen, and result.json has the figures for programs.
///
/// Interrupted, it goes on where it was when it is run again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan demo
  koan demo --quick --run-dir /tmp/demo
  koan view runs/demo/zero        (while it trains, or after)
  koan recipe show demo           (its steps, and what each took)
  koan generate --model runs/demo/zero/model --raw --prompt 'PROBLEM'     (one of runs/demo/world/held-out.jsonl)

The whole path of R1 in small, in some 20 minutes: koan recipe run r1-tiny")]
pub(crate) struct Demo {
    /// Where everything goes [default: runs/demo, with --quick runs/demo-quick]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Shorter problems, less text, fewer steps
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    device: Device,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let device = self.device.clone();
        device.run(self)
    }
}

impl Job for Demo {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        note!("{}{THEN}", koan_recipe::demo_in_words());
        let recipe = Named::bundled("demo", self.quick, self.run_dir);
        run(b, running, &recipe, Selection::default(), Rates::default())
    }
}

/// What happens then.
const THEN: &str = "A text of such questions and answers is written. A model learns to predict it (base), then answers problems and learns from which
answers are right, and from nothing else (zero). Loss is how surprised it is by the next token, in nats.
";
