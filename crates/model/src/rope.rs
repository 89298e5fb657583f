//! Rotary position tables (arXiv:2104.09864), with the scalings of Hugging Face's `rope_parameters`.

use std::f64::consts::PI;

use crate::Config;

/// How rotary frequencies are stretched so that a model reads contexts longer than it was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// How many times longer.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between blended.
    Llama3 {
        /// How many times longer.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings` over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings` over this are kept.
        high_freq_factor: f64,
        /// The context the model was trained on.
        original_max_position_embeddings: f64,
    },
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                let turns = original * frequency / (2.0 * PI); // turns that the original context makes
                if turns > high {
                    frequency
                } else if turns < low {
                    frequency / factor
                } else {
                    let smooth = (turns - low) / (high - low);
                    frequency * ((1.0 - smooth) / factor + smooth)
                }
            }
        }
    }
}

/// The cosines and sines of positions `0..positions`, each `[positions, head_dim / 2]`, computed in f64 and rounded.
pub(crate) fn tables(config: &Config, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let half = config.head_dim / 2;
    let frequencies: Vec<f64> = (0..half)
        .map(|i| config.rope_theta.powf(-(i as f64) / half as f64))
        .map(|frequency| config.rope_scaling.apply(frequency))
        .collect();
    let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
    (angles().map(|a| a.cos() as f32).collect(), angles().map(|a| a.sin() as f32).collect())
}
