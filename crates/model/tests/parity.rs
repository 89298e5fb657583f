//! Log-probabilities of tiny models against those of the reference implementation (transformers), where the fixtures lie
//! beside the project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use koan_backend::{Backend, Layout, Reference};
use koan_cpu::Cpu;
use koan_model::{
    Activations, CacheForm, Head, Purpose,
    checkpoint::{self, Place},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    logprobs: Vec<f64>,
}

/// Absolute differences over all tokens of a fixture, packed into one batch.
fn differences<B: Backend>(b: &B, dir: &Path, cache: CacheForm) -> Vec<f64> {
    let place = Place::from(dir).caching(cache);
    let model = checkpoint::load_for_inference(b, place, None).expect("a fixture");
    let text = fs::read_to_string(dir.join("score_expected.jsonl")).expect("a fixture");
    let lines: Vec<Line> = text.lines().map(|l| serde_json::from_str(l).expect("a fixture")).collect();
    let mut layout = Layout::default();
    for line in &lines {
        layout.push_group(&line.prompt_ids, [&line.completion_ids[..]]);
    }
    let mut activations =
        Activations::new(b, model.config(), layout.len(), Purpose::Inference).expect("memory");
    let mut head = Head::new(b, model.config(), layout.head_rows.len()).expect("memory");
    let layout = model.upload(b, layout).expect("memory");
    model.forward(b, &layout, &mut activations, None);
    let [log_probs, _] = model.log_probs(b, &activations, &layout, 1.0, &mut head);
    let expected: Vec<f64> = lines.iter().flat_map(|l| l.logprobs.clone()).collect();
    assert_eq!(log_probs.len(), expected.len());
    log_probs.iter().zip(expected).map(|(&a, b)| (a - b).abs()).collect()
}

#[test]
fn fixtures_agree() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/parity");
    let found: Vec<PathBuf> =
        fs::read_dir(&fixtures).map_or(Vec::new(), |dir| dir.filter_map(|e| Some(e.ok()?.path())).collect());
    if found.is_empty() {
        println!("skipped: no fixtures beside the project");
    }
    let of_each = |dir: PathBuf| {
        let latents = Place::from(&dir).config().expect("a fixture").latent.is_some();
        let forms = [CacheForm::Expanded, CacheForm::Latent].into_iter().take(if latents { 2 } else { 1 });
        forms.map(move |cache| (dir.clone(), cache))
    };
    for (dir, cache) in found.into_iter().flat_map(of_each) {
        let reference = differences(&Reference, &dir, cache);
        let largest = reference.iter().copied().fold(0.0, f64::max);
        assert!(largest < 1e-4, "{}: {largest} through the reference", dir.display());
        let cpu = differences(&Cpu::best(None).expect("a processor"), &dir, cache);
        let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
        assert!(mean < 0.02, "{}: a mean of {mean} through the CPU", dir.display());
        println!("{}, {cache:?}: reference {largest:.1e} at most, CPU {mean:.1e} on average", dir.display());
    }
}
