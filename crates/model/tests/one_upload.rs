//! What crosses to the device in a pass: its layout once, and what it came to once; nothing in between.

use koan_backend::{
    Backend, Draw, Layout, Reference, Sequence,
    conformance::{Counting, Counts},
};
use koan_model::{Activations, Gradient, Head, KvCache, Purpose, testkit};

/// A group of two completions that share a prompt.
fn group() -> Layout {
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4], [&[5, 9, 2][..], &[6]]);
    layout
}

/// Two tokens of a sequence that goes on in a cache.
fn decoding(row: u32) -> Layout {
    let key = row as usize;
    Layout {
        ids: vec![row, row + 1],
        positions: vec![row, row + 1],
        sequences: vec![Sequence { rows: 0..2, prefix: vec![], keys: 0..key + 2 }],
        cache_rows: vec![row, row + 1],
        head_rows: vec![1],
        draws: vec![Draw::whole(0.4, 1.0)],
        ..Layout::default()
    }
}

#[test]
fn a_pass_uploads_its_layout_once_and_is_waited_for_once() {
    for kind in testkit::kinds() {
        let b = Counting::default();
        let config = testkit::config_with(11, true, kind.clone());
        let mut model = testkit::model(&b, config.clone(), 3);
        let mut activations = Activations::new(&b, &config, 8, Purpose::Training).expect("memory");
        let (mut head, mut cache) =
            (Head::new(&b, &config, 8).expect("memory"), KvCache::new(&b, &config, 8).expect("memory"));
        let mut gradient = Gradient::new(&b, &config, 8).expect("memory");
        b.take();

        let layout = model.upload(&b, group()).expect("memory");
        model.forward(&b, &layout, &mut activations, None);
        let [log_probs, _] = model.log_probs(&b, &activations, &layout, 0.9, &mut head);
        assert_eq!(b.take(), Counts { layouts: 1, uploads: 0, waits: 1 }, "scoring, {kind}");
        let d = vec![-0.25; log_probs.len()];
        model.backward(&b, &layout, &mut activations, &d, 0.9, &mut head, &mut gradient);
        assert_eq!(b.take(), Counts { layouts: 0, uploads: 1, waits: 0 }, "the backward, {kind}");

        model.pack(&b).expect("memory");
        for row in [0, 2, 4] {
            let layout = model.upload(&b, decoding(row)).expect("memory");
            model.forward(&b, &layout, &mut activations, Some(&mut cache));
            let (tokens, _) = model.sample(&b, &activations, &layout, &mut head);
            assert_eq!(tokens.len(), 1);
            assert_eq!(b.take(), Counts { layouts: 1, uploads: 0, waits: 1 }, "decoding, {kind}");
        }

        let same = testkit::model(&Reference, config.clone(), 3);
        let layout = same.upload(&Reference, group()).expect("memory");
        let mut activations = Activations::new(&Reference, &config, 8, Purpose::Inference).expect("memory");
        let mut head = Head::new(&Reference, &config, 8).expect("memory");
        same.forward(&Reference, &layout, &mut activations, None);
        let [want, _] = same.log_probs(&Reference, &activations, &layout, 0.9, &mut head);
        assert_eq!(log_probs, want, "{kind}");
    }
}

#[test]
#[should_panic(expected = "a token beyond the 11 there are")]
fn a_token_beyond_the_vocabulary_is_refused_before_it_is_uploaded() {
    let b = Counting::default();
    let model = testkit::model(&b, testkit::config(11, true), 3);
    let _ = model.upload(&b, Layout { ids: vec![11], positions: vec![0], ..Layout::default() });
}

#[test]
#[should_panic(expected = "a cache row for each row")]
fn a_pass_for_a_cache_needs_one() {
    let b = Reference;
    let model = testkit::model(&b, testkit::config(11, true), 3);
    let mut activations = Activations::new(&b, model.config(), 8, Purpose::Inference).expect("memory");
    let layout = model.upload(&b, decoding(0)).expect("memory");
    assert_eq!((b.rows(&layout), b.head_rows(&layout)), (2, 1));
    model.forward(&b, &layout, &mut activations, None);
}
