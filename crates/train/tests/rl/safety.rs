//! Whatever happens to a run, what it had is whole, and what it says helps.

use std::{fs, path::Path};

use koan_files::checksums;

use crate::tiny_run::{TinyRun, run};

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The files of a checkpoint, by their names below it.
fn files(dir: &Path) -> Vec<String> {
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).expect("a list");
    let names = sums.lines().map(|line| line.split_once("  ").expect("a checksum").1.to_owned());
    names.chain(["SHA256SUMS".to_owned()]).collect()
}

#[test]
fn every_damage_to_a_checkpoint_is_named_and_an_older_one_goes_on() {
    let tiny = TinyRun::new();
    let set = ["algorithm.reference_every=2", "checkpoint_every=2"];
    let config = tiny.config("run", &set);
    let want = run(&config, 2, false).expect("runs");
    let newest = config.stage.run_dir.join("checkpoints/step-000004");
    let names = files(&newest);
    for name in ["model.safetensors", "reference/model.safetensors", "optimizer.safetensors", "trainer.json"]
    {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    for name in &names {
        let file = newest.join(name);
        let bytes = fs::read(&file).expect("there");
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        for damaged in [None, Some(&[][..]), Some(&bytes[..bytes.len() / 2]), Some(&flipped[..])] {
            match damaged {
                None => fs::remove_file(&file).expect("removed"),
                Some(bytes) => fs::write(&file, bytes).expect("written"),
            }
            let error = in_full(&run(&config, 2, true).expect_err(name));
            // A damaged list accuses a file that is whole, or itself.
            let named = name == "SHA256SUMS" || error.contains(&file.display().to_string());
            let remedy = error.contains("remove `") && error.contains("goes on from step 2");
            assert!(named && remedy && error.contains("damaged"), "{name}: {error}");
        }
        fs::write(&file, &bytes).expect("written");
    }
    fs::remove_file(newest.join("model.safetensors")).expect("removed");
    run(&config, 2, true).expect_err("damaged");
    fs::remove_dir_all(&newest).expect("removed");
    assert_eq!(run(&config, 2, true).expect("goes on from the older one").digest, want.digest);
}

/// Pays the length of what was written, so that there is something to learn from in every group.
const LENGTH: &str =
    "reward=[{kind='external', command=['sh', '-c', 'while read -r line; do echo ${#line}; done']}]";

#[test]
fn numbers_that_are_not_finite_end_the_run_and_leave_checkpoints_whole() {
    let tiny = TinyRun::new();
    let gradient = "the gradient of `model.embed_tokens.weight` is not finite at update 2";
    for (optim, mini_batches, step, what) in [
        ("{lr=1e30}", 2, 1, gradient),
        ("{lr=1e30}", 1, 2, gradient),
        ("{lr=3e38, weight_decay=10}", 1, 1, "`model.embed_tokens.weight` is not finite at update 1"),
    ] {
        let set = [format!("optim={optim}"), format!("algorithm.mini_batches={mini_batches}")];
        let set = ["checkpoint_every=1", LENGTH, &set[0], &set[1]];
        let config = tiny.config(&format!("wild-{optim}-{step}"), &set);
        let error = in_full(&run(&config, 2, false).expect_err("not finite"));
        assert!(error.starts_with(&format!("step {step} can't be made")) && error.contains(what), "{error}");
        let checkpoints = fs::read_dir(config.stage.run_dir.join("checkpoints")).expect("there");
        let names: Vec<_> = checkpoints.map(|entry| entry.expect("read").path()).collect();
        assert_eq!(names.len(), step - 1);
        for checkpoint in names {
            checksums::check(&checkpoint, "trainer.json").expect("whole");
        }
    }
}
