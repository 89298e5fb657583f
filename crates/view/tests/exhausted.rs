//! The server where the system or its readers give it little: few descriptors, readers that do not read, and crowds that come
//! again and again. It runs in a process of its own, this test's program again, so that limits and memory are its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_view::{Server, Viewer};

/// Which run the child serves.
const RUN: &str = "KOAN_VIEW_TEST_RUN";

/// The child: serves a run until it is killed. No test by itself.
#[test]
fn child() {
    let Ok(run) = std::env::var(RUN) else { return };
    let viewer = Viewer::open(&[run.into()]).expect("a run");
    let server = Server::bind("127.0.0.1", 0).expect("a port");
    println!("\nserving {}", server.url());
    server.run(viewer.routes());
}

struct Site {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Site {
    /// Serves a run with `metrics` and one step's `rollouts`, with at most `descriptors` open at once.
    fn new(descriptors: u32, metrics: &str, rollouts: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("metrics.jsonl"), metrics).expect("written");
        fs::create_dir(folder.path().join("rollouts")).expect("a folder");
        fs::write(folder.path().join("rollouts/step-000001.jsonl"), rollouts).expect("written");
        let mut process = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" child --exact --nocapture")])
            .arg(std::env::current_exe().expect("this program"))
            .env(RUN, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let said = lines.find_map(|line| line.ok()?.strip_prefix("serving http://").map(ToOwned::to_owned));
        let address = said.expect("an address").trim_end_matches('/').to_owned();
        Self { process, address, _folder: folder }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    fn ask(&self, target: &str) -> TcpStream {
        let mut stream = self.connect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let _ = stream.write_all(request.as_bytes());
        stream
    }

    /// The status of an answer; none if there was no answer.
    fn status(&self, target: &str) -> Option<u16> {
        let mut answer = Vec::new();
        if let Err(e) = self.ask(target).read_to_end(&mut answer) {
            eprintln!("{target}: {e}");
        }
        String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
    }

    fn stat(&self, name: &str) -> String {
        fs::read_to_string(Path::new("/proc").join(self.process.id().to_string()).join(name))
            .expect("a process")
    }

    /// Memory of the process, MiB.
    fn memory(&self) -> u64 {
        let status = self.stat("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }

    /// The processor's time that the process has used, ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = self.stat("stat");
        let (_, after) = stat.rsplit_once(')').expect("a name");
        after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    fn wait_until_answered(&self) {
        let start = Instant::now();
        while self.status("/api/run") != Some(200) {
            assert!(start.elapsed() < Duration::from_secs(30), "it answers again");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn without_descriptors_it_waits_and_goes_on() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let mut site = Site::new(24, "{\"step\":1,\"reward\":0.5}\n", "");
    site.wait_until_answered();
    // More clients than descriptors, and none says anything.
    let crowd: Vec<TcpStream> = (0..60).map(|_| site.connect()).collect();
    thread::sleep(Duration::from_millis(300));
    let before = site.ticks();
    thread::sleep(Duration::from_secs(2));
    assert!(site.ticks() - before < 50, "it does not spin: {} ticks in two seconds", site.ticks() - before);
    assert!(site.process.try_wait().expect("a process").is_none(), "it lives");
    // It answers while the crowd is still there, whose clients say nothing for too long, and after.
    site.wait_until_answered();
    drop(crowd);
    site.wait_until_answered();
    assert_eq!(site.status("/api/metrics"), Some(200));
}

#[test]
fn readers_that_do_not_read_cost_bounded_memory() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let step = |i: u32| {
        format!("{{\"step\":{i},\"reward\":0.123456789,\"loss\":0.00123456789,\"pad\":\"{i:060}\"}}\n")
    };
    let metrics: String = (1..=60_000).map(step).collect();
    let line = format!("{{\"id\":\"a\",\"completion\":\"{}\",\"rewards\":[]}}\n", "x".repeat(4 << 20));
    let site = Site::new(1024, &metrics, &line.repeat(2));
    site.wait_until_answered();
    let targets = ["/api/rollouts?step=1", "/api/metrics", "/metrics.csv"];
    let slow: Vec<TcpStream> = (0..96).map(|i| site.ask(targets[i % 3])).collect();
    let mut most = 0;
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(100));
        most = most.max(site.memory());
    }
    // 96 answers would be some 200 MiB; what is held at once is 64.
    assert!(most < 200, "{most} MiB");
    // Who reads is answered meanwhile.
    let start = Instant::now();
    assert_eq!(site.status("/api/run"), Some(200));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(slow);
    site.wait_until_answered();
    assert_eq!(site.status("/metrics.csv"), Some(200));
}

#[test]
fn sixty_four_readers_that_come_again_and_again_are_all_answered() {
    let site = Site::new(1024, "{\"step\":1,\"reward\":0.5}\n", "");
    site.wait_until_answered();
    thread::scope(|scope| {
        for i in 0..64 {
            let site = &site;
            scope.spawn(move || {
                for round in 0..20 {
                    if (i + round) % 4 == 0 {
                        // One that leaves before its answer.
                        drop(site.ask("/api/metrics"));
                    }
                    assert_eq!(site.status("/api/run"), Some(200));
                }
            });
        }
    });
    if cfg!(target_os = "linux") {
        thread::sleep(Duration::from_millis(500));
        let open = fs::read_dir(format!("/proc/{}/fd", site.process.id())).expect("a process").count();
        assert!(open < 64, "{open} descriptors are left open");
    }
}
