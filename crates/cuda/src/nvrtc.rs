//! NVRTC, the CUDA compiler that is a library: loaded when it is needed, from wherever it is.

use std::{
    env,
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs, iter,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::error::CudaError;

type Program = *mut c_void;
type Answer = c_int;

/// The library, loaded. It stays so until the process ends: it keeps threads and state of its own.
#[derive(Debug)]
pub(crate) struct Nvrtc {
    library: Library,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The CUDA it is of, `[major, minor]`.
    pub(crate) cuda: [u32; 2],
}

impl Nvrtc {
    /// Loads the library at `path`, or of that name where the loader looks.
    pub(crate) fn load(path: &Path) -> Result<Self, CudaError> {
        // It looks for its built-in functions by name only, so that those beside it must be there already.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            for builtins in libraries(folder, "libnvrtc-builtins.so") {
                // SAFETY: NVIDIA's library, whose initialisers any program may run.
                if let Ok(library) = unsafe { Library::open(Some(builtins), RTLD_NOW | RTLD_GLOBAL) } {
                    std::mem::forget(library);
                }
            }
        }
        let failed = |error: libloading::Error| CudaError::Compiler(format!("{}: {error}", path.display()));
        // SAFETY: as above.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
        let mut nvrtc = Self { library, path: path.to_owned(), cuda: [0, 0] };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the function is nvrtcVersion(int*, int*).
        let answer = unsafe {
            let version: Symbol<unsafe extern "C" fn(*mut c_int, *mut c_int) -> Answer> =
                nvrtc.function("nvrtcVersion")?;
            version(&raw mut major, &raw mut minor)
        };
        nvrtc.check("nvrtcVersion", answer)?;
        nvrtc.cuda = [major as u32, minor as u32];
        Ok(nvrtc)
    }

    /// Compiles `text`, which messages call `name`, to a cubin. Gives it with what the compiler says.
    ///
    /// # Errors
    /// What the compiler says, where it refuses the text.
    pub(crate) fn compile(
        &self,
        name: &str,
        text: &str,
        options: &[String],
    ) -> Result<Result<(Vec<u8>, String), String>, CudaError> {
        let c_string = |text: &str| CString::new(text).expect("a text without zeros");
        let (name, text) = (c_string(name), c_string(text));
        let options: Vec<CString> = options.iter().map(|option| c_string(option)).collect();
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();

        let mut program: Program = ptr::null_mut();
        // SAFETY: the signatures are those of nvrtc.h; strings, options and sizes outlive the calls, and the buffers have the
        // sizes that the library gives.
        unsafe {
            type Create = unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> Answer;
            let create: Symbol<Create> = self.function("nvrtcCreateProgram")?;
            let answer = create(&raw mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null());
            self.check("nvrtcCreateProgram", answer)?;
            let program = Owned { program, nvrtc: self };

            let compile: Symbol<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Answer> =
                self.function("nvrtcCompileProgram")?;
            let compiled = compile(program.program, options.len() as c_int, options.as_ptr());
            let log = self.bytes("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program.program)?;
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            if compiled != 0 {
                let log = if log.is_empty() { self.words(compiled) } else { log };
                return Ok(Err(log));
            }
            let cubin = self.bytes("nvrtcGetCUBINSize", "nvrtcGetCUBIN", program.program)?;
            Ok(Ok((cubin, log)))
        }
    }

    /// What two functions, of its size and of its bytes, say of a program.
    ///
    /// # Safety
    /// The functions have these signatures, and the program was created.
    unsafe fn bytes(&self, size: &str, get: &str, program: Program) -> Result<Vec<u8>, CudaError> {
        let mut n = 0_usize;
        // SAFETY: by the caller.
        unsafe {
            let of: Symbol<unsafe extern "C" fn(Program, *mut usize) -> Answer> = self.function(size)?;
            self.check(size, of(program, &raw mut n))?;
            let mut bytes = vec![0; n];
            let fill: Symbol<unsafe extern "C" fn(Program, *mut u8) -> Answer> = self.function(get)?;
            self.check(get, fill(program, bytes.as_mut_ptr()))?;
            Ok(bytes)
        }
    }

    /// A function of the library.
    ///
    /// # Safety
    /// It has the type `F`.
    unsafe fn function<F>(&self, name: &str) -> Result<Symbol<F>, CudaError> {
        // SAFETY: by the caller.
        unsafe { self.library.get(name) }
            .map_err(|error| CudaError::Compiler(format!("{} lacks {name}: {error}", self.path.display())))
    }

    fn check(&self, what: &str, answer: Answer) -> Result<(), CudaError> {
        match answer {
            0 => Ok(()),
            _ => {
                Err(CudaError::Compiler(format!("{what} of {}: {}", self.path.display(), self.words(answer))))
            }
        }
    }

    /// The library's name for an error.
    fn words(&self, answer: Answer) -> String {
        // SAFETY: the function gives a string that lives as long as the library.
        unsafe {
            let Ok(words): Result<Symbol<unsafe extern "C" fn(Answer) -> *const c_char>, _> =
                self.function("nvrtcGetErrorString")
            else {
                return format!("error {answer}");
            };
            CStr::from_ptr(words(answer)).to_string_lossy().into_owned()
        }
    }
}

/// A program, destroyed when dropped.
struct Owned<'a> {
    program: Program,
    nvrtc: &'a Nvrtc,
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created, and is destroyed once.
        unsafe {
            let destroy: Result<Symbol<unsafe extern "C" fn(*mut Program) -> Answer>, _> =
                self.nvrtc.function("nvrtcDestroyProgram");
            if let Ok(destroy) = destroy {
                destroy(&raw mut self.program);
            }
        }
    }
}

/// Where NVRTC may be, the likeliest first: what KOAN_NVRTC names alone; else where the loader looks, in toolkits, and in the
/// packages of Python that bring it.
pub(crate) fn places() -> Box<dyn Iterator<Item = PathBuf>> {
    if let Some(named) = env::var_os("KOAN_NVRTC").map(PathBuf::from) {
        let found = if named.is_dir() { libraries(&named, "libnvrtc.so") } else { vec![named] };
        return Box::new(found.into_iter());
    }
    let loader = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from).into_iter();
    let toolkits = toolkits().into_iter().flat_map(|root| {
        let inside = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
        inside.map(|lib| root.join(lib)).into_iter().flat_map(|lib| libraries(&lib, "libnvrtc.so"))
    });
    let wheels = packages().flat_map(|folder| {
        let inside = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib", "nvidia/cu12/lib"];
        inside.map(|lib| folder.join(lib)).into_iter().flat_map(|lib| libraries(&lib, "libnvrtc.so"))
    });
    Box::new(loader.chain(toolkits).chain(wheels))
}

/// Roots of CUDA toolkits, the likeliest first.
pub(crate) fn toolkits() -> Vec<PathBuf> {
    let named =
        ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let mut installed = entries(Path::new("/usr/local"), |name| name.starts_with("cuda"));
    installed.sort_by_key(|path| std::cmp::Reverse(path.clone()));
    named.chain(installed).collect()
}

/// Folders that hold Python's packages. Python itself is asked last, when nothing was found before.
fn packages() -> impl Iterator<Item = PathBuf> {
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local"));
    let prefixes = environments.chain(home).chain(["/usr/local".into(), "/usr".into()]);
    let of_prefixes = prefixes.flat_map(|prefix| {
        let pythons = entries(&prefix.join("lib"), |name| name.starts_with("python3"));
        pythons.into_iter().flat_map(|python| [python.join("site-packages"), python.join("dist-packages")])
    });
    let named = env::var_os("PYTHONPATH").map(|paths| env::split_paths(&paths).collect::<Vec<_>>());
    named.unwrap_or_default().into_iter().chain(of_prefixes).chain(iter::once_with(asked).flatten())
}

/// What `python3` says of its packages' folders.
fn asked() -> Vec<PathBuf> {
    let script = "import sys; print('\\n'.join(sys.path))";
    let python =
        Command::new("python3").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = python.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}

/// The library `name` in `folder`, by its shortest versioned name first: `libnvrtc.so.13` before `libnvrtc.so.13.0.88`.
fn libraries(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = entries(folder, |file| {
        file == name || file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
    });
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    found
}

/// What is in `folder` under a name like that.
fn entries(folder: &Path, like: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let found = found.filter_map(Result::ok).filter(|entry| entry.file_name().to_str().is_some_and(&like));
    found.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_libraries_are_those_of_the_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [
            "libnvrtc.so.13.0",
            "libnvrtc.so.13",
            "libnvrtc.alt.so.13",
            "libnvrtc-builtins.so.13.0",
            "libnvrtc.so",
        ] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        let names = |of| -> Vec<String> {
            let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            libraries(folder.path(), of).iter().map(name).collect()
        };
        assert_eq!(names("libnvrtc.so"), ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.13.0"]);
        assert_eq!(names("libnvrtc-builtins.so"), ["libnvrtc-builtins.so.13.0"]);
        assert!(libraries(Path::new("/nowhere"), "libnvrtc.so").is_empty());
    }

    #[test]
    fn what_is_no_library_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Nvrtc::load(file.path()).expect_err("an empty file");
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
