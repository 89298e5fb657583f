//! Completions judged while others are still being sampled.

use crate::{Judgement, Problem, Rewards, Sample};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// A completion to judge, with its key.
#[derive(Clone, Debug)]
pub struct Job<'p, K> {
    /// Identifies it among the others.
    pub key: K,
    /// The problem.
    pub problem: &'p Problem,
    /// What the model wrote, without special tokens.
    pub completion: String,
    /// Its length in tokens.
    pub tokens: usize,
    /// Whether it was cut at the maximum length.
    pub truncated: bool,
    /// The training step that it was sampled in; none outside of training.
    pub step: Option<u64>,
}

impl<K> Job<'_, K> {
    /// The completion as rewards see it.
    pub fn sample(&self) -> Sample<'_> {
        Sample {
            problem: self.problem,
            completion: &self.completion,
            tokens: Some(self.tokens),
            truncated: Some(self.truncated),
            answered: None,
            step: self.step,
        }
    }
}

impl Rewards {
    /// Does `work`, and meanwhile judges what it hands over, on `threads` other threads. Returns what `work`
    /// returns, and every job with its judgement, in no particular order.
    pub fn judge_while<'p, K: Send, T>(
        &self,
        threads: usize,
        work: impl FnOnce(&mut dyn FnMut(Job<'p, K>)) -> T,
    ) -> (T, Vec<(Job<'p, K>, Judgement)>) {
        let mut judged = Vec::new();
        let done = self.judge_each(threads, work, |job, judgement| judged.push((job, judgement)));
        (done, judged)
    }

    /// The same, but calls back with every job when it is judged: one at a time, on the thread that judged it.
    pub fn judge_each<'p, K: Send, T>(
        &self,
        threads: usize,
        work: impl FnOnce(&mut dyn FnMut(Job<'p, K>)) -> T,
        each: impl FnMut(Job<'p, K>, Judgement) + Send,
    ) -> T {
        let each = Mutex::new(each);
        let (sender, receiver) = mpsc::channel::<Job<K>>();
        let receiver = Mutex::new(receiver);
        let next = || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        let judge = || {
            while let Some(job) = next() {
                let judgement = self.judge(&job.sample());
                each.lock().unwrap_or_else(PoisonError::into_inner)(job, judgement);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(judge)).collect();
            let done = work(&mut |job| _ = sender.send(job)); // the receiver outlives the work
            drop(sender);
            for worker in workers {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_comes_back_with_its_own_judgement() {
        let rewards = Rewards::of_kind("number").expect("in the table");
        let problems: Vec<Problem> =
            (0..50).map(|i| Problem { answer: i.to_string(), ..Problem::default() }).collect();
        let (sent, mut judged) = rewards.judge_while(3, |send| {
            for (key, problem) in problems.iter().enumerate() {
                let completion = (key - key % 2).to_string(); // right where the number is even
                send(Job { key, problem, completion, tokens: 1, truncated: false, step: None });
            }
            problems.len()
        });
        judged.sort_by_key(|(job, _)| job.key);
        assert_eq!((sent, judged.len()), (50, 50));
        for (i, (job, judgement)) in judged.iter().enumerate() {
            assert_eq!((job.key, judgement.reward), (i, Some(f32::from(u8::from(i % 2 == 0)))));
        }
    }
}
