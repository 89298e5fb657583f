//! What the kernel lets contained programs do: lists of allowed system calls (seccomp) and files that may be
//! read (Landlock). Both are built here, by safe code; the child only installs them.

use crate::SandboxError;
use crate::root::{Node, Root};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// System calls that any program in the sandbox may make, whatever their arguments. None of them opens a way
/// out: they read files (Landlock says which), use memory, time, signals and threads of the caller.
const ALLOWED: &[c_long] = &[
    // Descriptors that the program has, and files that Landlock lets it read.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    // Who and where am I.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    // What a forking parent needs. [`program_filter`] takes these from the programs themselves.
    libc::SYS_kill,
    libc::SYS_wait4,
    libc::SYS_recvmsg,
    libc::SYS_getsockname,
    libc::SYS_execve,
];

/// The same calls under the names that this architecture alone has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_arch_prctl,
    libc::SYS_alarm,
    libc::SYS_time,
    libc::SYS_getpgrp,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Calls that the forking parent may make and the programs that it forks may not.
const PARENT_ONLY: &[c_long] =
    &[libc::SYS_kill, libc::SYS_wait4, libc::SYS_recvmsg, libc::SYS_execve, libc::SYS_prctl];

/// `clone` of a thread. The kernel insists that it shares memory and signals with its process.
const THREAD: u64 = libc::CLONE_THREAD as u64;
/// `clone` into new namespaces, or with another parent than the caller, or under a tracer.
const NEVER_CLONED: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_PARENT
    | libc::CLONE_PTRACE) as u64;

/// The filters that hold from the interpreter's start, in the order in which they are installed.
pub(crate) fn start_filters() -> Result<[BpfProgram; 2], SandboxError> {
    let mut allowed: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    let one_of = |arg: u8, values: &[u64]| -> Result<Vec<SeccompRule>, SandboxError> {
        values.iter().map(|&value| rule(arg, SeccompCmpOp::Eq, value)).collect()
    };
    allowed.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(NEVER_CLONED), 0)?]);
    allowed.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
    #[cfg(target_arch = "x86_64")]
    for call in [libc::SYS_getrlimit, libc::SYS_setrlimit] {
        allowed.insert(call, Vec::new());
    }
    allowed.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_SECCOMP as u64, libc::PR_SET_DUMPABLE as u64])?);
    allowed.insert(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64])?);
    let fcntl =
        [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    allowed.insert(libc::SYS_fcntl, one_of(1, &fcntl.map(|command| command as u64))?);
    let ioctl =
        [libc::TCGETS, libc::FIOCLEX, libc::FIONCLEX, libc::FIONBIO, libc::FIONREAD, libc::TIOCGWINSZ];
    allowed.insert(libc::SYS_ioctl, one_of(1, &ioctl)?);

    // The C library makes threads by `clone3`, whose flags no filter can see, and by `clone` where that is absent.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([
        compile(allowed, errno(libc::EPERM), SeccompAction::Allow)?,
        compile(absent, SeccompAction::Allow, errno(libc::ENOSYS))?,
    ])
}

/// The filter that a forked program gets on top: it can start threads, but no process, and no other program.
pub(crate) fn program_filter() -> Result<BpfProgram, SandboxError> {
    let mut denied: BTreeMap<c_long, Vec<SeccompRule>> =
        PARENT_ONLY.iter().map(|&call| (call, Vec::new())).collect();
    denied.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(THREAD), 0)?]);
    compile(denied, SeccompAction::Allow, errno(libc::EPERM))
}

/// A filter as C's `struct sock_filter[]`, byte by byte in hexadecimal: what `zygote.py` installs.
pub(crate) fn hex(program: &[sock_filter]) -> String {
    let mut hex = String::with_capacity(16 * program.len());
    for instruction in program {
        let ([a, b], [c, d, e, f]) = (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
        for byte in [a, b, instruction.jt, instruction.jf, c, d, e, f] {
            for nibble in [byte >> 4, byte & 0xf] {
                hex.extend(char::from_digit(nibble.into(), 16));
            }
        }
    }
    hex
}

fn errno(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno as u32)
}

/// Commands and flags are 32 bits wide: the kernel ignores the upper half, so the filter must too.
fn rule(arg: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, SandboxError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| SandboxError::policy("system call filter", error))
}

/// A filter that does `listed` for the calls in `rules` that match, and `otherwise` for all others.
fn compile(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH);
    arch.and_then(|arch| SeccompFilter::new(rules.into_iter().collect(), otherwise, listed, arch))
        .and_then(BpfProgram::try_from)
        .map_err(|error| SandboxError::policy("system call filter", error))
}

/// A Landlock ruleset under which only what `root` binds can be read, only the interpreter and its loader
/// run, and nothing written. Kernels know more kinds of access the newer they are; the first kinds
/// (Linux 5.13) are required, the others taken where they are known.
pub(crate) fn ruleset(root: &Root) -> Result<OwnedFd, SandboxError> {
    let landlock = |error: landlock::RulesetError| SandboxError::policy("Landlock", error);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(landlock)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V7))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V7)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V7)))
        .and_then(Ruleset::create)
        .map_err(landlock)?;
    for (path, node) in root.bound() {
        let access: BitFlags<AccessFs> = match node {
            Node::BindFolder => AccessFs::ReadFile | AccessFs::ReadDir,
            _ => AccessFs::ReadFile | AccessFs::Execute,
        };
        let path = PathFd::new(path).map_err(|error| SandboxError::policy("Landlock", error))?;
        ruleset = ruleset.add_rule(PathBeneath::new(path, access)).map_err(landlock)?;
    }
    Option::<OwnedFd>::from(ruleset)
        .ok_or_else(|| SandboxError::policy("Landlock", "this kernel does not have it, or not enabled"))
}
