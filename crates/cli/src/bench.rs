//! `koan bench`: the speed of this machine, on work of fixed sizes.

mod drafts;
mod generate;
mod peak;
mod prefer;
mod product;
mod rl;
mod score;
mod train;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use koan_backend::{Backend, Ceilings, MomentType, OutOfMemory, check_memory, free_host_memory};
use koan_generate::{Prompt, Stream, uniform};
use koan_model::{
    Config, Model, TensorInfo,
    checkpoint::{self, Place},
};
use koan_train::speed::wait;
use serde::Serialize;

use self::{
    drafts::DraftsBench, generate::GenerateBench, peak::PeakBench, prefer::PreferBench,
    product::ProductBench, rl::RlBench, score::ScoreBench, train::TrainBench,
};
use crate::{cache::CacheArg, device::peak_gpu_memory};

/// Speed of this machine
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    Peak(PeakBench),
    Rl(RlBench),
    Generate(GenerateBench),
    Drafts(DraftsBench),
    Train(TrainBench),
    Prefer(PreferBench),
    Score(ScoreBench),
    Product(ProductBench),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Peak(args) => args.device.clone().run(args),
            Self::Rl(args) => args.device.clone().run(args),
            Self::Generate(args) => args.device.clone().run(args),
            Self::Drafts(args) => args.device.clone().run(args),
            Self::Train(args) => args.device.clone().run(args),
            Self::Prefer(args) => args.device.clone().run(args),
            Self::Score(args) => args.device.clone().run(args),
            Self::Product(args) => args.device.clone().run(args),
        }
    }
}

/// The names of [`MomentType`].
#[derive(Clone, Copy, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Moments {
    F32,
    Bf16,
}

impl From<Moments> for MomentType {
    fn from(moments: Moments) -> Self {
        match moments {
            Moments::F32 => Self::F32,
            Moments::Bf16 => Self::Bf16,
        }
    }
}

/// Prompts of `tokens` random tokens each, for `sequences` completions of which `group` share a prompt.
fn random_prompts(
    step: u64,
    vocab_size: usize,
    tokens: usize,
    sequences: usize,
    group: usize,
) -> Vec<Prompt> {
    let prompt = |problem: usize| Prompt {
        ids: random_tokens(step, vocab_size, problem as u64, tokens),
        problem: problem as u64,
        samples: group.min(sequences - problem * group),
    };
    (0..sequences.div_ceil(group)).map(prompt).collect()
}

/// `n` random tokens: text `text` of step `step`.
fn random_tokens(step: u64, vocab_size: usize, text: u64, n: usize) -> Vec<u32> {
    let token = |at| (uniform(0, Stream::Bench { step }, text, 0, at) * vocab_size as f64) as u32;
    (0..n as u64).map(token).collect()
}

/// The model that is measured.
#[derive(Clone, Debug, clap::Args)]
struct BenchModel {
    #[command(flatten)]
    source: BenchSource,
    #[command(flatten)]
    cache: CacheArg,
}

/// Where its sizes are from.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct BenchSource {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A config.json instead: random weights of its sizes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl BenchModel {
    /// Its sizes, if it reaches `positions`.
    fn sizes(&self, positions: usize) -> anyhow::Result<Config> {
        let config = match &self.source.model {
            Some(dir) => Config::load(dir)?,
            None => Config::from_file(self.path())?,
        };
        checkpoint::check_positions(self.path(), &config, positions)?;
        Ok(config.caching(self.cache.get(), self.path())?)
    }

    /// Where it is.
    fn path(&self) -> &Path {
        self.source.model.as_deref().or(self.source.config.as_deref()).expect("one of them is required")
    }

    /// The model, with the adapter of `config` if that has one, to be trained.
    fn to_train<B: Backend>(&self, b: &B, config: Config, positions: usize) -> anyhow::Result<Model<B>> {
        match &self.source.model {
            Some(dir) => Ok(checkpoint::load_as(b, dir, config, positions, 0)?),
            None => Ok(random_model(b, config, positions)?),
        }
    }

    /// The model, for forward passes alone.
    fn to_generate<B: Backend>(&self, b: &B, config: Config, positions: usize) -> anyhow::Result<Model<B>> {
        match &self.source.model {
            Some(dir) => {
                let place = Place::from(dir).in_precision(config.precision).caching(config.cache);
                Ok(checkpoint::load_for_inference(b, place, Some(positions))?)
            }
            None => Ok(Model::for_inference(b, config.without_modules(), positions, random_values())?),
        }
    }
}

/// A model of random weights, for texts of up to `positions` tokens.
fn random_model<B: Backend>(b: &B, config: Config, positions: usize) -> Result<Model<B>, OutOfMemory> {
    Model::new(b, config, positions, random_values())
}

/// Random values for one tensor after another, the same in every process; what is no matrix is ones.
fn random_values() -> impl FnMut(&TensorInfo) -> Result<Vec<f32>, OutOfMemory> {
    // Splitmix64: as good as speed needs, and a model of a billion weights is there in seconds.
    let mut state = 0_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        0.07 * ((x >> 40) as f32 / (1 << 24) as f32 - 0.5)
    };
    move |info| Ok((0..info.len()).map(|_| if info.role.is_matrix() { random() } else { 1.0 }).collect())
}

/// Refuses a matrix whose values do not fit into the host's memory, where they are made.
fn check_values(rows: usize, columns: usize) -> anyhow::Result<()> {
    let bytes = (rows as u64).saturating_mul(columns as u64).saturating_mul(12);
    let what = format!("{rows} x {columns} elements of 4 bytes, and of 8 on their way to the device");
    Ok(check_memory("a matrix", bytes, free_host_memory(), what, "give smaller sizes")?)
}

/// What `flops` come to of the multiply-adds that the device reaches at most, where that is known.
fn share_of(flops: f64, ceilings: Option<Ceilings>) -> String {
    ceilings.map_or_else(String::new, |ceilings| {
        format!(", {:.0}% of its multiply-adds", 100.0 * flops / ceilings.flops)
    })
}

/// Seconds that `work` takes: the median of `repeats` runs after one that is not counted. Short work is done several times a run,
/// so that waiting for the device does not count.
fn seconds_of<B: Backend>(b: &B, repeats: usize, mut work: impl FnMut()) -> f64 {
    const LEAST_S: f64 = 0.005;
    const MOST_TIMES: f64 = 1000.0;
    let mut run = |times: usize| {
        wait(b);
        let start = Instant::now();
        (0..times).for_each(|_| work());
        wait(b);
        start.elapsed().as_secs_f64() / times as f64
    };
    // The first is slower than the others: the second says how often.
    let _ = run(1);
    let times = (LEAST_S / run(1)).clamp(1.0, MOST_TIMES) as usize;
    median((0..repeats).map(|_| run(times)).collect())
}

/// The most memory that this process has held, bytes: of the GPU if one computes, else of the host. `None` where the system does not say.
fn peak_memory_bytes() -> Option<u64> {
    if let Some(bytes) = peak_gpu_memory() {
        return Some(bytes);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The middle value, or the mean of the two middle ones; NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => f64::midpoint(values[middle - 1], values[middle]),
    }
}
