//! The worst step, planned before the first: if it can't fit, the run says so then.

use std::path::Path;

use koan_backend::{Backend, MomentType};
use koan_generate::Limits;
use koan_model::{Config, Head, Purpose, Residency, TensorInfo};

use crate::{
    OptimConfig, RlConfig, TrainError,
    optimizer::{moment_bytes, stored},
};

const GIB: f64 = (1u64 << 30) as f64;

/// What a run holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The policy, its packed output head, and the reference policy, if there is one.
    pub weights: u64,
    /// Both moments.
    pub optimizer: u64,
    /// While the policy learns: the gradient, and the longest pass forward and backward.
    pub learning: u64,
    /// While it draws: its other matrices packed, and all sequences that run at once, at their longest.
    pub drawing: u64,
    /// While a checkpoint is written: the largest tensor once more.
    pub saving: u64,
    /// What the device has free, where it says.
    pub available: Option<u64>,
    /// Most sequences at once, and their longest prompt and completion.
    pub limits: Limits,
    /// Rows of the longest training pass.
    pub rows: usize,
}

impl Plan {
    /// Plans `config`'s worst step for a model of the sizes `model`, with prompts of up to `prompt_tokens`.
    pub fn new<B: Backend>(b: &B, config: &RlConfig, model: &Config, prompt_tokens: usize) -> Self {
        let new_tokens = config.rollout.max_new_tokens;
        let limits = Limits { sequences: config.sequences(), prompt_tokens, new_tokens };
        let rows = config.optim.micro_batch_tokens.max(prompt_tokens - 1 + new_tokens);
        let weights = model.model_bytes(b, Residency::Training);
        let packed = model.model_bytes(b, Residency::Rollout) - weights;
        let (models, reference_pass) =
            if config.loss().kl == 0.0 { (1, 0) } else { (2, Purpose::Inference.bytes(b, model, rows)) };
        let pass = pass(b, model, rows, config.optim.purpose()) + reference_pass;
        let largest = model.tensors().iter().map(TensorInfo::len).max().unwrap_or(0);
        Self {
            weights: (models * weights) as u64,
            optimizer: moment_bytes(b, model, config.optim.moments) as u64,
            learning: (model.gradient_bytes(b) + pass) as u64,
            drawing: (packed + limits.bytes(b, model)) as u64,
            saving: 4 * largest as u64,
            available: b.free_memory(),
            limits,
            rows,
        }
    }

    /// The most that is held at once, in bytes: drawing, learning and saving take turns.
    pub fn bytes(&self) -> u64 {
        self.weights + self.optimizer + self.learning.max(self.drawing).max(self.saving)
    }

    /// Refuses a plan that exceeds the memory that is free.
    ///
    /// # Errors
    /// [`TrainError::Memory`], with what takes how much. Where the system does not say what is free, nothing is refused.
    pub fn check_memory(&self) -> Result<(), TrainError> {
        match self.available {
            Some(available) if available < self.bytes() => Err(TrainError::Memory {
                needed_gib: self.bytes() as f64 / GIB,
                available_gib: available as f64 / GIB,
                breakdown: self.breakdown(),
            }),
            _ => Ok(()),
        }
    }

    /// What takes how much, in words.
    pub fn breakdown(&self) -> String {
        let gib = |bytes: u64| bytes as f64 / GIB;
        format!(
            "weights {:.2} GiB, optimizer {:.2}, and in turns: gradient and a pass of {} tokens {:.2}, packed weights and \
             {} sequences at once {:.2}",
            gib(self.weights),
            gib(self.optimizer),
            self.rows,
            gib(self.learning),
            self.limits.sequences,
            gib(self.drawing)
        )
    }
}

/// Bytes of a pass of `rows` tokens with its output head.
fn pass<B: Backend>(b: &B, model: &Config, rows: usize, purpose: Purpose) -> usize {
    purpose.bytes(b, model, rows) + Head::bytes(b, model, rows)
}

/// Refuses a run of learning by imitation, in passes of `rows` tokens, that exceeds the memory that is free. Says what
/// takes how much.
///
/// # Errors
/// [`TrainError::PassMemory`]
pub(crate) fn check_supervised<B: Backend>(
    b: &B,
    model: &Config,
    rows: usize,
    optim: &OptimConfig,
) -> Result<String, TrainError> {
    let moments = moment_bytes(b, model, optim.moments);
    let weights = (model.model_bytes(b, Residency::Training) + model.gradient_bytes(b) + moments) as u64;
    let pass = pass(b, model, rows, optim.purpose()) as u64;
    let gib = |bytes: u64| bytes as f64 / GIB;
    let breakdown = format!(
        "weights, gradient and optimizer {:.2} GiB, a pass of {rows} tokens {:.2}",
        gib(weights),
        gib(pass)
    );
    match b.free_memory() {
        Some(available) if available < weights + pass => Err(TrainError::PassMemory {
            needed_gib: gib(weights + pass),
            available_gib: gib(available),
            breakdown,
        }),
        _ => Ok(breakdown),
    }
}

/// Bytes of a run's checkpoints, `kept` and the one being written, and of its final model. A checkpoint holds the weights
/// and two moments of each, and with `reference` the reference policy's weights.
pub fn disk_bytes(kept: usize, reference: bool, model: &Config, moments: MomentType) -> u64 {
    let weights = 4 * model.parameters() as u64;
    let moments = 2 * (stored(moments).bytes() * model.parameters()) as u64;
    (kept as u64 + 1) * (weights * (1 + u64::from(reference)) + moments) + weights
}

/// Refuses a run that needs more bytes than are free on the disk that holds its directory; the checkpoints that it wrote
/// before count as free, since later ones take their place.
///
/// # Errors
/// [`TrainError::Disk`], or if the directory can't be looked at.
pub fn check_disk(run_dir: &Path, needed: u64) -> Result<(), TrainError> {
    let available = available_disk(run_dir)? + bytes_below(&run_dir.join("checkpoints"), 2);
    if available < needed {
        let (needed_gib, available_gib) = (needed as f64 / GIB, available as f64 / GIB);
        return Err(TrainError::Disk { needed_gib, available_gib, path: run_dir.into() });
    }
    Ok(())
}

/// Bytes that are free on the disk that holds `dir`, or will hold it.
///
/// # Errors
/// If it can't be looked at.
pub fn available_disk(dir: &Path) -> Result<u64, TrainError> {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there).map_err(|e| TrainError::io("look at", there)(e.into()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Bytes of the files in `dir` and in the directories below it, `levels` deep; what can't be looked at counts as nothing.
fn bytes_below(dir: &Path, levels: usize) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_file() => data.len(),
        Ok(data) if data.is_dir() && levels > 0 => bytes_below(&entry.path(), levels - 1),
        _ => 0,
    };
    entries.map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_bf16_take_half_of_memory_and_disk() {
        let cpu = koan_cpu::Cpu::best(Some(1)).expect("a processor");
        let model = koan_model::testkit::config(11, true);
        let planned = |moments: &str| {
            let text = format!(
                "run_dir = 'r'\nmodel = 'm'\ndata = 'd'\nsteps = 1\noptim = {{moments = '{moments}'}}"
            );
            let config: RlConfig = toml::from_str(&text).expect("a config");
            let disk = disk_bytes(2, true, &model, config.optim.moments);
            (Plan::new(&cpu, &config, &model, 5).optimizer, disk)
        };
        let n = model.parameters() as u64;
        assert_eq!(planned("f32"), (8 * n, 3 * (4 + 4 + 8) * n + 4 * n));
        assert_eq!(planned("bf16"), (4 * n, 3 * (4 + 4 + 4) * n + 4 * n));
    }

    #[test]
    fn checkpoints_that_are_there_count_as_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let reference = folder.path().join("checkpoints/step-000002/reference");
        std::fs::create_dir_all(&reference).expect("made");
        for (name, n) in [("checkpoints/step-000002/model.safetensors", 5000), ("other", 100)] {
            std::fs::write(folder.path().join(name), vec![0; n]).expect("written");
        }
        std::fs::write(reference.join("model.safetensors"), [0; 70]).expect("written");
        assert_eq!(bytes_below(&folder.path().join("checkpoints"), 2), 5070);
        assert_eq!(bytes_below(&folder.path().join("none"), 2), 0);
        check_disk(folder.path(), 1).expect("room for a byte");
        let error = check_disk(folder.path(), u64::MAX).expect_err("no room").to_string();
        assert!(error.contains("checkpoints need"), "{error}");
    }
}
