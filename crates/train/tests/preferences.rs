//! What learning from preferences does: with one label in ten wrong, DPO and a reward model still find what was meant, and
//! reinforcement by that reward model makes replies that the rule behind the labels prefers.

#[path = "../examples/preferences/course.rs"]
mod course;
#[path = "../examples/preferences/world.rs"]
mod world;

use course::Course;
use koan_cpu::{Cpu, Isa};
use koan_train::comm::Ranks;

#[test]
fn what_was_meant_is_learned_from_labels_of_which_some_are_wrong() {
    let dir = tempfile::tempdir().expect("a folder");
    // The same course on every machine, nearly: products of bf16 operands (AMX) take another.
    let isa = if Isa::best() >= Isa::Avx512Bf16 { Isa::Avx512 } else { Isa::best() };
    let cpu = Cpu::new(isa, 2).expect("a processor");
    let course = Course { dir: dir.path(), cpu: &cpu, threads: 2, ranks: &Ranks::alone() };
    let longer = world::write(dir.path(), &world::FULL);
    assert!((0.4..0.6).contains(&longer), "length alone says little: {longer}");
    course.base();
    let (dpo, reward_model) = (course.dpo(), course.reward_model());
    assert!(dpo >= 0.85, "DPO is right on {dpo}");
    assert!(reward_model >= 0.85, "the reward model is right on {reward_model}");
    let points = course.reinforce("rl", 20, 0.0);
    let (first, last) = (points[0], points[points.len() - 1]);
    assert!(last.step == 20 && last.tokens < 2.0 * first.tokens, "not yet too long: {last:?}");
    assert!(last.reward > first.reward + 1.0, "{first:?} {last:?}");
    assert!(last.preferred > first.preferred + 0.3 && last.liked > first.liked + 1.0, "{first:?} {last:?}");
}
