//! Hostile programs: none gets out, forges a verdict, or leaves anything behind.
//!
//! Where the system does not let programs be contained, the tests say so and check that nothing is run.
#![cfg(target_os = "linux")]

use koan_reward::code::{Judge, Options, Tests};
use koan_reward::{Outcome, Verdict};
use koan_sandbox::SandboxError;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, process, thread};

mod programs;
use programs::{DENIED, ENDS, FORGED, FORGED_STEPS, HONEST, MODULES};

/// How many programs are judged at once: most of the time is spent on programs that wait.
const AT_ONCE: usize = 8;

/// Tests look at the processes of this one, and so take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A judge; none where programs can't be contained here, which is said.
fn judge(options: Options) -> Option<Judge> {
    match Judge::new(&options) {
        Ok(judge) => Some(judge),
        Err(error @ (SandboxError::Refused { .. } | SandboxError::Policy { .. })) => {
            assert!(error.to_string().contains("Nothing is run without it"), "{error}");
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn tests(tests: Value) -> Tests {
    let fields = [("tests", tests), ("time_limit_s", json!(0.9)), ("memory_limit_mb", json!(256))];
    Tests::parse(&fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Map<_, _>>())
        .expect("good tests")
}

fn prints(stdout: &str) -> Tests {
    tests(json!([{"stdin": "3\n4\n", "stdout": stdout}]))
}

fn fenced(program: &str) -> String {
    format!("Here it is.\n````python\n{program}\n````\n")
}

/// Whether a row can be run here: the numbers of system calls are x86-64's.
fn is_for_here(program: &str) -> bool {
    cfg!(target_arch = "x86_64") || !program.contains("syscall")
}

/// Runs every row of a table, several at once; what `run` complains of is returned.
fn complaints<T: Sync>(table: &[T], run: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let rows = || std::iter::from_fn(|| table.get(next.fetch_add(1, Ordering::Relaxed)));
    let worker = || rows().filter_map(|row| run(row).err()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

fn expect(name: &str, verdict: &Verdict, outcome: Outcome, words: &str) -> Result<(), String> {
    if verdict.outcome == outcome && words.split('|').any(|words| verdict.reason.contains(words)) {
        Ok(())
    } else {
        Err(format!("{name}: {:?}, {}", verdict.outcome, verdict.reason))
    }
}

/// The processes whose parent is this one.
fn children() -> Vec<String> {
    let is_child = |stat: &str| {
        let after_name = stat.rsplit_once(") ")?.1;
        (after_name.split(' ').nth(1)?.parse() == Ok(process::id())).then(|| stat.to_owned())
    };
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    processes.filter_map(|entry| is_child(&fs::read_to_string(entry.path().join("stat")).ok()?)).collect()
}

#[test]
fn programs_are_contained_judged_and_gone() {
    let _turn = turn();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let Some(judge) = judge(Options { sandboxes: Some(AT_ONCE), ..Options::default() }) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let canary = folder.path().canonicalize().expect("a path").join("canary");
    fs::write(&canary, "outside").expect("a file");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");

    let denied = |(name, attempt): &(&str, &str)| {
        if !is_for_here(attempt) {
            return Ok(());
        }
        let attempt = attempt
            .replace("{canary}", canary.to_str().expect("UTF-8"))
            .replace("{tcp}", &tcp.local_addr().expect("an address").port().to_string())
            .replace("{udp}", &udp.local_addr().expect("an address").port().to_string())
            .replace("{pid}", &process::id().to_string());
        let named = MODULES.into_iter().filter(|module| attempt.contains(module));
        let imports: String = named.flat_map(|module| ["import ", module, "\n"]).collect();
        let program = format!(
            "
import ctypes, os
{imports}
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *args):
    result = getattr(libc, name)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return True
def writes(fd):
    try:
        return os.write(fd, b'x')
    except OSError:
        return False
try:
    got = {attempt}
except (OSError, AttributeError, RuntimeError, IndexError, ImportError, ValueError):
    got = False
print('escaped: ' + str(got) if got else 'held')
"
        );
        expect(name, &judge.judge(&fenced(&program), &prints("held")), Outcome::Correct, "")
    };
    let ends = |(name, program, words): &(&str, &str, &str)| {
        if !is_for_here(program) {
            return Ok(());
        }
        expect(name, &judge.judge(&fenced(program), &prints("held")), Outcome::Wrong, words)
    };
    let square = tests(json!({"function": "f", "cases": [{"args": [3], "returns": 738_125}]}));
    let forged = |(name, program): &(&str, &str)| {
        expect(name, &judge.judge(&fenced(program), &square), Outcome::Wrong, "")
    };
    let asserted = tests(json!({"asserts": ["assert f(3) == 738_125"]}));
    let forged_assert = |(name, program): &(&str, &str)| {
        expect(name, &judge.judge(&fenced(program), &asserted), Outcome::Wrong, "")
    };
    let honest = |(name, program): &(&str, &str)| {
        expect(name, &judge.judge(&fenced(program), &prints("held")), Outcome::Correct, "")
    };
    let mut bad = complaints(ENDS, ends);
    bad.extend(complaints(DENIED, denied));
    bad.extend(complaints(FORGED, forged));
    bad.extend(complaints(FORGED, forged_assert));
    bad.extend(complaints(FORGED_STEPS, forged_assert));
    bad.extend(complaints(HONEST, honest));
    assert!(bad.is_empty(), "{} programs:\n{}", bad.len(), bad.join("\n"));

    assert_eq!(fs::read_to_string(&canary).expect("still there"), "outside");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    tcp.set_nonblocking(true).expect("a socket");
    udp.set_nonblocking(true).expect("a socket");
    assert!(tcp.accept().is_err(), "a program connected");
    assert!(udp.recv(&mut [0; 8]).is_err(), "a program sent a packet");
    drop(judge);
    assert_eq!(children(), Vec::<String>::new());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("mounts"), mounts);
}

#[test]
fn nothing_of_a_program_is_left_for_the_next() {
    let _turn = turn();
    let Some(judge) = judge(Options { sandboxes: Some(1), ..Options::default() }) else { return };
    let leave = "import builtins, json, sys\njson.dumps = print = builtins.secret = sys.secret = 'secret'\n";
    let look = "import builtins, json, sys\n\
        print('held' if json.dumps(1) == '1' and not hasattr(builtins, 'secret') else 'lost')";
    for program in [leave, look, leave, look] {
        let expected = if program == look { Outcome::Correct } else { Outcome::Wrong };
        let verdict = judge.judge(&fenced(program), &prints("held"));
        assert_eq!(verdict.outcome, expected, "{}", verdict.reason);
    }
    // Chance and hashes are the same for each.
    let draw = "import random\nprint(random.random(), hash('koan'), list({'a', 'b', 'c'}))\nprint('x')";
    let drawn = [(); 3].map(|()| judge.judge(&fenced(draw), &prints("held")).reason);
    assert!(drawn[0].contains("0.84442185"), "{}", drawn[0]);
    assert!(drawn.iter().all(|reason| *reason == drawn[0]), "{drawn:?}");
}

#[test]
fn a_lost_sandbox_is_replaced() {
    let _turn = turn();
    let Some(judge) = judge(Options { sandboxes: Some(1), ..Options::default() }) else { return };
    let correct = || judge.judge(&fenced("print('held')"), &prints("held")).outcome;
    assert_eq!(correct(), Outcome::Correct);
    // The interpreter is killed from outside: from inside it can't be.
    let before = children();
    for stat in &before {
        let pid = stat.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::KILL).expect("a signal");
    }
    assert_eq!(correct(), Outcome::Correct);
    assert_ne!(children(), before);
}
