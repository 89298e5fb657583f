//! Cubins: the kernels compiled for a kind of GPU. They are taken from those that a release ships, else from the user's cache,
//! else compiled.

use std::{
    env, fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    str::FromStr,
    thread,
};

use sha2::{Digest, Sha256};

use crate::{
    compile::{SOURCES, Source, unit},
    compiler::Compiler,
    error::CudaError,
};

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// A kind of GPU that kernels are compiled for, such as `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    number: u32,
}

impl Target {
    /// That of a GPU by its compute capability, `[major, minor]`.
    ///
    /// # Errors
    /// If the kernels need later GPUs.
    pub fn of([major, minor]: [u32; 2]) -> Result<Self, CudaError> {
        if major < 8 {
            return Err(CudaError::OldCard { major, minor });
        }
        Ok(Self { number: major * 10 + minor })
    }

    /// Its number, such as 90: the macro KOAN_SM of the kernels.
    pub fn number(self) -> u32 {
        self.number
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The instructions that only Hopper has are those of its `a`.
        write!(f, "sm_{}{}", self.number, if self.number == 90 { "a" } else { "" })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("sm_").map(|rest| rest.strip_suffix('a').unwrap_or(rest));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        number
            .and_then(|number| Self::of([number / 10, number % 10]).ok())
            .ok_or_else(|| format!("{text} is no kind of GPU that the kernels run on; sm_80 and sm_90a are"))
    }
}

/// The kernels, compiled for a target.
#[derive(Clone, Debug)]
pub struct Cubins {
    /// What they were compiled for.
    pub target: Target,
    /// What compiled them, such as `NVRTC 13.0`.
    pub compiler: String,
    /// How many were compiled now; the others were there.
    pub compiled: usize,
    /// The name of each file of kernels, and its cubin.
    pub images: Vec<(&'static str, Vec<u8>)>,
}

impl Cubins {
    /// The kernels for `target`, which a driver of CUDA `driver` is to run: those shipped with the program or in the folder that
    /// KOAN_CUBINS names, else by the first compiler that is found, from the user's cache where it has compiled them before.
    ///
    /// # Errors
    /// If there is no compiler, or it refuses the kernels.
    pub fn get(target: Target, driver: Option<[u32; 2]>) -> Result<Self, CudaError> {
        // What is compiled for the first of a generation runs on all of it.
        let oldest = Target { number: target.number / 10 * 10 };
        let shipped = |folder: PathBuf| {
            [target, oldest].into_iter().find_map(|target| Self::shipped(&folder, target, driver))
        };
        if let Some(shipped) = shipped_folders().find_map(shipped) {
            return Ok(shipped);
        }
        Self::by(&Compiler::find(driver)?, target, cache_folder().as_deref())
    }

    /// The kernels for `target` by `compiler`; what is in the folder `cache` is not compiled again.
    ///
    /// # Errors
    /// If the compiler refuses the kernels.
    pub fn by(compiler: &Compiler, target: Target, cache: Option<&Path>) -> Result<Self, CudaError> {
        Self::kept(target, compiler.name(), cache, |source, text| {
            compiler.compile(source.name, text, target, false).map(|(image, _)| image)
        })
    }

    /// What `compile` makes of each source's text, and what the folder `cache` has of `compiler`.
    fn kept(
        target: Target,
        compiler: &str,
        cache: Option<&Path>,
        compile: impl Fn(&Source, &str) -> Result<Vec<u8>, CudaError> + Sync,
    ) -> Result<Self, CudaError> {
        let file = |text: &str| Some(cache?.join(file_name(text, target, compiler)));
        let image = |source: &Source| {
            let text = unit(source);
            let file = file(&text);
            if let Some((_, image)) = file.as_deref().and_then(read_entry) {
                return Ok((image, 0));
            }
            let image = compile(source, &text)?;
            // The cache saves seconds; without it everything works.
            let _ = file.map(|file| write_entry(&file, compiler, &image));
            Ok((image, 1))
        };
        let is_missing = |source: &&Source| file(&unit(source)).is_some_and(|file| !file.is_file());
        let missing = SOURCES.iter().filter(is_missing).count();
        if let (Some(folder), 1..) = (cache, missing) {
            // The first start takes some seconds longer: who waits should know why.
            let folder = folder.display();
            let _ = writeln!(
                io::stderr(),
                "compiling {missing} files of kernels for {target} by {compiler}; they are kept in {folder}"
            );
        }
        // Most of the time is that of the largest file, with the others beside it.
        let image = &image;
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = SOURCES.iter().map(|source| scope.spawn(move || image(source))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a compile that does not panic")).collect()
        });
        let mut cubins = Self { target, compiler: compiler.to_owned(), compiled: 0, images: Vec::new() };
        for (source, made) in SOURCES.iter().zip(made) {
            let (image, compiled) = made?;
            cubins.compiled += compiled;
            cubins.images.push((source.name, image));
        }
        Ok(cubins)
    }

    /// Those that `folder` ships, if it has all of them, as this program has their sources, and the driver runs them.
    fn shipped(folder: &Path, target: Target, driver: Option<[u32; 2]>) -> Option<Self> {
        let mut cubins = Self { target, compiler: String::new(), compiled: 0, images: Vec::new() };
        for source in SOURCES {
            let (compiler, image) = read_entry(&folder.join(file_name(&unit(source), target, "")))?;
            if driver.is_some_and(|driver| major_of(&compiler).is_none_or(|major| major > driver[0])) {
                return None;
            }
            cubins.compiler = compiler;
            cubins.images.push((source.name, image));
        }
        Some(cubins)
    }

    /// Writes the cubins to `folder`, for a program that ships them. Gives a line about each, for an index.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn ship(&self, folder: &Path) -> Result<Vec<String>, CudaError> {
        let mut lines = Vec::new();
        for (source, (_, image)) in SOURCES.iter().zip(&self.images) {
            let name = file_name(&unit(source), self.target, "");
            write_entry(&folder.join(&name), &self.compiler, image)
                .map_err(CudaError::file(folder.join(&name)))?;
            lines.push(format!("{name} {} {} {}", self.target, source.name, self.compiler));
        }
        Ok(lines)
    }
}

/// A file of kernels, compiled, and what its compiler says.
#[derive(Clone, Debug)]
pub struct Details {
    /// The file.
    pub file: &'static str,
    /// Its cubin.
    pub image: Vec<u8>,
    /// What the compiler says of each kernel.
    pub log: String,
}

/// What a compiler says of each kernel of a target, for tests: the registers that it uses, and the bytes it spills.
///
/// # Errors
/// If the compiler refuses the kernels.
pub fn details(compiler: &Compiler, target: Target) -> Result<Vec<Details>, CudaError> {
    let compile = |source: &'static Source| {
        let (image, log) = compiler.compile(source.name, &unit(source), target, true)?;
        Ok(Details { file: source.name, image, log })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = SOURCES.iter().map(|source| scope.spawn(move || compile(source))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a compile that does not panic")).collect()
    })
}

/// The name of a cubin's file: by the text of its source, what it is for and what compiled it, or by any compiler.
fn file_name(text: &str, target: Target, compiler: &str) -> String {
    let hash = Sha256::new().chain_update(format!("{compiler}\n{target}\n{text}")).finalize();
    hash.iter().take(16).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")) + ".cubin"
}

/// Folders whose cubins come with the program: the one that KOAN_CUBINS names, else those beside the program.
fn shipped_folders() -> impl Iterator<Item = PathBuf> {
    let named = env::var_os("KOAN_CUBINS").map(PathBuf::from);
    let program = env::current_exe().ok().filter(|_| named.is_none());
    let folder = program.as_deref().and_then(Path::parent).map(Path::to_owned);
    let beside = folder.map(|folder| [folder.join("cubins"), folder.join("../share/koan/cubins")]);
    named.into_iter().chain(beside.into_iter().flatten())
}

/// The folder of the user's cache, where there is one.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("koan/cubins"))
}

/// The first number in a compiler's name and version.
fn major_of(compiler: &str) -> Option<u32> {
    compiler.split_whitespace().nth(1)?.split('.').next()?.parse().ok()
}

/// A file of a cubin: the cubin, the name of its compiler, the length of that name in 4 bytes, and the hash of all before.
fn read_entry(file: &Path) -> Option<(String, Vec<u8>)> {
    let mut bytes = fs::read(file).ok()?;
    let hash = bytes.split_off(bytes.len().checked_sub(HASH)?);
    if Sha256::digest(&bytes)[..] != hash[..] {
        return None;
    }
    let length = bytes.split_off(bytes.len().checked_sub(4)?);
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let compiler = bytes.split_off(bytes.len().checked_sub(length)?);
    Some((String::from_utf8(compiler).ok()?, bytes))
}

/// Writes a file of a cubin, whole or not at all.
fn write_entry(file: &Path, compiler: &str, cubin: &[u8]) -> io::Result<()> {
    let mut bytes = cubin.to_vec();
    bytes.extend_from_slice(compiler.as_bytes());
    bytes.extend_from_slice(&(compiler.len() as u32).to_le_bytes());
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    let folder = file.parent().expect("a file in a folder");
    fs::create_dir_all(folder)?;
    let name = file.file_name().expect("a file with a name").to_string_lossy();
    let unfinished = folder.join(format!(".{name}-{}", process::id()));
    fs::write(&unfinished, bytes)?;
    fs::rename(&unfinished, file).inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_by_their_gpus() {
        let name = |capability| Target::of(capability).map(|target| target.to_string());
        assert_eq!(name([8, 0]).expect("Ampere"), "sm_80");
        assert_eq!(name([8, 9]).expect("Ada"), "sm_89");
        assert_eq!(name([9, 0]).expect("Hopper"), "sm_90a");
        assert_eq!(name([12, 0]).expect("Blackwell"), "sm_120");
        let error = name([7, 5]).expect_err("Turing").to_string();
        assert_eq!(error, "the GPU's compute capability is 7.5; the kernels need 8.0 (Ampere) or later");
        for text in ["sm_80", "sm_90a", "sm_120"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(text.to_owned()));
        }
        assert!("sm_75".parse::<Target>().is_err() && "compute_90".parse::<Target>().is_err());
    }

    #[test]
    fn a_damaged_file_is_no_cubin() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("inside/a.cubin");
        assert_eq!(read_entry(&file), None);
        write_entry(&file, "NVRTC 13.0", b"a cubin").expect("written");
        assert_eq!(read_entry(&file), Some(("NVRTC 13.0".to_owned(), b"a cubin".to_vec())));
        let whole = fs::read(&file).expect("read");
        for n in 0..whole.len() {
            fs::write(&file, &whole[..n]).expect("written");
            assert_eq!(read_entry(&file), None, "cut to {n} bytes");
            let mut changed = whole.clone();
            changed[n] ^= 1;
            fs::write(&file, changed).expect("written");
            assert_eq!(read_entry(&file), None, "byte {n} is another");
        }
        assert_eq!(
            fs::read_dir(file.parent().expect("a folder")).expect("listed").count(),
            1,
            "nothing is left"
        );
    }

    #[test]
    fn what_is_compiled_once_is_kept_and_what_is_damaged_is_compiled_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::of([9, 0]).expect("known");
        let get = |compiler: &str| {
            let compile = |_: &Source, text: &str| Ok(text.as_bytes().to_vec());
            Cubins::kept(target, compiler, Some(folder.path()), compile).expect("compiled")
        };
        let first = get("NVRTC 13.0");
        assert_eq!(first.compiled, SOURCES.len());
        let again = get("NVRTC 13.0");
        assert_eq!((again.compiled, &again.images), (0, &first.images));

        let damaged =
            fs::read_dir(folder.path()).expect("listed").next().expect("a file").expect("listed").path();
        let mut bytes = fs::read(&damaged).expect("read");
        bytes[100] ^= 1;
        fs::write(&damaged, bytes).expect("written");
        let mended = get("NVRTC 13.0");
        assert_eq!((mended.compiled, &mended.images), (1, &first.images), "one and the same bits");
        assert_eq!(get("NVRTC 13.1").compiled, SOURCES.len(), "another compiler may give other bits");
    }

    #[test]
    fn shipped_cubins_are_all_there_and_the_driver_runs_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let [hopper, ampere] = [[9, 0], [8, 0]].map(|capability| Target::of(capability).expect("known"));
        let images = SOURCES.iter().map(|source| (source.name, source.name.as_bytes().to_vec())).collect();
        let cubins = Cubins { target: hopper, compiler: "NVRTC 13.0".to_owned(), compiled: 0, images };
        let lines = cubins.ship(folder.path()).expect("written");
        assert_eq!(lines.len(), SOURCES.len());

        let found = Cubins::shipped(folder.path(), hopper, Some([13, 1])).expect("there");
        assert_eq!((found.compiler, found.images), (cubins.compiler, cubins.images));
        assert!(Cubins::shipped(folder.path(), ampere, Some([13, 0])).is_none(), "for another GPU");
        assert!(
            Cubins::shipped(folder.path(), hopper, Some([12, 9])).is_none(),
            "of a newer CUDA than the driver"
        );
        let first = lines[0].split(' ').next().expect("a name");
        fs::remove_file(folder.path().join(first)).expect("removed");
        assert!(Cubins::shipped(folder.path(), hopper, Some([13, 0])).is_none(), "one is missing");
    }

    #[test]
    fn a_name_changes_with_the_text_the_target_and_the_compiler() {
        let [hopper, ampere] = [[9, 0], [8, 0]].map(|capability| Target::of(capability).expect("known"));
        let names = [
            file_name("a", hopper, "NVRTC 13.0"),
            file_name("b", hopper, "NVRTC 13.0"),
            file_name("a", ampere, "NVRTC 13.0"),
            file_name("a", hopper, "NVRTC 13.1"),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(names[..i].iter().all(|other| other != name));
        }
    }
}
