//! Verdicts over a file of completions: what `koan verify` does. Lines are judged by many threads, reported in the
//! order of the file, and forgotten: memory does not grow with the file.
//!
//! A line is a JSON object that has a problem's fields (`answer`, and whatever its verifier reads) and
//!
//! - `completion`, a string; or `completions`, a list of objects with `text`, as `koan generate` writes: a verdict
//!   for each. Lines of a run's rollouts are read as they are.
//! - optionally `reward`, the name of the verifier of that line;
//! - optionally `completion_tokens` (or `token_ids`) and `finish_reason` (`length`: it was cut), for rewards that
//!   use them;
//! - optionally `expected`, true or false: whether it is known to be correct. The verdicts are then compared with it.
//!
//! A line of output has all fields of its line unchanged, digit for digit, and `score` (the weighted sum; null
//! where masked), `outcome`, `parsed` and `reason` of the first reward, and, if there are several, `rewards` with the result
//! of each; fields of these names are replaced. A line with `completions` gives one line of output for each,
//! with its number in `sample`. Blank lines are skipped.

mod line;
mod report;

pub use report::{Agreement, Report, Summary};

use crate::error::LineError;
use crate::{Judgement, Problem, RewardError, Rewards};
use koan_data::{DataError, rows::Row};
use koan_files::jsonl::MAX_LINE_BYTES;
use rayon::prelude::*;
use report::Timings;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most lines, and about the most bytes, that are judged together before they are reported.
const BATCH: (usize, usize) = (1024, 8 << 20);

/// A replay of rewards over a file.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// The file's name, for errors.
    pub file: &'a str,
    /// What judges.
    pub rewards: &'a Rewards,
    /// Threads that judge; 0: as many as the machine runs at once.
    pub threads: usize,
    /// Continue after a line that is not a completion to judge, and count it.
    pub keep_going: bool,
    /// Ends the replay when it is set.
    pub stop: &'a AtomicBool,
}

/// A completion with its verdict.
#[derive(Debug)]
pub struct Judged {
    /// Its line, from 1.
    pub line: usize,
    /// Which of the line's completions, if it has a list of them.
    pub sample: Option<usize>,
    /// The problem; its `id` is `line-N` if it has none.
    pub problem: Problem,
    /// What the model wrote.
    pub completion: String,
    /// What it earned.
    pub judgement: Judgement,
    /// Whether it is known to be correct.
    pub expected: Option<bool>,
    /// The line of output, without its end.
    pub json: Vec<u8>,
    /// How long judging took.
    pub took: Duration,
}

/// What a replay reports, in the order of the file.
#[derive(Debug)]
pub enum Event<'a> {
    /// A completion was judged.
    Judged(&'a Judged),
    /// A line can't be judged, and the replay continues.
    Bad(&'a RewardError),
}

impl Replay<'_> {
    /// Judges every row of `rows` and passes the results to `each`, whose errors are errors of writing.
    ///
    /// # Errors
    /// A line that is not a completion to judge, with its number, unless the replay keeps going; input that cannot be
    /// read, output that cannot be written, and [`RewardError::Stopped`].
    pub fn run(
        &self,
        rows: impl IntoIterator<Item = Result<Row, DataError>>,
        mut each: impl FnMut(Event) -> std::io::Result<()>,
    ) -> Result<Report, RewardError> {
        let start = Instant::now();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|error| RewardError::Threads { reason: error.to_string() })?;
        let (mut report, mut timings) = (Report::new(pool.current_num_threads()), Timings::default());
        let mut rows = rows.into_iter();
        loop {
            let batch = read(&mut rows)?;
            if batch.is_empty() {
                break;
            }
            let judge = |(place, read): Row| {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(RewardError::Stopped);
                }
                let judged = read.map_err(LineError::from);
                let judged = judged.and_then(|json| line::judge(place.number, &json, self.rewards));
                judged.map_err(|reason| RewardError::Line { place, reason })
            };
            let judged: Vec<_> = pool.install(|| batch.into_par_iter().map(judge).collect());
            for line in judged {
                let written = match line {
                    Ok(judged) => judged.iter().try_for_each(|judged| {
                        report.count(judged);
                        timings.count(judged.took);
                        each(Event::Judged(judged))
                    }),
                    Err(error @ RewardError::Line { .. }) if self.keep_going => {
                        report.bad_lines += 1;
                        each(Event::Bad(&error))
                    }
                    Err(error) => return Err(error),
                };
                written.map_err(|source| RewardError::Write { file: self.file.to_owned(), source })?;
            }
        }
        report.seconds = start.elapsed().as_secs_f64();
        (report.median_us, report.max_us) = (timings.median_us(), timings.max_us());
        Ok(report)
    }
}

/// The next rows, with their places.
fn read(rows: &mut impl Iterator<Item = Result<Row, DataError>>) -> Result<Vec<Row>, RewardError> {
    let (mut batch, mut n_bytes) = (Vec::new(), 0);
    while batch.len() < BATCH.0 && n_bytes < BATCH.1 {
        let Some((place, json)) = rows.next().transpose().map_err(Box::new)? else { break };
        // One that is too long ends the batch: what follows it may be its own endless rest.
        n_bytes += json.as_ref().map_or(MAX_LINE_BYTES, Vec::len);
        batch.push((place, json));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
