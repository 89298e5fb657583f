//! How a token is sampled.

/// How a row's token is sampled from its distribution. What truncates comes in this order, that of Hugging Face transformers:
///
/// 1. logits are divided by `temperature`,
/// 2. top-k keeps the `top_k` likeliest tokens,
/// 3. top-p (arXiv:1904.09751) keeps the likeliest of those, until their share of the mass that top-k left reaches `top_p`,
/// 4. min-p (arXiv:2407.01082) drops tokens with less than `min_p` times the probability of the likeliest.
///
/// Of equally likely tokens the one with the lower number ranks first; the likeliest token is always kept. With temperature
/// 0 the likeliest token is taken, and nothing else matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Where the cumulative distribution is inverted, in [0, 1).
    pub uniform: f64,
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// How many tokens top-k keeps; 0 keeps all.
    pub top_k: usize,
    /// The share of the mass that top-p keeps; 1 keeps all.
    pub top_p: f32,
    /// The share of the likeliest token's probability that min-p asks for; 0 keeps all.
    pub min_p: f32,
}

impl Draw {
    /// A draw from the whole distribution.
    pub fn whole(uniform: f64, temperature: f32) -> Self {
        Self { uniform, temperature, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }

    /// Whether tokens may be cut off.
    pub fn truncates(&self) -> bool {
        self.temperature != 0.0 && (self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0)
    }

    /// The temperature of the distribution that log-probabilities are of: 1 where the likeliest token is taken.
    pub fn temperature_of_log_prob(&self) -> f32 {
        if self.temperature == 0.0 { 1.0 } else { self.temperature }
    }

    /// How many tokens are kept of those with these `weights`, which are proportional to probabilities and in the order of
    /// their rank. `total` is the weight of all tokens there are, listed or not; top-k needs the first `top_k` listed.
    pub fn kept(&self, weights: impl Iterator<Item = f64> + Clone, total: f64) -> usize {
        let top_k = if self.top_k == 0 { usize::MAX } else { self.top_k };
        let total = if self.top_k == 0 { total } else { weights.clone().take(top_k).sum() };
        let likeliest = weights.clone().next().unwrap_or(0.0);
        let mut above = 0.0;
        let within = |weight: &f64| {
            let keep = above < f64::from(self.top_p) * total && *weight >= f64::from(self.min_p) * likeliest;
            above += weight;
            keep
        };
        weights.take(top_k).take_while(within).count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens kept of the probabilities 0.4, 0.3, 0.15, 0.1, 0.05.
    fn kept(top_k: usize, top_p: f32, min_p: f32) -> usize {
        let draw = Draw { top_k, top_p, min_p, ..Draw::whole(0.0, 1.0) };
        draw.kept([40.0, 30.0, 15.0, 10.0, 5.0].into_iter(), 100.0)
    }

    #[test]
    fn each_truncation_by_hand() {
        assert_eq!(kept(0, 1.0, 0.0), 5);
        assert_eq!([1, 2, 4, 5, 9].map(|k| kept(k, 1.0, 0.0)), [1, 2, 4, 5, 5]);
        // 0.4 reaches 0.39, not 0.41; 0.4 + 0.3 reaches 0.69.
        assert_eq!([0.0, 0.39, 0.41, 0.69, 0.71, 0.96].map(|p| kept(0, p, 0.0)), [1, 1, 2, 2, 3, 5]);
        // 0.3 is three quarters of 0.4, 0.05 an eighth.
        assert_eq!([1.0, 0.76, 0.74, 0.13, 0.12].map(|p| kept(0, 1.0, p)), [1, 1, 2, 4, 5]);
    }

    #[test]
    fn top_p_is_a_share_of_what_top_k_left() {
        // Of the two likeliest, the first has 4 / 7 = 0.571.
        assert_eq!([0.57, 0.58].map(|p| kept(2, p, 0.0)), [1, 2]);
        assert_eq!([0.57, 0.58].map(|p| kept(0, p, 0.0)), [2, 2]);
    }

    #[test]
    fn min_p_compares_with_the_likeliest_whatever_was_cut() {
        assert_eq!(kept(3, 0.99, 0.7), 2);
        assert_eq!(kept(0, 0.0, 1.0), 1);
    }
}
