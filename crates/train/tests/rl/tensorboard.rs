//! Event files of whole runs, read back.

use std::{collections::BTreeMap, fs, path::Path};

use crate::tiny_run::{TinyRun, run};

/// The scalars of a run's one event file: step and tag to value. A reader of records and protocol buffers of its own, which
/// knows no more than the format (it checks no sums).
fn scalars(run: &Path) -> BTreeMap<(u64, String), f32> {
    let mut files = fs::read_dir(run.join("tensorboard")).expect("a folder");
    let file = files.next().expect("a file").expect("a file").path();
    assert!(files.next().is_none(), "one file");
    let bytes = fs::read(file).expect("read");
    let mut found = BTreeMap::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        let event = fields(&rest[12..12 + length]);
        rest = &rest[12 + length + 4..];
        let step = event.iter().find(|(field, _)| *field == 2).map_or(0, |(_, step)| varint(&mut &step[..]));
        for (_, summary) in event.iter().filter(|(field, _)| *field == 5) {
            for (_, value) in fields(summary) {
                let value = fields(&value);
                let tag = String::from_utf8(value[0].1.clone()).expect("a tag");
                let number = f32::from_le_bytes(value[1].1[..].try_into().expect("four bytes"));
                assert_eq!(found.insert((step, tag), number), None, "every step once");
            }
        }
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a varint");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The fields of a message, with their bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => message.iter().position(|byte| byte & 0x80 == 0).expect("a varint") + 1,
            1 => 8,
            2 => varint(&mut message) as usize,
            _ => 4,
        };
        found.push((key >> 3, message[..length].to_vec()));
        message = &message[length..];
    }
    found
}

/// What the event file should hold.
fn numbers(run: &Path) -> BTreeMap<(u64, String), f32> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line");
        let step = line["step"].as_u64().expect("a step");
        for (key, value) in line.as_object().expect("an object").iter().filter(|(key, _)| *key != "step") {
            let inner = value.as_object().into_iter().flatten();
            let inner = inner.map(|(name, value)| (format!("{key}/{name}"), value));
            for (tag, value) in inner.chain([(key.clone(), value)]) {
                value.as_f64().map(|value| found.insert((step, tag), value as f32));
            }
        }
    }
    found
}

#[test]
fn event_files_say_what_the_metrics_say_also_when_steps_are_made_again() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &["tensorboard=true", "steps=3"]);
    let plain = tiny.config("plain", &["steps=3"]);
    assert_eq!(run(&config, 2, false).expect("runs").digest, run(&plain, 2, false).expect("runs").digest);
    assert!(!plain.stage.run_dir.join("tensorboard").exists());
    let first = scalars(&config.stage.run_dir);
    assert_eq!(first, numbers(&config.stage.run_dir));
    assert!(first.contains_key(&(0, "eval/accuracy".into())) && first.contains_key(&(3, "reward".into())));

    // As if killed after its third step: what comes after the checkpoint of the second is made again.
    fs::remove_dir_all(config.stage.run_dir.join("checkpoints/step-000003")).expect("removed");
    run(&config, 2, true).expect("goes on");
    assert_eq!(scalars(&config.stage.run_dir), numbers(&config.stage.run_dir));

    // No longer wanted: what there is stays true, and ends.
    fs::remove_dir_all(config.stage.run_dir.join("checkpoints/step-000003")).expect("removed");
    run(&tiny.config("run", &["steps=3"]), 2, true).expect("goes on");
    let last = scalars(&config.stage.run_dir).keys().map(|(step, _)| *step).max();
    assert_eq!(last, Some(2));
}
