//! One measurement: a model on problems, from the check of everything to its report.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context as _, bail};
use koan_backend::Backend;
use koan_data::{DataFiles, Problem, read_problems};
use koan_eval::{
    Completions, Journal, Judged, Report, SafetyReport,
    safety::{Jailbreak, OUR_PROMPTS, our_prompts, with_jailbreaks},
};
use koan_files::{hash_file, hash_files, sha256};
use koan_generate::{Counters, Drafts, Limits, Sampling};
use koan_infer::{Codec, Engine, Evaluation, JudgeModels, PromptStyle, plan_generator};
use koan_model::checkpoint::Place;
use koan_reward::{BadReference, Context, RewardConfig, Rewards};
use serde_json::{Map, Value, json};

use super::warn_of_bad_references;
use crate::{
    cache, device::Running, drafts, generate::check_completions, output::Output, precision::name_of,
    progress::Progress,
};

/// What is measured, and how.
pub(super) struct Measure {
    /// The model, as it was given.
    pub(super) model: PathBuf,
    pub(super) place: Place,
    /// The problems; none: our own prompts of safety.
    pub(super) data: Option<DataFiles>,
    /// Jailbreaks, in each of which the prompts are put too; none: the problems are not about safety.
    pub(super) safety: Option<Vec<Jailbreak>>,
    pub(super) reward: RewardConfig,
    /// What reviews completions beside what judges them.
    pub(super) reviewer: Option<RewardConfig>,
    /// Completions of each problem.
    pub(super) n: usize,
    pub(super) ks: Vec<usize>,
    /// How tokens are sampled, up to which length, by which seed.
    pub(super) sampling: Sampling,
    pub(super) style: PromptStyle,
    /// Sequences at once, at most.
    pub(super) sequences: usize,
    /// Where drafts come from.
    pub(super) drafts: Drafts,
    /// Bytes for keys, values and passes; none: most of what is free.
    pub(super) memory: Option<usize>,
    /// Where judged completions go.
    pub(super) completions: Option<PathBuf>,
}

/// Hashes of models by their directories: each is read once.
#[derive(Default)]
pub(crate) struct Hashes(HashMap<(PathBuf, Option<PathBuf>), BTreeMap<String, String>>);

impl Hashes {
    pub(crate) fn of(&mut self, place: &Place) -> anyhow::Result<BTreeMap<String, String>> {
        const FILES: [&str; 4] =
            ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
        let key = (place.model().to_owned(), place.adapter().map(Path::to_owned));
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
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
        self.0.insert(key, model.clone());
        Ok(model)
    }
}

/// A measurement of which everything is checked, and that can begin.
pub(super) struct Prepared {
    pub(super) measure: Measure,
    pub(super) problems: Vec<Problem>,
    bad: Vec<BadReference>,
    rewards: Rewards,
    codec: Codec,
    sampling: Sampling,
    /// Tokens of the longest prompt.
    longest: usize,
    /// Everything that completions and verdicts depend on.
    pub(super) settings: Map<String, Value>,
}

/// What a measurement found.
pub(super) struct Measured {
    pub(super) report: Report,
    completions: Vec<Vec<Judged>>,
    seconds: f64,
    /// What was computed, now.
    counters: Counters,
    journal: Option<Journal>,
}

impl Measure {
    /// Reads the problems and checks everything, before the weights are read.
    pub(super) fn prepare<B: Backend>(
        self,
        b: &B,
        running: Running,
        hashes: &mut Hashes,
    ) -> anyhow::Result<Prepared> {
        let max_new_tokens = self.sampling.max_new_tokens;
        let context = Context { max_new_tokens: Some(max_new_tokens), ..Context::default() };
        let reward = self.reward.resolved()?;
        let reviewer = self.reviewer.as_ref().map(RewardConfig::resolved).transpose()?;
        let both: Vec<RewardConfig> = std::iter::once(&reward).chain(&reviewer).cloned().collect();
        let rewards = Rewards::build(&both, context)?;
        let problems = self.data.as_ref().map_or_else(|| Ok(our_prompts()), read_problems)?;
        let problems = match &self.safety {
            Some(jailbreaks) => with_jailbreaks(problems, jailbreaks),
            None => problems,
        };
        let (problems, bad) = rewards.split_bad_references(problems)?;
        if let Some(data) = &self.data {
            warn_of_bad_references(data, &bad);
        }
        for replaced in rewards.replaced(&problems) {
            note!("{replaced}");
        }
        let codec = Codec::open_at(&self.place, self.style.clone())?;
        let mut longest = 1;
        for problem in &problems {
            longest = longest.max(codec.encode_problem(problem)?.len());
        }
        check_completions(problems.len(), self.n)?;
        let sampling = Sampling { stop_ids: codec.stop_ids(), ..self.sampling.clone() };
        let mut prepared = Prepared {
            measure: self,
            problems,
            bad,
            rewards,
            codec,
            sampling,
            longest,
            settings: Map::new(),
        };
        let Prepared { measure, codec, problems, .. } = &prepared;
        // Before the weights are read to be hashed.
        let limits = prepared.limits(problems.len());
        plan_generator(
            b,
            measure.place.model(),
            codec.config(),
            prepared.positions(),
            limits,
            measure.memory,
        )?;
        JudgeModels::plan(b, &prepared.rewards.needs())?;
        prepared.settings = prepared.settings(&reward, running, hashes.of(&measure.place)?)?;
        if let Some(reviewer) = reviewer {
            prepared
                .settings
                .insert("reviewer".to_owned(), serde_json::from_str(&json!(reviewer).to_string())?);
        }
        Ok(prepared)
    }
}

impl Prepared {
    fn positions(&self) -> usize {
        self.longest.saturating_add(self.sampling.max_new_tokens)
    }

    fn limits(&self, problems: usize) -> Limits {
        let Measure { sequences, n, drafts, .. } = self.measure;
        Limits {
            sequences: sequences.min(problems * n).max(1),
            prompt_tokens: self.longest,
            new_tokens: self.sampling.max_new_tokens,
            drafts,
        }
    }

    fn settings(
        &self,
        reward: &RewardConfig,
        running: Running,
        model: BTreeMap<String, String>,
    ) -> anyhow::Result<Map<String, Value>> {
        let judges = self.rewards.needs().into_iter().map(|need| hash_files(&need.model, "safetensors"));
        let judges: Vec<String> = judges.collect::<Result<_, _>>()?;
        let files = self.rewards.files().into_iter().map(|(_, path)| hash_file(&path));
        let files: Vec<String> = files.collect::<Result<_, _>>()?;
        let Self { measure: Measure { data, safety, n, style, .. }, sampling, .. } = self;
        let data = data.as_ref().map_or_else(|| Ok(sha256(OUR_PROMPTS)), DataFiles::hash)?;
        let mut settings = json!({
            "koan": env!("CARGO_PKG_VERSION"), "device": running.device, "isa": running.isa,
            "model_sha256": model, "data_sha256": data, "reward": reward,
            "n": n, "seed": sampling.seed, "max_new_tokens": sampling.max_new_tokens, "stop_ids": sampling.stop_ids,
            "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p,
            "raw": style.raw, "system": style.system,
        });
        if !(judges.is_empty() && files.is_empty()) {
            settings["judges_sha256"] = json!({ "models": judges, "files": files });
        }
        if let Some(name) = name_of(self.measure.place.precision()) {
            settings["precision"] = name.into();
        }
        if let Some(name) = cache::name_of(self.measure.place.cache()) {
            settings["cache"] = name.into();
        }
        if let Some(jailbreaks) = safety {
            settings["jailbreaks_sha256"] = sha256(serde_json::to_vec(jailbreaks)?).into();
        }
        // As they read back from a file: 32-bit floats as the shortest decimals.
        Ok(serde_json::from_str(&settings.to_string())?)
    }

    /// Samples and judges what is not in the journal, until `stop` is set.
    pub(super) fn run<B: Backend>(
        &self,
        b: &B,
        running: Running,
        stop: &AtomicBool,
    ) -> anyhow::Result<Measured> {
        let Self { measure, problems, rewards, .. } = self;
        let n = measure.n;
        let models = JudgeModels::load(b, &rewards.needs())?;
        let working = JudgeModels::plan(b, &rewards.needs())?.working;
        let (mut completions, mut journal) = (Completions::new(), None);
        if let Some(path) = &measure.completions {
            let part = part_of(path)?;
            let (opened, held) = Journal::open(&part, &self.settings, [problems.len(), n])?;
            if !held.is_empty() {
                let all = problems.len() * n;
                note!("goes on from {}, which has {} of {all} completions", part.display(), held.len());
            }
            (completions, journal) = (held, Some(opened));
        }
        let is_whole = |i: &usize| (0..n).all(|sample| completions.contains_key(&(*i, sample)));
        let wanted: Vec<usize> = (0..problems.len()).filter(|i| !is_whole(i)).collect();

        let limits = self.limits(wanted.len());
        let Engine { codec, model, mut generator, .. } =
            Engine::load_beside(b, self.codec.clone(), self.positions(), limits, measure.memory, working)
                .context("cannot measure")?;
        let evaluation = Evaluation {
            problems,
            samples: n,
            codec: &codec,
            sampling: &self.sampling,
            rewards,
            threads: running.judges,
            models: &models,
        };
        let start = Instant::now();
        let mut progress = Progress::new("completions", wanted.len() * n);
        let (mut done, mut tokens, mut kept) = (0, 0, Ok(()));
        evaluation.sample(b, &model, &mut generator, &wanted, stop, |problem, sample, judged| {
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
            match &measure.completions {
                Some(path) => bail!("stopped; the same command goes on from {}", part_of(path)?.display()),
                None => bail!("stopped; with --completions FILE a run that is stopped can go on"),
            }
        }
        let seconds = journal.as_ref().map_or_else(|| start.elapsed().as_secs_f64(), Journal::seconds);
        let mut completions = completions.into_values();
        let completions: Vec<Vec<Judged>> =
            problems.iter().map(|_| completions.by_ref().take(n).collect()).collect();
        let report = Report::of(problems, &completions, &measure.ks, rewards);
        Ok(Measured { report, completions, seconds, counters: generator.counters(), journal })
    }

    /// The report, as a file holds it.
    pub(super) fn report(&self, measured: &Measured, cost: &Cost, running: Running) -> Value {
        let Measure { model, data, safety, .. } = &self.measure;
        let mut report = json!({
            "model": model, "data": data, "settings": self.settings, "report": measured.report,
            "bad_references": self.bad, "cost": cost.to_json(running),
        });
        if safety.is_some() {
            report["safety"] = json!(SafetyReport::of(
                &self.problems,
                &measured.completions,
                self.measure.reviewer.is_some()
            ));
        }
        report
    }

    /// Writes the completions where they go, and forgets the journal.
    pub(super) fn keep(&self, measured: Measured) -> anyhow::Result<()> {
        let Measured { completions, journal, .. } = measured;
        if let Some(path) = &self.measure.completions {
            write_completions(path, &self.problems, &completions)?;
        }
        Ok(journal.map_or(Ok(()), Journal::remove)?)
    }
}

impl Measured {
    /// What it took, at this price.
    pub(super) fn cost(&self, price_per_hour: Option<f64>) -> Cost {
        let Self { report, seconds, counters, .. } = self;
        Cost { seconds: *seconds, tokens: report.all.tokens, price_per_hour, counters: *counters }
    }
}

/// What a measurement took.
pub(super) struct Cost {
    pub(super) seconds: f64,
    pub(super) tokens: usize,
    pub(super) price_per_hour: Option<f64>,
    pub(super) counters: Counters,
}

impl Cost {
    fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    pub(super) fn price(&self) -> Option<f64> {
        self.price_per_hour.map(|price| price * self.seconds / 3600.0)
    }

    fn to_json(&self, running: Running) -> Value {
        let mut cost = json!({
            "seconds": self.seconds, "tokens_per_s": self.tokens_per_s(), "device": running.to_string(),
            "price_per_hour": self.price_per_hour, "cost": self.price(),
        });
        if let Some(acceptance) = self.counters.draft_acceptance() {
            cost["draft_acceptance"] = acceptance.into();
            cost["tokens_per_pass"] = self.counters.tokens_per_pass().into();
        }
        cost
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, seconds, counters, .. } = self;
        write!(f, "{tokens} tokens in {seconds:.1} s, {:.0} tokens/s", self.tokens_per_s())?;
        write!(f, "{}", drafts::in_words(*counters))?;
        match (self.price(), self.price_per_hour) {
            (Some(price), Some(per_hour)) => write!(f, "; cost {price:.4} at {per_hour:.2} per hour"),
            _ => Ok(()),
        }
    }
}

/// Where completions lie until they are whole: beside the file they become.
pub(crate) fn part_of(path: &Path) -> anyhow::Result<PathBuf> {
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
