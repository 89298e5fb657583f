//! Learning what no program can check, in small: `cargo run --release -p koan-train --example preferences [DIR]`.

mod course;
mod world;

use std::{path::PathBuf, time::Instant};

use course::Course;
use koan_cpu::Cpu;

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "runs/preferences".into()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let cpu = Cpu::best(None).expect("a processor");
    let course = Course { dir: &dir, cpu: &cpu, threads: 2 };
    let start = Instant::now();
    let said = |what: &str| println!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    let sizes = world::Sizes { texts: 20_000, pairs: 2_000, held_out: 500, noise: 0.1 };
    let longer = world::write(&dir, &sizes);
    said(&format!("the longer reply is the better one of {:.1}% of held-out pairs", 100.0 * longer));
    course.base();
    said("a base model has read the text");
    for (name, loss, lr, epochs) in [
        ("dpo", "loss = 'dpo'", 1e-3, 1),
        ("dpo2", "loss = 'dpo'", 1e-3, 2),
        ("reward-model1", "loss = 'reward-model'\ncentering = 0.01", 2e-3, 3),
        ("reward-model2", "loss = 'reward-model'\ncentering = 0.01", 1e-3, 5),
        ("reward-model3", "loss = 'reward-model'\ncentering = 0.01", 2e-3, 5),
        ("reward-model4", "loss = 'reward-model'\ncentering = 0.01", 3e-3, 4),
    ] {
        let accuracy = course.prefer(name, loss, lr, epochs);
        said(&format!("{name}: {:.1}% of held-out pairs", 100.0 * accuracy));
    }
}
