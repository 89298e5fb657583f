//! The server over loopback: what it answers, and what it does with clients that mean harm.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use koan_view::{MAX_CONNECTIONS, Server, ViewError, Viewer};

/// A served run of one step; the address it is at.
struct Site {
    folder: tempfile::TempDir,
    address: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        fs::create_dir_all(run.join("rollouts")).expect("a folder");
        fs::write(folder.path().join("secret"), "secret").expect("written");
        fs::write(run.join("secret"), "secret").expect("written");
        fs::write(run.join("config.toml"), "steps = 2\n").expect("written");
        fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.5}\n").expect("written");
        let line = "{\"id\":\"a\",\"completion\":\"</script><script>alert(1)</script>\",\"rewards\":[{\"outcome\":\"wrong\"}]}\n";
        fs::write(run.join("rollouts/step-000001.jsonl"), line).expect("written");
        let viewer = Viewer::open(&[run]).expect("a run");
        let server = Server::bind("127.0.0.1", 0).expect("a port");
        let address = server.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        thread::spawn(move || server.run(viewer.routes()));
        Self { folder, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    /// The answer to raw bytes.
    fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        // The server may refuse, and close, before all is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {answer:?}")), answer)
    }

    fn get(&self, target: &str) -> (u16, String) {
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }
}

#[test]
fn the_run_is_served() {
    let site = Site::new();
    let (status, page) = site.get("/");
    let (head, _) = page.split_once("\r\n\r\n").expect("a head");
    assert_eq!(status, 200);
    for part in ["default-src 'none'", "script-src 'sha256-", "nosniff", "frame-ancestors 'none'", "no-store"]
    {
        assert!(head.contains(part), "{head}");
    }
    assert!(site.get("/api/run").1.contains("\"rollouts\":[[1,1]]"));
    assert!(site.get("/api/metrics?from=0&mark=").1.contains("[\"step\",\"reward\"],\"rows\":[[1,0.5]]"));
    let (_, csv) = site.get("/metrics.csv?run=run");
    assert!(
        csv.contains("filename=\"run.csv\"")
            && csv.contains("\r\nstep,reward\r\n")
            && csv.contains("\r\n1,0.5\r\n"),
        "{csv}"
    );
    assert!(site.get("/api/rollouts?step=1&outcome=wrong").1.contains("alert(1)"));
    assert!(site.get("/api/rollouts?step=1&outcome=correct").1.contains("\"matched\":0"));
}

#[test]
fn no_path_leads_to_a_file() {
    let site = Site::new();
    assert!(site.folder.path().join("secret").exists());
    for path in [
        "/secret",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//secret",
        "/config.toml",
        "/metrics.jsonl",
        "/rollouts/step-000001.jsonl",
        "/api/run/../../secret",
        "/api/rollouts/1",
        "/\\secret",
        "/api/run%00",
        "/api/run?run=../run",
        "/api/run?run=..%2Fsecret",
        "/metrics.csv?run=%2Fetc",
        "/api/metrics?run=run/../secret",
        "/api/differences?run=secret",
    ] {
        let (status, answer) = site.get(path);
        assert!(status == 404 || status == 400, "{path}: {status}");
        assert!(!answer.contains("secret\n") && !answer.ends_with("secret"), "{path}");
    }
    for query in [
        "step=../../secret",
        "step=%2e%2e%2fsecret",
        "step=-1",
        "step=99999999999999999999",
        "step=1e3",
        "step=",
        "",
        "step=1&limit=x",
        "step=1&sort=%3Cscript%3E",
        "step=1&file=/etc/passwd",
        "step=1&step",
        "step=1&text=%ff",
    ] {
        let (status, answer) = site.get(&format!("/api/rollouts?{query}"));
        assert_eq!(status, 400, "{query}: {answer}");
        assert!(!answer.contains("text/html"), "{answer}");
    }
    for query in ["from=-1", "from=x", "to=3"] {
        assert_eq!(site.get(&format!("/api/metrics?{query}")).0, 400, "{query}");
    }
    assert_eq!(site.get("/api/rollouts?step=2").0, 404);
    assert_eq!(site.get("/api/run?x=1").0, 400);
    // A place beyond the file's end is one in a file that is no more.
    let (status, answer) = site.get(&format!("/api/metrics?from={}&mark=zz", u64::MAX));
    assert!(status == 200 && answer.contains("\"restarted\":true"), "{answer}");
}

#[test]
fn only_get_and_only_for_this_host() {
    let site = Site::new();
    let port = site.address.rsplit(':').next().expect("a port");
    for (method, host, status) in [
        ("GET", format!("localhost:{port}"), 200),
        ("GET", format!("[::1]:{port}"), 200),
        ("GET", format!("attacker.example:{port}"), 403),
        ("GET", format!("127.0.0.1.attacker.example:{port}"), 403),
        ("GET", format!("localhost.attacker.example:{port}"), 403),
        ("GET", format!("localhost.:{port}"), 403),
        ("GET", format!("127.0.0.1.:{port}"), 403),
        ("GET", format!("[::2]:{port}"), 403),
        ("GET", format!("[::ffff:127.0.0.1]:{port}"), 403),
        ("GET", format!("::1:{port}"), 403),
        ("GET", "localhost".into(), 403),
        ("GET", "127.0.0.1".into(), 403),
        ("GET", "localhost:1".into(), 403),
        ("GET", format!("127.0.0.1:0{port}"), 403),
        ("GET", format!("127.0.0.1:{port}@attacker.example"), 403),
        ("POST", site.address.clone(), 405),
        ("HEAD", site.address.clone(), 405),
        ("DELETE", site.address.clone(), 405),
    ] {
        let request = format!("{method} /api/run HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbody");
        let (answered, answer) = site.raw(request.as_bytes());
        assert_eq!(answered, status, "{method} {host}");
        assert_eq!(answer.contains("\"state\""), status == 200, "{answer}");
    }
    assert_eq!(site.raw(b"GET / HTTP/1.1\r\n\r\n").0, 400);
    let twice = format!("GET / HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\n\r\n", site.address);
    assert_eq!(site.raw(twice.as_bytes()).0, 400);
    assert_eq!(site.raw(b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 400);
    assert_eq!(site.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").0, 400);
}

#[test]
fn only_pages_of_this_origin() {
    let site = Site::new();
    let port = site.address.rsplit(':').next().expect("a port");
    let own = format!("http://{}", site.address);
    for (origin, status) in [
        (own.clone(), 200),
        ("null".into(), 403),
        ("http://attacker.example".into(), 403),
        (format!("http://127.0.0.1.attacker.example:{port}"), 403),
        (format!("http://localhost.attacker.example:{port}"), 403),
        (format!("http://localhost:{port}"), 403),
        (format!("http://127.0.0.1.:{port}"), 403),
        (format!("http://[::1]:{port}"), 403),
        ("http://127.0.0.1".into(), 403),
        ("http://127.0.0.1:1".into(), 403),
        (format!("https://{}", site.address), 403),
        (format!("{own}/"), 403),
        (format!("{own}\r\nOrigin: {own}"), 403),
    ] {
        let request = format!("GET /api/run HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\n\r\n", site.address);
        let (answered, answer) = site.raw(request.as_bytes());
        assert_eq!(answered, status, "{origin}");
        assert_eq!(answer.contains("\"state\""), status == 200, "{answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
}

#[test]
fn heads_are_bounded_in_size_and_time() {
    let site = Site::new();
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(site.raw(long.as_bytes()).0, 431);
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(1000));
    assert_eq!(site.raw(many.as_bytes()).0, 431);

    // A client that sends a byte now and then, and others that send nothing, hold up nobody else.
    let idle: Vec<TcpStream> = (0..8).map(|_| site.connect()).collect();
    let start = Instant::now();
    let mut slow = site.connect();
    slow.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    assert_eq!(site.get("/api/run").0, 200);
    let mut answer = String::new();
    let dribble = slow.try_clone().expect("cloned");
    let dribbling = thread::spawn(move || {
        let mut stream = dribble;
        while stream.write_all(b"x").is_ok() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(500));
        }
    });
    let _ = slow.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    dribbling.join().expect("joined");
    drop(idle);
}

#[test]
fn more_clients_than_there_are_places_are_turned_away_and_later_served() {
    let site = Site::new();
    let crowd: Vec<TcpStream> = (0..MAX_CONNECTIONS + 8).map(|_| site.connect()).collect();
    let mut turned_away = site.connect();
    let mut answer = Vec::new();
    let _ = turned_away.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", site.address).as_bytes());
    let _ = turned_away.read_to_end(&mut answer);
    assert!(answer.is_empty());
    drop(crowd);
    let start = Instant::now();
    loop {
        let mut stream = site.connect();
        let _ =
            stream.write_all(format!("GET /api/run HTTP/1.1\r\nHost: {}\r\n\r\n", site.address).as_bytes());
        let mut answer = Vec::new();
        if stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "places are given back");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_taken_port_is_an_error_with_a_remedy() {
    let site = Site::new();
    let port = site.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let error = Server::bind("127.0.0.1", port).expect_err("taken");
    assert!(matches!(error, ViewError::Bind { .. }) && error.to_string().contains("--port 0"), "{error}");
}
