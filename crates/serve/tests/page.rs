//! The chat page in a real browser: headless Chromium. Skipped where there is none.

#[path = "../../view/tests/chromium/mod.rs"]
mod chromium;
mod common;

use std::time::Duration;

use chromium::{Browser, OVERFLOW};
use common::{Options, Served};
use serde_json::json;

/// Presses Alt with a letter.
fn alt(browser: &mut Browser, letter: char) {
    let code = format!("Key{}", letter.to_ascii_uppercase());
    for kind in ["keyDown", "keyUp"] {
        let key = json!({"type": kind, "key": letter.to_string(), "code": code, "modifiers": 1});
        browser.call("Input.dispatchKeyEvent", key);
    }
}

fn open(browser: &mut Browser, server: &Served) {
    browser.call("Page.navigate", json!({"url": format!("http://{}/", server.address)}));
    browser.wait("document.querySelector('#left')?.value", &json!("koan-tiny"));
}

const REPLIES: &str = "document.querySelectorAll('.reply').length";
const WHOLE: &str = "[...document.querySelectorAll('.reply')].every(reply => reply.querySelector('.again'))";
const SEND: &str = "document.getElementById('send').textContent";
const CONTENTS: &str =
    "JSON.stringify([...document.querySelectorAll('.content')].map(node => node.textContent))";

#[test]
fn a_conversation_by_the_keyboard_with_two_models_side_by_side() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Served::start(Options { models: 2, context: 3000, ..Options::default() });
    browser.size(1280, 900);
    open(&mut browser, &server);
    browser
        .eval("document.getElementById('max_tokens').value = 40; document.getElementById('seed').value = 3;");
    browser.picture("serve-empty");

    // What is typed stays text.
    browser.eval("document.getElementById('text').focus()");
    browser.type_text("<img src=x onerror=\"window.owned = 1\">Hi");
    browser.press("Enter");
    browser.wait(&format!("{REPLIES} === 1 && {WHOLE} && {SEND}"), &json!("Send"));
    assert_eq!(
        browser.eval("document.querySelector('.said').textContent"),
        "<img src=x onerror=\"window.owned = 1\">Hi"
    );
    assert_eq!(
        browser.eval("[typeof window.owned, document.querySelectorAll('main img').length].join()"),
        "undefined,0"
    );
    assert!(
        browser
            .eval("document.querySelector('.foot').textContent")
            .as_str()
            .is_some_and(|foot| foot.contains("seed 3"))
    );

    // The same seed, the same reply.
    let before = browser.eval(CONTENTS);
    alt(&mut browser, 'r');
    browser.wait(&format!("{SEND} === 'Send' && {CONTENTS}"), &before);

    // Two models; the second sees the conversation so far.
    browser.eval("document.getElementById('right').value = 'koan-tiny-2'");
    browser.eval("document.getElementById('text').focus()");
    browser.type_text("And now?");
    browser.press("Enter");
    browser.wait(&format!("{REPLIES} === 3 && {WHOLE} && {SEND}"), &json!("Send"));
    let who = "[...document.querySelectorAll('.who')].map(node => node.textContent).join()";
    assert_eq!(browser.eval(who), "koan-tiny,koan-tiny,koan-tiny-2");
    assert_eq!(
        browser.eval("[...document.querySelectorAll('.wrong')].map(node => node.textContent).join('')"),
        ""
    );
    let markdown = browser.eval("markdown()");
    assert!(
        markdown
            .as_str()
            .is_some_and(|text| text.contains("**User:** And now?") && text.contains("**koan-tiny-2:**"))
    );
    browser.picture("serve-two");

    // A reply is stopped, and goes on to be a part of the conversation. One that is whole before is followed by another.
    browser.eval("document.getElementById('right').value = 'none'; document.getElementById('max_tokens').value = 2500;");
    let stopped = (0..20).any(|_| {
        browser.eval("document.getElementById('text').focus()");
        browser.type_text("Much");
        // The key is pressed within the page: a reply of so small a model is whole sooner than a message comes from outside.
        browser.eval(&format!(
            "new MutationObserver((_, observer) => {{ \
             if ({SEND} === 'Stop' && [...document.querySelectorAll('.content')].at(-1)?.textContent.length > 0) {{ \
             observer.disconnect(); \
             document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Escape', bubbles: true}})); }} }}) \
             .observe(document.body, {{subtree: true, childList: true, characterData: true}}); true"
        ));
        browser.press("Enter");
        browser.wait(SEND, &json!("Send"));
        let foot = browser.eval("[...document.querySelectorAll('.foot')].at(-1).textContent");
        foot.as_str().is_some_and(|foot| foot.contains("stopped"))
    });
    assert!(stopped);

    // On a phone.
    browser.size(390, 780);
    assert_eq!(browser.eval(OVERFLOW), json!(0));
    browser.picture("serve-phone");
    alt(&mut browser, 's');
    browser.wait("document.getElementById('dialog').open", &json!(true));
    browser.picture("serve-settings");
    assert_eq!(browser.eval(OVERFLOW), json!(0));
    browser.press("Escape");
    alt(&mut browser, 'n');
    browser.wait(REPLIES, &json!(0));
    browser.size(1280, 900);
    browser.theme("dark");
    browser.picture("serve-dark");
}

#[test]
fn thinking_is_folded() {
    let Some(mut browser) = Browser::start() else { return };
    let template =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|><think>\n";
    let server = Served::start(Options {
        template: Some(template),
        timeout: Duration::from_secs(300),
        ..Options::default()
    });
    browser.size(1280, 900);
    open(&mut browser, &server);
    browser.eval("document.getElementById('max_tokens').value = 60; document.getElementById('text').focus()");
    browser.type_text("Hi");
    browser.press("Enter");
    browser.wait(&format!("{REPLIES} === 1 && {WHOLE} && {SEND}"), &json!("Send"));
    let shown = "(() => { const d = document.querySelector('.thinking'); return [d.hidden, d.open, d.querySelector('div').textContent.length > 10].join(); })()";
    assert_eq!(browser.eval(shown), "false,false,true");
    browser.click(".thinking summary");
    browser.wait(shown, &json!("false,true,true"));
    browser.picture("serve-thinking");
}

#[test]
fn a_server_with_a_key_says_that_it_needs_one() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Served::start(Options { key: Some("sesame"), ..Options::default() });
    browser.call("Page.navigate", json!({"url": format!("http://{}/", server.address)}));
    browser.wait("document.getElementById('status')?.textContent", &json!("This server needs a key: Alt+S."));
    browser.eval("document.getElementById('key').value = 'sesame'; document.getElementById('key').dispatchEvent(new Event('change'))");
    browser.wait("document.querySelector('#left').value", &json!("koan-tiny"));
}
