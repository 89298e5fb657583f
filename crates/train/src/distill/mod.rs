//! Learning from a teacher, a larger or better model:
//!
//! - `samples`: its completions of problems, as texts,
//! - `logits`: its distributions over the tokens of demonstrations, the teacher in process,
//! - `on_policy`: what it says of each token of the student's own completions.
//!
//! The last two compare distributions token by token, so teacher and student have one tokenizer.

mod config;
mod error;
mod explain;
mod learner;
mod logits;
mod metrics;
mod on_policy;
mod samples;
mod teacher;

use koan_backend::Backend;
use serde::{Deserialize, Serialize};

pub use config::{Algorithm, DistillConfig, DivergenceName, Method, TopKForm};
pub use error::DistillError;
pub use learner::Learner;
pub use metrics::{Metrics, Sampled};

use crate::{
    TrainError,
    stage::{self, Launch, RunSummary},
};

/// What a run says while it goes.
pub type Event<'a> = stage::Event<'a, Metrics>;

/// What a checkpoint of this stage alone knows: nothing, the step says how far the data are read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistillState {}

/// Runs `config` to its last step, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on
/// from the newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, tokenizers, memory, disk. Later only what the system
/// refuses, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    config: &DistillConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    match config.algorithm.method {
        Method::Logits => logits::run(b, config, launch, &mut on),
        Method::Samples => samples::run(b, config, launch, &mut on),
        Method::OnPolicy => on_policy::run(b, config, launch, &mut on),
    }
}
