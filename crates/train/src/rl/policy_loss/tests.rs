use proptest::prelude::*;

use super::*;
use crate::rl::{Preset, advantage::Advantage};

/// Two completions of one group: of two tokens and of three. The log-ratios are those of ρ = 1.5, 0.5 and 1.1, 0.9, 1.2.
struct Example {
    old: [Vec<f32>; 2],
    new: [Vec<f64>; 2],
    reference: [Vec<f64>; 2],
}

fn example() -> Example {
    let old = [vec![-1.0f32, -2.0], vec![-0.5, -1.0, -1.5]];
    let ratios = [vec![1.5f64, 0.5], vec![1.1, 0.9, 1.2]];
    let new = [0, 1].map(|i| {
        old[i].iter().zip(&ratios[i]).map(|(&old, r)| f64::from(old) + r.ln()).collect::<Vec<f64>>()
    });
    // x = π_ref/π is 2 for the first token of each, 1 for the others.
    let reference = [0, 1].map(|i| {
        let mut reference = new[i].clone();
        reference[0] += 2.0f64.ln();
        reference
    });
    Example { old, new, reference }
}

const COUNTS: Counts = Counts { completions: 2, tokens: 5 };
/// A token whose x is 2: 2 − ln 2 − 1.
const KL: f64 = 1.0 - std::f64::consts::LN_2;

fn loss_of(preset: Preset) -> PolicyLoss {
    preset.pieces().loss(10)
}

/// Loss and derivatives of the example's completions with advantages 1 and −1.
fn run(preset: Preset) -> (f64, Vec<f64>) {
    let (loss, e, mut d) = (loss_of(preset), example(), Vec::new());
    let share = |i: usize, advantage: f32, d: &mut Vec<f64>| {
        let tokens = Tokens { log_probs: &e.new[i], old: &e.old[i], reference: Some(&e.reference[i]) };
        loss.completion(tokens, Credit::Completion(advantage), COUNTS, d).loss
    };
    let total = share(0, 1.0, &mut d) + share(1, -1.0, &mut d);
    (total, d)
}

fn check(preset: Preset, loss: f64, d: [f64; 5]) {
    let (got, got_d) = run(preset);
    assert!((got - loss).abs() < 1e-6 * (1.0 + loss.abs()), "{preset:?}: loss {got}, by hand {loss}");
    for (t, (got, want)) in got_d.iter().zip(d).enumerate() {
        assert!((got - want).abs() < 1e-6, "{preset:?}: d[{t}] {got}, by hand {want}");
    }
}

#[test]
fn grpo_by_hand() {
    // A = 1: min(1.5, 1.2) = 1.2 clipped, min(0.5, 0.8) = 0.5.
    // A = −1: min(−1.1, −1.1), min(−0.9, −0.9), min(−1.2, −1.2): at the clip, not beyond it.
    // ½ · [½ · (1.2 + 0.5) + ⅓ · (−1.1 − 0.9 − 1.2)] = ½ · (0.85 − 1.066667) = −0.108333
    let kl = 0.04 * KL * (1.0 / 4.0 + 1.0 / 6.0);
    // By the token: weight 1/4 or 1/6; β (1 − x) = −0.04 where x = 2.
    let d = [-0.04 / 4.0, -0.5 / 4.0, (1.1 - 0.04) / 6.0, 0.9 / 6.0, 1.2 / 6.0];
    check(Preset::Grpo, 0.108_333_333 + kl, d);
}

#[test]
fn r1_by_hand() {
    // ρ = 1.5 · 0.5 = 0.75 and 1.1 · 0.9 · 1.2 = 1.188; both within the clip. ½ (0.75 − 1.188) = −0.219
    let kl = 0.001 * KL * (0.5 + 0.5);
    let d = [(-0.75 - 0.001) / 2.0, -0.75 / 2.0, (1.188 - 0.001) / 2.0, 1.188 / 2.0, 1.188 / 2.0];
    check(Preset::R1, 0.219 + kl, d);
}

#[test]
fn dapo_by_hand() {
    // Upper clip 1.28: min(1.5, 1.28) = 1.28. (1.28 + 0.5 − 1.1 − 0.9 − 1.2) / 5 = −1.42 / 5
    check(Preset::Dapo, 0.284, [0.0, -0.5 / 5.0, 1.1 / 5.0, 0.9 / 5.0, 1.2 / 5.0]);
}

#[test]
fn dr_grpo_by_hand() {
    // Sum of tokens by N·L = 2 · 10: (1.2 + 0.5 − 3.2) / 20
    check(Preset::DrGrpo, 0.075, [0.0, -0.5 / 20.0, 1.1 / 20.0, 0.9 / 20.0, 1.2 / 20.0]);
}

#[test]
fn gspo_by_hand() {
    // s = √0.75 = 0.866025 is below 1 − 3e-4, but A = 1 takes the lesser: free. s = ∛1.188 = 1.059113 is above
    // 1 + 4e-4, but A = −1 takes the lesser: −1.059113, free. ½ (0.866025 − 1.059113)
    let (s, t) = (0.75f64.sqrt(), 1.188f64.cbrt());
    check(Preset::Gspo, (t - s) / 2.0, [-s / 4.0, -s / 4.0, t / 6.0, t / 6.0, t / 6.0]);
    // With A = −1 and 1 both are clipped: ½ (−0.9997 + 1.0004), no gradient.
    let (loss, e, mut d) = (loss_of(Preset::Gspo), example(), Vec::new());
    let mut total = 0.0;
    for (i, advantage) in [(0, -1.0), (1, 1.0)] {
        let tokens = Tokens { log_probs: &e.new[i], old: &e.old[i], reference: None };
        let share = loss.completion(tokens, Credit::Completion(advantage), COUNTS, &mut d);
        total += share.loss;
        assert_eq!(share.clipped, e.new[i].len());
    }
    assert!((total - (0.9997 - 1.0004) / 2.0).abs() < 1e-6, "{total}");
    assert!(d.iter().all(|&d| d == 0.0));
}

#[test]
fn cispo_by_hand() {
    // Weights ρ, none beyond 5: (1.5 ln π₁ + 0.5 ln π₂ − 1.1 … ) / 5, every token with its gradient.
    let e = example();
    let weights = [1.5, 0.5, -1.1, -0.9, -1.2];
    let log_probs = e.new.concat();
    let objective: f64 = weights.iter().zip(&log_probs).map(|(w, &p)| w * p).sum();
    check(Preset::Cispo, -objective / 5.0, weights.map(|w| -w / 5.0));
    // A ratio of 7 weighs 1 + 4.
    let mut d = Vec::new();
    let tokens = Tokens { log_probs: &[-1.0], old: &[-1.0 - 7.0f32.ln()], reference: None };
    let share = loss_of(Preset::Cispo).completion(
        tokens,
        Credit::Completion(1.0),
        Counts { completions: 1, tokens: 1 },
        &mut d,
    );
    assert!((share.loss - 5.0).abs() < 1e-5 && (d[0] + 5.0).abs() < 1e-5 && share.clipped == 1);
}

#[test]
fn rloo_by_hand() {
    // ½ (ln π(o₁) − ln π(o₂)): no ratio, no length.
    let e = example();
    let sums = e.new.each_ref().map(|tokens| tokens.iter().sum::<f64>());
    check(Preset::Rloo, -(sums[0] - sums[1]) / 2.0, [-0.5, -0.5, 0.5, 0.5, 0.5]);
}

#[test]
fn presets_compare_rewards_as_their_papers_do() {
    for (preset, advantage) in [
        (Preset::Grpo, Advantage::Standardised),
        (Preset::R1, Advantage::Standardised),
        (Preset::Dapo, Advantage::Standardised),
        (Preset::DrGrpo, Advantage::Centred),
        (Preset::Gspo, Advantage::Standardised),
        (Preset::Cispo, Advantage::Standardised),
        (Preset::Rloo, Advantage::LeaveOneOut),
    ] {
        assert_eq!(preset.pieces().advantage, advantage, "{preset:?}");
    }
}

#[test]
fn the_formula_in_force_is_explained() {
    for (preset, words) in [
        (Preset::Grpo, "1/N sum_i 1/|o_i| sum_t [ min(rho A, clip(rho, 0.8, 1.2) A) - 0.04 KL ]"),
        (Preset::R1, "1/N sum_i [ min(rho A, clip(rho, 0, 11) A) - 0.001 sum_t KL ], rho = pi(o)/pi_old(o)"),
        (Preset::Dapo, "1/(sum_i |o_i|) sum_i sum_t [ min(rho A, clip(rho, 0.8, 1.28) A) ]"),
        (Preset::DrGrpo, "1/(N 10) sum_i sum_t [ min(rho A, clip(rho, 0.8, 1.2) A) ]"),
        (
            Preset::Gspo,
            "1/N sum_i [ min(rho A, clip(rho, 0.9997, 1.0004) A) ], rho = (pi(o)/pi_old(o))^(1/|o|)",
        ),
        (Preset::Cispo, "[ stop_gradient(clip(rho, 0, 5)) A log pi(o_t) ]"),
        (Preset::Rloo, "1/N sum_i sum_t [ A log pi(o_t) ]"),
    ] {
        let explained = loss_of(preset).explain();
        assert!(explained.contains(words), "{preset:?}: {explained}");
    }
}

proptest! {
    /// The derivative is that of the loss, for every combination of the pieces.
    #[test]
    fn the_derivative_is_the_finite_difference(
        tokens in prop::collection::vec((-4f32..-0.1, -0.4f32..0.4, -0.5f32..0.5), 1..6),
        advantage in -2f32..2.0, kl in prop::sample::select(vec![0f32, 0.1]), low in 0.05f32..0.5, high in 0.05f32..0.5,
        ratio in prop::sample::select(vec![Ratio::Token, Ratio::Sequence, Ratio::SequenceMean]),
        aggregation in prop::sample::select(vec![
            Aggregation::SequenceMean, Aggregation::TokenMean, Aggregation::SequenceSum, Aggregation::Constant,
        ]),
    ) {
        let surrogate = Surrogate::Clip; // the other stops gradients, so that its loss has another derivative
        let loss = PolicyLoss { ratio, surrogate, clip_low: low, clip_high: high, aggregation, kl, max_tokens: 8 };
        let counts = Counts { completions: 3, tokens: 11 };
        let old: Vec<f32> = tokens.iter().map(|t| t.0).collect();
        let new: Vec<f64> = tokens.iter().map(|t| f64::from(t.0 + t.1)).collect();
        let reference: Vec<f64> = tokens.iter().map(|t| f64::from(t.0 + t.2)).collect();
        let at = |log_probs: &[f64], d: &mut Vec<f64>| {
            let tokens = Tokens { log_probs, old: &old, reference: Some(&reference) };
            loss.completion(tokens, Credit::Completion(advantage), counts, d)
        };
        let mut d = Vec::new();
        let share = at(&new, &mut d);
        let h = 1e-5;
        for t in 0..new.len() {
            let shifted = |h: f64| {
                let mut log_probs = new.clone();
                log_probs[t] += h;
                at(&log_probs, &mut Vec::new())
            };
            let (above, below) = (shifted(h), shifted(-h));
            prop_assume!(above.clipped == share.clipped && below.clipped == share.clipped);
            let difference = (above.loss - below.loss) / (2.0 * h);
            prop_assert!((d[t] - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{} {difference}", d[t]);
        }
    }
}

#[test]
fn tokens_with_advantages_of_their_own_by_hand() {
    // ρ = 1.5, 0.5 with A = −1, 2: min(−1.5, −1.2) = −1.5 and min(1, 1.6) = 1; each weighs 1/5.
    let loss = PolicyLoss {
        ratio: Ratio::Token,
        surrogate: Surrogate::Clip,
        clip_low: 0.2,
        clip_high: 0.2,
        aggregation: Aggregation::TokenMean,
        kl: 0.0,
        max_tokens: 10,
    };
    let (e, mut d) = (example(), Vec::new());
    let tokens = Tokens { log_probs: &e.new[0], old: &e.old[0], reference: None };
    let share = loss.completion(tokens, Credit::Tokens(&[-1.0, 2.0]), COUNTS, &mut d);
    assert!((share.loss - 0.1).abs() < 1e-6, "{share:?}");
    assert!((d[0] - 0.3).abs() < 1e-6 && (d[1] + 0.2).abs() < 1e-6, "{d:?}");
}
