//! How the learning rate goes: a linear warm-up, then a schedule.

use serde::{Deserialize, Serialize};

use super::OptimConfig;

/// The share of the updates in which [`Schedule::Wsd`] falls.
const WSD_DECAY: f64 = 0.2;

/// How the learning rate goes after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to `optim.lr_end` in a straight line.
    Linear,
    /// It falls to `optim.lr_end` along half a cosine.
    Cosine,
    /// Warm-up, stable, decay: it stays for four fifths of the updates, then falls to `optim.lr_end` in a straight line
    /// (arXiv:2404.06395).
    Wsd,
}

impl OptimConfig {
    /// The learning rate of an update, counted from 0, of `updates` in all: a linear warm-up, then the schedule.
    pub fn lr_at(&self, update: u64, updates: u64) -> f32 {
        let (t, warmup) = (update as f64, self.warmup_steps as f64);
        if t < warmup {
            return self.lr * ((t + 1.0) / warmup) as f32;
        }
        let progress = (t - warmup) / (updates as f64 - warmup).max(1.0);
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * progress).cos(),
            Schedule::Wsd => ((1.0 - progress) / WSD_DECAY).min(1.0),
        };
        self.lr_end + (self.lr - self.lr_end) * share as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_and_end_where_they_should() {
        let optim = |schedule| OptimConfig { lr: 1.0, warmup_steps: 4, schedule, ..OptimConfig::default() };
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine, Schedule::Wsd] {
            assert_eq!(optim(schedule).lr_at(0, 20), 0.25);
            assert_eq!(optim(schedule).lr_at(3, 20), 1.0);
            assert_eq!(optim(schedule).lr_at(4, 20), 1.0);
        }
        assert_eq!(optim(Schedule::Constant).lr_at(19, 20), 1.0);
        assert_eq!(optim(Schedule::Linear).lr_at(12, 20), 0.5);
        assert!((optim(Schedule::Cosine).lr_at(12, 20) - 0.5).abs() < 1e-6);
        assert!((optim(Schedule::Wsd).lr_at(16, 20) - 1.0).abs() < 1e-6);
        assert!((optim(Schedule::Wsd).lr_at(18, 20) - 0.625).abs() < 1e-6);
        assert!(optim(Schedule::Linear).lr_at(19, 20) > 0.0);
        let above = OptimConfig { lr_end: 0.1, ..optim(Schedule::Cosine) };
        assert!((above.lr_at(12, 20) - 0.55).abs() < 1e-6 && above.lr_at(4, 20) == 1.0);
        assert!((above.lr_at(19_999, 20_000) - 0.1).abs() < 1e-6);
    }
}
