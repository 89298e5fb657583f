use std::collections::BTreeSet;

use super::*;

/// A text of `n` words that `seed` gives; of each hundred, `changed` are other words.
fn text(seed: u64, n: u64, changed: u64) -> String {
    let word = |i: u64| {
        let other = u64::from((i * 7919 + 13) % 100 < changed) * 77;
        let mut x = (seed * 1_000_003 + i + other * 1_000_000_007).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 29;
        let letters = (0..5).map(|k| char::from(b'a' + (x >> (k * 5) & 15) as u8));
        letters.collect::<String>()
    };
    (0..n).map(word).collect::<Vec<_>>().join(" ")
}

fn jaccard(a: &str, b: &str) -> f64 {
    let shingles = |text: &str| -> BTreeSet<Vec<String>> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        words.windows(5).map(<[String]>::to_vec).collect()
    };
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

fn sign(near: &Near, text: &str) -> Signature {
    Signer::new(near).sign(text, &mut Scratch::default()).expect("words")
}

/// The documents that go, of texts with these ids; in `parts` parts.
fn removed(near: &Near, texts: &[(u64, String)], parts: usize) -> Removed {
    let folder = tempfile::tempdir().expect("a folder");
    let records: Vec<Record> =
        texts.iter().flat_map(|(id, text)| Record::of(*id, &sign(near, text)).collect::<Vec<_>>()).collect();
    let mut found = Vec::new();
    for part in 0..parts {
        let own = records.iter().filter(|record| record.part(parts) == part).map(|record| Ok(*record));
        pairs(own, near, folder.path(), 2000, |pair| {
            found.push(pair);
            Ok(())
        })
        .expect("pairs");
    }
    clusters(|| Ok(found.iter().map(|pair| Ok(*pair))), folder.path(), 100).expect("clusters")
}

#[test]
fn the_estimate_is_near_the_true_similarity() {
    let near = Near::default();
    for (n, changed) in [(400, 0), (400, 2), (400, 5), (60, 3), (2000, 10), (400, 100)] {
        let (mut error, mut bias) = (0.0f64, 0.0);
        let runs = 60;
        for seed in 0..runs {
            let (a, b) = (text(seed, n, 0), text(seed, n, changed));
            let estimate = similarity(&sign(&near, &a).sketch, &sign(&near, &b).sketch, 112);
            bias += (estimate - jaccard(&a, &b)) / runs as f64;
            error = error.max((estimate - jaccard(&a, &b)).abs());
        }
        assert!(error < 0.2 && bias.abs() < 0.03, "{n} words, {changed}: {error}, {bias}");
    }
}

#[test]
fn a_min_hash_agrees_as_often_as_shingles_do() {
    // Bands of one row: the share of bands that agree is the similarity.
    let near = Near { bands: 112, rows: 1, ..Near::default() };
    let (mut share, mut truth) = (0.0, 0.0);
    for seed in 0..50 {
        let (a, b) = (text(seed, 300, 0), text(seed, 300, 5));
        let equal = sign(&near, &a).bands.iter().zip(&sign(&near, &b).bands).filter(|(a, b)| a == b).count();
        share += equal as f64 / 112.0 / 50.0;
        truth += jaccard(&a, &b) / 50.0;
    }
    assert!((share - truth).abs() < 0.02, "{share}, not {truth}");
}

#[test]
fn copies_go_whatever_the_order_and_parts_and_the_smallest_id_stays() {
    let mut texts: Vec<(u64, String)> = (0..40).map(|i| (1000 + i * 37 % 40, text(i, 300, 0))).collect();
    texts.push((5, text(3, 300, 1)));
    texts.push((9999, format!("{} and a little more", text(3, 300, 0))));
    texts.push((7777, format!("{} {}", text(8, 300, 0), text(99, 400, 0))));
    let near = Near::default();
    let first = removed(&near, &texts, 1);
    let id = 1000 + 3 * 37 % 40;
    assert_eq!(first.documents, [(id, 5), (9999, 5)], "a superset of twice the words is no duplicate");
    assert_eq!((first.clusters, first.kept_for(9999), first.kept_for(5)), (1, Some(5), None));
    for parts in [2, 7] {
        texts.reverse();
        assert_eq!(removed(&near, &texts, parts), first);
    }
}

#[test]
fn numbers_count_and_notation_does_not() {
    let near = Near { similarity: 0.9, ..Near::default() };
    let scale = |n: u32| {
        (0..60).map(|i| format!("the ladder {i} costs {} coins", i * n)).collect::<Vec<_>>().join(". ")
    };
    let formula = |times: &str| format!("{} $\\frac{{a}}{{b}} {times} x^2$", text(1, 100, 0));
    let texts = [
        (1, scale(3)),
        (2, scale(4)),
        (3, formula("\\cdot")),
        (4, formula("*").to_uppercase().replace("\\FRAC", "\\frac")),
    ];
    assert_eq!(removed(&near, &texts, 1).documents, [(4, 3)]);
}

#[test]
fn texts_of_a_word_or_none_are_signed_or_not() {
    let signer = Signer::new(&Near::default());
    assert_eq!(signer.sign(" .,; ", &mut Scratch::default()), None);
    let texts = [(1, "Hello".to_owned()), (2, "hello!".to_owned()), (3, "Hello you".to_owned())];
    assert_eq!(removed(&Near::default(), &texts, 3).documents, [(2, 1)]);
    let near = Near { bands: 0, ..Near::default() };
    assert!(near.check().expect_err("no bands").to_string().contains("near.bands"));
}
