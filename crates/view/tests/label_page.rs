//! The labelling page in a real browser, with clicks and keys as people make them. Skipped where there is no Chromium.

mod chromium;

use std::{fs, path::PathBuf, sync::Arc, thread};

use chromium::{Browser, OVERFLOW};
use koan_view::{
    Server,
    label::{Labelling, Sharing, Wanted, derive::Ties},
};
use serde_json::{Value, json};

/// What a hostile model may write.
const HOSTILE: &str = "<img src=x onerror=\"window.owned = 1\"><script>window.owned = 1</script></pre></script>{{script}}\n\n\
                       [click](javascript:window.owned=1) ![p](http://evil.example/x.png) <https://evil.example>";

const RICH: &str = "<think>Half of 90 is 45, since $45 \\cdot 2 = 90$.</think>## The answer\n\nBy *definition*, **half** of $x$ is \\(\\frac{x}{2}\\):\n\n\
    $$\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}, \\qquad \\int_0^1 \\sqrt{x}\\,dx = \\tfrac{2}{3}$$\n\n\
    1. Take `90`.\n2. Divide:\n   - by 2,\n   - exactly.\n3. Check.\n\n| step | value |\n|---|---:|\n| start | 90 |\n| end | **45** |\n\n\
    ```python\ndef half(x):\n    return x / 2  # <b>not bold</b>\n```\n\n> A quote, costs $5 and $6.\n\n\\[\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}\\]\n\nSo $\\boxed{45}$.";

struct Site {
    folder: tempfile::TempDir,
    labelling: Arc<Labelling>,
    url: String,
}

impl Site {
    fn new(rows: &[Value], wanted: Wanted, sharing: Sharing) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        fs::write(path("rows.jsonl"), lines).expect("written");
        let labelling =
            Labelling::open(&path("rows.jsonl").into(), &path("prefs.jsonl"), wanted, sharing, Ties::Drop);
        let labelling = Arc::new(labelling.expect("opened"));
        let server = Server::bind("127.0.0.1", 0).expect("a port");
        let (url, routes) = (server.url(), labelling.routes());
        thread::spawn(move || server.run(routes));
        Self { folder, labelling, url }
    }

    fn votes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("prefs.votes.jsonl")).expect("votes");
        text.lines().skip(1).map(|line| serde_json::from_str(line).expect("a vote")).collect()
    }
}

const SHARING: Sharing = Sharing { votes_each: 1, repeat: 0.0 };
const HEADS: &str = "[...document.querySelectorAll('.answer .text')].map(n => n.textContent).join('|')";
const PROGRESS: &str = "document.querySelector('#progress').textContent";
const STATUS: &str = "document.querySelector('#status').textContent";
const TROUBLE: &str = "document.querySelector('#trouble').hidden";

fn plain(n: usize) -> Vec<Value> {
    (0..n).map(|i| json!({"prompt": format!("Question {i}?"), "completions": [format!("good {i}"), format!("bad {i}")]})).collect()
}

#[test]
fn people_vote_with_clicks_and_with_keys() {
    let Some(mut browser) = Browser::start() else { return };
    let site = Site::new(&plain(8), Wanted::default(), SHARING);
    browser.size(1280, 900);
    browser.call("Page.navigate", json!({"url": site.url}));

    // Who it is comes first; keys do nothing yet.
    browser.wait("document.activeElement?.id", &json!("name"));
    browser.type_text("Kim Ö.");
    browser.press("Enter");
    browser.wait(PROGRESS, &json!("0 done, 8 left · 0 of 8 by everybody"));
    assert_eq!(browser.eval("location.search"), json!("?name=Kim%20%C3%96."));

    // The button of the good answer, wherever it is.
    let is_first = browser.eval("document.querySelector('.answer .text').textContent.startsWith('good')");
    let better = if is_first == json!(true) { "a" } else { "b" };
    browser.click(&format!("[data-vote={better}]"));
    browser.wait(PROGRESS, &json!("1 done, 7 left · 1 of 8 by everybody"));
    assert_eq!(site.votes()[0]["vote"], "a", "the good answer is the first of its row");
    assert_eq!(site.votes()[0]["annotator"], "Kim Ö.");
    browser.wait(&format!("{STATUS}.startsWith('Kept: the')"), &json!(true));

    // The next pair is there before it is asked for.
    browser.wait("Boolean(page.held.get(page.keyOf(page.standing.next)))", &json!(true));
    let next =
        browser.eval("page.held.get(page.keyOf(page.standing.next)).then(item => item.answers.join('|'))");
    browser.press("1");
    browser.wait(HEADS, &next);
    browser.wait(PROGRESS, &json!("2 done, 6 left · 2 of 8 by everybody"));
    for (key, done) in [("ArrowRight", 3), ("t", 4), ("b", 5), ("s", 6)] {
        browser.press(key);
        browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!(done.to_string()));
    }
    let said: Vec<Value> = site.votes()[3..].iter().map(|vote| vote["vote"].clone()).collect();
    assert_eq!(said, [json!("tie"), json!("both_bad"), json!("skip")]);
    let last = &site.votes()[5];

    // Taken back, it is asked again; with a comment and a strength this time.
    browser.press("u");
    browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!("5"));
    assert_eq!(browser.eval("page.shown.item"), last["item"]);
    browser.press("8");
    browser.press("c");
    browser.wait("document.activeElement.id", &json!("comment"));
    browser.type_text("1 is clearer, but s and u are no keys here");
    browser.press("Enter");
    browser.press("2");
    browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!("6"));
    let vote = site.votes().pop().expect("a vote");
    assert_eq!(
        (&vote["strength"], &vote["comment"]),
        (&json!(2), &json!("1 is clearer, but s and u are no keys here"))
    );
    assert_eq!(browser.eval("document.querySelector('#comment').value"), json!(""));
    assert_eq!(browser.eval("document.querySelector('[name=strength]:checked').value"), json!(""));

    // Help, by its key; closed by Escape.
    browser.press("?");
    browser.wait("document.querySelector('#help').open", &json!(true));
    browser.picture("label-help");
    browser.press("1");
    browser.press("Escape");
    browser.wait("document.querySelector('#help').open", &json!(false));
    assert_eq!(site.votes().len(), 8, "no key votes behind the help");

    // To the end; a reload stays there, and the last vote can be taken back.
    browser.press("1");
    browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!("7"));
    browser.press("2");
    browser.wait("document.querySelector('#done').hidden", &json!(false));
    browser.call("Page.reload", json!({}));
    browser.wait("document.querySelector('#done')?.hidden", &json!(false));
    browser.wait("document.querySelector('#undo').disabled", &json!(false));
    browser.click("#undo");
    browser.wait("document.querySelector('#work').hidden", &json!(false));
    assert_eq!(site.labelling.derive().expect("derived").unvoted, 1);
}

#[test]
fn a_vote_that_could_not_be_kept_is_said_and_can_be_given_again() {
    let Some(mut browser) = Browser::start() else { return };
    let site = Site::new(&plain(3), Wanted::default(), SHARING);
    browser.size(1280, 900);
    browser.call("Page.navigate", json!({"url": format!("{}?name=kim", site.url)}));
    browser.wait(&format!("{HEADS}.length > 5"), &json!(true));
    let before = browser.eval(HEADS);
    browser.eval("window.real = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))");
    browser.press("1");
    browser.wait(TROUBLE, &json!(false));
    assert_eq!(browser.eval(HEADS), before);
    assert!(site.votes().is_empty());
    browser.eval("window.fetch = window.real");
    browser.press("1");
    browser.wait(TROUBLE, &json!(true));
    browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!("1"));

    // Two windows of one person: what was voted in the other is not voted on twice, and the page goes on.
    let now = "page.request('api/vote', {name: 'kim', ...page.shown, vote: 'tie', comment: '', seconds: 1}).then(told => told.mine)";
    assert_eq!(browser.eval(now), json!(2));
    browser.press("1");
    browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!("2"));
    browser.wait("document.querySelector('#trouble').textContent.includes('another window')", &json!(true));
    assert_eq!(site.votes().len(), 2);
}

#[test]
fn text_is_rendered_and_stays_text() {
    let Some(mut browser) = Browser::start() else { return };
    let long = format!("{}\n\n{}", "word ".repeat(30_000), HOSTILE);
    let rows = [
        json!({"prompt": "Half of $90$?", "a": RICH, "b": HOSTILE}),
        json!({"prompt": HOSTILE, "a": long, "b": ""}),
    ];
    let site = Site::new(&rows, Wanted::default(), SHARING);
    browser.size(1280, 900);
    browser.call("Page.navigate", json!({"url": format!("{}?name=kim", site.url)}));
    browser.wait("document.querySelectorAll('.answer').length", &json!(2));
    for n in 1..=2 {
        if browser.eval("document.querySelector('.answer math') !== null") == json!(true) {
            let texts = |selector: &str| {
                format!(
                    "[...document.querySelectorAll('.answer {selector}')].map(n => n.textContent).join('|')"
                )
            };
            browser.wait(&texts("h4"), &json!("The answer"));
            browser.wait(&texts("strong"), &json!("half|45"));
            browser.wait(&texts("ol > li > ul > li"), &json!("by 2,|exactly."));
            browser.wait(&texts("td"), &json!("start|90|end|45"));
            browser.wait(&texts("pre code"), &json!("def half(x):\n    return x / 2  # <b>not bold</b>"));
            browser.wait(&texts("blockquote"), &json!("A quote, costs $5 and $6."));
            browser.wait("document.querySelectorAll('.answer > .text math').length", &json!(5));
            browser.wait("document.querySelectorAll('.answer math[display=block]').length", &json!(2));
            browser.wait("document.querySelectorAll('.unread').length", &json!(0));
            browser.wait(
                "document.querySelector('.answer mfrac').getBoundingClientRect().height > 10",
                &json!(true),
            );
            // Thinking is folded, and its key opens it.
            browser.wait("document.querySelector('.thinking').open", &json!(false));
            browser.press("h");
            browser.wait("document.querySelector('.thinking').open", &json!(true));
            browser.wait(
                "document.querySelector('.thinking .text')?.textContent.startsWith('Half of 90 is 45')",
                &json!(true),
            );
            // The same typeface and width for both.
            let style = "new Set([...document.querySelectorAll('.answer .text')].filter(n => !n.closest('.thinking')).map(n => { \
                         const s = getComputedStyle(n); return [s.fontFamily, s.fontSize, s.lineHeight, s.color, n.clientWidth].join(); })).size";
            browser.wait(style, &json!(1));
        } else {
            browser.wait("document.querySelectorAll('.empty').length", &json!(1));
            browser.click(".answer .text button");
            browser.wait(
                "document.querySelector('pre.plain')?.textContent.endsWith('<https://evil.example>')",
                &json!(true),
            );
        }
        let asked = "[window.owned ?? 0, document.querySelectorAll('img, script, a, iframe').length, \
                     performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length].join()";
        browser.wait(asked, &json!("0,1,0"));
        browser.press("s");
        browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!(n.to_string()));
        browser.wait("page.isBusy", &json!(false));
    }
    browser.wait("document.querySelector('#done').hidden", &json!(false));
}

/// What the renderer makes of a text, as HTML.
fn rendered(browser: &mut Browser, text: &str) -> String {
    let html = browser.eval(&format!("el('div', {{}}, ...markdown({})).innerHTML", json!(text)));
    html.as_str().expect("HTML").to_owned()
}

#[test]
fn the_renderer_knows_its_subset_and_ends_on_anything() {
    let Some(mut browser) = Browser::start() else { return };
    let site = Site::new(&plain(1), Wanted::default(), SHARING);
    browser.call("Page.navigate", json!({"url": site.url}));
    browser.wait("typeof markdown", &json!("function"));
    for (text, html) in [
        (
            "a *b* **c** ***d*** _e_ __f__ ~~g~~ `h*i*`",
            "<p>a <em>b</em> <strong>c</strong> <strong><em>d</em></strong> <em>e</em> <strong>f</strong> <s>g</s> <code>h*i*</code></p>",
        ),
        ("snake_case_name 2 * 3 * 4 a_b_", "<p>snake_case_name 2 * 3 * 4 a_b_</p>"),
        ("# A\n### B ###\nc\nd  \ne", "<h3>A</h3><h5>B</h5><p>c\nd<br>e</p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b\n\ntext", "<ol start=\"3\"><li>a</li><li>b</li></ol><p>text</p>"),
        (
            "1. a\n\n   ```\n   x\n   ```\n2. b",
            "<ol start=\"1\"><li>a<pre class=\"code\" title=\"\" tabindex=\"0\"><code>x</code></pre></li><li>b</li></ol>",
        ),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("```js\nno end", "<pre class=\"code\" title=\"js\" tabindex=\"0\"><code>no end</code></pre>"),
        ("<b>x</b> &amp; \\*y\\*", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp; *y*</p>"),
        (
            "[a](http://b.example/c)",
            "<p><span class=\"link\">a<span class=\"quiet\"> (http://b.example/c)</span></span></p>",
        ),
        ("It costs $5, then $6.", "<p>It costs $5, then $6.</p>"),
        ("$$x", "<p>$$x</p>"),
        ("1984. A year", "<ol start=\"1984\"><li>A year</li></ol>"),
    ] {
        assert_eq!(rendered(&mut browser, text), html, "{text}");
    }
    let maths = |source: &str| format!("${source}$");
    for (source, part) in [
        ("x^2_1", "<msubsup><mi>x</mi><mn>1</mn><mn>2</mn></msubsup>"),
        ("x^12", "<msup><mi>x</mi><mn>1</mn></msup><mn>2</mn>"),
        ("\\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        ("\\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"),
        (
            "\\sum_{i}^n",
            "<munderover><mo largeop=\"true\" movablelimits=\"true\">∑</mo><mi>i</mi><mi>n</mi></munderover>",
        ),
        ("\\left(\\frac{a}{b}\\right)", "<mo fence=\"true\" stretchy=\"true\">(</mo><mfrac>"),
        (
            "\\text{if } x \\in \\mathbb{R}",
            "<mtext>if </mtext><mi>x</mi><mo stretchy=\"false\">∈</mo><mi>ℝ</mi>",
        ),
        ("f'(x)", "<msup><mi>f</mi><mo>′</mo></msup>"),
        ("\\begin{cases} 1 & x>0 \\\\ 0 \\end{cases}", "<mtable class=\"cases\""),
        ("1{,}000 \\times 5\\%", "<mo>%</mo>"),
        ("\\unknown{x}", "<mtext class=\"unread\">\\unknown</mtext>"),
        ("a \\le b \\ne c \\cdots", "<mo stretchy=\"false\">≤</mo>"),
    ] {
        let html = rendered(&mut browser, &maths(source));
        assert!(html.contains(part) && html.contains("<math"), "{source}: {html}");
    }
    for wrong in ["\\frac{1}", "{x", "x}", "\\left( x", "\\begin{matrix} a", "a & b", "\\right)"] {
        let html = rendered(&mut browser, &maths(wrong));
        assert!(html.contains("<code class=\"unread\">"), "{wrong}: {html}");
    }
    // Nothing that a model may write keeps the page from answering.
    for piece in [
        "*",
        "`",
        "_",
        "$",
        "[",
        "(",
        "\\\\(",
        "> ",
        "- ",
        "# ",
        "|",
        "~",
        "**a",
        "$a",
        "![",
        "\\\\frac{",
        "{",
        "\\\\left(",
        "*a ",
        " ",
        "\\n",
        "1. ",
        "|-",
        "| - ",
    ] {
        let script = format!(
            "(() => {{ const start = performance.now(); markdown('{piece}'.repeat({})); return performance.now() - start; }})()",
            60_000 / piece.replace("\\\\", "\\").len()
        );
        let ms = browser.eval(&script).as_f64().expect("milliseconds");
        assert!(ms < 3000.0, "{piece:?}: {ms} ms");
    }
    let random = "(() => { let seed = 7; const next = n => (seed = (seed * 48271) % 2147483647) % n; \
        const parts = ['*', '**', '_', '`', '```', '\\n', '\\n\\n', ' ', '$', '$$', '\\\\(', '\\\\)', '\\\\[', '\\\\]', '# ', '- ', '1. ', '> ', '|', '|-|', \
        '[', '](', ')', '\\\\frac', '{', '}', '^', '_', '\\\\left', '\\\\right', '\\\\begin{aligned}', '\\\\end{aligned}', '&', '\\\\\\\\', 'word', '\\ud83d\\ude42', '\\\\sqrt', '\\\\text']; \
        for (let i = 0; i < 3000; i++) { let text = ''; for (let j = next(40); j >= 0; j--) text += parts[next(parts.length)]; \
        const node = el('div', {}, ...markdown(text)); if (node.querySelector('script, img, a')) return text; } return 'fine'; })()";
    assert_eq!(browser.eval(random), json!("fine"));
}

#[test]
fn answers_are_rated_one_by_one() {
    let Some(mut browser) = Browser::start() else { return };
    for (scale, keys, said) in
        [(2, ["2", "ArrowLeft"], [json!("good"), json!("bad")]), (7, ["7", "3"], [json!(7), json!(3)])]
    {
        let rows = [json!({"prompt": "p", "completions": ["one", "two"]})];
        let site = Site::new(&rows, Wanted { rate: Some(scale), ..Wanted::default() }, SHARING);
        browser.size(1280, 900);
        browser.call("Page.navigate", json!({"url": format!("{}?name=kim", site.url)}));
        browser.wait("document.querySelectorAll('.answer').length", &json!(1));
        browser.wait("[...document.querySelectorAll('#votes button')].length", &json!(scale));
        browser.picture(&format!("label-rate-{scale}"));
        for (key, n) in keys.iter().zip(1..) {
            browser.press(key);
            browser.wait(&format!("{PROGRESS}.split(' ')[0]"), &json!(n.to_string()));
        }
        let votes: Vec<Value> = site.votes().iter().map(|vote| vote["vote"].clone()).collect();
        assert_eq!(votes, said);
    }
}

#[test]
fn the_page_fits_a_phone_and_a_desk_in_the_light_and_in_the_dark() {
    let Some(mut browser) = Browser::start() else { return };
    let other = "Half of 90 is **45**. To see it, split 90 into two equal parts:\n\n$$90 = 45 + 45$$\n\nEach part is 45, so the answer is $45$.";
    let site = Site::new(
        &[
            json!({"prompt": "What is half of $90$? Explain briefly, and check the result.", "a": RICH, "b": other}),
        ],
        Wanted::default(),
        SHARING,
    );
    for (device, width, height) in [("phone", 390, 844), ("desk", 1280, 900)] {
        for theme in ["light", "dark"] {
            browser.size(width, height);
            browser.theme(theme);
            browser.call("Page.navigate", json!({"url": site.url}));
            browser.wait("document.activeElement?.id", &json!("name"));
            browser.wait(OVERFLOW, &json!(0));
            browser.picture(&format!("label-name-{device}-{theme}"));
            browser.call("Page.navigate", json!({"url": format!("{}?name=kim", site.url)}));
            browser.wait("document.querySelectorAll('.answer').length", &json!(2));
            browser.wait(OVERFLOW, &json!(0));
            browser.picture(&format!("label-{device}-{theme}"));
            // Every control can be touched, and none is cut off or under another.
            let controls = "[...document.querySelectorAll('#controls button, #controls input, header button')].filter(n => n.offsetParent).every(n => { \
                const box = n.getBoundingClientRect(); \
                const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2); \
                return box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight && (n.contains(at) || n.closest('label')?.contains(at)); })";
            browser.wait(controls, &json!(true));
            let large = "[...document.querySelectorAll('#votes button')].every(n => n.getBoundingClientRect().height >= 40)";
            browser.wait(large, &json!(true));
            // The last line of the answers can be scrolled above the controls.
            let clear = "(() => { scrollTo(0, 1e6); const end = Math.max(...[...document.querySelectorAll('.answer')].map(n => n.getBoundingClientRect().bottom)); \
                         return end <= document.querySelector('#controls').getBoundingClientRect().top; })()";
            browser.wait(clear, &json!(true));
        }
    }
    // Buttons and fields have names, and keys reach them in order.
    let named = "[...document.querySelectorAll('button, input')].filter(n => n.offsetParent).every(n => (n.textContent || n.labels?.[0]?.textContent || '').trim())";
    browser.wait(named, &json!(true));
}
