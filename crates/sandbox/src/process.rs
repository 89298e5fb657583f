//! The host's side of a sandbox: starting it, giving it programs, and seeing how they end.

use crate::child::{self, Failure, Given, NOBODY, Plan};
use crate::root::Root;
use crate::{Interpreter, SandboxError, policy, selftest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, pwrite};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, geteuid, pidfd_send_signal, waitid};
use serde::Serialize;
use serde_json::value::RawValue;
use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, str};

/// How long an interpreter may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How much longer than the program the sandbox may take to report how it ended.
const GRACE: Duration = Duration::from_secs(10);
/// How much of a program's standard error is kept: its last words.
const WORDS_BYTES: u64 = 4 << 10;
/// How many descriptors a program may have open.
const DESCRIPTORS: u64 = 64;
/// The largest stack. (`zygote.py` raises the stack limit of programs to it.)
const STACK_BYTES: u64 = 64 << 20;

/// How values pass between a program and what judges it: Python source, for whoever runs asserts apart from it.
pub const VALUES: &str = include_str!("values.py");
const ZYGOTE: &str = concat!(include_str!("values.py"), "\n", include_str!("zygote.py"));

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// CPU time.
    pub cpu: Duration,
    /// Wall-clock time, for programs that wait instead of computing: after it, a program is ended if it has used less
    /// CPU time than a twentieth of the time since its start. (One that has used more may be waiting for a processor.)
    pub wall: Duration,
    /// Address space, the interpreter's included.
    pub memory_bytes: u64,
    /// The length of its standard output, of its standard error, and of the value that it returns.
    pub output_bytes: u64,
}

/// A program to run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Python source.
    pub source: &'a str,
    /// What its standard input holds.
    pub stdin: &'a [u8],
    /// What is run of it.
    pub entry: Entry<'a>,
}

/// What is run of a program.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// All of it, as `__main__`.
    Main,
    /// All of it as a module, then a call: the result is the value returned.
    Call(Call<'a>),
    /// All of it as a module, then what an assert asks for: a JSON array of steps, as `zygote.py` reads them. The result
    /// has what each gave.
    Script(&'a RawValue),
}

/// A call of one of the program's functions.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The name of a function, or `Class.method` of a class made without arguments.
    pub function: &'a str,
    /// The arguments: a JSON array.
    pub args: &'a RawValue,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended by itself, with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It used all its CPU time.
    CpuLimit,
    /// It was still waiting at its wall-clock limit.
    WallLimit,
    /// It wrote, or returned, too much.
    OutputLimit,
}

/// What a program left when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The last of what it wrote to standard error; after an exception the last line says which.
    pub words: String,
    /// What the call returned, as JSON. Written by the program: to be parsed with care.
    pub result: Vec<u8>,
    /// The CPU time used.
    pub cpu: Duration,
}

/// What all sandboxes have in common, prepared once.
#[derive(Debug)]
pub struct Launcher {
    root: Root,
    ruleset: OwnedFd,
    argv: Vec<CString>,
    limits: Vec<(libc::c_uint, u64)>,
    threads: u32,
}

impl Launcher {
    /// Prepares sandboxes for `interpreter` whose programs have at most `threads` threads beside their first, and
    /// write no file longer than `output_bytes`.
    ///
    /// # Errors
    /// A kernel without Landlock or seccomp; files of the interpreter that can't be read.
    pub fn new(interpreter: &Interpreter, threads: u32, output_bytes: u64) -> Result<Self, SandboxError> {
        let root = Root::of(interpreter)?;
        let filter = policy::hex(&policy::program_filter()?);
        let executable = interpreter.executable.as_os_str().as_bytes();
        let flags = ["-s", "-S", "-B", "-X", "utf8", "-c", ZYGOTE, &filter];
        let argv = std::iter::once(executable).chain(flags.iter().map(|flag| flag.as_bytes()));
        let argv = argv.map(CString::new).collect::<Result<_, _>>().map_err(io::Error::from)?;
        let tasks = 2 + u64::from(threads); // the forking parent, the program
        let limits = vec![
            (libc::RLIMIT_NPROC, tasks),
            (libc::RLIMIT_FSIZE, output_bytes.max(selftest::LIMITS.output_bytes) + 1),
            (libc::RLIMIT_NOFILE, DESCRIPTORS),
            (libc::RLIMIT_STACK, STACK_BYTES),
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_MEMLOCK, 0),
            (libc::RLIMIT_MSGQUEUE, 0),
            (libc::RLIMIT_SIGPENDING, DESCRIPTORS),
            (libc::RLIMIT_RTPRIO, 0),
        ];
        Ok(Self { ruleset: policy::ruleset(&root)?, root, argv, limits, threads })
    }

    /// Starts a sandbox and waits until its interpreter can run programs.
    ///
    /// # Errors
    /// The part of the sandbox that the kernel refuses, or why the interpreter does not start.
    pub fn launch(&self) -> Result<Sandbox, SandboxError> {
        let switch_user = geteuid().is_root() && maps_nobody();
        let env = vec![c"PYTHONHASHSEED=0".to_owned()];
        let [calls, absent] = policy::start_filters()?;
        let plan = Plan::new(
            &self.root,
            self.argv.clone(),
            env,
            vec![calls, absent],
            self.limits.clone(),
            switch_user,
        )?;
        let flags = SocketFlags::CLOEXEC;
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(io::Error::from)?;
        let null = fs::File::open("/dev/null")?;
        let log = memfd_create(c"koan-sandbox-log", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
        let given = Given {
            null: null.as_fd(),
            log: log.as_fd(),
            control: theirs.as_fd(),
            ruleset: self.ruleset.as_fd(),
        };
        let (pid, pidfd) = child::start(&plan, &given)
            .map_err(|source| SandboxError::Refused { step: "make namespaces".to_owned(), source })?;
        drop(theirs);
        let sandbox = Sandbox { control, pidfd, pid, log };
        identify(pid, switch_user)
            .map_err(|source| SandboxError::Refused { step: "map its user".to_owned(), source })?;
        sandbox.send(b"g", &[])?;
        let mut answer = [0; 64];
        let n_bytes = sandbox.receive(&mut answer, START_LIMIT)?;
        match (&answer[..n_bytes], Failure::read(&answer[..n_bytes])) {
            (b"ready", _) => Ok(sandbox),
            (_, Some(Failure { step, error })) => {
                Err(SandboxError::Refused { step: step.to_string(), source: error })
            }
            _ => Err(SandboxError::Start { words: sandbox.log() }),
        }
    }

    /// Proves from inside `sandbox`, and from outside, that it contains what runs in it.
    ///
    /// # Errors
    /// [`SandboxError::Breach`] with all that it does not hold.
    pub fn test(&self, sandbox: &mut Sandbox) -> Result<(), SandboxError> {
        selftest::run(sandbox, self.threads)
    }
}

/// Whether the user `nobody` is mapped in this namespace, and so differs from other users.
fn maps_nobody() -> bool {
    let covers = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(n))) => (first..first + n).contains(&u64::from(NOBODY)),
            _ => false,
        }
    };
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.lines().any(covers))
}

/// Maps users into the child's namespace, and makes the child the first to be killed when memory runs out. If root started it, the
/// child may become nobody; otherwise it is the user who started it, under nobody's number.
fn identify(pid: i32, switch_user: bool) -> io::Result<()> {
    let map = |own: u32| {
        if switch_user { format!("0 {own} 1\n{NOBODY} {NOBODY} 1\n") } else { format!("{NOBODY} {own} 1\n") }
    };
    let proc = Path::new("/proc").join(pid.to_string());
    if !switch_user {
        fs::write(proc.join("setgroups"), "deny")?;
    }
    fs::write(proc.join("gid_map"), map(rustix::process::getegid().as_raw()))?;
    fs::write(proc.join("uid_map"), map(geteuid().as_raw()))?;
    // When the machine is out of memory, a program is the first to go.
    fs::write(proc.join("oom_score_adj"), "1000")
}

/// A contained interpreter that runs one program after another. Nothing of one is left when the next begins.
#[derive(Debug)]
pub struct Sandbox {
    control: OwnedFd,
    pidfd: OwnedFd,
    pid: i32,
    log: OwnedFd,
}

/// `zygote.py` reads this.
#[derive(Serialize)]
struct Job<'a> {
    source: &'a str,
    function: Option<&'a str>,
    args: Option<&'a RawValue>,
    script: Option<&'a RawValue>,
}

impl Sandbox {
    /// Runs `program`. However it ends, nothing of it is still running when this returns.
    ///
    /// # Errors
    /// [`SandboxError::Lost`] if the sandbox itself failed; it can't be used again.
    pub fn run(&mut self, program: &Program, limits: &Limits) -> Result<Ended, SandboxError> {
        let lost = |error: io::Error| SandboxError::Lost { reason: error.to_string() };
        let (function, args, script) = match program.entry {
            Entry::Main => (None, None, None),
            Entry::Call(call) => (Some(call.function), Some(call.args), None),
            Entry::Script(script) => (None, None, Some(script)),
        };
        let job = serde_json::to_vec(&Job { source: program.source, function, args, script });
        let job = sealed(c"job", &job.map_err(|error| lost(error.into()))?).map_err(lost)?;
        let stdin = sealed(c"stdin", program.stdin).map_err(lost)?;
        let empty = |name| memfd_create(name, MemfdFlags::CLOEXEC).map_err(|error| lost(error.into()));
        let [stdout, stderr, result] = [empty(c"stdout")?, empty(c"stderr")?, empty(c"result")?];

        let file_bytes = limits.output_bytes + 1; // one more than may be written: who reaches it wrote too much
        let message = [
            limits.wall.as_secs_f64().to_ne_bytes(),
            limits.cpu.as_secs_f64().to_ne_bytes(),
            limits.memory_bytes.to_ne_bytes(),
            file_bytes.to_ne_bytes(),
        ];
        let given = [job.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), result.as_fd()];
        self.send(message.as_flattened(), &given)?;
        let mut answer = [0; 64];
        // `zygote.py` lets a program run on while it uses a twentieth of the time, and the kernel ends it at the
        // next full second after its limit, or the one after that.
        let longest = limits.wall.max((limits.cpu + Duration::from_secs(2)) * 20);
        let n_bytes = self.receive(&mut answer, longest + GRACE)?;
        let Some(report) = Report::read(&answer[..n_bytes]) else {
            return Err(SandboxError::Lost { reason: format!("the interpreter has ended: {}", self.log()) });
        };
        if !report.started {
            return Err(SandboxError::Lost { reason: "a program could not be contained".to_owned() });
        }
        let length = |file: &OwnedFd| fstat(file).map(|stat| stat.st_size as u64).map_err(|e| lost(e.into()));
        let mut too_long = false;
        for file in [&stdout, &stderr, &result] {
            too_long |= length(file)? >= file_bytes;
        }
        let end = if report.cpu > limits.cpu {
            End::CpuLimit
        } else if report.late {
            End::WallLimit
        } else if too_long {
            End::OutputLimit
        } else {
            report.end
        };
        let n_words = length(&stderr)?;
        let words = read(&stderr, n_words.saturating_sub(WORDS_BYTES), WORDS_BYTES).map_err(lost)?;
        Ok(Ended {
            end,
            stdout: read(&stdout, 0, limits.output_bytes).map_err(lost)?,
            words: String::from_utf8_lossy(&words).into_owned(),
            result: read(&result, 0, limits.output_bytes).map_err(lost)?,
            cpu: report.cpu,
        })
    }

    /// The process id of the contained interpreter, as this program sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd]) -> Result<(), SandboxError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(SandboxError::Lost { reason: "too many descriptors".to_owned() });
        }
        sendmsg(&self.control, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)
            .map(|_| ())
            .map_err(|_| SandboxError::Lost { reason: format!("the interpreter has ended: {}", self.log()) })
    }

    /// The length of the next message; 0 where the interpreter has ended.
    fn receive(&self, buffer: &mut [u8], limit: Duration) -> Result<usize, SandboxError> {
        let lost = |error: Errno| SandboxError::Lost { reason: error.to_string() };
        let limit = Timespec::try_from(limit).map_err(|_| lost(Errno::INVAL))?;
        let mut ready = [PollFd::new(&self.control, PollFlags::IN)];
        loop {
            match poll(&mut ready, Some(&limit)) {
                Ok(0) => {
                    return Err(SandboxError::Lost { reason: "the interpreter does not answer".to_owned() });
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(lost(error)),
            }
        }
        match recv(&self.control, buffer, RecvFlags::empty()) {
            Ok((_, n_bytes)) => Ok(n_bytes),
            Err(Errno::CONNRESET) => Ok(0),
            Err(error) => Err(lost(error)),
        }
    }

    /// The last line that the interpreter wrote.
    fn log(&self) -> String {
        let n_bytes = fstat(&self.log).map_or(0, |stat| stat.st_size as u64);
        let words = read(&self.log, n_bytes.saturating_sub(WORDS_BYTES), WORDS_BYTES).unwrap_or_default();
        match String::from_utf8_lossy(&words).trim().lines().last() {
            Some(line) => line.to_owned(),
            None => "no message".to_owned(),
        }
    }
}

impl Drop for Sandbox {
    /// Ends the interpreter, and with it, since it is process 1 there, all that runs in the sandbox.
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// What `zygote.py` says of a program that has ended.
struct Report {
    started: bool,
    late: bool,
    end: End,
    cpu: Duration,
}

impl Report {
    /// Reads Python's struct `=BBiQQ`; none where the bytes are not one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let ([started, late], rest) = bytes.split_first_chunk()?;
        let (status, rest) = rest.split_first_chunk()?;
        let (cpu_us, rest) = rest.split_first_chunk()?;
        let [_peak_kib] = [<[u8; 8]>::try_from(rest).ok()?];
        let status = i32::from_ne_bytes(*status);
        let end = match status & 0x7f {
            0 => End::Exited(status >> 8 & 0xff),
            signal => End::Killed(signal),
        };
        let cpu = Duration::from_micros(u64::from_ne_bytes(*cpu_us));
        Some(Self { started: *started == 1, late: *late == 1, end, cpu })
    }
}

/// A file in memory that holds `bytes` and can no longer be changed.
fn sealed(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut n_written = 0;
    while n_written < bytes.len() {
        n_written += pwrite(&file, &bytes[n_written..], n_written as u64)?;
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Up to `limit` bytes of `file` from `start`.
fn read(file: &OwnedFd, start: u64, limit: u64) -> io::Result<Vec<u8>> {
    let n_bytes = (fstat(file)?.st_size as u64).saturating_sub(start).min(limit) as usize;
    let (mut bytes, mut n_read) = (vec![0; n_bytes], 0);
    while n_read < n_bytes {
        match pread(file, &mut bytes[n_read..], start + n_read as u64)? {
            0 => break,
            n => n_read += n,
        }
    }
    bytes.truncate(n_read);
    Ok(bytes)
}
