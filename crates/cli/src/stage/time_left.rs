//! How long a run will still take: what its steps, measurements and checkpoints took in this session, times how many are left.

use std::collections::VecDeque;

/// So many of the last times are looked at.
const RECENT: usize = 20;

/// What a run does besides its steps, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Steps between measurements, if it measures; the last step is measured too.
    pub(crate) eval_every: Option<u64>,
    /// Steps between checkpoints; the last step is saved too.
    pub(crate) checkpoint_every: u64,
}

impl Course {
    /// Whether step `step` of `steps` is measured.
    pub(crate) fn measures(&self, step: u64, steps: u64) -> bool {
        self.eval_every.is_some_and(|every| step.is_multiple_of(every) || step == steps)
    }
}

/// Seconds that things took.
#[derive(Debug)]
pub(crate) struct TimeLeft {
    course: Course,
    steps: VecDeque<f64>,
    measurements: VecDeque<f64>,
    saves: VecDeque<f64>,
}

impl TimeLeft {
    /// Nothing is known yet.
    pub(crate) fn new(course: Course) -> Self {
        Self { course, steps: VecDeque::new(), measurements: VecDeque::new(), saves: VecDeque::new() }
    }

    /// A step took so long, without its measurement and checkpoint.
    pub(crate) fn stepped(&mut self, seconds: f64) {
        push(&mut self.steps, seconds);
    }

    /// A measurement on held-out data took so long.
    pub(crate) fn measured(&mut self, seconds: f64) {
        push(&mut self.measurements, seconds);
    }

    /// A checkpoint took so long.
    pub(crate) fn saved(&mut self, seconds: f64) {
        push(&mut self.saves, seconds);
    }

    /// Seconds from the end of step `step` to the end of the last of `steps`; none before a step was made.
    pub(crate) fn seconds(&self, step: u64, steps: u64) -> Option<f64> {
        let step_s = typical(&self.steps)?;
        let Course { eval_every, checkpoint_every } = self.course;
        let measurements = eval_every.map_or(0, |every| times(step, steps, every));
        // The final model is one more to be written.
        let saves = times(step, steps, checkpoint_every) + 1;
        Some(
            steps.saturating_sub(step) as f64 * step_s
                + measurements as f64 * typical(&self.measurements).unwrap_or(0.0)
                + saves as f64 * typical(&self.saves).unwrap_or(0.0),
        )
    }
}

/// Steps after `step` up to `steps` of which something is due: every so many, and the last.
fn times(step: u64, steps: u64, every: u64) -> u64 {
    let last = u64::from(step < steps && !steps.is_multiple_of(every));
    (steps / every).saturating_sub(step / every) + last
}

fn push(seconds: &mut VecDeque<f64>, new: f64) {
    if seconds.len() == RECENT {
        seconds.pop_front();
    }
    seconds.push_back(new.max(0.0));
}

/// The mean without the shortest and the longest quarter: one slow step does not move it, and steps of several kinds do.
fn typical(seconds: &VecDeque<f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = seconds.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let quarter = sorted.len() / 4;
    let middle = &sorted[quarter..sorted.len() - quarter];
    (!middle.is_empty()).then(|| middle.iter().sum::<f64>() / middle.len() as f64)
}

/// Seconds in at most six characters: `45s`, `12m`, `3h05m`, `2d04h`.
pub(crate) fn brief(seconds: f64) -> String {
    let s = seconds.round().max(0.0) as u64;
    match s {
        0..90 => format!("{s}s"),
        90..3570 => format!("{}m", (s + 30) / 60),
        3570..84_570 => format!("{}h{:02}m", (s + 30) / 3600, (s + 30) % 3600 / 60),
        _ => format!("{}d{:02}h", (s + 1800) / 86400, (s + 1800) % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn steps_measurements_and_checkpoints_are_counted() {
        let mut left = TimeLeft::new(Course { eval_every: Some(10), checkpoint_every: 8 });
        left.measured(30.0);
        assert_eq!(left.seconds(0, 20), None, "nothing is known of a step");
        left.stepped(5.0);
        // 19 steps; measurements after 10 and 20.
        assert!(close(left.seconds(1, 20), 19.0 * 5.0 + 2.0 * 30.0));
        left.saved(2.0);
        // Checkpoints after 8, 16, 20, and the final model.
        assert!(close(left.seconds(1, 20), 19.0 * 5.0 + 2.0 * 30.0 + 4.0 * 2.0));
        assert!(close(left.seconds(16, 20), 4.0 * 5.0 + 30.0 + 2.0 * 2.0));
        assert!(close(left.seconds(20, 20), 2.0));
    }

    #[test]
    fn a_step_of_another_kind_does_not_move_it() {
        let mut left = TimeLeft::new(Course { eval_every: None, checkpoint_every: 1000 });
        for step in 1..=8 {
            left.stepped(if step == 5 { 500.0 } else { 1.0 });
        }
        assert!(close(left.seconds(8, 18), 10.0));
        // Steps that became slower count as they are now.
        (0..RECENT).for_each(|_| left.stepped(3.0));
        assert!(close(left.seconds(28, 38), 30.0));
    }

    #[test]
    fn what_is_due_is_counted_once() {
        for steps in 1..30 {
            for every in 1..12 {
                for step in 0..=steps {
                    let due = (step + 1..=steps).filter(|s| s % every == 0 || *s == steps).count() as u64;
                    assert_eq!(times(step, steps, every), due, "{step} {steps} {every}");
                }
            }
        }
    }

    #[test]
    fn seconds_are_brief() {
        for (seconds, said) in [
            (0.2, "0s"),
            (89.4, "89s"),
            (90.0, "2m"),
            (3569.0, "59m"),
            (3570.0, "1h00m"),
            (11_100.0, "3h05m"),
            (84_569.0, "23h29m"),
            (187_200.0, "2d04h"),
        ] {
            assert_eq!(brief(seconds), said, "{seconds}");
        }
    }
}
