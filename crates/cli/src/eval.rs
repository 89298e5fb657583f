//! `koan eval`

mod preferences;
mod table;

pub(crate) use table::pass_at_1;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use koan_backend::Backend;
use koan_data::{DataFiles, Problem, read_problems};
use koan_eval::{Completions, Journal, Judged, Report};
use koan_files::{hash_file, hash_files};
use koan_generate::{Limits, Sampling};
use koan_infer::{Codec, Engine, Evaluation, JudgeModels, PromptStyle, plan_generator};
use koan_model::checkpoint::Place;
use koan_reward::{BadReference, Context, RewardConfig, Rewards};
use serde_json::{Map, Value, json};

use crate::{
    adapter::AdapterArg,
    device::{Device, Job, Running},
    generate::{SamplingArgs, check_completions, memory_bytes},
    interrupt::stop_on_signal,
    numbers::count,
    output::Output,
    progress::Progress,
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
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan eval --model models/smollm2 --data held-out.jsonl --n 4
  koan eval --reward-model runs/reward/model --data preferences-held-out.jsonl --out reward.json
  koan eval --model models/smollm2 --data held-out.jsonl --n 16 --k 1,4,16 --temperature 0.6 --top-p 0.95 \\
      --price-per-hour 0.40 --out report.json --completions completions.jsonl")]
pub(crate) struct Eval {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR", required_unless_present = "reward_model")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Measure a reward model instead, on rows with `prompt`, `chosen` and `rejected`, or with `prompt`, `completion` and `label`
    #[arg(long, value_name = "DIR", conflicts_with_all = REWARD_MODEL_HAS_NO)]
    reward_model: Option<PathBuf>,
    /// Longer texts are left out, with --reward-model: tokens of a prompt and reply
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = count::<usize>, requires = "reward_model")]
    max_tokens: usize,
    /// The problems: rows with `prompt` or `messages`, and `answer`; files or patterns such as 'a*.jsonl'
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
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
    /// Keys the random numbers
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
    /// What an hour of this machine costs, in any currency
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<f64>,
    /// Where the report goes, one JSON object
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where judged completions go, JSON Lines
    #[arg(long, value_name = "FILE")]
    completions: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
}

/// What is asked of models that write completions alone.
const REWARD_MODEL_HAS_NO: [&str; 12] = [
    "model",
    "adapter",
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

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }

    /// The model that writes completions.
    fn model(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(""))
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

    /// Everything that completions and verdicts depend on.
    fn settings(
        &self,
        place: &Place,
        reward: &RewardConfig,
        rewards: &Rewards,
        sampling: &Sampling,
        running: Running,
    ) -> anyhow::Result<Map<String, Value>> {
        const FILES: [&str; 4] =
            ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
        let mut model = BTreeMap::from([("weights".to_owned(), hash_files(place.model(), "safetensors")?)]);
        for name in FILES {
            let dir = if name == "config.json" { place.model() } else { place.texts() };
            if dir.join(name).exists() {
                model.insert(name.to_owned(), hash_file(&dir.join(name))?);
            }
        }
        if let Some(dir) = place.adapter() {
            model.insert("adapter".into(), hash_files(dir, "safetensors")?);
            model.insert("adapter_config.json".into(), hash_file(&dir.join("adapter_config.json"))?);
        }
        let judges = rewards.needs().into_iter().map(|need| hash_files(&need.model, "safetensors"));
        let judges: Vec<String> = judges.collect::<Result<_, _>>()?;
        let files = rewards.files().into_iter().map(|(_, path)| hash_file(&path));
        let files: Vec<String> = files.collect::<Result<_, _>>()?;
        let mut settings = json!({
            "koan": env!("CARGO_PKG_VERSION"), "device": running.device, "isa": running.isa,
            "model_sha256": model, "data_sha256": self.files().hash()?, "reward": reward,
            "n": self.n, "seed": self.seed, "max_new_tokens": self.max_new_tokens, "stop_ids": sampling.stop_ids,
            "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p,
            "raw": self.raw, "system": self.system,
        });
        if !(judges.is_empty() && files.is_empty()) {
            settings["judges_sha256"] = json!({ "models": judges, "files": files });
        }
        // As they read back from a file: 32-bit floats as the shortest decimals.
        Ok(serde_json::from_str(&settings.to_string())?)
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
        let (ks, sampling, memory) = (self.ks()?, self.sampling.checked()?, memory_bytes(self.memory)?);
        let context = Context { max_new_tokens: Some(self.max_new_tokens), ..Context::default() };
        let reward = RewardConfig::parse(&self.reward, &self.set)?.resolved()?;
        let rewards = Rewards::build(std::slice::from_ref(&reward), context)?;
        let (problems, bad) = rewards.split_bad_references(read_problems(&self.files())?)?;
        warn_of_bad_references(&self.files(), &bad);
        for replaced in rewards.replaced(&problems) {
            note!("{replaced}");
        }
        let style = PromptStyle { raw: self.raw, system: self.system.clone() };
        let place = self.adapter.on(self.model())?;
        let codec = Codec::open_at(&place, style)?;
        let mut longest = 1;
        for problem in &problems {
            longest = longest.max(codec.encode_problem(problem)?.len());
        }
        check_completions(problems.len(), self.n)?;
        self.out.as_deref().map_or(Ok(()), Output::check)?;
        let sampling = Sampling {
            max_new_tokens: self.max_new_tokens,
            stop_ids: codec.stop_ids(),
            seed: self.seed,
            ..sampling
        };
        let positions = longest.saturating_add(self.max_new_tokens);
        let limits = |problems: usize| Limits {
            sequences: self.sequences.min(problems * self.n).max(1),
            prompt_tokens: longest,
            new_tokens: self.max_new_tokens,
        };
        // Before the weights are read to be hashed.
        plan_generator(b, place.model(), codec.config(), positions, limits(problems.len()), memory)?;
        let models = JudgeModels::load(b, &rewards.needs())?;
        let working = JudgeModels::plan(b, &rewards.needs())?.working;
        let settings = self.settings(&place, &reward, &rewards, &sampling, running)?;
        let (mut completions, mut journal) = (Completions::new(), None);
        if let Some(path) = &self.completions {
            let part = part_of(path)?;
            let (opened, held) = Journal::open(&part, &settings, [problems.len(), self.n])?;
            if !held.is_empty() {
                let all = problems.len() * self.n;
                note!("goes on from {}, which has {} of {all} completions", part.display(), held.len());
            }
            (completions, journal) = (held, Some(opened));
        }
        let is_whole = |i: &usize| (0..self.n).all(|sample| completions.contains_key(&(*i, sample)));
        let wanted: Vec<usize> = (0..problems.len()).filter(|i| !is_whole(i)).collect();

        let Engine { codec, model, mut generator, .. } =
            Engine::load_beside(b, codec, positions, limits(wanted.len()), memory, working)
                .context("cannot measure")?;
        let stop = stop_on_signal("giving up what is not whole");
        let evaluation = Evaluation {
            problems: &problems,
            samples: self.n,
            codec: &codec,
            sampling: &sampling,
            rewards: &rewards,
            threads: running.judges,
            models: &models,
        };
        let start = Instant::now();
        let mut progress = Progress::new("completions", wanted.len() * self.n);
        let (mut done, mut tokens, mut kept) = (0, 0, Ok(()));
        evaluation.sample(b, &model, &mut generator, &wanted, &stop, |problem, sample, judged| {
            done += 1;
            tokens += judged.completion_tokens;
            progress.set(done, &format!("{:.0} tokens/s", tokens as f64 / start.elapsed().as_secs_f64()));
            if let (Some(journal), Ok(())) = (&mut journal, &kept) {
                kept = journal.add(problem, sample, &judged);
                stop.fetch_or(kept.is_err(), Ordering::Relaxed);
            }
            completions.insert((problem, sample), judged);
        })?;
        progress.finish();
        kept?;
        if stop.load(Ordering::Relaxed) {
            match &self.completions {
                Some(path) => bail!("stopped; the same command goes on from {}", part_of(path)?.display()),
                None => bail!("stopped; with --completions FILE a run that is stopped can go on"),
            }
        }

        let seconds = journal.as_ref().map_or_else(|| start.elapsed().as_secs_f64(), Journal::seconds);
        let mut completions = completions.into_values();
        let completions: Vec<Vec<Judged>> =
            problems.iter().map(|_| completions.by_ref().take(self.n).collect()).collect();
        let report = Report::of(&problems, &completions, &ks, &rewards);
        let cost = Cost { seconds, tokens: report.all.tokens, price_per_hour: self.price_per_hour };
        if let Some(path) = &self.out {
            let mut out = Output::open(Some(path))?;
            out.line(&json!({
                "model": self.model(), "data": self.files(), "settings": settings, "report": report,
                "bad_references": bad, "cost": cost.to_json(running),
            }))?;
            out.finish()?;
        }
        if let Some(path) = &self.completions {
            write_completions(path, &problems, &completions)?;
        }
        if let Some(journal) = journal {
            journal.remove()?;
        }
        let table = table::Table { report: &report, max_new_tokens: self.max_new_tokens };
        Ok(say!("{table}\n{cost} ({running})")?)
    }
}

/// What a measurement took.
struct Cost {
    seconds: f64,
    tokens: usize,
    price_per_hour: Option<f64>,
}

impl Cost {
    fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    fn price(&self) -> Option<f64> {
        self.price_per_hour.map(|price| price * self.seconds / 3600.0)
    }

    fn to_json(&self, running: Running) -> Value {
        json!({
            "seconds": self.seconds, "tokens_per_s": self.tokens_per_s(), "device": running.to_string(),
            "price_per_hour": self.price_per_hour, "cost": self.price(),
        })
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens in {:.1} s, {:.0} tokens/s", self.tokens, self.seconds, self.tokens_per_s())?;
        match (self.price(), self.price_per_hour) {
            (Some(price), Some(per_hour)) => write!(f, "; cost {price:.4} at {per_hour:.2} per hour"),
            _ => Ok(()),
        }
    }
}

/// Where completions lie until they are whole: beside the file they become.
fn part_of(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("`{}` names no file", path.display()))?;
    Ok(path.with_file_name(format!("{}.part", name.display())))
}

/// Writes a line a completion, as `koan verify` reads them.
fn write_completions(path: &Path, problems: &[Problem], completions: &[Vec<Judged>]) -> anyhow::Result<()> {
    let mut out = Output::open(Some(path))?;
    for (problem, completions) in problems.iter().zip(completions) {
        for (sample, judged) in completions.iter().enumerate() {
            let mut line = serde_json::to_value(judged)?;
            if let Value::Object(line) = &mut line {
                let about = json!({
                    "id": problem.id, "sample": sample, "prompt": problem.messages(), "answer": problem.answer,
                });
                line.extend(about.as_object().cloned().unwrap_or_default());
            }
            out.line(&line)?;
        }
    }
    out.finish()
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
