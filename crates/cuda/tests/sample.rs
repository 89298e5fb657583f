//! Sampling in the emulator where many tokens are equally likely, and where logits are not finite.

mod emulated;

use koan_backend::{Backend, Draw, Forms, Keep, Layout, Matrix, Reference};

use emulated::emulated;

/// What is sampled of these logits, which are the head's weights: tokens, log-probabilities, and those of the whole.
fn sample<B: Backend>(b: &B, logits: &[f32], draws: &[Draw]) -> [Vec<f32>; 3] {
    let n = draws.len();
    let w = Matrix::new(b, logits, [logits.len(), 1], Forms { values: true, packed: true }).expect("memory");
    let mut x = b.operand(n, Keep::Operand).expect("memory");
    b.write_operand(&mut x, &vec![1.0; n]);
    let (ids, head_rows) = (vec![0; n], (0..n as u32).collect());
    let layout = Layout { ids, head_rows, draws: draws.to_vec(), ..Layout::default() };
    let layout = b.upload_layout(layout).expect("memory");
    let mut outputs = [(); 3].map(|()| b.zeros(n).expect("memory"));
    let [tokens, log_probs, full] = &mut outputs;
    b.sample(tokens, log_probs, full, &x, &w, &layout);
    b.read(outputs.each_ref().map(|output| (output, n)))
}

/// A number in [0, 1).
fn random(i: usize) -> f64 {
    let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn of_equally_likely_tokens_those_with_lower_numbers_are_kept() {
    let Some(cuda) = emulated(1) else { return };
    for (vocab, levels, step) in [(2500, 24, 0.25), (1024, 3, 4.0), (1301, 1, 1.0), (3000, 2000, 1.0 / 64.0)]
    {
        let logits: Vec<f32> = (0..vocab)
            .map(|v| {
                let level = (random(v) * f64::from(levels)).floor() as f32 * step - 8.0;
                f32::from_bits(level.to_bits() & 0xffff_0000) // as products hold it
            })
            .collect();
        let cuts = [
            (1, 1.0, 0.0),
            (7, 1.0, 0.0),
            (300, 1.0, 0.0),
            (0, 0.1, 0.0),
            (0, 0.73, 0.0),
            (0, 0.999, 0.0),
            (200, 0.37, 0.0),
            (0, 1.0, 0.05),
            (900, 0.9, 0.3),
            (0, 0.0, 0.0),
            (100_000, 1.0, 0.0),
        ];
        let draws: Vec<Draw> = (0..40)
            .flat_map(|i| {
                cuts.into_iter().enumerate().map(move |(j, (top_k, top_p, min_p))| {
                    let temperature = [1.0, 0.5, 4.0][i % 3];
                    Draw { uniform: random(1000 * i + j), temperature, top_k, top_p, min_p }
                })
            })
            .collect();
        let [got, want] = [sample(&cuda, &logits, &draws), sample(&Reference, &logits, &draws)];
        for (i, draw) in draws.iter().enumerate() {
            let (token, log_prob) = (got[0][i], got[1][i]);
            assert_eq!(token, want[0][i], "{vocab} tokens, {levels} levels, {draw:?}");
            assert!((log_prob - want[1][i]).abs() < 1e-5, "{log_prob} is not {}: {draw:?}", want[1][i]);
            assert!((got[2][i] - want[2][i]).abs() < 1e-5, "{} is not {}: {draw:?}", got[2][i], want[2][i]);
            // Nothing is cut off.
            assert!(draw.top_k < 100_000 || log_prob.to_bits() == got[2][i].to_bits());
        }
    }
}

#[test]
fn logits_that_are_not_finite_give_a_token_of_the_vocabulary() {
    let Some(cuda) = emulated(1) else { return };
    let whole = Draw::whole(0.5, 1.0);
    let draws =
        [whole, Draw::whole(0.5, 0.0), Draw { top_k: 5, ..whole }, Draw { top_p: 0.5, min_p: 0.1, ..whole }];
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for each in [1, 7] {
            let logits: Vec<f32> = (0..1100).map(|v| if v % each == 0 { odd } else { 0.5 }).collect();
            let [tokens, ..] = sample(&cuda, &logits, &draws);
            assert!(tokens.iter().all(|&token| (0.0..1100.0).contains(&token)), "{odd}: {tokens:?}");
        }
    }
}
