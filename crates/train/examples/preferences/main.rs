//! Learning what no program can check, in small. A rule stands in for people whose labels are sometimes wrong, so that what is
//! learned can be held against what was meant:
//!
//! ```sh
//! cargo run --release -p koan-train --example preferences
//! ```

mod course;
mod world;

use std::{path::PathBuf, time::Instant};

use course::{Course, REWARD_MODEL};
use koan_cpu::Cpu;
use koan_train::comm::Ranks;

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "runs/preferences".into()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let cpu = Cpu::best(None).expect("a processor");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let course = Course { dir: &dir, cpu: &cpu, threads, ranks: &Ranks::alone() };
    let start = Instant::now();
    let said = |what: &str| println!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    let longer = world::write(&dir, &world::FULL);
    said(&format!("held-out pairs whose longer reply is the better one: {:.1}%", 100.0 * longer));
    course.base();
    said("a base model has read the text");
    let right = course.dpo();
    said(&format!("DPO: {:.1}% of held-out pairs right", 100.0 * right));
    let right = course.reward_model();
    said(&format!("a reward model: {:.1}%", 100.0 * right));
    for (name, steps, kl) in [("short", 20, 0.0), ("long", 100, 0.0), ("held", 100, 0.1)] {
        println!(
            "\n{name}: {steps} steps by {REWARD_MODEL}, kl = {kl}\nstep   reward  liked  preferred  tokens"
        );
        for p in course.reinforce(name, steps, kl) {
            if p.step % 10 == 1 || p.step == steps {
                let preferred = 100.0 * p.preferred;
                println!("{:4} {:8.2} {:6.2} {preferred:9.1}% {:7.1}", p.step, p.reward, p.liked, p.tokens);
            }
        }
        said("done");
    }
}
