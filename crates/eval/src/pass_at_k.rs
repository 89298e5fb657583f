//! pass@k: the chance that at least one of k completions of a problem is correct.

/// The unbiased estimate from `n` completions of which `c` are correct (Chen et al. 2021, arXiv:2107.03374, §2.1):
/// `1 − C(n − c, k) / C(n, k)`, the share of the subsets of k that hold a correct one. Computed as a product of n − c
/// ratios near 1, so that nothing overflows.
///
/// # Panics
/// Unless `1 ≤ k ≤ n` and `c ≤ n`.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!((1..=n).contains(&k) && c <= n, "pass@{k} of {c} in {n}");
    if n - c < k {
        return 1.0; // every subset holds a correct one
    }
    // C(n − c, k) / C(n, k) = Π (1 − k/i) over i from n − c + 1 to n.
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The share of all subsets of `k` of `n`, the first `c` of which are correct, that hold a correct one.
    fn by_enumeration(n: usize, c: usize, k: usize) -> f64 {
        let subsets = (0_u32..1 << n).filter(|subset| subset.count_ones() as usize == k);
        let (mut all, mut hold) = (0, 0);
        for subset in subsets {
            all += 1;
            hold += u32::from(subset & ((1 << c) - 1) != 0);
        }
        f64::from(hold) / f64::from(all)
    }

    #[test]
    fn it_is_the_share_of_subsets_that_hold_a_correct_one() {
        for n in 1..=10 {
            for (c, k) in (0..=n).flat_map(|c| (1..=n).map(move |k| (c, k))) {
                let (got, expected) = (pass_at_k(n, c, k), by_enumeration(n, c, k));
                assert!((got - expected).abs() < 1e-12, "pass@{k} of {c} in {n}: {got}, not {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_share_that_grows_with_c_and_k(n in 1_usize..100_000, c: prop::sample::Index, k: prop::sample::Index) {
            let (c, k) = (c.index(n + 1), 1 + k.index(n));
            let p = pass_at_k(n, c, k);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!((pass_at_k(n, c, 1) - c as f64 / n as f64).abs() < 1e-9);
            prop_assert!(c == n || pass_at_k(n, c + 1, k) >= p - 1e-12);
            prop_assert!(k == n || pass_at_k(n, c, k + 1) >= p - 1e-12);
            prop_assert_eq!(pass_at_k(n, c, n), f64::from(u8::from(c > 0)));
        }
    }
}
