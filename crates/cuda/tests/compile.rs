//! All kernels compile for the GPUs that they are for, and keep their values in registers.
//!
//! It needs a compiler (NVRTC or nvcc; `pip install nvidia-cuda-nvrtc`), and says "skipped" without one. No GPU is needed.

use koan_cuda::{Compiler, Cubins, Target, details};

/// The compiler; None, with a word, where there is none.
fn compiler() -> Option<Compiler> {
    Compiler::find(None).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

fn targets() -> [Target; 2] {
    ["sm_80", "sm_90a"].map(|name| name.parse().expect("a target"))
}

/// The count before ` what` in a line of the compiler's.
fn count(line: &str, what: &str) -> Option<u32> {
    line.split(what)
        .next()
        .filter(|before| before.len() < line.len())?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

#[test]
fn every_kernel_compiles_and_spills_nothing() {
    let Some(compiler) = compiler() else { return };
    for target in targets() {
        let mut kernels = 0;
        for (file, _, log) in details(&compiler, target).unwrap_or_else(|error| panic!("{error}")) {
            let mut kernel = "";
            for line in log.lines() {
                if let Some((_, name)) = line.split_once("Compiling entry function '") {
                    kernel = name.split('\'').next().unwrap_or_default();
                    kernels += 1;
                }
                for what in [" bytes spill stores", " bytes spill loads"] {
                    let spilled = count(line, what).unwrap_or(0);
                    assert_eq!(spilled, 0, "{target}: {kernel} of {file}: {}", line.trim());
                }
                if let Some(registers) = line.contains("Used ").then(|| count(line, " registers")).flatten() {
                    println!("{target} {file} {kernel}: {registers} registers; {}", line.trim());
                }
            }
            let warnings: Vec<_> = log.lines().filter(|line| line.contains("warning")).collect();
            assert!(warnings.is_empty(), "{target}: {file}: {warnings:?}");
        }
        assert!(kernels > 0, "the compiler says nothing of the kernels");
    }
}

#[test]
fn what_is_compiled_once_is_kept_and_what_is_damaged_is_compiled_again() {
    let Some(compiler) = compiler() else { return };
    let [target, _] = targets();
    let folder = tempfile::tempdir().expect("a folder");
    let get = || Cubins::by(&compiler, target, Some(folder.path())).expect("compiled");
    let first = get();
    let files = first.images.len();
    assert_eq!(first.compiled, files);
    assert!(first.images.iter().all(|(_, image)| image.starts_with(b"\x7fELF")), "cubins");
    let again = get();
    assert_eq!((again.compiled, &again.images), (0, &first.images));

    let damaged =
        std::fs::read_dir(folder.path()).expect("listed").next().expect("a file").expect("listed").path();
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[100] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let mended = get();
    assert_eq!((mended.compiled, &mended.images), (1, &first.images), "one and the same bits");
}
