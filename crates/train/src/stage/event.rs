//! What a run says while it goes, whatever its stage.

use std::path::Path;

use koan_data::DataFiles;
use koan_eval::Score;
use koan_reward::BadReference;

/// What a run says while it goes; `M` is the stage's metrics of a step.
#[derive(Debug)]
pub enum Event<'a, M> {
    /// Problems that are left out, since their references are bad.
    BadReferences {
        /// Their files.
        data: &'a DataFiles,
        /// Which, and why.
        bad: &'a [BadReference],
    },
    /// Something that whoever started the run should know.
    Note {
        /// In a sentence.
        text: &'a str,
    },
    /// Everything was checked; the run starts after `step` steps.
    Start {
        /// Steps made by an earlier part of the run.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// What it will hold in memory, in words.
        memory: &'a str,
        /// What it learns from or by, in words.
        task: &'a str,
    },
    /// A completion of the step is finished.
    Completed {
        /// Finished so far, this step.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// The reference policy scored some of the data, before the first step.
    Scored {
        /// Rows scored so far.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// The policy was measured on held-out problems.
    HeldOut {
        /// After how many steps.
        step: u64,
        /// How it does.
        score: &'a Score,
        /// Seconds it took.
        seconds: f64,
    },
    /// A step is made.
    Step {
        /// The step, from 1.
        step: u64,
        /// Its line of metrics.jsonl.
        metrics: &'a M,
    },
    /// A checkpoint is written.
    Checkpoint {
        /// Its directory.
        path: &'a Path,
        /// SHA-256 over its files.
        digest: &'a str,
    },
}
