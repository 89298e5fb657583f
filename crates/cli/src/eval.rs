//! `koan eval`

mod compare;
mod measure;
mod preferences;
mod suite;
mod table;

pub(crate) use table::pass_at_1;

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use koan_backend::Backend;
use koan_data::DataFiles;
use koan_generate::Sampling;
use koan_infer::PromptStyle;
use koan_reward::{BadReference, RewardConfig};

use self::measure::Measure;
pub(crate) use self::measure::{Hashes, part_of};
use crate::{
    adapter::AdapterArg,
    device::{Device, Job, Running},
    drafts::DraftsArg,
    generate::{SamplingArgs, memory_bytes},
    interrupt::stop_on_signal,
    numbers::count,
    output::Output,
};

/// Measure a model: pass@1 with its 95% interval, pass@k, majority vote, tokens, seconds, cost
///
/// The interval allows for completions of one problem having to do with one another. pass@k is the unbiased estimate
/// from n completions. The majority's answer counts as right if the verifier says so; answers are the same where the
/// verifier says so; a tie is decided by lot. A completion that is undecided
/// counts as not correct; how many there are, and pass@1 without them, is said too.
///
/// With `--completions`, completions are kept in FILE.part as they come; stopped or killed, the same command goes on
/// from there, and ends with the same results.
///
/// With `--reward-model`, a reward model is measured: the share of pairs whose chosen reply has the higher score, with its
/// interval, by category (`category` in the row or its `meta`), by margin, and where the chosen reply is the shorter one; how far scores
/// follow length; and whether the difference of scores says how sure one can be (calibration). Of labelled rows: accuracy and AUC.
///
/// With `--compare`, two reports of `--out` are compared over the problems that both have: the difference of pass@1 with its 95% interval
/// (bootstrap over problems), how many problems changed which way, tokens. One model is called better only where the interval excludes 0
/// and the change is more than the luck of a few problems.
///
/// With `--suite`, several data sets are measured, each with its reward and sampling, on each `--model`: `[[set]]` tables with `name`, `data`, and
/// optionally `reward`, `n`, `k`, `temperature`, `top_k`, `top_p`, `min_p`, `max_new_tokens`, `seed`, `system`, `raw`. A set of `kind = "safety"` asks a `judge` how requests that may be harmful are met, without and with a `system` message and a `reviewer`: docs/guide/measuring.md. With `--completions DIR`, what
/// is measured is kept there, and the same command goes on from it. `--chart` draws accuracy against cost.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan eval --model models/smollm2 --data held-out.jsonl --n 4
  koan eval --compare before.json after.json
  koan eval --suite suite.toml --model models/smollm2 runs/first/model --completions evals --out suite.json --chart suite.svg
  koan eval --reward-model runs/reward/model --data preferences-held-out.jsonl --out reward.json
  koan eval --model models/smollm2 --data held-out.jsonl --n 16 --k 1,4,16 --temperature 0.6 --top-p 0.95 \\
      --price-per-hour 0.40 --out report.json --completions completions.jsonl")]
pub(crate) struct Eval {
    /// The model, a Hugging Face directory; with --suite one or several
    #[arg(long, value_name = "DIR", num_args = 1.., required_unless_present_any = ["reward_model", "compare"])]
    model: Vec<PathBuf>,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Measure a reward model instead, on rows with `prompt`, `chosen` and `rejected`, or with `prompt`, `completion` and `label`
    #[arg(long, value_name = "DIR", conflicts_with_all = REWARD_MODEL_HAS_NO)]
    reward_model: Option<PathBuf>,
    /// Longer texts are left out, with --reward-model: tokens of a prompt and reply
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = count::<usize>, requires = "reward_model")]
    max_tokens: usize,
    /// The problems: rows with `prompt` or `messages`, and `answer`; files or patterns such as 'a*.jsonl'
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["compare", "suite"])]
    data: Vec<PathBuf>,
    /// Compare two reports of --out: is the model of B better than that of A?
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2, conflicts_with_all = COMPARE_HAS_NO)]
    compare: Vec<PathBuf>,
    /// Measure the data sets of this file, TOML
    #[arg(long, value_name = "FILE", conflicts_with_all = SUITE_HAS_NO)]
    suite: Option<PathBuf>,
    /// Where a chart of accuracy against cost goes, SVG, with --suite
    #[arg(long, value_name = "FILE", requires = "suite")]
    chart: Option<PathBuf>,
    /// The verifier of problems that name none; docs/guide/rewards.md lists them
    #[arg(long, default_value = "math", value_name = "NAME")]
    reward: String,
    /// An option of the verifier, e.g. `--set precision=6`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Completions per problem
    #[arg(long, default_value_t = 1, value_parser = count::<usize>)]
    n: usize,
    /// Measure pass@K for these, at most n each; default: 1 and n
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    k: Vec<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// A completion is cut at this many tokens
    #[arg(long, default_value_t = 256, value_parser = count::<usize>)]
    max_new_tokens: usize,
    /// Keys the random numbers, with --compare those of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Feed prompts as they stand, without the chat template
    #[arg(long)]
    raw: bool,
    /// A system message before every problem that has none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sequences at once, at most
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = count::<usize>)]
    sequences: usize,
    /// Memory for keys, values and passes; default: most of what is free. Sequences for which there is no room wait
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    #[command(flatten)]
    drafts: DraftsArg,
    /// What an hour of this machine costs, in any currency
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<f64>,
    /// Where the report goes, one JSON object
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where judged completions go, JSON Lines; with --suite a folder, which has the report of each set too
    #[arg(long, value_name = "FILE")]
    completions: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
}

/// What is asked of models that write completions alone.
const REWARD_MODEL_HAS_NO: [&str; 14] = [
    "model",
    "adapter",
    "precision",
    "cache",
    "reward",
    "set",
    "n",
    "k",
    "max_new_tokens",
    "seed",
    "raw",
    "system",
    "price_per_hour",
    "completions",
];

/// What a comparison of reports has no use for.
const COMPARE_HAS_NO: [&str; 15] = [
    "model",
    "adapter",
    "precision",
    "cache",
    "reward_model",
    "data",
    "reward",
    "set",
    "n",
    "k",
    "max_new_tokens",
    "raw",
    "system",
    "price_per_hour",
    "completions",
];

/// What a suite's own file says.
const SUITE_HAS_NO: [&str; 15] = [
    "reward_model",
    "compare",
    "data",
    "reward",
    "set",
    "n",
    "k",
    "max_new_tokens",
    "seed",
    "raw",
    "system",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
];

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match &self.compare[..] {
            [] => self.device.clone().run(self),
            [a, b] => compare::run(a, b, self.seed, self.out.as_deref()),
            _ => bail!("--compare: give two reports"),
        }
    }

    /// The model that writes completions.
    fn model(&self) -> anyhow::Result<&Path> {
        match &self.model[..] {
            [model] => Ok(model),
            _ => bail!("--model: several models are measured by --suite; give one"),
        }
    }

    fn files(&self) -> DataFiles {
        self.data.clone().into()
    }

    /// What is asked of pass@k.
    fn ks(&self) -> anyhow::Result<Vec<usize>> {
        let mut ks = if self.k.is_empty() { vec![1, self.n] } else { self.k.clone() };
        ks.sort_unstable();
        ks.dedup();
        if let Some(k) = ks.iter().find(|k| !(1..=self.n).contains(*k)) {
            bail!("--k {k} needs between 1 and n completions per problem; --n is {}", self.n);
        }
        Ok(ks)
    }

    fn measure(self) -> anyhow::Result<Measure> {
        let model = self.model()?.to_owned();
        Ok(Measure {
            place: self.adapter.on(&model)?,
            model,
            data: Some(self.files()),
            safety: None,
            reward: RewardConfig::parse(&self.reward, &self.set)?,
            reviewer: None,
            ks: self.ks()?,
            n: self.n,
            sampling: Sampling {
                max_new_tokens: self.max_new_tokens,
                seed: self.seed,
                ..self.sampling.checked()?
            },
            style: PromptStyle { raw: self.raw, system: self.system },
            sequences: self.sequences,
            drafts: self.drafts.drafts(),
            memory: memory_bytes(self.memory)?,
            completions: self.completions,
        })
    }

    fn suite(self, suite: PathBuf) -> anyhow::Result<suite::Measured> {
        suite::check_models(&self.model)?;
        let place = |model: &PathBuf| Ok((model.clone(), self.adapter.on(model)?));
        Ok(suite::Measured {
            suite,
            models: self.model.iter().map(place).collect::<anyhow::Result<_>>()?,
            sequences: self.sequences,
            drafts: self.drafts.drafts(),
            memory: memory_bytes(self.memory)?,
            price_per_hour: self.price_per_hour,
            out: self.out,
            chart: self.chart,
            folder: self.completions,
        })
    }
}

impl Job for Eval {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        if let Some(reward_model) = self.reward_model.clone() {
            let (data, max_tokens) = (self.files(), self.max_tokens);
            return preferences::Measured { reward_model, data, max_tokens, out: self.out }.run(b, running);
        }
        ensure!(
            self.price_per_hour.is_none_or(|p| p >= 0.0 && p.is_finite()),
            "--price-per-hour must be 0 or more"
        );
        if let Some(suite) = self.suite.clone() {
            return self.suite(suite)?.run(b, running);
        }
        let (out, price_per_hour, max_new_tokens) =
            (self.out.clone(), self.price_per_hour, self.max_new_tokens);
        out.as_deref().map_or(Ok(()), Output::check)?;
        let prepared = self.measure()?.prepare(b, running, &mut Hashes::default())?;
        let stop = stop_on_signal("giving up what is not whole");
        let measured = prepared.run(b, running, &stop)?;
        let cost = measured.cost(price_per_hour);
        if let Some(path) = &out {
            let mut out = Output::open(Some(path))?;
            out.line(&prepared.report(&measured, &cost, running))?;
            out.finish()?;
        }
        let table = table::Table { report: &measured.report, max_new_tokens }.to_string();
        prepared.keep(measured)?;
        Ok(say!("{table}\n{cost} ({running})")?)
    }
}

/// Says on standard error which problems of `data` were left out.
pub(crate) fn warn_of_bad_references(data: &DataFiles, bad: &[BadReference]) {
    const SHOWN: usize = 5;
    if !bad.is_empty() {
        note!("{data}: {} problems are left out, their references are bad:", bad.len());
    }
    for bad in bad.iter().take(SHOWN) {
        note!("  {}: {}", bad.id, bad.reason);
    }
    if bad.len() > SHOWN {
        note!("  …");
    }
}
