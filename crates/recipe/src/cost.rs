//! What a step costs, as steps/NAME.json has it, and what the paper's steps cost.

use koan_train::cost::{Cost, EnergySource};
use serde::{Deserialize, Serialize};

/// What the machine takes and costs, as far as whoever runs the recipe says so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Its power while it works, watts: for energy where the machine does not tell.
    pub watts: Option<f64>,
    /// Its price, in any currency.
    pub price_per_hour: Option<f64>,
}

impl Rates {
    /// With what `cost` was counted at, where these do not say.
    pub(crate) fn or(self, cost: StepCost) -> Self {
        Self { watts: self.watts.or(cost.watts), price_per_hour: self.price_per_hour.or(cost.price_per_hour) }
    }
}

/// The most that a device computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Floating-point operations per second.
    pub flops_per_s: f64,
}

/// What a step cost, over all processes that worked on it: with what a kill undid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepCost {
    /// Seconds.
    pub seconds: f64,
    /// Tokens that were sampled.
    pub tokens_drawn: u64,
    /// Tokens that were learned from, once for each backward pass.
    pub tokens_trained: u64,
    /// Floating-point operations, by the formula of `koan_model::Flops`.
    pub flops: f64,
    /// The part of [`peak_flops_per_s`](Self::peak_flops_per_s) that they are, over all seconds of the step: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_share: Option<f64>,
    /// The most that the device computes: the fastest large product measured, operations per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_flops_per_s: Option<f64>,
    /// Energy, watt-hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_wh: Option<f64>,
    /// How it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_source: Option<EnergySource>,
    /// The power that was stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Money: hours times their price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// The price that was stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
}

impl StepCost {
    /// What was spent, without what follows from rates.
    pub(crate) fn spent(self) -> Cost {
        let Self { seconds, tokens_drawn, tokens_trained, flops, energy_wh, energy_source, .. } = self;
        Cost { seconds, tokens_drawn, tokens_trained, flops, energy_wh, energy_source }
    }

    /// With this spent in all.
    pub(crate) fn with(self, spent: Cost) -> Self {
        let Cost { seconds, tokens_drawn, tokens_trained, flops, energy_wh, energy_source } = spent;
        Self { seconds, tokens_drawn, tokens_trained, flops, energy_wh, energy_source, ..self }
    }

    /// At these rates: energy where it is not measured, and money.
    #[must_use]
    pub fn at(self, rates: Rates) -> Self {
        let Rates { watts, price_per_hour } = rates;
        let spent = self.spent().with_watts(watts);
        let money = price_per_hour.map(|price| price * self.seconds / 3600.0);
        Self { watts, money, price_per_hour, ..self.with(spent) }
    }

    /// Of a device with this peak.
    pub(crate) fn of_peak(self, peak: Option<Peak>) -> Self {
        let Some(Peak { flops_per_s }) = peak.filter(|_| self.seconds > 0.0) else { return self };
        let peak_share = Some(self.flops / self.seconds / flops_per_s);
        Self { peak_share, peak_flops_per_s: Some(flops_per_s), ..self }
    }

    /// Of two steps; what is not known of one of them is not known of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let spent = self.spent().and(other.spent());
        let either = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, None) if other.seconds == 0.0 => a,
            (None, b) if self.seconds == 0.0 => b,
            _ => None,
        };
        // At peak, the operations of each would take so long.
        let at_peak = |cost: Self| match cost.peak_share {
            None if cost.flops > 0.0 => None,
            share => Some(share.unwrap_or(0.0) * cost.seconds),
        };
        let at_peak = at_peak(self).zip(at_peak(other)).map(|(a, b)| a + b);
        Self {
            money: either(self.money, other.money),
            peak_share: at_peak.filter(|_| spent.flops > 0.0).map(|s| s / spent.seconds),
            ..Self::default().with(spent)
        }
    }
}

/// A row of the paper's table of costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperCost {
    /// What was made.
    pub what: &'static str,
    /// Hours of H800 GPUs.
    pub gpu_hours: f64,
}

/// What DeepSeek-R1 cost beyond its base model (arXiv:2501.12948v2, "Training Costs").
pub const PAPER: [PaperCost; 3] = [
    PaperCost { what: "DeepSeek-R1-Zero", gpu_hours: 101e3 },
    PaperCost { what: "data for SFT", gpu_hours: 5e3 },
    PaperCost { what: "DeepSeek-R1", gpu_hours: 41e3 },
];
/// The price that the paper takes for an hour of an H800, dollars.
pub const PAPER_PRICE_PER_HOUR: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_at_its_rates() {
        let cost = StepCost { seconds: 1800.0, flops: 9e12, tokens_drawn: 5, ..StepCost::default() };
        let cost = cost.at(Rates { watts: Some(100.0), price_per_hour: Some(0.4) });
        assert_eq!((cost.energy_wh, cost.energy_source), (Some(50.0), Some(EnergySource::Watts)));
        assert_eq!(cost.money, Some(0.2));
        let cost = cost.of_peak(Some(Peak { flops_per_s: 1e10 }));
        assert_eq!(cost.peak_share, Some(0.5));
        let filtered = StepCost { seconds: 1800.0, ..StepCost::default() };
        let both = cost.and(filtered);
        assert_eq!((both.seconds, both.peak_share), (3600.0, Some(0.25)), "it computed nothing meanwhile");
        assert_eq!((both.money, both.energy_wh), (None, None), "not known of both");
        assert_eq!(StepCost::default().and(cost).money, Some(0.2));
        let json = serde_json::to_value(cost).expect("plain");
        assert_eq!(json["energy_source"], "watts");
        assert_eq!(serde_json::from_value::<StepCost>(json).expect("read again"), cost);
    }

    #[test]
    fn the_papers_rows_are_its_total() {
        let hours: f64 = PAPER.iter().map(|row| row.gpu_hours).sum();
        assert_eq!((hours, hours * PAPER_PRICE_PER_HOUR), (147e3, 294e3));
    }
}
