//! `koan bench`: the speed of this machine, on work of fixed sizes.

mod drafts;
mod generate;
mod peak;
mod prefer;
mod product;
mod rl;
mod score;
mod train;

use std::time::Instant;

use koan_backend::{Backend, MomentType};
use koan_generate::{Prompt, Stream, uniform};
use serde::Serialize;

use self::{
    drafts::DraftsBench, generate::GenerateBench, peak::PeakBench, prefer::PreferBench,
    product::ProductBench, rl::RlBench, score::ScoreBench, train::TrainBench,
};

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

/// Waits until the device has done all that it was asked to.
fn wait<B: Backend>(b: &B) {
    let one = b.zeros(1).expect("memory for one element");
    b.read([(&one, 1)]);
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

/// The most memory of the host that this process has held, bytes; `None` where the system does not say.
fn peak_memory_bytes() -> Option<u64> {
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
