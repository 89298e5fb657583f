//! The kernels compiled for the CPU, object by object, and kept: in `koan/emulator` of the user's cache.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use libloading::Library;
use sha2::{Digest, Sha256};

use crate::compile::{Source, unit};

const EMULATOR_H: &str = include_str!("../../emulator/emulator.h");
/// The emulator itself: more files beside the kernels'.
const OWN: [(&str, &str); 3] = [
    ("emulator.cpp", include_str!("../../emulator/emulator.cpp")),
    ("hopper.cpp", include_str!("../../emulator/hopper.cpp")),
    ("multiply_add.cpp", include_str!("../../emulator/multiply_add.cpp")),
];
/// The compilers that are tried, in order.
const COMPILERS: [&str; 2] = ["g++", "c++"];
/// How all is compiled. No fused multiply-add but where a kernel writes one; no registers' worth of stack below the stack pointer,
/// where fibers put their addresses.
const FLAGS: [&str; 6] = ["-O2", "-std=c++20", "-ffp-contract=off", "-fPIC", "-DKOAN_EMULATE", "-w"];

/// Why there is no library.
#[derive(Debug)]
pub(super) enum Failure {
    NoCompiler,
    /// In words.
    Other(String),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

/// Has kernels check their addresses' alignment, indices, shifts, divisions and casts, if it is set in the environment: compiling
/// takes four times as long then.
const CHECKS: &str = "KOAN_EMULATOR_CHECKS";
const CHECKS_FLAG: &str = "-fsanitize=alignment,bounds,shift,integer-divide-by-zero,float-cast-overflow";

/// A file to compile.
struct Unit {
    name: String,
    text: String,
}

/// The library of `sources`, compiled or from the cache. It stays loaded.
///
/// # Errors
/// If there is no compiler, or it refuses a source: with its words.
pub(super) fn library(sources: &[Source]) -> Result<&'static Library, Failure> {
    let compiler = Compiler::find().ok_or(Failure::NoCompiler)?;
    let folder = folder()?;
    let objects = compiler.objects(&units(sources), &folder)?;
    let path = folder
        .join(format!("{}.so", hash(objects.iter().map(|object| object.as_os_str().as_encoded_bytes()))));
    if !path.exists() {
        compiler.write(&path, |command| {
            command.arg("-shared").arg("-Wl,-Bsymbolic").args(&objects);
        })?;
    }
    // SAFETY: the library has no constructors but those of C++ itself.
    let library = unsafe { Library::new(&path) }.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Box::leak(Box::new(library)))
}

fn units(sources: &[Source]) -> Vec<Unit> {
    let own = OWN.map(|(name, text)| Unit { name: name.into(), text: format!("#line 1 \"{name}\"\n{text}") });
    let kernels = sources.iter().map(|source| Unit { name: source.name.into(), text: unit(source) });
    own.into_iter().chain(kernels).collect()
}

struct Compiler {
    command: &'static str,
    version: Vec<u8>,
    flags: Vec<&'static str>,
}

impl Compiler {
    fn find() -> Option<Self> {
        COMPILERS.into_iter().find_map(|command| {
            let output = Command::new(command).arg("--version").stderr(Stdio::null()).output().ok()?;
            output.status.success().then(|| Self { command, version: output.stdout, flags: flags() })
        })
    }

    /// The object files of `units`, those that are not in `folder` yet compiled by a thread for each core.
    fn objects(&self, units: &[Unit], folder: &Path) -> Result<Vec<PathBuf>, String> {
        let flags = self.flags.join(" ");
        let key = |unit: &Unit| {
            let parts = [&self.version, flags.as_bytes(), EMULATOR_H.as_bytes(), unit.text.as_bytes()];
            folder.join(format!("{}.o", hash(parts.into_iter())))
        };
        let objects: Vec<PathBuf> = units.iter().map(key).collect();
        let missing: Vec<_> = units.iter().zip(&objects).filter(|(_, object)| !object.exists()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((unit, object)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.compile(unit, object)?;
            }
            Ok::<_, String>(())
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
        })?;
        Ok(objects)
    }

    fn compile(&self, unit: &Unit, object: &Path) -> Result<(), String> {
        let sources = tempfile_folder()?;
        let result = (|| {
            let text = sources.join(format!("{}.cpp", unit.name));
            for (path, text) in [(&sources.join("emulator.h"), EMULATOR_H), (&text, unit.text.as_str())] {
                fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            self.write(object, |command| {
                command.args(&self.flags).arg("-I").arg(&sources).arg("-c").arg(&text);
            })
        })();
        let _ = fs::remove_dir_all(&sources); // temporary: the system clears it too
        result
    }

    /// Has the compiler write a file, which has its name only once it is whole.
    fn write(&self, path: &Path, arguments: impl FnOnce(&mut Command)) -> Result<(), String> {
        let unfinished = path.with_extension(format!("{}.tmp", unique()));
        let mut command = Command::new(self.command);
        arguments(&mut command);
        let output = command
            .arg("-o")
            .arg(&unfinished)
            .output()
            .map_err(|error| format!("{}: {error}", self.command))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let first: Vec<&str> = words.lines().filter(|line| line.contains("error")).take(8).collect();
            return Err(format!("{} refuses a kernel:\n{}", self.command, first.join("\n")));
        }
        fs::rename(&unfinished, path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The flags, and those of the vectors that this machine has.
fn flags() -> Vec<&'static str> {
    let mut flags = FLAGS.to_vec();
    if env::var_os(CHECKS).is_some() {
        flags.push(CHECKS_FLAG);
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        flags.push("-mno-red-zone");
        let v3 = has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("f16c")
            && has!("fma")
            && has!("lzcnt")
            && has!("movbe");
        let v4 =
            has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        if v3 {
            flags.push(if v4 { "-march=x86-64-v4" } else { "-march=x86-64-v3" });
        }
    }
    flags
}

/// The folder of what was compiled: the user's cache, or the folder of temporary files where there is none.
fn folder() -> Result<PathBuf, String> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let in_cache = cache.map(|cache| cache.join("koan/emulator"));
    if let Some(folder) = in_cache.filter(|folder| fs::create_dir_all(folder).is_ok() && is_writable(folder))
    {
        return Ok(folder);
    }
    tempfile_folder()
}

fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!("{}.tmp", unique()));
    fs::write(&probe, []).and_then(|()| fs::remove_file(&probe)).is_ok()
}

/// A new folder for temporary files, the user's alone.
fn tempfile_folder() -> Result<PathBuf, String> {
    use std::os::unix::fs::DirBuilderExt;
    let path = env::temp_dir().join(format!("koan-emulator-{}", unique()));
    let made: io::Result<()> = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map(|()| path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}

/// A name that nothing else has: of this process, and counted.
fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// SHA-256, in hex, of parts and of where each ends.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
