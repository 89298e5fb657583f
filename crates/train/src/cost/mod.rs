//! What work costs: time, tokens, FLOPs and energy, over all the processes that it took.
//!
//! A [`Meter`] runs beside the work, on a thread of its own. Every few seconds it reads how far the work is and writes that
//! down, so that a process that is killed leaves a record of nearly all that it did; the next one adds to it.

mod energy;

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use koan_model::{Counter, Work};
use serde::{Deserialize, Serialize};

use energy::Rapl;

/// How often what work has cost so far is written down.
const EVERY: Duration = Duration::from_secs(3);
/// Joules of a watt-hour.
const JOULES_PER_WH: f64 = 3600.0;

/// How energy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnergySource {
    /// The machine's own counters: of its processors and memory, whatever else they did meanwhile.
    Measured,
    /// A stated power, times seconds; of some processes at least.
    Watts,
}

/// What work cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Seconds of all processes that did it.
    pub seconds: f64,
    /// Tokens that were sampled.
    pub tokens_drawn: u64,
    /// Tokens that were learned from, once for each backward pass.
    pub tokens_trained: u64,
    /// Floating-point operations of all passes, by the formula of [`koan_model::Flops`].
    pub flops: f64,
    /// Energy, watt-hours; none where it is not known of all of the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_wh: Option<f64>,
    /// How it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_source: Option<EnergySource>,
}

impl Cost {
    /// Of two pieces of work.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.seconds == 0.0 || self.seconds == 0.0 {
            return if self.seconds == 0.0 { other } else { self };
        }
        let energy_wh = self.energy_wh.zip(other.energy_wh).map(|(a, b)| a + b);
        let by_watts = [self, other].iter().any(|cost| cost.energy_source == Some(EnergySource::Watts));
        let source = if by_watts { EnergySource::Watts } else { EnergySource::Measured };
        Self {
            seconds: self.seconds + other.seconds,
            tokens_drawn: self.tokens_drawn + other.tokens_drawn,
            tokens_trained: self.tokens_trained + other.tokens_trained,
            flops: self.flops + other.flops,
            energy_wh,
            energy_source: energy_wh.map(|_| source),
        }
    }

    /// With a stated power in the place of energy that is not measured of all of the work.
    #[must_use]
    pub fn with_watts(self, watts: Option<f64>) -> Self {
        match (self.energy_source, watts) {
            (None | Some(EnergySource::Watts), Some(watts)) => {
                let energy_wh = Some(watts * self.seconds / 3600.0);
                Self { energy_wh, energy_source: Some(EnergySource::Watts), ..self }
            }
            _ => self,
        }
    }
}

/// Reads what the work of the thread that opened it costs.
pub struct Meter {
    done: mpsc::Sender<()>,
    thread: JoinHandle<Cost>,
}

impl Meter {
    /// Begins to count what the calling thread does, on top of what it cost `before`. Every few seconds `write` is called, on
    /// another thread, with all that it cost so far.
    pub fn start(before: Cost, write: impl Fn(Cost) + Send + 'static) -> Self {
        let (done, asked) = mpsc::channel();
        let mut reading = Reading::start(Rapl::open());
        let thread = thread::spawn(move || {
            while asked.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                write(before.and(reading.now()));
            }
            before.and(reading.now())
        });
        Self { done, thread }
    }

    /// Ends it: all that the work cost. `write` is not called any more.
    pub fn finish(self) -> Cost {
        // It ends by itself only if `write` panicked: then what is known is nothing.
        let _ = self.done.send(());
        self.thread.join().unwrap_or_default()
    }
}

/// What a thread's work costs since some moment.
struct Reading {
    counter: Arc<Counter>,
    before: Work,
    start: Instant,
    rapl: Option<Rapl>,
}

impl Reading {
    /// Of the calling thread.
    fn start(rapl: Option<Rapl>) -> Self {
        let counter = Counter::of_this_thread();
        Self { before: counter.work(), counter, start: Instant::now(), rapl }
    }

    fn now(&mut self) -> Cost {
        let Work { flops, tokens_drawn, tokens_trained } = self.counter.work().since(self.before);
        let joules = self.rapl.as_mut().and_then(Rapl::joules);
        Cost {
            seconds: self.start.elapsed().as_secs_f64(),
            tokens_drawn,
            tokens_trained,
            flops,
            energy_wh: joules.map(|joules| joules / JOULES_PER_WH),
            energy_source: joules.map(|_| EnergySource::Measured),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(seconds: f64, energy: Option<(f64, EnergySource)>) -> Cost {
        let (energy_wh, energy_source) = energy.unzip();
        Cost { seconds, tokens_drawn: 1, tokens_trained: 2, flops: 4.0, energy_wh, energy_source }
    }

    #[test]
    fn the_cost_of_several_processes_is_their_sum() {
        let (measured, watts) = (EnergySource::Measured, EnergySource::Watts);
        let a = cost(1.0, Some((0.5, measured)));
        let sum = a.and(cost(2.0, Some((0.25, measured))));
        assert_eq!((sum.seconds, sum.tokens_drawn, sum.tokens_trained, sum.flops), (3.0, 2, 4, 8.0));
        assert_eq!((sum.energy_wh, sum.energy_source), (Some(0.75), Some(measured)));
        let sum = a.and(cost(2.0, Some((0.25, watts))));
        assert_eq!((sum.energy_wh, sum.energy_source), (Some(0.75), Some(watts)), "the weaker claim");
        let sum = a.and(cost(3599.0, None));
        assert_eq!((sum.energy_wh, sum.energy_source), (None, None), "not known of all of it");
        let sum = sum.with_watts(Some(7.0));
        assert_eq!((sum.energy_wh, sum.energy_source), (Some(7.0), Some(watts)));
        assert_eq!(sum.with_watts(Some(14.0)).energy_wh, Some(14.0), "at another power");
        assert_eq!(a.and(Cost::default()), a);
        assert_eq!(Cost::default().and(a), a);
        assert_eq!(a.with_watts(Some(7.0)), a, "what is measured stays");
    }

    #[test]
    fn a_meter_adds_what_its_thread_takes_to_what_was_before() {
        let meter = Meter::start(cost(10.0, None), |_| {});
        thread::sleep(Duration::from_millis(20));
        let all = meter.finish();
        assert!(all.seconds > 10.015 && all.seconds < 11.0, "{all:?}");
        assert_eq!((all.tokens_drawn, all.flops), (1, 4.0));
    }
}
