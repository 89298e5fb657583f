//! `koan verify`

use std::{
    io::{self, Write},
    num::NonZero,
    path::PathBuf,
};

use anyhow::{bail, ensure};
use clap::ValueEnum;
use koan_data::{DataFiles, rows};
use koan_reward::{
    Context, Outcome, Replay, Report, RewardConfig, RewardError, Rewards,
    models::Needed,
    replay::{Event, Judged},
};
use koan_train::rl::RlConfig;

use crate::{
    interrupt::stop_on_signal,
    numbers::threads,
    output::{Output, Stdout},
};

/// Replay rewards over a file of completions: are they right?
///
/// Reads JSON Lines with `answer` and `completion` (optional `reward`: the verifier of that line), the output of `koan
/// generate`, or rollouts of a run. Shows how many completions had each outcome: correct, wrong, unparsable, undecided,
/// bad_reference; the last two have no score, and training masks them. Where lines say what is `expected` (true or
/// false), shows how the verdicts agree. `--out` has each line again with `score`, `outcome`, `parsed` and `reason`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan verify --input completions.jsonl --out verdicts.jsonl
  koan verify --input runs/first/rollouts/step-000020.jsonl --show wrong --limit 3
  koan verify --input completions.jsonl --reward external --set 'command=[\"python3\", \"judge.py\"]'")]
pub(crate) struct Verify {
    /// The completions, JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// The verifier of lines that name none; docs/guide/rewards.md lists them
    #[arg(long, default_value = "math", value_name = "NAME", conflicts_with = "config")]
    reward: String,
    /// An option of the verifier, e.g. `--set scores.wrong=-1`
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "config")]
    set: Vec<String>,
    /// Take the `[[reward]]` tables of this file instead: a run's config, or a file of nothing else
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where verdicts go, a line for each completion
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Threads that judge; 0: all cores
    #[arg(long, value_name = "N", default_value = "0", value_parser = threads, hide_default_value = true)]
    threads: NonZero<usize>,
    /// Go on after lines that can't be judged; they are shown, and the exit code is 1
    #[arg(long)]
    keep_going: bool,
    /// Show completions with this outcome
    #[arg(long, value_name = "OUTCOME")]
    show: Option<Shown>,
    /// How many of them
    #[arg(long, default_value_t = 10, value_name = "N", requires = "show")]
    limit: usize,
    /// Print the summary as a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Shown {
    Correct,
    Wrong,
    Unparsable,
    Undecided,
    BadReference,
}

impl Shown {
    fn outcome(self) -> Outcome {
        Outcome::ALL[self as usize]
    }
}

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let rewards = self.rewards()?;
        if let Some(Needed { reward, model, .. }) = rewards.needs().first() {
            bail!(
                "reward `{reward}` asks the model `{}`, which `koan verify` does not load: measure with `koan eval`, or give a `judge` a `url`",
                model.display()
            );
        }
        let files = DataFiles::from(self.input.clone());
        let file = files.to_string();
        let rows = rows::all(&files)?;
        let stop = stop_on_signal("giving up: nothing will be written");
        let (threads, keep_going) = (self.threads.get(), self.keep_going);
        let replay = Replay { file: &file, rewards: &rewards, threads, keep_going, stop: &stop };

        let mut out = self.out.as_deref().map(|path| Output::open(Some(path))).transpose()?;
        let mut to_show = self.limit;
        let replayed = replay.run(rows, |event| {
            let judged = match event {
                Event::Judged(judged) => judged,
                Event::Bad(error) => {
                    note!("{error}");
                    return Ok(());
                }
            };
            if self.show.is_some_and(|shown| shown.outcome() == judged.judgement.outcome()) && to_show > 0 {
                to_show -= 1;
                show(&mut Stdout, judged)?;
            }
            match &mut out {
                Some(out) => out.write_all(&judged.json).and_then(|()| out.write_all(b"\n")),
                None => Ok(()),
            }
        });
        let is_empty = |report: &Report| report.outcomes.total() == 0 && report.bad_lines == 0;
        let report = match (replayed, out) {
            (Ok(report), _) if is_empty(&report) => {
                bail!("{file} has no lines; write one JSON object per line");
            }
            (Ok(report), None) => report,
            (Ok(report), Some(out)) => {
                out.finish()?;
                report
            }
            (Err(error), _) => {
                ensure!(!matches!(error, RewardError::Stopped), "stopped: nothing was written");
                return Err(error.into());
            }
        };
        if self.json {
            say!("{}", serde_json::to_string(&report)?)?;
        } else {
            summarise(&mut Stdout, &report)?;
        }
        let (judged, bad) = (report.outcomes.total(), report.outcomes.of(Outcome::BadReference));
        if report.bad_lines > 0 {
            bail!("{} lines of {file} could not be judged", report.bad_lines);
        }
        ensure!(bad < judged, "every reference of {file} is bad; is this the verifier for it?");
        Ok(())
    }

    fn rewards(&self) -> anyhow::Result<Rewards> {
        let Some(config) = &self.config else {
            let reward = RewardConfig::parse(&self.reward, &self.set)?;
            return Ok(Rewards::build(&[reward], Context::default())?);
        };
        let (rewards, max_new_tokens) = RlConfig::load_rewards(config)?;
        let context = Context { max_new_tokens, ..Context::default() };
        Ok(Rewards::build(&rewards, context)?)
    }
}

/// So many characters of prompt and completion are shown: their ends.
const SHOWN_CHARS: usize = 400;

fn show(out: &mut impl Write, judged: &Judged) -> io::Result<()> {
    let Judged { line, problem, judgement, .. } = judged;
    let sample = judged.sample.map(|sample| format!(", completion {sample}")).unwrap_or_default();
    writeln!(out, "{} (line {line}{sample}): {}", problem.id, judgement.outcome().name())?;
    if let Some(question) = problem.messages().last() {
        writeln!(out, "  prompt      {}", tail(&question.content))?;
    }
    writeln!(out, "  completion  {}", tail(&judged.completion))?;
    writeln!(out, "  reference   {}", tail(&problem.answer))?;
    for term in &judgement.terms {
        let parsed = term.parsed.as_deref().map(|parsed| format!("read `{parsed}`: ")).unwrap_or_default();
        writeln!(out, "  {:10}  {parsed}{}", term.name, term.reason)?;
    }
    writeln!(out)
}

/// The end of `text`, its lines kept below one another.
fn tail(text: &str) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(SHOWN_CHARS - 1).map_or(0, |(at, _)| at);
    let mark = if from > 0 { "…" } else { "" };
    format!("{mark}{}", text[from..].replace('\n', "\n              "))
}

fn summarise(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let judged = report.outcomes.total();
    writeln!(out, "{:14} {:>11} {:>7}", "outcome", "completions", "share")?;
    for outcome in Outcome::ALL {
        let n = report.outcomes.of(outcome);
        writeln!(out, "{:14} {n:>11} {:>6.1}%", outcome.name(), 100.0 * n as f64 / judged.max(1) as f64)?;
    }
    let score =
        report.score.map_or_else(|| "none has a score".into(), |score| format!("mean score {score:.3}"));
    let (seconds, threads) = (report.seconds, report.threads);
    writeln!(
        out,
        "{judged} judged, {score}; {seconds:.2} s on {threads} threads, {:.0} verdicts/s; median {:.1} µs, longest {:.1} µs",
        judged as f64 / seconds.max(1e-9),
        report.median_us,
        report.max_us
    )?;
    for (id, reason) in report.bad_references.iter().take(3) {
        writeln!(out, "bad reference of {id}: {reason}")?;
    }
    if let Some(a) = &report.agreement {
        let share = 100.0 * a.agree as f64 / a.expected as f64;
        writeln!(out, "as expected: {} of {} ({share:.2}%)", a.agree, a.expected)?;
        writeln!(out, "false accepts: {}{}", a.false_accepts, list(&a.false_accept_ids))?;
        writeln!(out, "false rejects: {}{}", a.false_rejects, list(&a.false_reject_ids))?;
        writeln!(out, "neither, masked: {}", a.masked)?;
    }
    Ok(())
}

/// The first of `ids`, in brackets.
fn list(ids: &[String]) -> String {
    const LISTED: usize = 20;
    match ids {
        [] => String::new(),
        _ if ids.len() > LISTED => format!(" ({}, …)", ids[..LISTED].join(", ")),
        _ => format!(" ({})", ids.join(", ")),
    }
}
