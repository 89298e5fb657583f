//! Requests from those who mean harm: each is bounded and answered by an error, and the server goes on.

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use common::{Options, Served, response, user};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// Asks with these bytes, and gives the status; an answer with a body has OpenAI's shape.
fn status(server: &Served, body: &[u8]) -> u16 {
    let got = response(server.send("POST", CHAT, "", body));
    let error: Value = serde_json::from_str(&got.body).unwrap_or_else(|_| panic!("JSON: {}", got.body));
    assert!(error["error"]["message"].is_string() && error["error"]["type"].is_string(), "{error}");
    got.status
}

fn lives(server: &Served) {
    server.answer(CHAT, &json!({"messages": user("Hi"), "max_tokens": 1}));
}

#[test]
fn bodies_that_are_no_requests() {
    let server = Served::start(Options::default());
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long = json!({"messages": user(&"a ".repeat(1_000_000)), "max_tokens": 1}).to_string();
    let many: Value = (0..5000).map(|_| json!({"role": "user", "content": "a"})).collect();
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}",
        b"{\"messages\": [{\"role\": \"user\"}]}",
        b"{\"messages\": [{\"role\": 1, \"content\": []}]}",
        b"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {}}]}]}",
        b"{\"messages\": [1]}",
        deep.as_bytes(),
        long.as_bytes(),
        json!({"messages": many}).to_string().as_bytes(),
    ] {
        assert_eq!(status(&server, body), 400, "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
    }
    let ids: Vec<u32> = vec![1; 1_000_000];
    let (code, answer) = server.ask("/v1/completions", &json!({"prompt": ids}));
    assert_eq!((code, &answer["error"]["code"]), (400, &json!("context_length_exceeded")));
    let (code, _) = server.ask("/v1/completions", &json!({"prompt": [u32::MAX]}));
    assert_eq!(code, 400);
    lives(&server);
}

#[test]
fn bodies_that_are_too_large_or_never_come() {
    let server = Served::start(Options::default());
    let large = response(server.send("POST", CHAT, "", &vec![b' '; koan_serve::MAX_BODY_BYTES + 1]));
    assert!(matches!(large.status, 413 | 0), "{}", large.body); // or it was cut off before it was read
    // One that says less, or more, than it sends, and one that is chunked without end.
    let mut liar = TcpStream::connect(&server.address).expect("connected");
    let host = &server.address;
    write!(liar, "POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 99999999999\r\n\r\n{{")
        .expect("sent");
    let mut said = String::new();
    let _ = liar.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let mut endless = TcpStream::connect(&server.address).expect("connected");
    write!(endless, "POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("sent");
    let part = vec![b' '; 1 << 20];
    for _ in 0..16 {
        if write!(endless, "{:x}\r\n", part.len())
            .and_then(|()| endless.write_all(&part))
            .and_then(|()| endless.write_all(b"\r\n"))
            .is_err()
        {
            break; // it was refused
        }
    }
    endless.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let mut said = String::new();
    let _ = endless.read_to_string(&mut said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    lives(&server);
}

#[test]
fn hosts_and_origins_of_others() {
    let server = Served::start(Options::default());
    let host = server.address.clone();
    let say = |head: &str| {
        let mut stream = TcpStream::connect(&host).expect("connected");
        stream.write_all(head.as_bytes()).expect("sent");
        response(stream).status
    };
    assert_eq!(say("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"), 403);
    assert_eq!(say("GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n"), 400);
    assert_eq!(
        say(&format!(
            "GET /v1/models HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n"
        )),
        403
    );
    assert_eq!(
        say(&format!(
            "GET http://evil.example/v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )),
        400
    );
    assert_eq!(say(&format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")), 200);
    assert_eq!(say(&format!("DELETE /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")), 405);
    assert_eq!(
        say(&format!("GET /v1/../etc/passwd HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")),
        404
    );
    lives(&server);
}

#[test]
fn a_template_that_loops_is_ended() {
    let template = "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}";
    let server = Served::start(Options { template: Some(template), ..Options::default() });
    let ask = json!({"messages": user("Hi")}).to_string();
    assert_eq!(status(&server, ask.as_bytes()), 400);
    server.answer("/v1/completions", &json!({"prompt": "Hi", "max_tokens": 1}));
}

#[test]
fn who_does_not_read_does_not_hold_others_up() {
    let server = Served::start(Options { context: 4000, ..Options::default() });
    let long = json!({"messages": user("Hi"), "max_tokens": 3000, "stream": true, "logprobs": true, "top_logprobs": 20,
        "ignore_eos": true});
    let _open: Vec<TcpStream> =
        (0..4).map(|_| server.send("POST", CHAT, "", long.to_string().as_bytes())).collect();
    lives(&server);
}
