use std::fs;

use super::*;

/// Lines of two kinds, which share most of their words.
fn lines() -> String {
    let line = |i: usize| {
        let shared = ["the", "of", "a", "page", "on", "this"][i % 6];
        let [own, label] = [["proof \\frac lemma", MATHS], ["kettle price shop", OTHER]][i % 2];
        format!("__label__{label} {shared} w{i} {own} {shared}\n")
    };
    (0..400).map(line).collect::<Vec<_>>().concat()
}

const SMALL: Training =
    Training { dim: 8, buckets: 1 << 10, word_ngrams: 3, min_count: 3, epochs: 10, lr: 0.5, seed: 1 };

fn trained() -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("train.txt");
    fs::write(&path, lines()).expect("written");
    let model = Model::train(&path, &SMALL).expect("trained");
    (folder, model)
}

#[test]
fn it_tells_maths_from_other_pages_and_repeats_itself() {
    let (folder, model) = trained();
    let classifier = model.classifier().expect("a label");
    let (maths, other) =
        (classifier.score("a proof of the lemma: \\frac"), classifier.score("a shop, the price of a kettle"));
    assert!(maths > 0.8 && other < 0.3, "{maths}, {other}");
    assert_eq!(classifier.score(""), 0.0);
    assert_eq!(classifier.score("?!"), 0.0);
    let again = Model::train(&folder.path().join("train.txt"), &SMALL).expect("trained");
    assert!(again.input == model.input && again.output == model.output);
    assert!(
        Model::train(&folder.path().join("train.txt"), &Training { seed: 2, ..SMALL })
            .expect("trained")
            .input
            != model.input
    );
}

#[test]
fn a_file_is_the_model() {
    let (folder, model) = trained();
    let path = folder.path().join("model.bin");
    model.save(&path).expect("saved");
    let (loaded, made) = (Classifier::load(&path).expect("loaded"), model.classifier().expect("a label"));
    assert!(loaded.rows == made.rows && loaded.dictionary.words == made.dictionary.words);
    let other = Classifier::load_label(&path, OTHER).expect("loaded");
    let text = "the proof of a page";
    assert!((loaded.score(text) + other.score(text) - 1.0).abs() < 1e-6);
    let error = Classifier::load_label(&path, "math").expect_err("no such label").to_string();
    assert!(
        error.contains("model.bin") && error.contains("other, maths") || error.contains("maths, other"),
        "{error}"
    );
}

/// The same numbers as another program that reads and writes the format.
#[test]
fn files_go_to_fasttext_and_back() {
    let (folder, model) = trained();
    let path = folder.path().join("model.bin");
    model.save(&path).expect("saved");
    let theirs = fasttext::FastText::load_model(&path).expect("read");
    let ours = Classifier::load(&path).expect("loaded");
    for text in [
        "the proof of a lemma",
        "this kettle and \\frac",
        "unknown words entirely",
        "price of proof of price",
    ] {
        // As a line: their `predict` leaves the end of the line out of n-grams, which fastText itself does not.
        let (mut words, mut labels) = (Vec::new(), Vec::new());
        let line = format!("{}\n", tokens::line(text));
        theirs.dict().get_line(&mut line.as_bytes(), &mut words, &mut labels, &mut false);
        let share = theirs.predict_on_words(&words, 2, 0.0);
        let share = share.iter().find(|p| p.label == "__label__maths").expect("both labels").prob;
        assert!((share - ours.score(text)).abs() < 1e-4, "{text}: {share}, {}", ours.score(text));
    }
    theirs.save_model(folder.path().join("again.bin")).expect("written");
    assert!(fs::read(folder.path().join("again.bin")).expect("read") == fs::read(&path).expect("read"));
}

#[test]
fn files_that_are_no_models_are_refused() {
    let (folder, model) = trained();
    let path = folder.path().join("model.bin");
    model.save(&path).expect("saved");
    let whole = fs::read(&path).expect("read");
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        Classifier::load(&path).map(|_| ()).expect_err("no model").to_string()
    };
    assert!(load(b"").contains("cut off"));
    assert!(load(b"nothing of the kind").contains("no fastText model"));
    let at = |place: usize, value: i32| {
        let mut bytes = whole.clone();
        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for (place, value, wanted) in [
        (4, 99, "version"),
        (8, -1, "out of range"),
        (8, 1 << 20, "out of range"),
        (32, 1, "hierarchical"),
        (36, 2, "word vectors"),
        (48, 6, "characters"),
        (64, i32::MAX, "out of range"),
        (68, i32::MAX, "out of range"),
        (88, 0, "quantized"),
    ] {
        let error = load(&at(place, value));
        assert!(error.contains(wanted), "{place}: {error}");
    }
    // Cut anywhere, or with any byte changed, a file is a model or an error.
    for i in 0..whole.len().min(600) {
        fs::write(&path, &whole[..i]).expect("written");
        assert!(Classifier::load(&path).is_err());
        let mut bytes = whole.clone();
        bytes[i] ^= 0x81;
        fs::write(&path, &bytes).expect("written");
        if let Ok(classifier) = Classifier::load(&path) {
            let _ = classifier.score("a proof of the lemma");
        }
    }
}

#[test]
fn training_data_of_one_label_and_sizes_out_of_range_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("train.txt");
    fs::write(&path, "__label__maths a b\n").expect("written");
    let error = Model::train(&path, &SMALL).expect_err("one label").to_string();
    assert!(error.contains("train.txt") && error.contains("negatives"), "{error}");
    for training in [
        Training { dim: 0, ..SMALL },
        Training { lr: f64::NAN, ..SMALL },
        Training { dim: 4096, buckets: 1 << 30, ..SMALL },
    ] {
        assert!(Model::train(&path, &training).is_err());
    }
}

#[test]
fn the_cut_lies_between_no_evidence_and_the_seeds_least() {
    let scores: Vec<f32> = (0..200).map(|i| if i < 2 { 0.1 } else { 0.8 + i as f32 / 2000.0 }).collect();
    let cut = super::cut(&scores);
    assert!((cut - 0.569).abs() < 5e-3, "{cut}: the odds of 0.8 are 4, and 4 to the power of 0.2 is 1.32");
    assert_eq!((super::cut(&[]), super::cut(&[0.3])), (0.5, 0.5));
    assert!(
        super::cut(&[1.0]) < 0.9,
        "a classifier that is sure of all that it saw is not of what it did not see"
    );
}

#[test]
fn the_cut_is_found_beside_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("classifier.bin");
    assert_eq!(super::read_cut(&model).expect("none there"), None);
    super::write_cut(&model, 0.625).expect("written");
    assert_eq!(super::read_cut(&model).expect("read"), Some(0.625));
    std::fs::write(folder.path().join("classifier.json"), "{\"cut\": 7}").expect("written");
    assert!(super::read_cut(&model).expect_err("no share").to_string().contains("classifier.threshold"));
}
