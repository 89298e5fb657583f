//! The likeliest tokens of a distribution, for whoever is shown more than the token that was taken.

use koan_backend::Draw;
use koan_generate::Sampled;

/// The `n` likeliest tokens of the distribution of `logits` at `temperature` (1 where that is 0), with their log-probabilities, the
/// likeliest first; of equally likely ones the lower number.
pub fn likeliest(logits: &[f32], temperature: f32, n: usize) -> Vec<(u32, f32)> {
    if n == 0 || logits.is_empty() {
        return Vec::new();
    }
    let whole = log_sum_exp(logits, temperature);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let n = n.min(order.len());
    if n < order.len() {
        order.select_nth_unstable_by(n - 1, rank);
        order.truncate(n);
    }
    order.sort_unstable_by(rank);
    order.into_iter().map(|id| (id, log_prob(logits[id as usize], temperature, whole))).collect()
}

/// Samples as `draw` says from the tokens that are `allowed`, by their logits: the token with its log-probability among what was left of
/// them, and under the whole distribution. `None`: none is allowed.
pub fn draw_among(logits: &[f32], draw: &Draw, allowed: impl Iterator<Item = u32>) -> Option<Sampled> {
    let temperature = temperature_of_log_prob(draw.temperature);
    let mut ids: Vec<u32> = allowed.filter(|&id| (id as usize) < logits.len()).collect();
    let rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let most = f64::from(logits[*ids.iter().min_by(|a, b| rank(a, b))? as usize]);
    let weight = |&id: &u32| ((f64::from(logits[id as usize]) - most) / temperature).exp();
    let mut total: f64 = ids.iter().map(weight).sum();
    if draw.temperature == 0.0 {
        ids.sort_unstable_by(rank);
        ids.truncate(1);
    } else if draw.truncates() {
        ids.sort_unstable_by(rank);
        ids.truncate(draw.kept(ids.iter().map(weight), total));
        total = ids.iter().map(weight).sum();
    }
    let mut below = draw.uniform * total;
    let inverted = ids.iter().find(|id| {
        below -= weight(id);
        below < 0.0
    });
    let &token = inverted.or(ids.last())?;
    let logit = logits[token as usize];
    Some(Sampled {
        token,
        log_prob: (weight(&token) / total).ln() as f32,
        full_log_prob: log_prob(logit, draw.temperature, log_sum_exp(logits, draw.temperature)),
    })
}

/// The logarithm of the sum of `exp(logit / temperature)`.
fn log_sum_exp(logits: &[f32], temperature: f32) -> f64 {
    let temperature = temperature_of_log_prob(temperature);
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)) / temperature;
    most + logits.iter().map(|&logit| (f64::from(logit) / temperature - most).exp()).sum::<f64>().ln()
}

fn log_prob(logit: f32, temperature: f32, whole: f64) -> f32 {
    (f64::from(logit) / temperature_of_log_prob(temperature) - whole) as f32
}

fn temperature_of_log_prob(temperature: f32) -> f64 {
    if temperature == 0.0 { 1.0 } else { temperature.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_allowed_and_as_likely_as_it_is_among_the_rest() {
        let logits = [2f32.ln(), 0.0, 3f32.ln(), 0.0];
        let draw = |uniform, temperature| Draw::whole(uniform, temperature);
        let among = |draw: &Draw, ids: &[u32]| draw_among(&logits, draw, ids.iter().copied());
        let drawn = among(&draw(0.99, 1.0), &[0, 1]).expect("some are allowed");
        assert!(drawn.token == 1 && (drawn.log_prob.exp() - 1.0 / 3.0).abs() < 1e-6);
        assert!((drawn.full_log_prob.exp() - 1.0 / 7.0).abs() < 1e-6);
        assert_eq!(among(&draw(0.6, 1.0), &[0, 1]).map(|drawn| drawn.token), Some(0));
        assert_eq!(
            among(&draw(0.9, 0.0), &[3, 1]).map(|drawn| drawn.token),
            Some(1),
            "the lower of two alike"
        );
        let two = Draw { top_k: 2, ..draw(0.99, 1.0) };
        assert_eq!(among(&two, &[0, 1, 2, 3]).map(|drawn| drawn.token), Some(0));
        assert_eq!(among(&two, &[]), None);
    }

    #[test]
    fn the_likeliest_come_first_with_their_log_probabilities() {
        let thirds = [2f32.ln(), 0.0, 3f32.ln(), 0.0];
        let close = |got: Vec<(u32, f32)>, wanted: &[(u32, f32)]| {
            assert_eq!(got.len(), wanted.len());
            for ((id, p), (other, q)) in got.into_iter().zip(wanted) {
                assert!(id == *other && (p.exp() - q).abs() < 1e-6, "{id} {}", p.exp());
            }
        };
        close(likeliest(&thirds, 0.0, 3), &[(2, 3.0 / 7.0), (0, 2.0 / 7.0), (1, 1.0 / 7.0)]);
        close(likeliest(&thirds, 0.5, 1), &[(2, 9.0 / 15.0)]);
        close(likeliest(&thirds, 1.0, 9), &[(2, 3.0 / 7.0), (0, 2.0 / 7.0), (1, 1.0 / 7.0), (3, 1.0 / 7.0)]);
        assert_eq!(likeliest(&thirds, 1.0, 0), []);
    }
}
