//! A completion and a reference may be anything: the verifier `math` ends with a verdict.
#![no_main]

use koan_reward::math::{Options, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (reference, completion) = input.split_once('\n').unwrap_or((input, input));
    let options = Options::default();
    judge(completion, reference, &options);
    judge(&format!("\\boxed{{{completion}}}"), reference, &options);
    judge(&format!("$\\boxed{{{completion}"), reference, &options);
});
