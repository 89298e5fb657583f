//! `koan doctor` on machines that lack something.

use std::process::Command;

/// What it says where no GPU is to be seen and no compiler of kernels to be found; with `path` as PATH.
fn doctor(path: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
    for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("KOAN_NVRTC", "/nowhere/libnvrtc.so")
        .env("HOME", home.path());
    let output = command.env("PATH", path).arg("doctor").output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The line about `what`.
fn line<'a>(said: &'a str, what: &str) -> &'a str {
    said.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("nothing of {what}: {said}"))
}

#[test]
fn without_a_gpu_it_says_what_computes_and_what_to_install() {
    let said = doctor(&std::env::var("PATH").unwrap_or_default());
    assert!(said.starts_with("koan "), "{said}");
    assert!(line(&said, "CPU").contains("computes with") && line(&said, "CPU").contains("thread"), "{said}");
    assert!(line(&said, "memory").contains("GiB free"), "{said}");
    assert!(line(&said, "GPU ").ends_with("none; computes on the CPU"), "{said}");
    let remedy = line(&said, "GPU:");
    assert!(
        remedy.contains("install NVIDIA's driver") || remedy.contains("CUDA_VISIBLE_DEVICES"),
        "{remedy}"
    );
    line(&said, "sandbox");
}

#[test]
fn what_programs_are_missing_is_said() {
    let said = doctor("/nowhere");
    assert!(line(&said, "g++").contains("none"), "{said}");
    assert!(line(&said, "compiler").contains("none (only a GPU"), "{said}");
    assert!(
        line(&said, "sandbox ").contains("refuse to") && line(&said, "sandbox:").contains("Python"),
        "{said}"
    );
}

#[test]
fn a_gpu_that_is_asked_for_and_not_there_is_an_error_and_auto_takes_the_cpu() {
    let folder = tempfile::tempdir().expect("a folder");
    let koan = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.env("CUDA_VISIBLE_DEVICES", "").current_dir(folder.path()).args(words.split_whitespace());
        command.output().expect("started")
    };
    assert!(koan("model init --tiny --out model").status.success());
    let refused = koan("generate --model model --prompt 1+1 --max-new-tokens 2 --device cuda:0");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("NVIDIA") && !said.contains("panicked"), "{said}");
    let words = "generate --model model --prompt 1+1 --max-new-tokens 2 --seed 1 --device";
    let [auto, cpu] = ["auto", "cpu"].map(|device| koan(&format!("{words} {device}")));
    assert!(auto.status.success(), "{}", String::from_utf8_lossy(&auto.stderr));
    assert_eq!(auto.stdout, cpu.stdout);
}
