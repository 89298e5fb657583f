//! Whether there is room for a run: positions of the model, memory, disk. Checked before the first step.

use std::path::Path;

use koan_backend::MomentType;
use koan_files::FilesError;
use koan_model::{
    Config, HeadKind,
    checkpoint::{CheckpointError, Weights, check_positions},
};

use super::{config::StageConfig, error::StageError};
use crate::optim::stored;

/// Bytes of a GiB.
pub(crate) const GIB: f64 = (1u64 << 30) as f64;

/// Checks a stage's model and disk before anything is written: that the model has one of these `heads`, reads texts of `asked` tokens in one piece (its
/// positions or its window may end before), that the disk has room for `disk` bytes, and that the weights are there and
/// whole.
///
/// # Errors
/// What is not so.
pub(crate) fn check_model_and_disk(
    config: &StageConfig,
    model: &Config,
    heads: &[HeadKind],
    asked: usize,
    disk: u64,
) -> Result<(), StageError> {
    let place = config.start()?;
    let there = place.config()?;
    if !heads.contains(&there.head) {
        return Err(CheckpointError::RewardModel { path: config.model.clone() }.into());
    }
    config.check_experts(model)?;
    check_positions(&config.model, model, asked)?;
    check_disk(&config.run_dir, disk)?;
    Weights::open_at(&place, &there)?;
    Ok(())
}

/// Bytes of a run's checkpoints, `kept` and the one being written, and of its final model. A checkpoint holds the weights
/// that are trained and two moments of each, and with `reference` the reference policy's.
pub fn disk_bytes(kept: usize, reference: bool, model: &Config, moments: MomentType) -> u64 {
    let weights = 4 * model.trained_parameters() as u64;
    let moments = 2 * (stored(moments).bytes() * model.trained_parameters()) as u64;
    let checkpoint = weights * (1 + u64::from(reference)) + moments;
    (kept as u64).saturating_add(1).saturating_mul(checkpoint).saturating_add(weights)
}

/// Refuses a run that needs more bytes than are free on the disk that holds its directory; the checkpoints that it wrote
/// before count as free, since later ones take their place.
///
/// # Errors
/// Too little room, or a disk that does not say how much it has.
pub(crate) fn check_disk(run_dir: &Path, needed: u64) -> Result<(), StageError> {
    let Some(free) = available_disk(run_dir)? else { return Ok(()) };
    let available = free + bytes_below(&run_dir.join("checkpoints"), 2);
    if available < needed {
        let (needed_gib, available_gib) = (needed as f64 / GIB, available as f64 / GIB);
        return Err(StageError::Disk { needed_gib, available_gib, path: run_dir.into() });
    }
    Ok(())
}

/// Bytes that are free on the disk that holds `dir`, or will hold it. A file system without blocks (`/proc`) does not say.
///
/// # Errors
/// If it can't be looked at.
pub fn available_disk(dir: &Path) -> Result<Option<u64>, FilesError> {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there).map_err(|e| FilesError::io("look at", there)(e.into()))?;
    Ok((stat.f_blocks > 0).then_some(stat.f_bavail * stat.f_frsize))
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
