//! The child side of the sandbox: from `clone` to `execve`.
//!
//! The child is a copy of one thread of a program with many. Other threads may have held any lock when it was
//! made, so nothing here allocates, locks or panics: it makes system calls on what the parent prepared.
//! Identities are set by raw system calls, because the C library's functions would look for the other threads.

use crate::root::{Node, Root};
use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use seccompiler::{BpfProgram, sock_filter};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fmt, io, ptr};

/// User and group of contained programs: nobody.
pub(crate) const NOBODY: u32 = 65_534;
/// The descriptor by which the child talks to its parent.
const CONTROL: RawFd = 3;
/// The descriptor of the Landlock ruleset until it is in force.
const RULESET: RawFd = 4;
/// Descriptors from here on do not collide with those that the interpreter gets.
const OUT_OF_THE_WAY: RawFd = 10;

/// What the child does, in order. The first that fails is what the parent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Step {
    Wait,
    Session,
    Mounts,
    Root,
    Tree,
    OldRoot,
    ReadOnly,
    Capabilities,
    Identity,
    NoNewPrivileges,
    Limits,
    Descriptors,
    Landlock,
    Seccomp,
    Execute,
}

impl Step {
    const ALL: [Self; 15] = [
        Self::Wait,
        Self::Session,
        Self::Mounts,
        Self::Root,
        Self::Tree,
        Self::OldRoot,
        Self::ReadOnly,
        Self::Capabilities,
        Self::Identity,
        Self::NoNewPrivileges,
        Self::Limits,
        Self::Descriptors,
        Self::Landlock,
        Self::Seccomp,
        Self::Execute,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "wait for its identity",
            Self::Session => "leave the terminal",
            Self::Mounts => "take mounts for its own",
            Self::Root => "make an empty root",
            Self::Tree => "bind the interpreter's files",
            Self::OldRoot => "let go of the old root",
            Self::ReadOnly => "make its files read-only",
            Self::Capabilities => "drop capabilities",
            Self::Identity => "become nobody",
            Self::NoNewPrivileges => "renounce new privileges",
            Self::Limits => "set limits",
            Self::Descriptors => "close descriptors",
            Self::Landlock => "restrict files by Landlock",
            Self::Seccomp => "restrict system calls",
            Self::Execute => "start the interpreter",
        })
    }
}

/// A step that failed, as the child reports it: one byte for the step, four for errno.
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) error: io::Error,
}

impl Failure {
    /// How many bytes a report has.
    pub(crate) const N_BYTES: usize = 5;

    /// Reads a report; none if `bytes` are not a report.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [step, errno @ ..] = *<&[u8; Self::N_BYTES]>::try_from(bytes).ok()?;
        let step = Step::ALL.into_iter().find(|known| *known as u8 == step)?;
        Some(Self { step, error: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)) })
    }
}

/// One thing to make in the tree.
enum Make {
    Folder(CString),
    Link { target: CString, path: CString },
    Bind { source: CString, path: CString, is_file: bool },
}

/// All that the child needs, made beforehand.
pub(crate) struct Plan {
    /// A folder that is sure to exist; the new root is mounted over it in the child's own view.
    base: CString,
    tree: Vec<Make>,
    argv: Vec<CString>,
    env: Vec<CString>,
    filters: Vec<BpfProgram>,
    limits: Vec<(c_uint, u64)>,
    /// Whether to change from the user and group that started it to nobody's, which takes privileges.
    pub(crate) switch_user: bool,
}

impl Plan {
    pub(crate) fn new(
        root: &Root,
        argv: Vec<CString>,
        env: Vec<CString>,
        filters: Vec<BpfProgram>,
        limits: Vec<(c_uint, u64)>,
        switch_user: bool,
    ) -> io::Result<Self> {
        let outside = |path: &Path| c_path(&Path::new("/old").join(path.strip_prefix("/").unwrap_or(path)));
        let mut tree = vec![Make::Folder(c"/empty".to_owned())];
        let mut base = c"/".to_owned();
        for (path, node) in &root.nodes {
            let at = c_path(path)?;
            match node {
                Node::Folder => tree.push(Make::Folder(at)),
                Node::Link(target) => tree.push(Make::Link { target: c_path(target)?, path: at }),
                Node::BindFile => {
                    tree.push(Make::Bind { source: outside(path)?, path: at, is_file: true });
                }
                Node::BindFolder => {
                    base.clone_from(&at);
                    tree.push(Make::Folder(at.clone()));
                    tree.push(Make::Bind { source: outside(path)?, path: at, is_file: false });
                }
                Node::Hidden => {
                    tree.push(Make::Bind { source: c"/empty".to_owned(), path: at, is_file: false });
                }
            }
        }
        Ok(Self { base, tree, argv, env, filters, limits, switch_user })
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The descriptors that the child is given.
pub(crate) struct Given<'a> {
    /// Its standard input: nothing.
    pub(crate) null: BorrowedFd<'a>,
    /// Its standard output and error.
    pub(crate) log: BorrowedFd<'a>,
    /// The child's end of the socket to the parent.
    pub(crate) control: BorrowedFd<'a>,
    /// The Landlock ruleset.
    pub(crate) ruleset: BorrowedFd<'a>,
}

/// Makes the child in new namespaces. It waits for a byte on `control`, contains itself and becomes the
/// interpreter; where it can't, it sends a [`Failure`] and ends.
pub(crate) fn start(plan: &Plan, given: &Given) -> io::Result<(i32, OwnedFd)> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PIDFD
        | libc::SIGCHLD;
    let argv = pointers(&plan.argv);
    let env = pointers(&plan.env);
    let mut pidfd: c_int = -1;
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of memory, on the same stack. The
    // kernel writes a descriptor to `pidfd`, which outlives the call. The last arguments are unused.
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), 0, &raw mut pidfd, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let Err(failed) = contain(plan, given, &argv, &env);
            report(given, failed)
        }
        // SAFETY: the kernel has just opened `pidfd`, and nothing else owns it.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// The strings' addresses and a null, as C wants them.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// A step and the errno with which it failed.
type Failed = (Step, i32);

/// Everything from the clone to the interpreter. Returns only if a step fails.
fn contain(
    plan: &Plan,
    given: &Given,
    argv: &[*const c_char],
    env: &[*const c_char],
) -> Result<Infallible, Failed> {
    let mut go = 0_u8;
    // SAFETY: reads at most one byte into `go`.
    let n_bytes = unsafe { libc::read(given.control.as_raw_fd(), (&raw mut go).cast(), 1) };
    if n_bytes != 1 {
        return Err((Step::Wait, libc::EPIPE));
    }
    // SAFETY: these take no pointers.
    check(Step::Session, unsafe { libc::setsid() })?;
    // SAFETY: the name is a valid string of the length given. (The new host name hides the old one.)
    check(Step::Session, unsafe { libc::sethostname(c"sandbox".as_ptr(), 7) })?;
    // SAFETY: takes no pointers.
    unsafe { libc::umask(0o022) };

    make_root(plan)?;
    renounce(plan)?;
    for &(resource, most) in &plan.limits {
        limit(resource, most)?;
    }
    place_descriptors(given)?;
    // SAFETY: takes no pointers; `RULESET` is a Landlock ruleset, or this fails.
    check_long(Step::Landlock, unsafe { libc::syscall(libc::SYS_landlock_restrict_self, RULESET, 0) })?;
    // SAFETY: takes no pointers.
    unsafe { libc::close(RULESET) };
    for filter in &plan.filters {
        install(filter)?;
    }
    let Some(&program) = argv.first() else { return Err((Step::Execute, libc::EINVAL)) };
    // SAFETY: strings and arrays are alive and end in nulls. `execve` returns only if it fails.
    unsafe { libc::execve(program, argv.as_ptr(), env.as_ptr()) };
    Err((Step::Execute, errno()))
}

/// A file system in memory becomes the root; what `plan` binds is all that is in it; nothing in it can be
/// written.
fn make_root(plan: &Plan) -> Result<(), Failed> {
    mount(Step::Mounts, c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    let options = c"mode=0755,size=1m,nr_inodes=4k";
    mount(Step::Root, c"tmpfs", &plan.base, Some(options), libc::MS_NOSUID | libc::MS_NODEV)?;
    // SAFETY: these calls read valid strings.
    unsafe {
        check(Step::Root, libc::chdir(plan.base.as_ptr()))?;
        check(Step::Root, libc::mkdir(c"old".as_ptr(), 0o700))?;
        check_long(Step::Root, libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"old".as_ptr()))?;
        check(Step::Root, libc::chdir(c"/".as_ptr()))?;
    }
    for make in &plan.tree {
        make_node(make)?;
    }
    // SAFETY: these calls read valid strings.
    unsafe {
        check(Step::OldRoot, libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH))?;
        check(Step::OldRoot, libc::rmdir(c"/old".as_ptr()))?;
    }
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: reads a valid string, and a struct of the size given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check_long(Step::ReadOnly, done)
}

fn make_node(make: &Make) -> Result<(), Failed> {
    match make {
        // SAFETY: reads a valid string.
        Make::Folder(path) => check(Step::Tree, unsafe { libc::mkdir(path.as_ptr(), 0o755) }),
        Make::Link { target, path } => {
            // SAFETY: reads two valid strings.
            check(Step::Tree, unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) })
        }
        Make::Bind { source, path, is_file } => {
            if *is_file {
                // SAFETY: reads a valid string; the descriptor is closed again.
                unsafe {
                    let file = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o444);
                    check(Step::Tree, file)?;
                    libc::close(file);
                }
            }
            mount(Step::Tree, source, path, None, libc::MS_BIND | libc::MS_REC)
        }
    }
}

fn mount(
    step: Step,
    source: &CStr,
    target: &CStr,
    options: Option<&CStr>,
    flags: c_ulong,
) -> Result<(), Failed> {
    let data = options.map_or(ptr::null(), CStr::as_ptr).cast::<c_void>();
    // SAFETY: reads valid strings; the file system's type is only read where one is mounted.
    check(step, unsafe { libc::mount(source.as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), flags, data) })
}

/// Gives up every capability for good, and the identity of the user who started it.
fn renounce(plan: &Plan) -> Result<(), Failed> {
    const LAST_OF_64: c_ulong = 63;
    // Root has no special rights: no capabilities come from the user id, not even across execve, and this is locked.
    const SECURE: c_ulong = 0b1110_1111;
    // SAFETY: prctl with integers only.
    unsafe {
        for capability in 0..=LAST_OF_64 {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                // The kernel has fewer capabilities than there are bits.
                if errno() == libc::EINVAL && capability > 0 {
                    break;
                }
                return Err((Step::Capabilities, errno()));
            }
        }
        check(Step::Capabilities, libc::prctl(libc::PR_SET_SECUREBITS, SECURE, 0, 0, 0))?;
        if plan.switch_user {
            check_long(Step::Identity, libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()))?;
        }
        check_long(Step::Identity, libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY))?;
        check_long(Step::Identity, libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY))?;
    }
    // _LINUX_CAPABILITY_VERSION_3, this process; effective, permitted and inheritable sets, twice 32 bits.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: header and sets have the sizes that version 3 asks for.
    check_long(Step::Capabilities, unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr())
    })?;
    // SAFETY: prctl with integers only.
    check(Step::NoNewPrivileges, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Lowers a limit to `most`, or leaves it if it is lower already.
fn limit(resource: c_uint, most: u64) -> Result<(), Failed> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes a struct of ours; `resource` is one of libc's constants.
    unsafe {
        check(Step::Limits, libc::getrlimit(resource as _, &raw mut now))?;
        now.rlim_max = now.rlim_max.min(most as libc::rlim_t);
        now.rlim_cur = now.rlim_cur.min(now.rlim_max);
        check(Step::Limits, libc::setrlimit(resource as _, &raw const now))
    }
}

/// Standard input, output and error, [`CONTROL`], [`RULESET`], and no other.
fn place_descriptors(given: &Given) -> Result<(), Failed> {
    let wanted = [
        (given.null.as_raw_fd(), 0),
        (given.log.as_raw_fd(), 1),
        (given.log.as_raw_fd(), 2),
        (given.control.as_raw_fd(), CONTROL),
        (given.ruleset.as_raw_fd(), RULESET),
    ];
    let mut copies = [0; 5];
    // SAFETY: descriptors and integers; what is closed belongs to this copy of the process alone.
    unsafe {
        for (copy, (descriptor, _)) in copies.iter_mut().zip(wanted) {
            *copy = libc::fcntl(descriptor, libc::F_DUPFD, OUT_OF_THE_WAY);
            check(Step::Descriptors, *copy)?;
        }
        for (copy, (_, place)) in copies.into_iter().zip(wanted) {
            check(Step::Descriptors, libc::dup2(copy, place))?;
        }
        check_long(Step::Descriptors, libc::syscall(libc::SYS_close_range, RULESET + 1, u32::MAX, 0))
    }
}

fn install(filter: &[sock_filter]) -> Result<(), Failed> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the program points to that many instructions; the kernel copies and checks them.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const program,
            0,
            0,
        )
    };
    check(Step::Seccomp, done)
}

/// Tells the parent what failed, and ends.
fn report(given: &Given, (step, errno): Failed) -> ! {
    let control = if step > Step::Descriptors { CONTROL } else { given.control.as_raw_fd() };
    let [a, b, c, d] = errno.to_ne_bytes();
    let bytes = [step as u8, a, b, c, d];
    // SAFETY: writes five bytes of ours, then ends without running anything of the parent's.
    unsafe {
        libc::write(control, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

fn check(step: Step, result: c_int) -> Result<(), Failed> {
    if result == -1 { Err((step, errno())) } else { Ok(()) }
}

fn check_long(step: Step, result: c_long) -> Result<(), Failed> {
    check(step, if result == -1 { -1 } else { 0 })
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
