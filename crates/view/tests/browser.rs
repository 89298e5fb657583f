//! The page in a real browser: headless Chromium, driven through its debugging pipe. Skipped where there is none.

mod chromium;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use chromium::{Browser, OVERFLOW};
use koan_view::{Server, Viewer};
use serde_json::{Value, json};

/// A run as it looks after `steps` steps.
struct Run {
    path: PathBuf,
    /// Its folder, if it is its own.
    _folder: Option<tempfile::TempDir>,
}

impl Run {
    fn bare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().to_owned(), _folder: Some(folder) }
    }

    /// One in a folder of runs.
    fn inside(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        fs::create_dir(&path).expect("a folder");
        Self { path, _folder: None }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn new(steps: u64) -> Self {
        let run = Self::bare();
        fs::create_dir(run.path().join("rollouts")).expect("a folder");
        run.write("config.toml", "run_dir = \"r\"\nsteps = 9\n# <b>bold</b>\n");
        run.append("{\"step\":0,\"eval\":{\"accuracy\":0.1,\"low\":0.05,\"high\":0.2}}");
        for step in 1..=steps {
            run.step(step);
        }
        run
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("written");
    }

    fn append(&self, line: &str) {
        let path = self.path().join("metrics.jsonl");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
        writeln!(file, "{line}").expect("written");
    }

    fn step(&self, step: u64) {
        let lines: Vec<String> = (0..30).map(|i| rollout(step, i).to_string()).collect();
        self.write(&format!("rollouts/step-{step:06}.jsonl"), &(lines.join("\n") + "\n"));
        let x = step as f64;
        let metrics = json!({
            "step": step, "loss": 0.1 / x, "reward": 0.1 * x, "accuracy": 0.1 * x, "completion_tokens": 20.0 + x,
            "reflection_words": 0.5 * x, "entropy": 2.0 / x, "kl": 0.001 * x, "grad_norm": 1.5, "lr": 1e-5,
            "generate_s": 2.0, "reward_s": 0.1, "train_s": 3.0, "step_s": 5.5, "something_new": x,
        });
        self.append(&metrics.to_string());
    }
}

/// What a hostile model may write.
const HOSTILE: &str =
    "<img src=x onerror=\"window.owned = 1\"><script>window.owned = 1</script></pre></script>{{script}}";

fn rollout(step: u64, i: usize) -> Value {
    let (outcome, reward) = [("correct", 1.0), ("wrong", 0.0), ("unparsable", 0.0)][i % 3];
    let thought = ["<think>", "Let", " me", " see", ".", "</think>", " The answer is", " 42", "<eos>"];
    let mut line = json!({
        "step": step, "id": format!("p-{}", i / 10), "sample": i % 10, "answer": "42",
        "prompt": [{"role": "user", "content": format!("Question {}, <b>bold</b>?", i / 10)}],
        "completion": thought[..8].concat(), "finish_reason": "stop", "completion_tokens": 9 + i,
        "log_prob_sum": -4.5, "reward": reward, "advantage": 2.0 * reward - 0.6,
        "rewards": [{"kind": "number", "outcome": outcome, "score": 1.0, "weight": 1.0, "parsed": "<i>42</i>", "reason": HOSTILE}],
        "token_texts": thought, "logprobs": [-0.01, -0.3, -0.7, -1.3, -2.0, -0.1, -4.0, -0.5, -0.001],
    });
    if i == 1 {
        line["completion"] = json!(HOSTILE);
        line["token_texts"] = json!([HOSTILE]);
        line["logprobs"] = json!([-3.0]);
    }
    if i == 2 {
        // A character of three tokens, a first space that its token does not say, and special tokens.
        line["completion"] = json!("A 🙂! smile");
        line["token_texts"] = json!(["<s>", "A", " \u{fffd}", "\u{fffd}", "\u{fffd}", "!", "smile", "</s>"]);
        line["logprobs"] = json!([0.0, 0.0, -1.0, -0.5, -0.5, 0.0, -1.0, 0.0]);
    }
    line
}

/// Serves a run, or a folder of runs, and opens the page in `browser`.
fn open(browser: &mut Browser, path: &Path) {
    let viewer = Viewer::open(&[path.into()]).expect("a run");
    let server = Server::bind("127.0.0.1", 0).expect("a port");
    let url = server.url();
    thread::spawn(move || server.run(viewer.routes()));
    browser.call("Page.navigate", json!({"url": url}));
}

const TITLES: &str = "[...document.querySelectorAll('.chart .name')].map(n => n.textContent).join('|')";
const SHOWN: &str = "document.querySelectorAll('.rollout').length";

#[test]
fn curves_and_rollouts_are_drawn_live_and_hostile_text_stays_text() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::new(3);
    browser.size(1280, 1000);
    open(&mut browser, run.path());

    // Curves: those that the run has, in good order, then what the page does not know.
    let titles = "Reward|Accuracy|Completion length|Entropy|Reflection words|Loss|Gradient norm|Learning rate|\
                  KL divergence|Time of a step|something_new";
    browser.wait(TITLES, &json!(titles));
    let drawn = |charts: &str| {
        format!(
            "[...document.querySelectorAll('{charts}')].map(c => Boolean(c.querySelector('path.line, path.area') && \
                 c.querySelectorAll('.axes text').length > 4)).join()"
        )
    };
    browser.wait(&drawn("#charts .chart"), &json!("true,true,true,true"));
    let groups = "[...document.querySelectorAll('.group summary b')].map(n => n.textContent).join('|')";
    browser.wait(groups, &json!("Writing|Update|Time|Others"));
    browser.picture("folded");
    browser.eval("document.querySelectorAll('.group').forEach(group => { group.open = true; })");
    browser.wait(&drawn("#groups .chart"), &json!(["true"; 7].join(",")));
    let says = |i: usize| format!("document.querySelectorAll('.chart .legend')[{i}].textContent");
    browser.wait(&says(0), &json!("0.3"));
    browser.wait(&says(1), &json!("training samples 30 %held out 10 %"));
    browser.wait("document.querySelector('#progress').textContent.includes('Step 3 of 9')", &json!(true));

    // A key moves the cursor of every chart.
    browser.eval("document.querySelector('.chart svg').focus()");
    for (kind, key) in [("keyDown", "ArrowLeft"), ("keyUp", "ArrowLeft")] {
        browser.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "code": key}));
    }
    browser.wait(&says(3), &json!("1"));
    browser.wait("document.querySelector('.chart svg').ariaValueText", &json!("step 2: 0.2"));
    browser.picture("wide");

    // A step that is made while the page is open.
    run.step(4);
    browser.wait("document.querySelector('#progress').textContent.includes('Step 4 of 9')", &json!(true));
    browser.wait("document.querySelector('#found').textContent", &json!("Step 4: 30 of 30 completions."));
    browser.wait(SHOWN, &json!(20));

    // Filters.
    let choose = |id: &str, value: &str| {
        format!("{id}.value = '{value}'; {id}.dispatchEvent(new Event('change')); {id}.value")
    };
    browser.eval(&choose("problem", "p-1"));
    browser.wait(SHOWN, &json!(10));
    browser.eval(&choose("outcome", "correct"));
    browser.wait(SHOWN, &json!(3));
    browser.eval(&choose("outcome", ""));
    browser.eval(&choose("problem", ""));
    browser.wait(SHOWN, &json!(20));
    browser.eval("document.querySelector('#more').click()");
    browser.wait(SHOWN, &json!(30));

    // All there is to know of a completion, in its place.
    browser.eval("document.querySelector('.rollout > summary').click()");
    let part = |selector: &str| format!("document.querySelector('.body {selector}')?.textContent");
    browser.wait(&part(".prompt pre"), &json!("Question 0, <b>bold</b>?"));
    browser.wait(&part(".thinking pre"), &json!("Let me see."));
    browser.wait(&part(".answer pre"), &json!(" The answer is 42<eos>"));
    browser.wait(&part(".reference pre"), &json!("42"));
    browser.wait(&part("td:nth-child(5)"), &json!("<i>42</i>"));
    let shades = "[...document.querySelectorAll('.body .token')].map(t => t.className.slice(-1)).join('')";
    browser.wait(shades, &json!("1134710"));
    browser.picture("rollout");

    // A hostile completion is text, and nothing that it says is run.
    browser.eval("[...document.querySelectorAll('.rollout > summary')][1].click()");
    browser.wait(
        "[...document.querySelectorAll('.rollout')][1].querySelector('.answer pre')?.textContent",
        &json!(HOSTILE),
    );
    browser
        .wait("[window.owned ?? 0, document.querySelectorAll('img, script').length].join()", &json!("0,1"));

    // Tokens that are not quite their part of the completion.
    browser.eval("[...document.querySelectorAll('.rollout > summary')][2].click()");
    browser.wait(
        "[...[...document.querySelectorAll('.rollout')][2].querySelectorAll('.token')]\
         .map(t => t.textContent + t.className.slice(-1)).join('|')",
        &json!("<s>0|A0| 🙂4|!0| smile2|</s>0"),
    );

    // A resumed run forgets steps: the page starts over, and new ones come.
    run.write("metrics.jsonl", "");
    run.append("{\"step\":1,\"reward\":0.05,\"step_s\":1.0}");
    browser.wait(TITLES, &json!("Reward|Time of a step"));
    browser.wait(&says(0), &json!("0.05"));

    for (name, width) in [("narrow", 400), ("wide", 1280)] {
        browser.size(width, 900);
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        browser.wait(overflow, &json!(0));
        let fits = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg').clientWidth <= c.clientWidth)";
        browser.wait(fits, &json!(true));
        browser.picture(&format!("resumed-{name}"));
    }
}

#[test]
fn a_run_of_losses_has_curves_and_no_rollouts() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::bare();
    run.write("config.toml", "steps = 300\n");
    for step in 1..=300 {
        let eval = if step % 100 == 0 { ",\"eval_loss\":2.5" } else { "" };
        let line = format!(
            "{{\"step\":{step},\"loss\":{},\"lr\":1e-3,\"grad_norm\":0.5,\"tokens\":4096,\"step_s\":0.2,\"tokens_per_s\":20480{eval}}}",
            2.0 + 4.0 / f64::from(step)
        );
        run.append(&line);
    }
    run.write("lineage.json", "{\"stage\":\"pretrain\",\"steps\":300}");
    browser.size(1280, 900);
    open(&mut browser, run.path());
    browser.wait(TITLES, &json!("Loss|Gradient norm|Learning rate|Speed|Time of a step|Tokens of a step"));
    browser.wait("document.querySelector('#state').textContent", &json!("finished"));
    browser.wait("getComputedStyle(document.querySelector('#rollouts')).display", &json!("none"));
    browser.wait("document.querySelector('.legend').textContent", &json!("training 2.01held out 2.5"));

    // Smoothing keeps what is measured now and then where it is, and the legend says what is drawn.
    browser.eval("smoothing.value = 0.9; smoothing.dispatchEvent(new Event('input'))");
    let last = "charts.charts[0].lines.map(l => [l.name, l.shown === l.raw, l.shown.y.at(-1).toFixed(3)].join()).join('|')";
    browser.wait(last, &json!("training,false,2.014|held out,true,2.500"));
    browser.wait("document.querySelector('.legend').textContent", &json!("training 2.01held out 2.5"));
}

#[test]
fn points_are_smoothed_by_their_steps_and_thinned_to_their_extremes() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::new(1);
    open(&mut browser, run.path());
    browser.wait("typeof drawn", &json!("function"));

    // 86 % drawn where the legend says 93.3 %: held-out points every 20 steps, and a strong smoothing.
    browser.eval(
        "var steps = Array.from({ length: 101 }, (_, i) => i); \
         var held = { x: [0, 20, 40, 60, 80, 100], y: [0.2, 0.5, 0.7, 0.8, 0.9, 0.933] }; \
         var dense = { x: steps, y: steps.map(i => i % 2) };",
    );
    assert_eq!(browser.eval("drawn(held, 0.9, steps, false).y.at(-1)"), json!(0.933));
    assert_eq!(browser.eval("drawn(held, 0.9, steps, false) === held"), json!(true));
    assert_eq!(browser.eval("drawn(dense, 0, steps, false) === dense"), json!(true));
    let mean = browser.eval("drawn(dense, 0.96, steps, false).y.at(-1)").as_f64().expect("a mean");
    assert!((mean - 0.5).abs() < 0.03, "{mean}");
    // A run that logs every tenth step is smoothed as one that logs every step.
    let same =
        "[1, 10].map(gap => smooth({ x: [0, gap, 2 * gap], y: [1, 2, 4] }, 0.5, gap).y.join()).join('|')";
    assert_eq!(browser.eval(same), json!("1,1.6666666666666667,3|1,1.6666666666666667,3"));
    // A gap of two steps counts as two, and what is not a number counts for nothing.
    let gap = "smooth({ x: [0, 2, 3], y: [1, 4, NaN] }, 0.5, 1).y.map(String).join()";
    assert_eq!(browser.eval(gap), json!("1,3.4,NaN"));

    browser.eval(
        "var many = { x: [], y: [] }; for (let i = 0; i < 100000; i++) { many.x.push(i); many.y.push(Math.sin(i / 500)); } \
         many.y[31415] = 50; many.y[27182] = -50; many.y[777] = NaN; var few = thin(many, 500);",
    );
    assert_eq!(browser.eval("few.x.length <= 2100 && few.x.length > 900"), json!(true));
    let kept = "[few.x[0], few.x.at(-1), few.y.includes(50), few.y.includes(-50), few.x.every((x, i) => !i || x > few.x[i - 1])].join()";
    assert_eq!(browser.eval(kept), json!("0,99999,true,true,true"));
    assert_eq!(browser.eval("thin(dense, 500).x.length"), json!(101));
    assert_eq!(browser.eval("nearest([0, 20, 40], 29.9) + ',' + nearest([0], 7)"), json!("1,0"));
}

#[test]
fn runs_are_compared_side_by_side() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let now = std::time::SystemTime::now();
    let _runs: Vec<Run> = [("a, \"b\"", 1e-5, 1), ("warm-up", 1e-6, 2), ("<b>third", 1e-6, 3)]
        .into_iter()
        .map(|(name, lr, age)| {
            let run = Run::inside(folder.path(), name);
            fs::create_dir(run.path().join("rollouts")).expect("a folder");
            run.write("config.toml", &format!("run_dir = \"{age}\"\nsteps = 4\n[optim]\nlr = {lr:?}\n"));
            let then = now - Duration::from_secs(60 * age);
            let config = OpenOptions::new().write(true).open(run.path().join("config.toml"));
            config.and_then(|file| file.set_modified(then)).expect("set");
            run.append("{\"step\":0,\"eval\":{\"accuracy\":0.1,\"low\":0.05,\"high\":0.2}}");
            (1..=2 + age).for_each(|step| run.step(step));
            if age > 1 {
                run.write("lineage.json", "{}");
            }
            run
        })
        .collect();
    browser.size(1280, 1000);
    open(&mut browser, folder.path());
    browser.wait("document.querySelector('h1')?.textContent", &json!("3 runs"));
    let names = "[...document.querySelectorAll('#runs b')].map(n => n.textContent).join('|')";
    browser.wait(names, &json!("a, \"b\"|warm-up|<b>third"));
    let states = "[...document.querySelectorAll('#runs .pill')].map(n => n.textContent).join('|')";
    browser.wait(states, &json!("training|finished|finished"));
    let legend = |i: usize| format!("document.querySelectorAll('.chart .legend')[{i}].textContent");
    browser.wait(&legend(0), &json!("a, \"b\" 0.3warm-up 0.4<b>third 0.5"));
    browser.wait(
        &legend(1),
        &json!("training samplesheld outa, \"b\" 30 % · 10 %warm-up 40 % · 10 %<b>third 50 % · 10 %"),
    );
    let colors = "new Set([...document.querySelectorAll('#charts .chart:first-child path.line')].map(p => getComputedStyle(p).stroke)).size";
    browser.wait(colors, &json!(3));

    // What differs, and nothing else.
    let table = "[...document.querySelectorAll('#differences tr')].map(r => [...r.children].map(c => c.textContent).join(';')).join('|')";
    browser.wait(table, &json!(";a, \"b\";warm-up;<b>third|optim.lr;1e-5;1e-6;1e-6"));
    browser.picture("runs-wide");

    // The values of a chart as a table, of the runs that are shown.
    browser.eval("document.querySelectorAll('#runs input')[2].click()");
    browser.wait(&legend(0), &json!("a, \"b\" 0.3warm-up 0.4"));
    browser.wait(
        "document.querySelector('#differences summary').textContent",
        &json!("Settings that differ (1)"),
    );
    let csv = browser.eval("fetch(document.querySelector('.chart .csv').href).then(reply => reply.text())");
    let rows: Vec<&str> = csv.as_str().expect("text").split("\r\n").collect();
    assert_eq!(rows[..2], ["run,step,reward", "\"a, \"\"b\"\"\",1,0.1"]);
    assert_eq!((rows.len(), rows[4]), (9, "warm-up,1,0.1"));
    browser.eval("document.querySelectorAll('#runs input').forEach(box => box.checked && box.click())");
    browser.wait("document.querySelector('#no-steps').textContent", &json!("No run is chosen."));
    browser.eval("document.querySelectorAll('#runs input').forEach(box => box.click())");
    browser.wait(&legend(0), &json!("a, \"b\" 0.3warm-up 0.4<b>third 0.5"));

    // Rollouts and settings of one of them.
    browser.wait("document.querySelector('#found').textContent", &json!("Step 3: 30 of 30 completions."));
    browser.eval("run.value = '<b>third'; run.dispatchEvent(new Event('change'))");
    browser.wait("document.querySelector('#found').textContent", &json!("Step 5: 30 of 30 completions."));
    browser.wait("location.hash", &json!("#run=%3Cb%3Ethird"));

    // A run that begins while the page is open.
    let run = Run::inside(folder.path(), "new");
    run.write("config.toml", "steps = 4\n");
    browser.wait(states, &json!("waiting|training|finished|finished"));
    browser.wait(
        "[...document.querySelectorAll('#runs .words')][0].textContent.includes('no step yet')",
        &json!(true),
    );

    for (name, width) in [("narrow", 390), ("wide", 1280)] {
        browser.size(width, 900);
        browser.wait(OVERFLOW, &json!(0));
        browser.picture(&format!("runs-{name}"));
    }
}

#[test]
fn a_run_says_in_words_how_it_is() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::bare();
    let words = "document.querySelector('#words')?.textContent";
    let pill = "document.querySelector('#state')?.textContent";
    run.write("config.toml", "steps = 9\n");
    open(&mut browser, run.path());
    browser.wait(pill, &json!("waiting"));
    browser.wait(&format!("{words}?.includes('no step yet')"), &json!(true));
    browser.wait("document.querySelector('#no-steps').textContent", &json!("No step yet."));
    run.write("status.json", "{\"state\": \"failed\", \"message\": \"the disk is full\"}");
    browser.wait(words, &json!("It ended with an error: the disk is full. It made no step."));

    // One row, whose loss is not a number, and a line that is none.
    run.append("{\"step\":1,\"loss\":null,\"reward\":0.5}\nnonsense");
    let nan = "It ended with an error: the disk is full. --resume goes on from its last checkpoint. \
               loss is not a number at step 1. 1 line of metrics.jsonl can't be read.";
    browser.wait(words, &json!(nan));
    browser.wait("document.querySelector('.legend').textContent", &json!("0.5"));
    browser.wait("document.querySelectorAll('.legend')[1].textContent", &json!("training not a number"));
    browser.wait("document.querySelectorAll('path.nan').length", &json!(1));
    run.append("{\"step\":2,\"loss\":0.25,\"reward\":NaN}\n{\"step\":3,\"loss\":0.5,\"reward\":0.75}");
    browser.wait("document.querySelectorAll('.legend')[1].textContent", &json!("training 0.5"));
    browser.wait(
        "document.querySelector('path.line:not(.nan)').getAttribute('d').match(/M/g).length",
        &json!(2),
    );
    run.write("status.json", "{\"state\": \"stopped\"}");
    browser.wait(pill, &json!("stopped"));
    browser.wait(&format!("{words}.startsWith('It was asked to stop')"), &json!(true));
    run.write("status.json", "{\"state\": \"finished\"}");
    browser.wait(&format!("{words}.startsWith('Its training is done')"), &json!(true));
    browser.picture("not-a-number");
}

#[test]
fn a_long_run_is_drawn_with_its_extremes() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::bare();
    run.write("config.toml", "steps = 100000\n");
    let line = |step: u32| {
        let wave = 0.5 + 0.4 * (f64::from(step) / 3000.0).sin();
        let norm = if step == 54_321 { 77.0 } else { 1.0 + wave };
        format!(
            "{{\"step\":{step},\"loss\":0.01,\"reward\":{wave},\"accuracy\":{wave},\"completion_tokens\":{},\"entropy\":{},\
             \"kl\":0.0,\"grad_norm\":{norm},\"lr\":1e-5,\"generate_s\":0.1,\"reward_s\":0.1,\"train_s\":0.1,\"step_s\":0.35}}\n",
            100.0 * wave,
            1.0 - wave
        )
    };
    run.write("metrics.jsonl", &(1..=100_000).map(line).collect::<String>());
    run.write("status.json", "{\"state\": \"finished\"}");
    browser.size(1280, 1000);
    let start = Instant::now();
    open(&mut browser, run.path());
    browser.wait(
        "document.querySelector('#progress')?.textContent.startsWith('Step 100000 of 100000')",
        &json!(true),
    );
    eprintln!("100,000 steps are shown after {:.1} s", start.elapsed().as_secs_f64());
    browser.eval("document.querySelectorAll('.group').forEach(group => { group.open = true; })");
    let norm = "charts.charts.find(chart => chart.spec.title === 'Gradient norm')";
    browser.wait(&format!("{norm}.curves.querySelectorAll('path.line').length"), &json!(1));
    assert_eq!(
        browser.eval(&format!("{norm}.path({norm}.lines[0].shown).includes(' ' + {norm}.py(77).toFixed(1))")),
        json!(true)
    );
    let most =
        "Math.max(...[...document.querySelectorAll('path')].map(path => path.getAttribute('d').length))";
    assert!(browser.eval(most).as_u64().expect("a length") < 100_000);
    // Drawing all charts anew, smoothed, and moving the cursor are fast enough to follow a hand.
    let drawing = "(() => { const start = performance.now(); shared.smoothing = 0.9; charts.redraw(); return performance.now() - start; })()";
    let moving = "(() => { const start = performance.now(); for (let i = 1; i <= 20; i++) shared.onCursor(4000 * i); \
                  return (performance.now() - start) / 20; })()";
    let (drawing, moving) = (browser.eval(drawing).as_f64(), browser.eval(moving).as_f64());
    eprintln!("all charts are drawn in {drawing:?} ms, the cursor in {moving:?} ms");
    assert!(drawing.is_some_and(|ms| ms < 2000.0) && moving.is_some_and(|ms| ms < 100.0));
    browser.picture("long");
}

#[test]
fn a_phone_shows_rewards_whole_in_the_light_and_in_the_dark() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::new(3);
    browser.size(390, 844);
    open(&mut browser, run.path());
    browser.wait(SHOWN, &json!(20));
    browser.eval("document.querySelector('.rollout > summary').click()");
    browser.wait("document.querySelectorAll('.terms tr').length", &json!(3));
    for theme in ["light", "dark"] {
        browser.theme(theme);
        browser.wait(OVERFLOW, &json!(0));
        let whole = "[...document.querySelectorAll('.terms, .terms td')].every(cell => { \
                     const box = cell.getBoundingClientRect(); \
                     return box.right <= innerWidth && box.left >= 0 && cell.scrollWidth <= cell.clientWidth; })";
        browser.wait(whole, &json!(true));
        let inside = "[...document.querySelectorAll('main *')].filter(node => node.clientWidth && \
                      node.getBoundingClientRect().right > document.body.clientWidth - 11).map(node => node.id || node.className).join()";
        browser.wait(inside, &json!(""));
        let seen = "[...document.querySelectorAll('.terms tbody tr:first-child td')].map(cell => \
                    getComputedStyle(cell, '::before').content).join()";
        browser.wait(seen, &json!("\"reward\",\"outcome\",\"score\",\"weight\",\"answer read\",\"reason\""));
        browser.picture(&format!("phone-{theme}"));
    }
}

#[test]
fn a_run_of_preferences_and_the_terms_of_a_reward_have_charts_of_their_own() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::inside(folder.path(), "dpo");
    run.write("config.toml", "steps = 2\n[algorithm]\nloss = \"dpo\"\n");
    for step in 1..=2 {
        let x = f64::from(step);
        let line = json!({"step": step, "loss": 0.7 / x, "rewards/chosen": 0.1 * x, "rewards/rejected": -0.2 * x, "rewards/margins": 0.3 * x,
            "rewards/accuracies": 0.5 + 0.1 * x, "logps/chosen": -30.0 - x, "logps/rejected": -40.0 - 2.0 * x, "grad_norm": 1.5, "lr": 1e-6,
            "tokens": 100, "tokens_per_s": 50.0, "step_s": 2.0, "eval_loss": 0.6, "eval_rewards/margins": 0.25, "eval_rewards/accuracies": 0.625});
        run.append(&line.to_string());
    }
    run.write("lineage.json", "{\"stage\": \"prefer\", \"steps\": 2, \"data\": \"prefs.jsonl\"}");
    browser.size(1280, 900);
    open(&mut browser, run.path());
    let titles = "Rewards of replies|Margin|Pairs told right|Loss|Log-probability of replies|Gradient norm|Learning rate|Speed|\
                  Time of a step|Tokens of a step";
    browser.wait(TITLES, &json!(titles));
    let groups = "[...document.querySelectorAll('.group summary b')].map(n => n.textContent).join('|')";
    browser.wait(groups, &json!("Preferences|Update|Time"));
    let legend = |i: usize| format!("document.querySelectorAll('.chart .legend')[{i}].textContent");
    browser.wait(&legend(0), &json!("chosen 0.2rejected -0.4"));
    browser.wait(&legend(1), &json!("training 0.6held out 0.25"));
    browser.wait(&legend(2), &json!("training 70 %held out 62.5 %"));
    let lines = "document.querySelectorAll('#charts .chart:first-child path.line').length";
    browser.wait(lines, &json!(2));
    browser.eval("document.querySelectorAll('.group').forEach(group => { group.open = true; })");
    browser.wait(&legend(4), &json!("chosen -32rejected -44"));
    browser.wait("document.querySelector('#lineage').textContent.includes('prefs.jsonl')", &json!(true));
    browser
        .wait("document.querySelector('#config pre').textContent.includes('loss = \"dpo\"')", &json!(true));
    browser.picture("prefer");

    // The terms of a reward, each with its scale; what they did not decide, together.
    let rl = Run::inside(folder.path(), "rl");
    rl.write("config.toml", "steps = 2\n");
    for step in 1..=2 {
        let x = f64::from(step);
        let line = json!({"step": step, "reward": 0.2 * x, "accuracy": 0.3, "completion_tokens": 20, "entropy": 1.0, "loss": 0.0,
            "rewards/math": 0.3, "rewards/helpful judge": 2.5 * x, "rewards/helpful judge/undecided": x, "rewards/<b>": 0.5, "rewards/math/undecided": 1, "rewards/a/b/c": 1});
        rl.append(&line.to_string());
    }
    open(&mut browser, rl.path());
    browser.wait(groups, &json!("Reward terms|Update|Others"));
    let titles = "Reward|Accuracy|Completion length|Entropy|Reward: <b>|Reward: helpful judge|Reward: math|Not decided, by term|Loss|rewards/a/b/c";
    browser.wait(TITLES, &json!(titles));
    browser.eval("document.querySelectorAll('.group').forEach(group => { group.open = true; })");
    browser.wait(&legend(5), &json!("5"));
    browser.wait(&legend(7), &json!("helpful judge 2math 1"));
    browser.picture("terms");

    // Runs of both kinds side by side.
    open(&mut browser, folder.path());
    browser.wait("document.querySelector('h1')?.textContent", &json!("2 runs"));
    browser.wait("document.querySelectorAll('.chart').length > 12", &json!(true));
    browser.wait(OVERFLOW, &json!(0));
}

/// A recipe of three steps in `dir`: one is made, one is being made and has a run, one is not begun.
fn write_recipe(dir: &Path) {
    fs::create_dir_all(dir.join("steps")).expect("a folder");
    let tree = json!([
        {"name": "base", "kind": "init", "reads": []},
        {"name": "zero", "kind": "rl", "reads": ["base"]},
        {"name": "after", "kind": "eval", "reads": ["base", "zero"]},
    ]);
    let owner = json!({"recipe": "/<b>r</b>.toml", "tree": tree});
    fs::write(dir.join("recipe.json"), owner.to_string()).expect("written");
    let base = json!({"kind": "init", "state": "done", "outputs": [{"path": "model", "sha256": "abc"}], "seconds": 2.5});
    fs::write(dir.join("steps/base.json"), base.to_string()).expect("written");
    let zero = json!({"kind": "rl", "state": "stopped", "message": HOSTILE, "flops": 2e12, "energy_wh": 3.25, "energy_source": "measured"});
    fs::write(dir.join("steps/zero.json"), zero.to_string()).expect("written");
}

#[test]
fn a_recipe_shows_its_steps_their_runs_and_where_a_row_comes_from() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("mine");
    write_recipe(&dir);
    let run = Run::inside(&dir, "zero");
    run.write("config.toml", "steps = 9\n");
    run.append("{\"step\":1,\"reward\":0.5,\"step_s\":1.0}");
    let tracer = |dir: &Path, id: &str| match id {
        "p-1" => Ok(json!([
            {"step": "zero", "kind": "reject", "path": dir.join("zero/data.jsonl"), "number": 7, "origin": {"problem": HOSTILE, "seed": 3},
             "models": ["@base (sha256 abc)"], "source": null},
            {"step": null, "kind": null, "path": "given.jsonl", "number": 1, "origin": null, "models": [], "source": "koan data generate arithmetic"},
        ])),
        "broken" => Err("a file is damaged".to_owned()),
        _ => Ok(json!([])),
    };
    let viewer = Viewer::open(std::slice::from_ref(&dir)).expect("a recipe").with_tracer(Box::new(tracer));
    let server = Server::bind("127.0.0.1", 0).expect("a port");
    let url = server.url();
    thread::spawn(move || server.run(viewer.routes()));
    browser.size(1280, 1000);
    browser.call("Page.navigate", json!({"url": url}));

    let names = "[...document.querySelectorAll('.step')].map(n => n.querySelector('b').textContent + ' ' + n.querySelector('.pill').textContent).join('|')";
    browser.wait(names, &json!("base made|zero stopped|after not begun"));
    browser.wait("document.getElementById('name').textContent", &json!("mine"));
    browser.wait("document.querySelectorAll('.lines path').length", &json!(3));
    let text = browser.eval("document.getElementById('steps').textContent").to_string();
    for words in ["2.00e+12 FLOPs", "3.25 Wh measured", "reads base, zero", "<img src=x"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(browser.eval("document.getElementById('recipe-file').textContent") == "/<b>r</b>.toml");
    // The run of a step is inside.
    browser.wait(TITLES, &json!("Reward|Time of a step"));
    browser.eval("document.querySelector('.step button').click()");
    browser.wait("document.getElementById('path').textContent.endsWith('mine/zero')", &json!(true));

    // Live: a step is made, another begins.
    let after = json!({"kind": "eval", "state": "done", "figures": {"pass_at_1": {"accuracy": 0.5, "low": 0.4, "high": 0.6}}});
    fs::write(dir.join("steps/after.json"), after.to_string()).expect("written");
    browser.wait(names, &json!("base made|zero stopped|after made"));
    let text = browser.eval("document.getElementById('steps').textContent").to_string();
    assert!(text.contains("50.0% right (95% interval 40.0 to 60.0)"), "{text}");

    let ask = |id: &str| {
        format!(
            "document.getElementById('row').value = '{id}'; document.querySelector('#trace button').click()"
        )
    };
    browser.eval(&ask("p-1"));
    browser.wait("document.querySelectorAll('#origins > li').length", &json!(2));
    let text = browser.eval("document.getElementById('origins').textContent").to_string();
    for words in
        ["zero reject row 7 of", "written by@base (sha256 abc)", "<script>window.owned", "koan data generate"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(browser.eval("location.hash"), "#row=p-1");
    browser.picture("recipe");
    browser.eval(&ask("none"));
    let said = "document.getElementById('origins-said').textContent";
    browser.wait(said, &json!("No file of the recipe has a row with this id."));
    browser.eval(&ask("broken"));
    browser.wait(said, &json!("where this row comes from can't be found out: a file is damaged"));

    browser.size(390, 800);
    browser.wait(OVERFLOW, &json!(0));
    assert_eq!(browser.eval("window.owned ?? null"), Value::Null, "nothing of a file became HTML");
}
