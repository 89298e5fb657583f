//! Pages as sites of many kinds build them, and pages that mean harm.

use koan_mine::extract::{Extracted, Hints, Limit, Limits, Skip, extract};
use koan_mine::prefilter::looks_like_maths;

fn read_bytes(html: &[u8], content_type: Option<&str>) -> Result<Extracted, Skip> {
    extract(html, &Hints { content_type, url: "" }, &Limits::default())
}

fn text_of(html: &str) -> String {
    read_bytes(html.as_bytes(), None).map(|page| page.text).unwrap_or_default()
}

/// Every page of `tests/pages` keeps what `expected.json` says, and drops what is around it.
#[test]
fn pages_of_many_kinds_of_sites() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages");
    let expected = std::fs::read_to_string(folder.join("expected.json")).expect("it is beside this file");
    let expected: serde_json::Value = serde_json::from_str(&expected).expect("it is JSON");
    let mut wrong = Vec::new();
    for (name, want) in expected.as_object().expect("an object of pages") {
        let html = std::fs::read(folder.join(format!("{name}.html"))).expect("each page named is there");
        let page = read_bytes(&html, None).expect("each has content");
        let strings = |key: &str| {
            want[key].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect::<Vec<_>>()
        };
        wrong.extend(
            strings("keeps")
                .into_iter()
                .filter(|text| !page.text.contains(text))
                .map(|text| format!("{name} lost: {text}")),
        );
        wrong.extend(
            strings("drops")
                .into_iter()
                .filter(|text| page.text.contains(text))
                .map(|text| format!("{name} has: {text}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hidden_text_is_dropped() {
    for hidden in [
        "<div style='display:none'>SECRET text that nobody sees.</div>",
        "<p style='color:red; Display : NONE !important'>SECRET text that nobody sees.</p>",
        "<div hidden>SECRET text that nobody sees.</div>",
        "<p style='visibility:hidden'>SECRET text that nobody sees.</p>",
        "<template><p>SECRET text that nobody sees.</p></template>",
        "<!-- SECRET text that nobody sees. -->",
        "<script>var a = 'SECRET text that nobody sees.'</script>",
        "<script type='application/json'>{\"a\": \"SECRET\"}</script>",
        "<style>a:before{content:'SECRET'}</style>",
        "<noscript>SECRET text that nobody sees.</noscript>",
        "<span class='sr-only'>SECRET text that nobody sees.</span>",
        "<div aria-hidden='true'>SECRET text that nobody sees.</div>",
        "<iframe>SECRET text that nobody sees.</iframe><select><option>SECRET</select>",
        "<textarea>SECRET text that nobody sees.</textarea><button>SECRET</button>",
        "<svg><title>SECRET</title><text>SECRET text that nobody sees.</text></svg>",
        "<p style='font-size:0'>SECRET text that nobody sees.</p>",
    ] {
        let text = text_of(&format!(
            "<p>A sentence that is seen by all.</p>{hidden}<p>Another sentence that is seen by all.</p>"
        ));
        assert!(!text.contains("SECRET") && text.contains("Another sentence"), "{hidden}: {text}");
    }
}

#[test]
fn mathml_becomes_latex() {
    for (mathml, latex) in [
        ("<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", r"\frac{a}{b+1}"),
        (
            "<msup><mi>x</mi><mn>2</mn></msup><mo>&#x2212;</mo><msub><mi>y</mi><mi>i</mi></msub>",
            "x^{2}-y_{i}",
        ),
        (
            "<munderover><mo>&sum;</mo><mrow><mi>k</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>k</mi>",
            r"\sum_{k=1}^{n}k",
        ),
        (
            "<munder><mo>lim</mo><mrow><mi>x</mi><mo>→</mo><mn>0</mn></mrow></munder><mi>f</mi>",
            r"\lim_{x\rightarrow0}f",
        ),
        ("<msqrt><mn>2</mn></msqrt><mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt{2}\sqrt[3]{x}"),
        ("<mo>(</mo><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>", r"\binom{n}{k}"),
        (
            "<mo>(</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd><mtd><mn>4</mn></mtd></mtr></mtable><mo>)</mo>",
            r"\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix}",
        ),
        (
            "<mo>{</mo><mtable><mtr><mtd><mi>a</mi></mtd></mtr><mtr><mtd><mi>b</mi></mtd></mtr></mtable>",
            r"\begin{cases}a \\ b\end{cases}",
        ),
        (
            "<mover><mi>x</mi><mo>^</mo></mover><mover><mi>v</mi><mo>→</mo></mover><mover><mi>z</mi><mo>¯</mo></mover>",
            r"\hat{x}\vec{v}\overline{z}",
        ),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>α</mi><mi>x</mi>", r"\sin\alpha x"),
        (
            "<mi mathvariant='double-struck'>R</mi><mo>∈</mo><mi mathvariant='bold'>v</mi>",
            r"\mathbb{R}\in\mathbf{v}",
        ),
        ("<mrow><mi>f</mi><mo>′</mo></mrow><mo>≤</mo><msup><mi>g</mi><mo>′</mo></msup>", r"f'\leq g'"),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced><mtext> if </mtext><mi>c</mi>", r"(a,b)\text{ if }c"),
        (
            "<mmultiscripts><mi>C</mi><mi>k</mi><none/><mprescripts/><mi>n</mi><none/></mmultiscripts>",
            "{}_{n}C_{k}",
        ),
        ("<mn>5</mn><mo>%</mo><mi>𝑥</mi><mi>𝔽</mi>", r"5\%x\mathbb{F}"),
        (
            "<munder><munder><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mo>⏟</mo></munder><mi>c</mi></munder>",
            r"{\underbrace{a+b}}_{c}",
        ),
        ("<mrow><mi>x</mi>", "x"),
        ("", ""),
    ] {
        let text = text_of(&format!("<p>A formula <math>{mathml}</math> stands here, in a sentence.</p>"));
        let want = if latex.is_empty() {
            "A formula stands".to_owned()
        } else {
            format!("A formula ${latex}$ stands")
        };
        assert!(text.contains(&want), "{mathml}: {text}");
    }
}

#[test]
fn delimiters_count_where_the_page_says_so() {
    let with = |head: &str, body: &str| {
        text_of(&format!("<head>{head}</head><p>Here {body} is the thing, as we shall see.</p>"))
    };
    let dollars = r#"<script>MathJax = {tex: {inlineMath: [["$", "$"], ["\\(", "\\)"]]}}</script>"#;
    assert!(with(dollars, "$n$ and $k$").contains("Here $n$ and $k$ is"));
    assert!(with(dollars, r"\$5 and $x$").contains(r"Here \$5 and $x$ is"));
    assert!(with("", r"\(a_1\) or \[b^2\]").contains("Here $a_1$ or\n$$b^2$$"));
    assert!(
        with("", r"\begin{align*}a&amp;=b\\c&amp;&lt;d\end{align*}")
            .contains(r"$$\begin{align*}a&=b\\c&<d\end{align*}$$")
    );
    assert!(with("", r"\begin{equation}x=1\end{equation}").contains("$$x=1$$"));
    assert!(with("", "<code>$a_1$</code> and `x`").contains("Here $a_1$ and `x` is"));
    let own = r"<script>renderMathInElement(document.body, {delimiters: [{left: '%%', right: '%%', display: false}]})</script>";
    assert!(with(own, "%%y^2%%").contains("Here $y^2$ is"));
    let page =
        read_bytes(b"<p>It costs $5 to $10, and x_1 or $HOME cost US$20 more than \\d+ did.</p>", None)
            .expect("text");
    assert_eq!(
        (page.formulas, page.text.as_str()),
        (0, "It costs $5 to $10, and x_1 or $HOME cost US$20 more than \\d+ did.")
    );
}

/// A sentence in each charset: declared rightly, wrongly or not at all.
#[test]
fn charsets_are_found() {
    let long = |text: &str| {
        format!("<html><head><title>t</title></head><body><p>{}</p></body></html>", [text; 4].join(" "))
    };
    for (label, text) in [
        ("windows-1252", "Où est l’élève? À la fenêtre, où l’été s’achève déjà; Noël est passé."),
        ("iso-8859-15", "Le cœur de l'élève bat très fort, et la sœur a payé dix euros à l'hôtel."),
        ("windows-1251", "Всякая непрерывная функция на отрезке ограничена и достигает своих границ."),
        ("koi8-r", "Всякая непрерывная функция на отрезке ограничена и достигает своих границ."),
        (
            "iso-8859-2",
            "Każda funkcja ciągła na przedziale domkniętym jest ograniczona i osiąga swoje kresy.",
        ),
        ("windows-1253", "Κάθε συνεχής συνάρτηση σε κλειστό διάστημα είναι φραγμένη και έχει μέγιστο."),
        ("windows-1255", "כל פונקציה רציפה בקטע סגור היא חסומה ומקבלת בו את ערכה המרבי."),
        ("gb18030", "闭区间上的连续函数必定有界，并且能够取到最大值和最小值。"),
        ("big5", "閉區間上的連續函數必定有界，並且能夠取到最大值和最小值。"),
        ("shift_jis", "閉区間上の連続関数は有界であり、そこで最大値と最小値をとる。"),
        ("euc-jp", "閉区間上の連続関数は有界であり、そこで最大値と最小値をとる。"),
        ("euc-kr", "닫힌 구간에서 연속인 함수는 유계이고 최댓값과 최솟값을 가진다."),
        ("utf-8", "Każda funkcja ciągła 闭区间 на отрезке ограничена."),
    ] {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).expect("a known label");
        let html = long(text);
        let bytes = encoding.encode(&html).0;
        for declared in [Some(label), None, Some("iso-8859-1"), Some("utf-8")] {
            let content_type = declared.map(|label| format!("text/html; charset={label}"));
            let page = read_bytes(&bytes, content_type.as_deref()).expect("text");
            assert!(page.text.contains(text), "{label} as {declared:?}: {} {}", page.charset, page.text);
        }
        let meta = String::from_utf8_lossy(b"<meta charset='windows-1252'>").into_owned();
        let bytes = encoding.encode(&html.replace("<head>", &format!("<head>{meta}"))).0.into_owned();
        let page = read_bytes(&bytes, None).expect("text");
        assert!(page.text.contains(text), "{label} behind a wrong meta: {}", page.charset);
    }
    let html = long("Kurze Sätze über Größen.");
    let wide: Vec<u8> = html.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read_bytes(&wide, None).expect("text").charset, "UTF-16LE");
    let marked: Vec<u8> =
        [0xfe, 0xff].into_iter().chain(html.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    assert!(read_bytes(&marked, Some("text/html; charset=utf-8")).expect("text").text.contains("Größen"));
    let mut cut = html.into_bytes();
    cut.truncate(cut.iter().rposition(|b| *b == 0xc3).expect("an umlaut") + 1);
    assert!(read_bytes(&cut, Some("text/html; charset=iso-8859-1")).expect("text").text.contains("Größen"));
}

#[test]
fn what_is_no_page_says_so() {
    assert_eq!(read_bytes(b" \n ", None).map(|page| page.text), Err(Skip::Empty));
    assert_eq!(read_bytes(b"%PDF-1.5 abc", None).map(|page| page.text), Err(Skip::Binary));
    assert_eq!(read_bytes(&[1; 100], None).map(|page| page.text), Err(Skip::Binary));
    assert_eq!(
        read_bytes(b"<nav><a href=/>Home</a></nav>", None).map(|page| page.text),
        Err(Skip::NoContent)
    );
}

/// Pages of a megabyte and more that are made to take long: each is read in time that grows with its bytes.
#[test]
fn hostile_pages_are_bounded() {
    let many = |part: &str, count: usize| part.repeat(count);
    let numbered = |count: usize, part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<String>();
    let sentence = "<p>A sentence at the end of the page.</p>";
    for (name, html) in [
        ("nested", many("<div>", 200_000)),
        ("nested and closed", many("<div><span>", 60_000) + &many("</span></div>", 60_000)),
        ("attributes", format!("<div {}>", numbered(150_000, &|n| format!("a{n} ")))),
        ("one attribute", format!("<div data-x='{}'>", many("x", 1_000_000))),
        ("formatting", numbered(40_000, &|n| format!("<p><b id={n}>"))),
        ("links", many("<a href=x>", 100_000)),
        ("comment", many("<!-- -- ", 100_000)),
        ("open comments", format!("{}<!--", many("<!--->x", 100_000))),
        ("entities", many("&amp;&#99999999;&notit;&", 50_000)),
        ("dollars", format!("<script src=mathjax.js></script>{}", many("$ {", 300_000))),
        ("openers", format!("<script src=mathjax.js></script>{}", many("\\( \\[ ", 150_000))),
        ("environments", many("\\begin{align}", 80_000)),
        ("backquotes", format!("<script src=ASCIIMathML.js></script><p>`{}`", many("((", 4_000))),
        ("tables", many("<table><tr><td>", 60_000)),
        ("items", format!("<ul>{}</ul>", many("<li>x", 200_000))),
        ("rows", format!("<p>A good sentence comes first.<table>{}</table>", many("<tr><td>a<td>b", 60_000))),
        ("mathml", format!("<math>{}", many("<mrow><mfrac>", 60_000))),
        (
            "fences",
            format!(
                "<math>{}",
                many("<mo>(</mo><mfrac linethickness=0><mi>n</mi><mi>k</mi></mfrac>", 20_000)
            ),
        ),
        ("katex", many("<span class=katex>", 60_000)),
        ("scripts", many("<script>delimiters: [", 50_000)),
        ("lists of delimiters", format!("<script>{}</script>", many("delimiters: [['", 60_000))),
        ("zeros", many("\0<p>\0", 200_000)),
        ("less than", many("<", 1_000_000)),
        ("end tags", many("</div></p></b>", 80_000)),
        ("spaces", many(" \n", 600_000)),
        ("classes", format!("<div class='{}'>", many("nav-bar ", 120_000))),
    ] {
        let page = read_bytes(format!("{html}{sentence}").as_bytes(), None);
        if let Ok(page) = page {
            assert!(page.text.len() <= 4 * (html.len() + sentence.len()), "{name}: {}", page.text.len());
        }
        assert!(!looks_like_maths(&[b'<'; 4096]), "{name}");
    }
    let limits = Limits { nodes: 100, ..Limits::default() };
    let page = extract(many("<p>A sentence with some words.", 1000).as_bytes(), &Hints::default(), &limits)
        .expect("text");
    assert_eq!(page.truncated, Some(Limit::Nodes));
    let limits = Limits { bytes: 100, ..Limits::default() };
    let page = extract(many("<p>A sentence with some words.", 1000).as_bytes(), &Hints::default(), &limits)
        .expect("text");
    assert_eq!(page.truncated, Some(Limit::Bytes));
}

#[test]
fn the_prefilter_lets_formulas_pass_and_prose_not() {
    for html in [
        "<script src='x/MathJax.js'>",
        "<math>",
        "<p>\\(x\\)",
        "<img src='latex.php?latex=x'>",
        "<span class='katex'>",
        "\u{feff}<MATH>",
    ] {
        assert!(looks_like_maths(html.as_bytes()), "{html}");
    }
    assert!(!looks_like_maths(b"<p>It costs $5, and nothing of it is mathematics.</p>"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Fragments of markup in any order give text or a reason, and the text has no control characters.
    #[test]
    fn any_markup_is_read(parts in proptest::collection::vec(0..PARTS.len(), 0..60)) {
        let html: String = parts.iter().map(|part| PARTS[*part]).collect();
        if let Ok(page) = read_bytes(html.as_bytes(), None) {
            proptest::prop_assert!(!page.text.trim().is_empty());
            proptest::prop_assert!(!page.text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
    }

    /// So do any bytes.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = read_bytes(&bytes, Some("text/html; charset=gbk"));
        let _ = looks_like_maths(&bytes);
    }
}

const PARTS: &[&str] = &[
    "<p>",
    "</p>",
    "<div class='main'>",
    "</div>",
    "<table>",
    "<tr>",
    "<td>",
    "</td>",
    "</tr>",
    "</table>",
    "<ul>",
    "<li>",
    "</ul>",
    "<b>",
    "</b>",
    "<a href=x>",
    "</a>",
    "<math>",
    "<mi>",
    "x",
    "</mi>",
    "<mfrac>",
    "</math>",
    "<mtable>",
    "<mtr>",
    "<mtd>",
    "<svg>",
    "</svg>",
    "<script>",
    "</script>",
    "<script type='math/tex'>",
    "\\(",
    "\\)",
    "$",
    "$$",
    "\\begin{align}",
    "\\end{align}",
    "{",
    "}",
    "&amp;",
    "&#x1d400;",
    "\u{1}",
    "\u{2}",
    "\0",
    "é",
    "数",
    "A sentence of words. ",
    "<h2>",
    "</h2>",
    "<pre>",
    "</pre>",
    "<code>",
    "</code>",
    "<sup>",
    "2",
    "</sup>",
    "<br>",
    "<hr>",
    "<img alt='$x$'>",
    "<span class=katex>",
    "</span>",
    "<!--",
    "-->",
    "<dl>",
    "<dt>",
    "<dd>",
    "<form>",
    "</form>",
    "<select>",
    "<option>",
    "<body>",
    "<head>",
    "<html>",
    "</html>",
    "`",
    "<caption>",
    "<title>",
    "</title>",
    "<button>",
    "<annotation encoding='application/x-tex'>",
];
