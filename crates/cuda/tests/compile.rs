//! All kernels compile for the GPUs that they are for, and keep their values in registers.
//!
//! It needs a compiler (NVRTC or nvcc; `pip install nvidia-cuda-nvrtc`), and says "skipped" without one. No GPU is needed. With
//! `nvdisasm` in the PATH the instructions are looked at, too.

use std::process::Command;

use koan_cuda::{Compiler, Details, Target, details};

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
        let all = details(&compiler, target).unwrap_or_else(|error| panic!("{error}"));
        for Details { file, image, log } in all {
            assert!(image.starts_with(b"\x7fELF"), "{target}: {file} is no cubin");
            if let Some(text) = instructions(&image) {
                check_instructions(&target.to_string(), file, &text);
            }
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
            // A loop of a template may have no turns in some instance (#128-D); the remark is on how to silence warnings.
            let is_told = |line: &&str| {
                line.contains("warning") && !line.contains("#128-D") && !line.contains("Remark:")
            };
            let warnings: Vec<_> = log.lines().filter(is_told).collect();
            assert!(warnings.is_empty(), "{target}: {file}: {warnings:?}");
        }
        assert!(kernels > 0, "the compiler says nothing of the kernels");
    }
}

/// What nvdisasm makes of a cubin: the instructions that the GPU runs. None where it is not installed.
fn instructions(image: &[u8]) -> Option<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), image).expect("written");
    let output = Command::new("nvdisasm").arg(file.path()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// That the instructions of a file are those that it is written for, and that none keeps values in local memory.
fn check_instructions(target: &str, file: &str, text: &str) {
    for spill in ["LDL", "STL"] {
        assert!(!text.contains(&format!(" {spill}")), "{target}: {file} has {spill}: values in local memory");
    }
    let tensor_cores = match (file, target) {
        ("hopper.cu", "sm_90a") => Some("HGMMA."),
        ("hopper.cu", _) => None,
        _ if file.starts_with("product") || file.starts_with("attention") => Some("HMMA."),
        _ => None,
    };
    let loads = match file {
        "adamw.cu" | "operand.cu" | "rms_norm.cu" | "swiglu.cu" => Some(".128"),
        _ => None,
    };
    for wanted in tensor_cores.into_iter().chain(loads) {
        assert!(text.contains(wanted), "{target}: {file} has no {wanted}");
    }
}
