//! Compiles the kernels for kinds of GPUs, for a release that ships them: a machine that runs it then needs no compiler.
//!
//! `cargo run --release -p koan-cuda --example compile -- FOLDER sm_80 sm_90a` writes FOLDER; a program finds it under the name
//! `cubins` beside itself, or by KOAN_CUBINS=FOLDER.

use std::{env, error::Error, fs, path::PathBuf};

use koan_cuda::{Compiler, Cubins, Target};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let folder = PathBuf::from(
        words.next().ok_or("usage: compile FOLDER TARGET..., such as: compile cubins sm_80 sm_90a")?,
    );
    let targets = words.map(|word| word.parse()).collect::<Result<Vec<Target>, _>>()?;
    let compiler = Compiler::find(None)?;
    let mut index = Vec::new();
    for target in targets {
        index.extend(Cubins::by(&compiler, target, None)?.ship(&folder)?);
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("index.txt"), index.join("\n") + "\n")?;
    println!("{} cubins by {compiler} in {}", index.len(), folder.display());
    Ok(())
}
