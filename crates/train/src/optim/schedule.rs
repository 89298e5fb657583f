//! How the learning rate goes: a linear warm-up, then a schedule.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, SeqAccess, Visitor,
        value::{SeqAccessDeserializer, StrDeserializer},
    },
};

use super::OptimConfig;
use crate::config::{ConfigError, check};

/// The share of the updates in which [`Schedule::Wsd`] falls.
const WSD_DECAY: f64 = 0.2;

/// How the learning rate goes after its warm-up.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Phase after phase.
    Phases(Vec<Phase>),
}

/// A phase of [`Schedule::Phases`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// The share of all updates after which it ends; 1 for the last phase.
    pub until: f64,
    /// The learning rate that it goes to, as a multiple of `optim.lr`.
    #[serde(default = "one")]
    pub to: f64,
    /// How it goes there from where the phase before ended.
    #[serde(default)]
    pub shape: Shape,
}

fn one() -> f64 {
    1.0
}

/// How a phase goes from one learning rate to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// At once.
    #[default]
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

impl Shape {
    /// How much of the way is still to go after this share of the phase.
    fn left(self, progress: f64) -> f64 {
        match self {
            Self::Constant => 0.0,
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * progress).cos(),
        }
    }
}

impl Phase {
    /// The first update, of `updates` in all, that comes after the phase.
    fn end(self, updates: u64) -> u64 {
        (self.until * updates as f64).round() as u64
    }
}

impl OptimConfig {
    /// The learning rate of an update, counted from 0, of `updates` in all: a linear warm-up, then the schedule.
    pub fn lr_at(&self, update: u64, updates: u64) -> f32 {
        let (t, warmup) = (update as f64, self.warmup(updates) as f64);
        if t < warmup {
            return self.lr * ((t + 1.0) / warmup) as f32;
        }
        let progress = (t - warmup) / (updates as f64 - warmup).max(1.0);
        let share = match &self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => Shape::Linear.left(progress),
            Schedule::Cosine => Shape::Cosine.left(progress),
            Schedule::Wsd => ((1.0 - progress) / WSD_DECAY).min(1.0),
            Schedule::Phases(phases) => {
                return (f64::from(self.lr) * multiple(phases, update, updates)) as f32;
            }
        };
        self.lr_end + (self.lr - self.lr_end) * share as f32
    }

    /// Updates of the warm-up, of a run of so many.
    pub fn warmup(&self, updates: u64) -> u64 {
        if self.warmup_share > 0.0 {
            (self.warmup_share * updates as f64).round() as u64
        } else {
            self.warmup_steps
        }
    }

    /// The schedule in words, and of a run of so many `updates` which of them each part has.
    pub(crate) fn explain_schedule(&self, updates: Option<u64>) -> String {
        let share = |share: f64| match updates {
            _ if share == 1.0 => "the end".to_owned(),
            Some(n) => format!("update {}", (share * n as f64).round()),
            None => format!("{share:.4} of the updates"),
        };
        let mut words = match (self.warmup_share > 0.0, self.warmup_steps) {
            (true, _) => vec![format!("rises from 0 until {}", share(self.warmup_share))],
            (false, 0) => Vec::new(),
            (false, n) => vec![format!("rises from 0 until update {n}")],
        };
        let end = if self.lr_end == 0.0 { "0".to_owned() } else { format!("{:e}", self.lr_end) };
        match &self.schedule {
            Schedule::Constant => words.push(format!("stays at {:e}", self.lr)),
            Schedule::Linear => words.push(format!("falls to {end} in a straight line")),
            Schedule::Cosine => words.push(format!("falls to {end} along half a cosine")),
            Schedule::Wsd => words.push(format!(
                "stays for {:.0} % of the updates that are left, then falls to {end} in a straight line",
                100.0 * (1.0 - WSD_DECAY)
            )),
            Schedule::Phases(phases) => words.extend(phases.iter().map(|phase| {
                let lr = in_words(f64::from(self.lr) * phase.to);
                let how = match phase.shape {
                    Shape::Constant => "is",
                    Shape::Linear => "goes in a straight line to",
                    Shape::Cosine => "goes along half a cosine to",
                };
                format!("{how} {lr} until {}", share(phase.until))
            })),
        }
        format!("learning rate: {}", words.join(", then "))
    }
}

/// A learning rate with up to four digits.
fn in_words(lr: f64) -> String {
    let digits = format!("{lr:.3e}");
    match digits.split_once('e') {
        Some((digits, exponent)) => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        None => digits,
    }
}

/// The learning rate of an update as a multiple of `optim.lr`, by phases.
fn multiple(phases: &[Phase], update: u64, updates: u64) -> f64 {
    let (mut begin, mut from) = (0, 1.0);
    for phase in phases {
        let end = phase.end(updates);
        if update < end {
            let progress = (update - begin) as f64 / (end - begin) as f64;
            return phase.to + (from - phase.to) * phase.shape.left(progress);
        }
        (begin, from) = (end.max(begin), phase.to);
    }
    from
}

impl Schedule {
    /// Refuses phases that are not in order or do not end with the run, and learning rates that can't be meant.
    pub(super) fn check(&self, lr_end: f32) -> Result<(), ConfigError> {
        const KEY: &str = "optim.schedule";
        let Self::Phases(phases) = self else { return Ok(()) };
        check(!phases.is_empty(), KEY, &"empty", "a name, or a list of phases")?;
        for phase in phases {
            let to = (0.0..=1e6).contains(&phase.to);
            check(to, KEY, &format!("to = {}", phase.to), "0 or more: a multiple of optim.lr")?;
        }
        let rises = phases.is_sorted_by(|a, b| a.until < b.until);
        let ends = phases[0].until > 0.0 && phases[phases.len() - 1].until == 1.0;
        let all = phases.iter().map(|phase| phase.until.to_string()).collect::<Vec<_>>().join(", ");
        check(
            rises && ends,
            KEY,
            &format!("until = {all}"),
            "shares of the updates that rise from above 0 to 1",
        )?;
        check(
            lr_end == 0.0,
            "optim.lr_end",
            &lr_end,
            "no setting of a schedule of phases: say `to` of the last; remove it",
        )
    }
}

/// The names of the schedules that have one.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Constant,
    Linear,
    Cosine,
    Wsd,
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant => Name::Constant.serialize(serializer),
            Self::Linear => Name::Linear.serialize(serializer),
            Self::Cosine => Name::Cosine.serialize(serializer),
            Self::Wsd => Name::Wsd.serialize(serializer),
            Self::Phases(phases) => phases.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(
                    "constant, linear, cosine, wsd, or a list of phases as \
                     [{until = 0.7}, {until = 1.0, to = 0.1, shape = \"cosine\"}]",
                )
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Schedule, E> {
                Ok(match Name::deserialize(StrDeserializer::new(name))? {
                    Name::Constant => Schedule::Constant,
                    Name::Linear => Schedule::Linear,
                    Name::Cosine => Schedule::Cosine,
                    Name::Wsd => Schedule::Wsd,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Schedule, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Schedule::Phases)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_and_end_where_they_should() {
        let optim = |schedule| OptimConfig { lr: 1.0, warmup_steps: 4, schedule, ..OptimConfig::default() };
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine, Schedule::Wsd] {
            let optim = optim(schedule);
            assert_eq!([0, 3, 4].map(|update| optim.lr_at(update, 20)), [0.25, 1.0, 1.0]);
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

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Table {
        schedule: Schedule,
    }

    fn read(text: &str) -> Result<Schedule, String> {
        let table: Table = toml::from_str(&format!("schedule = {text}")).map_err(|e| e.to_string())?;
        table.schedule.check(0.0).map_err(|e| e.to_string())?;
        let again = toml::to_string(&table).expect("TOML");
        assert_eq!(toml::from_str::<Table>(&again).expect(&again), table);
        Ok(table.schedule)
    }

    #[test]
    fn phases_follow_one_another() {
        let schedule = read(
            "[{until = 0.5}, {until = 0.7, to = 0.2, shape = 'cosine'}, {until = 0.8, to = 0.1, shape = 'linear'}, \
             {until = 0.9, to = 0.1}, {until = 1.0, to = 0.05}]",
        );
        let optim = OptimConfig {
            lr: 2.0,
            warmup_share: 0.1,
            schedule: schedule.expect("phases"),
            ..OptimConfig::default()
        };
        for (update, lr) in [
            (0, 0.2),
            (9, 2.0),
            (10, 2.0),
            (49, 2.0),
            (50, 2.0),
            (60, 1.2),
            (70, 0.4),
            (75, 0.3),
            (80, 0.2),
            (89, 0.2),
            (90, 0.1),
            (99, 0.1),
        ] {
            let found = optim.lr_at(update, 100);
            assert!((found - lr).abs() < 1e-6, "update {update}: {found} for {lr}");
        }
        let words = optim.explain_schedule(Some(100));
        assert_eq!(
            words,
            "learning rate: rises from 0 until update 10, then is 2e0 until update 50, then goes along half a cosine to \
             4e-1 until update 70, then goes in a straight line to 2e-1 until update 80, then is 2e-1 until update 90, \
             then is 1e-1 until the end"
        );
        assert!((0..3).all(|updates| optim.lr_at(0, updates).is_finite()), "however short the run");
    }

    #[test]
    fn schedules_that_make_no_sense_are_refused() {
        for (text, said) in [
            ("3", "a list of phases"),
            ("'cosinus'", "unknown variant `cosinus`"),
            ("[]", "a list of phases"),
            ("[{to = 0.5}]", "`until`"),
            ("[{until = 0.5}]", "rise from above 0 to 1"),
            ("[{until = 0.0}, {until = 1.0}]", "rise from above 0 to 1"),
            ("[{until = 0.5}, {until = 0.5}, {until = 1.0}]", "rise from above 0 to 1"),
            ("[{until = nan}, {until = 1.0}]", "rise from above 0 to 1"),
            ("[{until = 1.0, to = -1.0}]", "0 or more"),
            ("[{until = 1.0, shape = 'step'}]", "unknown variant `step`"),
            ("[{until = 1.0, form = 'step'}]", "unknown field `form`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
