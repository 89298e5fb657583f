//! `koan reject`

use koan_backend::Backend;
use koan_train::{
    reject::{self, Comparisons, Forecast, Made, Metrics, RejectConfig, Summary},
    stage::Launch,
};

use crate::{
    device::{Job, Running},
    interrupt::stop_on_signal,
    stage::{Course, Screen, Shown, StageArgs, Words},
};

/// Make training data of a model's own answers: sample several of each problem, judge and filter them, and keep some
///
/// Writes demonstrations for `koan sft` (`data/sft.jsonl` in the run directory), or with `keep.which = "preference"` pairs for
/// `koan prefer` (`data/preferences.jsonl`), each with its origin. How many completions each filter refuses is counted. Ctrl-C
/// finishes the step and says how to go on: what was sampled is never sampled again. With a table `[server]` the completions are those of a
/// server with OpenAI's API, and no model is needed here.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan reject recipes/reject-arithmetic.toml --plan
  koan reject recipes/reject-arithmetic.toml --set keep.which=shortest

A file of settings:
  run_dir = \"runs/sampled\"
  model = \"runs/rl/model\"
  data = \"data/problems.jsonl\"
  [rollout]
  group_size = 16
  max_new_tokens = 1024
  [filter]                  # docs/guide/rejection-sampling.md has all
  language = \"en\"
  [keep]
  which = \"random\"          # first, shortest, all, preference
  at_most = 2
  pass_rate = [0.1, 0.9]
  [[reward]]
  kind = \"math\"

In the place of `model`, a server that writes the completions (koan serve, vLLM, llama.cpp, a service):
  [server]
  url = \"http://localhost:8000/v1\"
  model = \"smollm2\"         # its name there
  api_key_env = \"API_KEY\"   # the variable that holds the key, if one is needed")]
pub(crate) struct Reject {
    #[command(flatten)]
    args: StageArgs,
    /// Print what the run will take (steps, memory, disk), and stop; the model needs no weights for it
    #[arg(long)]
    plan: bool,
}

impl Reject {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = RejectConfig::load(&self.args.config, &self.args.set)?;
        let device = self.args.device.clone();
        if self.plan {
            return device.run(Planned(config));
        }
        device.run(Run { config, args: self.args })
    }
}

struct Run {
    config: RejectConfig,
    args: StageArgs,
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let stop = stop_on_signal("finishing the step");
        let made = show(b, running, &self.config, self.args.launch(running, &stop))?;
        let Some(data) = made.data else { return self.args.conclude(&made.run, "reject") };
        let summary = made.summary;
        say!("{} rows are in {}", summary.rows - summary.rows_unbalanced, data.display())?;
        Ok(())
    }
}

/// Runs `config`, shows it, and says what became of completions and problems.
pub(crate) fn show<B: Backend>(
    b: &B,
    running: Running,
    config: &RejectConfig,
    launch: Launch,
) -> anyhow::Result<Made> {
    let course = Course { eval_every: None, checkpoint_every: u64::MAX };
    let made = Screen::of(running, course, |on| reject::run(b, config, launch, on))?;
    if made.data.is_some() {
        for line in in_words(&made.summary) {
            note!("{line}");
        }
    }
    Ok(made)
}

/// The counts of completions and problems, in lines.
fn in_words(summary: &Summary) -> Vec<String> {
    let completions = summary.completions;
    let counted = completions.named().into_iter().filter(|(_, n)| *n > 0);
    let counted: Vec<String> = counted.map(|(name, n)| format!("{n} {name}")).collect();
    let mut lines = vec![format!("{} completions: {}", completions.all(), counted.join(", "))];
    let mut problems = format!("{} problems", summary.problems);
    for (n, what) in [
        (summary.problems_without, "of which nothing is kept"),
        (summary.problems_undecided, "of which nothing was decided"),
        (summary.problems_tied, "whose completions do not differ by enough"),
    ] {
        if n > 0 {
            problems.extend([", ", &n.to_string(), " ", what]);
        }
    }
    lines.push(problems);
    let bins = ["0", "to 1/4", "to 1/2", "to 3/4", "below 1", "1"];
    let rates = bins.iter().zip(summary.pass_rates).map(|(bin, n)| format!("{bin}: {n}"));
    if summary.pass_rates.iter().any(|n| *n > 0) {
        lines.push(format!("problems by pass rate  {}", rates.collect::<Vec<_>>().join("  ")));
    }
    let Comparisons { judged, flipped, unclear, undecided } = summary.comparisons;
    if judged > 0 {
        let share = 100.0 * flipped as f64 / judged as f64;
        lines.push(format!(
            "{judged} pairs judged: {unclear} not clear, {undecided} undecided; in {share:.0}% the order of the answers changed which is better"
        ));
    }
    if summary.rows_unbalanced > 0 {
        lines.push(format!("{} pairs are left out to balance lengths", summary.rows_unbalanced));
    }
    lines
}

impl Shown for Metrics {
    const HEADER: &'static str = "  step  right tokens   cut  problems   kept  rows  tokens/s   left";

    fn seconds(&self) -> f64 {
        self.step_s
    }

    fn in_words(&self, steps: u64, left: &str) -> Words {
        let shown = self.step.is_multiple_of((steps / 100).max(1));
        let brief = format!("{:.1}% right, {} rows", 100.0 * self.accuracy, self.rows);
        Words { line: shown.then(|| line(self, left)), brief }
    }
}

fn line(m: &Metrics, left: &str) -> String {
    if let Some(reason) = &m.nothing_judged {
        return format!("{:6}  nothing was judged: {reason}", m.step);
    }
    format!(
        "{:6} {:>6} {:6.1} {:>5} {:9} {:6} {:5} {:9.0} {left:>6}",
        m.step,
        format!("{:.1}%", 100.0 * m.accuracy),
        m.completion_tokens,
        format!("{:.0}%", 100.0 * m.truncated),
        m.problems,
        m.problems - m.problems_without,
        m.rows,
        m.tokens_per_s
    )
}

/// Prints what a run would take; writes nothing.
struct Planned(RejectConfig);

impl Job for Planned {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let config = self.0;
        let forecast = Forecast::of(b, &config)?;
        let Forecast { new_tokens: new, memory: [weights, generator, judges], .. } = forecast;
        let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
        let free = |bytes: Option<u64>| bytes.map_or_else(String::new, |n| format!(" of {} free", gib(n)));
        let prompts =
            forecast.prompt_tokens.map_or_else(String::new, |n| format!("prompts of up to {n} tokens, "));
        say!(
            "{} steps of {} problems × {} completions, from {} problems; {prompts}completions of up to {new} tokens; {running}",
            forecast.steps,
            config.rollout.problems,
            config.rollout.group_size,
            forecast.problems,
        )?;
        let of_judges =
            if judges > 0 { format!(", models that judge {}", gib(judges)) } else { String::new() };
        if forecast.bad_references > 0 {
            say!("        {} more problems are left out: their references are bad", forecast.bad_references)?;
        }
        if let Some(server) = &config.server {
            let requests = forecast.problems as u64 * config.rollout.group_size as u64;
            say!(
                "server  {requests} requests to {} for `{}`, {} at once, of up to {} tokens in all besides the prompts; what they take \
                 and cost there is not known here",
                server.url,
                server.model,
                server.workers,
                requests.saturating_mul(new as u64),
            )?;
            say!("memory  {}{}: no weights{of_judges}", gib(judges), free(forecast.available))?;
        } else {
            say!(
                "memory  {}{}: weights {}, {} sequences at once {}{of_judges}",
                gib(weights + generator + judges),
                free(forecast.available),
                gib(weights),
                forecast.sequences,
                gib(generator),
            )?;
        }
        say!(
            "disk    at most about {}{} at {}: rollouts and data",
            gib(forecast.disk),
            free(forecast.available_disk),
            config.stage.run_dir.display(),
        )?;
        Ok(())
    }
}
