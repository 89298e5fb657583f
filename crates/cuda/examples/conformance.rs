//! Holds a GPU, or the emulator of one, to the conformance suite, and goes on after a failure:
//!
//! ```text
//! conformance [cuda:N | emulated] [operation ...]
//! ```
//!
//! Each operation runs in a process of its own, since an error of a kernel leaves a GPU's process useless. It is held to the
//! reference, and then to giving the same bits twice: in the emulator in two orders of threads and blocks. `wrappers` are the single
//! instructions that kernels are made of, held to the arithmetic that the emulator gives them.

use std::{
    env,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_backend::{
    Backend, Keep,
    conformance::{self, OPERATIONS, Precision},
};
use koan_cuda::Cuda;

/// How long an operation may take.
const LIMIT: Duration = Duration::from_secs(180);
/// Characters of a failure's words that are printed.
const WORDS: usize = 400;
/// What stands for the wrappers of single instructions, in the place of an operation.
const WRAPPERS: &str = "wrappers";
/// What stands for memory: what is too large is refused, and nothing leaks.
const MEMORY: &str = "memory";
/// What tells the program to run one operation itself.
const ALONE: &str = "--alone";

fn main() -> ExitCode {
    let mut names: Vec<String> = env::args().skip(1).collect();
    if names.first().is_some_and(|name| name == ALONE) {
        return run_alone(&names[1], &names[2]);
    }
    let is_device = names.first().is_some_and(|name| name.starts_with("cuda:") || name == "emulated");
    let device = if is_device { names.remove(0) } else { "emulated".into() };
    if names.is_empty() {
        names.extend([WRAPPERS, MEMORY].map(String::from));
        names.extend(OPERATIONS.map(String::from));
    }
    let failures = names.iter().filter(|operation| !passes(&device, operation)).count();
    println!("{device}: {} of {} passed", names.len() - failures, names.len());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs an operation in a process of its own, and prints how it ended.
fn passes(device: &str, operation: &str) -> bool {
    let start = Instant::now();
    let program = env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args([ALONE, device, operation])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("this program starts again");
    let mut output = child.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let mut words = String::new();
        output.read_to_string(&mut words).map(|_| words)
    });
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill(); // it may have ended meanwhile
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let words = reader.join().expect("it does not panic").unwrap_or_default();
    let seconds = start.elapsed().as_secs_f64();
    let words = match status {
        Some(status) if status.success() => "ok".into(),
        Some(status) if words.is_empty() => format!("FAILED: {status}"),
        Some(_) => format!("FAILED: {}", words.trim().chars().take(WORDS).collect::<String>()),
        None => format!("FAILED: not done after {} s", LIMIT.as_secs()),
    };
    println!("{operation:16} {seconds:6.1} s  {words}");
    words == "ok"
}

/// Runs an operation, and prints what went wrong alone.
fn run_alone(device: &str, operation: &str) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        println!("{} ({place})", words.unwrap_or("a panic without words"));
    }));
    let open = |seed| match device.strip_prefix("cuda:") {
        Some(ordinal) => Cuda::open(ordinal.parse().expect("cuda: and a number")),
        None => Cuda::emulated(seed),
    };
    let open = |seed| open(seed).unwrap_or_else(|error| panic!("{error}"));
    let check = || {
        if operation == WRAPPERS {
            return open(1).check_wrappers();
        }
        if operation == MEMORY {
            return check_memory(&open(1), if device.starts_with("cuda:") { 1000 } else { 5 });
        }
        let first = open(1);
        conformance::run_some(&first, Precision::Bf16, operation, 1);
        conformance::same_bits_some(&first, &open(2), operation, 1);
    };
    if catch_unwind(AssertUnwindSafe(check)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is too large is refused with what is free, and `rounds` of work leave as much free as the first.
fn check_memory(cuda: &Cuda, rounds: usize) {
    let error = cuda.zeros(1 << 50).expect_err("more than any device has");
    assert_eq!(error.bytes, 4 << 50);
    let work = || {
        let n = 1 << 16;
        let mut x = cuda.upload(&vec![1.0; n]).expect("memory");
        let mut dy = cuda.operand(n, Keep::Values).expect("memory");
        cuda.write_operand(&mut dy, &vec![1.0; n]);
        cuda.bias_forward(&mut x, &cuda.zeros(256).expect("memory"), 256, n / 256);
        cuda.bias_backward(&mut cuda.zeros(256).expect("memory"), &dy, 256, n / 256);
        assert_eq!(cuda.sums_of_squares(&[&x]), [n as f64]);
    };
    work();
    let free = cuda.free_memory();
    (0..rounds).for_each(|_| work());
    assert_eq!(cuda.free_memory(), free, "bytes free after {rounds} rounds, and before");
}
