//! The proof that a sandbox holds, made once before it is used: a program in it tries to get out, and the host
//! looks at it from outside. It ends well only if every attempt fails.

use crate::SandboxError;
use crate::process::{Call, End, Entry, Limits, Program, Sandbox};
use serde_json::{json, value::to_raw_value};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io};

pub(crate) const LIMITS: Limits = Limits {
    cpu: Duration::from_secs(10),
    wall: Duration::from_secs(60),
    memory_bytes: 4 << 30,
    output_bytes: 1 << 16,
};

/// Tries to get out of `sandbox`, whose programs may have `threads` threads.
pub(crate) fn run(sandbox: &mut Sandbox, threads: u32) -> Result<(), SandboxError> {
    let canary = Canary::new(sandbox.pid())?;
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let name = format!("koan-sandbox-{}", sandbox.pid());
    let _abstract_listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let host = json!([{
        "canary": canary.0,
        "pid": std::process::id(),
        "tcp": tcp.local_addr()?.port(),
        "udp": udp.local_addr()?.port(),
        "abstract": name,
        "threads": threads,
        "memory": LIMITS.memory_bytes,
    }]);
    let args = to_raw_value(&host).map_err(io::Error::from)?;
    let call = Call { function: "escape", args: &args };
    let program = Program { source: include_str!("selftest.py"), stdin: b"", entry: Entry::Call(call) };
    let ended = sandbox.run(&program, &LIMITS)?;
    let unfinished =
        || SandboxError::Start { words: format!("the self-test ends by {:?}: {}", ended.end, ended.words) };
    if ended.end != End::Exited(0) {
        return Err(unfinished());
    }
    let mut breaches: Vec<String> = serde_json::from_slice(&ended.result).map_err(|_| unfinished())?;
    breaches.extend(seen_from_outside(sandbox.pid())?);

    // A thread that waits for ever must not outlive the program, nor hold up its end.
    let lingering = "import threading, time\nthreading.Thread(target=time.sleep, args=(9e3,)).start()";
    let limits = Limits { wall: Duration::from_millis(50), ..LIMITS };
    let ended = sandbox.run(&Program { source: lingering, stdin: b"", entry: Entry::Main }, &limits)?;
    if ended.end != End::WallLimit {
        breaches.push(format!("outlive its time ({:?}: {})", ended.end, ended.words));
    }
    if breaches.is_empty() { Ok(()) } else { Err(SandboxError::Breach { breaches }) }
}

/// What the kernel says of the contained interpreter that it should not say.
fn seen_from_outside(pid: i32) -> io::Result<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().split_ascii_whitespace().next().unwrap_or_default()
    };
    let mut breaches = Vec::new();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if u64::from_str_radix(field(set), 16) != Ok(0) {
            breaches.push(format!("use capabilities ({set} {})", field(set)));
        }
    }
    if field("NoNewPrivs") != "1" {
        breaches.push("gain privileges".to_owned());
    }
    if field("Seccomp") != "2" {
        breaches.push("make any system call".to_owned());
    }
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        if of("self")? == of(&pid.to_string())? {
            breaches.push(format!("see the host's {namespace} namespace"));
        }
    }
    Ok(breaches)
}

/// A file that a program in a sandbox must not be able to read.
struct Canary(PathBuf);

impl Canary {
    fn new(pid: i32) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("koan-sandbox-{}-{pid}", std::process::id()));
        fs::File::create_new(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // What is left is an empty file in the folder for such files.
        let _ = fs::remove_file(&self.0);
    }
}
