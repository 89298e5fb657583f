//! `koan demo`

use std::path::PathBuf;

use koan_backend::Backend;
use koan_recipe::demo::{
    self, Event, Example, Measure, Outcome,
    notation::{MEANING, QUESTION, TERMS, WAYS},
};
use koan_train::{
    rl,
    stage::{self, Launch},
    supervised,
};

use crate::{
    device::{Device, Job, Running},
    interrupt::stop_on_signal,
    progress::Progress,
    stage::STOPPING,
};

/// See it work, from nothing: pretrain a small base model, run R1-Zero on it, compare the two
///
/// Writes a text in which questions about a counter are answered in three ways (blurted, worked out step by step, worked out
/// and checked), pretrains a model of 0.3 million parameters on it, and lets it learn from verified answers alone. Then it shows
/// the base model and the trained one on problems neither has seen, and writes report.html and result.json.
///
/// Interrupted, it goes on where it was when it is run again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan demo
  koan demo --quick --run-dir /tmp/demo
  koan view runs/demo/zero        (while it trains, or after)
  koan generate --model runs/demo/zero/model --raw --prompt 'PROBLEM'     (one of runs/demo/held-out.jsonl)")]
pub(crate) struct Demo {
    /// Where everything goes
    #[arg(long, default_value = "runs/demo", value_name = "DIR")]
    run_dir: PathBuf,
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
        let stop = stop_on_signal(STOPPING);
        let launch = Launch { resume: false, threads: running.judges, stop: &stop };
        let mut screen = Screen { running, progress: None, steps: 0 };
        let outcome = demo::run(b, &self.run_dir, self.quick, launch, |event| screen.show(event))?;
        match outcome {
            Some(outcome) => self.conclude(&outcome),
            None => Ok(say!("stopped; the same command goes on where it was")?),
        }
    }
}

/// What is shown while it goes.
struct Screen {
    running: Running,
    progress: Option<Progress>,
    steps: u64,
}

impl Screen {
    fn begin(&mut self, what: &'static str, done: u64, steps: u64) {
        if done > 0 {
            self.say(&format!("   going on after step {done} of {steps}"));
        }
        self.steps = steps;
        self.progress = Some(Progress::new(what, steps as usize));
    }

    fn say(&self, line: &str) {
        match &self.progress {
            Some(progress) => progress.print(line),
            None => note!("{line}"),
        }
    }

    fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Written { sample } => {
                self.explain();
                self.say("\n1. A text of such questions and answers is written. It begins:\n");
                for text in sample.iter().take(4) {
                    self.say(&indented(text));
                }
            }
            Event::Base(event) => self.show_base(event),
            Event::Measured { model: "base", measure } => {
                self.end();
                self.say(&format!("   the base model on held-out problems: {}", in_words(measure)));
            }
            Event::Measured { measure, .. } => {
                self.end();
                self.say(&format!("   the trained model on held-out problems: {}", in_words(measure)));
            }
            Event::Zero(event) => self.show_zero(event),
        }
    }

    /// Says how a question and its answers are written.
    fn explain(&self) {
        self.say(&format!(
            "How to read it:\n\n      {QUESTION}\n\n   {MEANING}\n   There are three ways to answer:\n"
        ));
        for (name, answer, what) in WAYS {
            self.say(&format!("   {name}: {what}\n\n{}", indented(answer)));
        }
    }

    fn show_base(&mut self, event: supervised::Event) {
        match event {
            stage::Event::Start { step, steps, task, .. } => {
                self.say(&format!(
                    "2. Pretraining: a model of 0.3 million parameters learns to predict it: {task} ({})",
                    self.running
                ));
                self.say("   (loss: how surprised the model is by the next token of the text, in nats; 0 is never)");
                self.begin("steps", step, steps);
            }
            stage::Event::Step { step, metrics: m } => {
                self.set(step, &format!("loss {:.3}", m.loss));
                if step.is_multiple_of((self.steps / 8).max(1)) {
                    self.say(&format!(
                        "   step {step:5} of {}  loss {:.3}  {:.0} tokens/s",
                        self.steps, m.loss, m.tokens_per_s
                    ));
                }
            }
            _ => {}
        }
    }

    fn show_zero(&mut self, event: rl::Event) {
        match event {
            stage::Event::Start { step, steps, .. } => {
                self.say(
                    "\n3. R1-Zero: it answers problems, learns from which answers are right, and from nothing else",
                );
                for (name, what) in TERMS {
                    self.say(&format!("   ({name}: {what})"));
                }
                self.begin("steps", step, steps);
            }
            stage::Event::Step { step, metrics: m } => {
                self.set(step, &format!("accuracy {:.0}%", 100.0 * m.accuracy));
                if step == 1 || step.is_multiple_of((self.steps / 16).max(1)) {
                    self.say(&format!(
                        "   step {step:3} of {}  right {:5.1}%  tokens {:5.1}  entropy {:.2}  {:.1} s per step",
                        self.steps,
                        100.0 * m.accuracy,
                        m.completion_tokens,
                        m.entropy,
                        m.step_s
                    ));
                }
            }
            stage::Event::Note { text } => self.say(text),
            stage::Event::BadReferences { bad, .. } => self.say(&format!("{} bad references", bad.len())),
            _ => {}
        }
    }

    fn set(&mut self, step: u64, words: &str) {
        if let Some(progress) = &mut self.progress {
            progress.set(step as usize, words);
        }
    }
}

impl Demo {
    fn conclude(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let curve =
            |value: &dyn Fn(&demo::Point) -> f64| outcome.curve.iter().map(value).collect::<Vec<f64>>();
        say!("\n{}", chart("right answers, %", &curve(&|p| 100.0 * p.accuracy)))?;
        say!("{}", chart("tokens per answer", &curve(&|p| p.completion_tokens)))?;
        let shown = outcome.examples.iter().find(|e| e.before.outcome != e.after.outcome);
        if let Some(Example { prompt, answer, before, after }) = shown.or(outcome.examples.first()) {
            say!("A held-out problem: {}   (right: {answer})\n", prompt.trim())?;
            say!("before:\n{}\nafter:\n{}", indented(&before.completion), indented(&after.completion))?;
        }
        let Outcome { before, after, .. } = outcome;
        say!("before: {}\nafter:  {}", in_words(before), in_words(after))?;
        say!(
            "{:.0} s: pretraining {:.0}, reinforcement learning {:.0}\n\nthe report:  {}\nthe model:   {}\nlook closer: koan view {}",
            outcome.seconds,
            outcome.pretrain_seconds,
            outcome.rl_seconds,
            self.run_dir.join("report.html").display(),
            outcome.model.display(),
            self.run_dir.join("zero").display(),
        )?;
        Ok(())
    }
}

fn in_words(m: &Measure) -> String {
    let percent = |x: f64| 100.0 * x;
    format!(
        "{:.1}% right (95% interval {:.1} to {:.1}), {:.1} tokens per answer; {:.0}% blurted, {:.0}% worked out, {:.0}% checked",
        percent(m.interval.accuracy),
        percent(m.interval.low),
        percent(m.interval.high),
        m.completion_tokens,
        percent(m.blurted),
        percent(m.worked),
        percent(m.checked)
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| ["      ", line, "\n"].concat()).collect()
}

/// Values from left to right, as bars from 0 to their largest, eight rows high.
fn chart(title: &str, values: &[f64]) -> String {
    const COLUMNS: usize = 64;
    const ROWS: usize = 8;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let n = values.len().clamp(1, COLUMNS);
    let mean = |column: usize| {
        let part = &values[column * values.len() / n..(column + 1) * values.len() / n];
        part.iter().sum::<f64>() / part.len().max(1) as f64
    };
    let columns: Vec<f64> = (0..n.min(values.len())).map(mean).collect();
    let top = columns.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("{title}\n");
    for row in (0..ROWS).rev() {
        let label = if row == ROWS - 1 {
            format!("{top:6.1}")
        } else if row == 0 {
            format!("{:6}", 0)
        } else {
            " ".repeat(6)
        };
        let bar =
            |&v: &f64| EIGHTHS[((v / top * ROWS as f64 - row as f64) * 8.0).round().clamp(0.0, 8.0) as usize];
        text.extend([&label, " │", &columns.iter().map(bar).collect::<String>(), "\n"]);
    }
    text + &format!(
        "{:7}└{}\n{:8}step 1{:>width$}\n",
        "",
        "─".repeat(n),
        "",
        values.len(),
        width = n.saturating_sub(6)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_rises_as_its_values_do() {
        let text = chart("t", &[0.0, 4.0, 8.0]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[1], "   8.0 │  █");
        assert_eq!(rows[8], "     0 │ ██");
        assert!(chart("t", &[]).contains('t'));
        assert_eq!(
            chart("t", &vec![1.0; 500]).lines().nth(1).map(|row| row.chars().count()),
            Some(6 + 2 + 64)
        );
    }
}
