//! Mixtures of experts in training: the bias that balances them is moved by their loads, and what the loads were is kept for
//! metrics and warnings (arXiv:2412.19437, section 2.1.2).
//!
//! ```text
//! after each update, of each expert:   b ← b + γ  where fewer rows chose it than the mean, b − γ  where more
//! ```
//!
//! A load counts the rows of all passes of an update.

use std::sync::{Mutex, PoisonError};

use koan_backend::Backend;
use koan_model::{Gradient, Model, Role};
use serde::Serialize;

/// Updates after which experts that starve are looked for.
const WINDOW: u32 = 32;
/// An expert starves whose load is below this share of the mean.
const STARVING: f64 = 0.1;
/// Experts that a warning names, at most.
const NAMED: usize = 6;

/// What balances the experts of a model, and what their loads were.
#[derive(Debug, Default)]
pub struct Balance {
    /// γ: by how much an update moves a bias; 0: the bias stays.
    pub bias_speed: f32,
    /// Updates after which the bias stays.
    pub bias_until: u64,
    /// α: the coefficient of the balance loss of a sequence, `α Σᵢ fᵢ Pᵢ` in each layer; sequences weigh as their rows.
    pub loss: f32,
    loads: Mutex<Loads>,
}

/// The loads of a layer's experts, with the layer's name.
type Layer = (String, Vec<f64>);

#[derive(Debug, Default)]
struct Loads {
    /// Of the updates since they were last taken.
    step: Vec<Layer>,
    /// Of the updates since starving experts were last looked for.
    window: Vec<Layer>,
    updates: u32,
    windows: u32,
    bias_range: f64,
}

/// What the loads of a step's updates came to: a part of its line in metrics.jsonl.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadMetrics {
    /// The largest load of an expert over the mean of its layer, in the worst layer.
    pub expert_load_max: f64,
    /// The entropy of a layer's loads over that of equal ones, mean over the layers: 1 is even.
    pub expert_load_entropy: f64,
    /// The largest difference between the biases of a layer's experts.
    pub expert_bias_range: f64,
}

impl Balance {
    /// A bias that moves by `bias_speed` at each of the first `bias_until` updates, and a balance loss of coefficient `loss`.
    pub fn new(bias_speed: f32, bias_until: u64, loss: f32) -> Self {
        Self { bias_speed, bias_until, loss, loads: Mutex::default() }
    }

    /// What an update, the one of number `update` from 1, leaves to do: moves the biases of `model` by the loads in `gradient`.
    pub(crate) fn after_update<B: Backend>(
        &self,
        b: &B,
        model: &mut Model<B>,
        gradient: &Gradient<B>,
        update: u64,
    ) {
        let moves = self.bias_speed > 0.0 && update <= self.bias_until;
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut range: f64 = 0.0;
        let tensors = model.weights.tensors_mut().zip(gradient.weights.tensors());
        for (param, load) in tensors.filter(|(param, _)| param.info().role == Role::RouterBias) {
            let n = param.info().len();
            let [load] = b.read_exact([(load, n)]);
            if load.iter().sum::<f64>() == 0.0 {
                continue; // no pass went through the layer
            }
            let [mut bias] = b.read([(param.value(), n)]);
            if moves {
                step(&mut bias, &load, self.bias_speed);
                let values: Vec<f64> = bias.iter().copied().map(f64::from).collect();
                b.write(param.value_mut(), &values);
            }
            let (least, greatest) = bias
                .iter()
                .fold((f32::MAX, f32::MIN), |(least, greatest), &x| (least.min(x), greatest.max(x)));
            range = range.max(f64::from(greatest - least));
            let name = layer(&param.info().name);
            let Loads { step, window, .. } = &mut *loads;
            for layers in [step, window] {
                add(layers, &name, &load);
            }
        }
        loads.bias_range = range;
        loads.updates += 1;
    }

    /// What the loads since the last call came to, if there were any.
    pub(crate) fn take(&self) -> Option<LoadMetrics> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = std::mem::take(&mut loads.step);
        if layers.is_empty() {
            return None;
        }
        let of_mean = |(_, load): &Layer| {
            let mean = load.iter().sum::<f64>() / load.len() as f64;
            load.iter().fold(0.0, |max: f64, load| max.max(load / mean))
        };
        Some(LoadMetrics {
            expert_load_max: layers.iter().map(of_mean).fold(0.0, f64::max),
            expert_load_entropy: layers.iter().map(|(_, load)| evenness(load)).sum::<f64>()
                / layers.len() as f64,
            expert_bias_range: loads.bias_range,
        })
    }

    /// Which experts starved over the last updates, in a sentence: after 32 updates, then ever more seldom.
    pub(crate) fn starving(&self) -> Option<String> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.updates < WINDOW {
            return None;
        }
        let layers = std::mem::take(&mut loads.window);
        loads.updates = 0;
        loads.windows += 1;
        let starve = |(name, load): &Layer| {
            let mean = load.iter().sum::<f64>() / load.len() as f64;
            let starving = load.iter().enumerate().filter(|(_, load)| **load < STARVING * mean);
            starving.map(|(e, _)| format!("{name} expert {e}")).collect::<Vec<_>>()
        };
        let starving: Vec<String> = layers.iter().flat_map(starve).collect();
        if starving.is_empty() || !loads.windows.is_power_of_two() {
            return None;
        }
        let more = match starving.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = starving.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        Some(format!(
            "experts starve: over the last {WINDOW} updates fewer than a tenth of the mean number of tokens chose {named}{more}; \
             `experts.bias_speed` and `experts.balance_loss` balance them"
        ))
    }
}

/// Moves the bias of each expert by `speed` towards an even load.
fn step(bias: &mut [f32], load: &[f64], speed: f32) {
    let mean = load.iter().sum::<f64>() / load.len() as f64;
    for (bias, &load) in bias.iter_mut().zip(load) {
        if load < mean {
            *bias += speed;
        } else if load > mean {
            *bias -= speed;
        }
    }
}

/// `layer 3` of `model.layers.3.mlp.gate.e_score_correction_bias`.
fn layer(name: &str) -> String {
    let number = name.split('.').find(|part| part.bytes().all(|b| b.is_ascii_digit()));
    format!("layer {}", number.unwrap_or(name))
}

fn add(layers: &mut Vec<Layer>, name: &str, load: &[f64]) {
    match layers.iter_mut().find(|(other, _)| other == name) {
        Some((_, sums)) => sums.iter_mut().zip(load).for_each(|(sum, load)| *sum += load),
        None => layers.push((name.to_owned(), load.to_vec())),
    }
}

/// The entropy of a layer's loads over that of equal ones.
fn evenness(load: &[f64]) -> f64 {
    if load.len() == 1 {
        return 1.0;
    }
    let sum: f64 = load.iter().sum();
    let term = |load: &f64| if *load > 0.0 { -load / sum * (load / sum).ln() } else { 0.0 };
    load.iter().map(term).sum::<f64>() / (load.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use koan_backend::Reference;
    use koan_model::testkit;

    use super::*;

    fn of(layers: &[(&str, &[f64])]) -> Balance {
        let balance = Balance::default();
        let mut loads = balance.loads.lock().expect("unused");
        loads.step = layers.iter().map(|(name, load)| ((*name).to_owned(), load.to_vec())).collect();
        loads.window = loads.step.clone();
        drop(loads);
        balance
    }

    #[test]
    fn metrics_are_those_worked_out_by_hand() {
        let balance = of(&[("layer 1", &[6.0, 2.0, 0.0, 0.0]), ("layer 2", &[2.0, 2.0, 2.0, 2.0])]);
        let metrics = balance.take().expect("loads");
        // H(3/4, 1/4) = 0.562335 nats, over ln 4.
        let entropy = f64::midpoint(0.562_335_144_6 / 4f64.ln(), 1.0);
        assert_eq!(metrics.expert_load_max, 3.0);
        assert!((metrics.expert_load_entropy - entropy).abs() < 1e-9, "{metrics:?}");
        assert_eq!(balance.take(), None, "they are taken once");
    }

    #[test]
    fn the_bias_goes_towards_an_even_load() {
        let mut bias = [0.5, 0.0, -0.25];
        step(&mut bias, &[9.0, 2.0, 4.0], 0.125);
        assert_eq!(bias, [0.375, 0.125, -0.125]);
        step(&mut bias, &[5.0, 5.0, 5.0], 0.125);
        assert_eq!(bias, [0.375, 0.125, -0.125], "one that is even stays");
    }

    #[test]
    fn experts_that_starve_are_named_and_ever_more_seldom() {
        let mut said = Vec::new();
        for window in 1..=9 {
            let balance = of(&[("layer 1", &[99.0, 1.0, 50.0]), ("layer 2", &[1.0, 1.0, 1.0])]);
            let mut loads = balance.loads.lock().expect("unused");
            (loads.updates, loads.windows) = (WINDOW, window - 1);
            drop(loads);
            if let Some(text) = balance.starving() {
                assert!(text.contains("chose layer 1 expert 1;"), "{text}");
                said.push(window);
            }
        }
        assert_eq!(said, [1, 2, 4, 8]);
    }

    #[test]
    fn nothing_is_said_of_a_model_without_experts() {
        let model = testkit::model(&Reference, testkit::config(11, true), 1);
        let gradient = Gradient::new(&Reference, model.config(), 4).expect("memory");
        let (mut model, balance) = (model, Balance::new(0.5, 9, 0.0));
        balance.after_update(&Reference, &mut model, &gradient, 1);
        assert_eq!((balance.take(), balance.starving()), (None, None));
    }
}
