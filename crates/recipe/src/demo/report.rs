//! `report.html`: the demo's result as one page that needs nothing else, and `curves.svg`, a picture of it. Everything that a model wrote is escaped.

use koan_eval::Judged;
use koan_reward::Outcome as Verdict;

use super::{
    Measure, Outcome, Point,
    notation::{MEANING, QUESTION, TERMS, WAYS},
};

const STYLE: &str = include_str!("report.css");
/// Size of a chart, pixels, and the room for its labels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 24.0;

/// The page.
pub(super) fn html(outcome: &Outcome, text: &[String]) -> String {
    let Outcome { before, after, curve, .. } = outcome;
    let percent = |x: f64| format!("{:.1}%", 100.0 * x);
    let row = |name: &str, value: &dyn Fn(&Measure) -> String| {
        format!("<tr><th>{name}</th><td>{}</td><td>{}</td></tr>", value(before), value(after))
    };
    let rows = [
        row("right answers", &|m| percent(m.interval.accuracy)),
        row("95% interval", &|m| format!("{} to {}", percent(m.interval.low), percent(m.interval.high))),
        row("tokens per answer", &|m| format!("{:.1}", m.completion_tokens)),
        row("blurted", &|m| percent(m.blurted)),
        row("worked out", &|m| percent(m.worked)),
        row("checked", &|m| percent(m.checked)),
    ]
    .concat();
    let ways = WAYS.map(|(name, answer, what)| {
        format!("<div><h3>{name}</h3><pre>{}</pre><p class=small>{what}.</p></div>", escape(answer))
    });
    let ways = ways.concat();
    let [(_, right), (_, tokens), (_, entropy)] = TERMS;
    let charts = [
        chart("Accuracy", "share of completions that are right", curve, Some(1.0), |p| p.accuracy),
        chart("Length", "tokens per completion", curve, None, |p| p.completion_tokens),
        chart("Second thoughts", "words such as “wait”, per completion", curve, None, |p| {
            p.reflection_words
        }),
        chart("Entropy", "nats per token: how undecided it is", curve, None, |p| p.entropy),
    ]
    .concat();
    let examples: Vec<String> = outcome
        .examples
        .iter()
        .map(|e| {
            format!(
                "<article><p class=q>{} <span>right: {}</span></p><div class=pair>{}{}</div></article>",
                escape(e.prompt.trim()),
                escape(&e.answer),
                answer("base model", &e.before),
                answer("after reinforcement learning", &e.after)
            )
        })
        .collect();
    let text: Vec<String> = text.iter().map(|text| format!("<pre>{}</pre>", escape(text))).collect();
    let (examples, text) = (examples.concat(), text.concat());
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Koan: R1-Zero in small</title><style>{STYLE}</style><main>\
         <h1>R1-Zero in small</h1>\
         <p class=lead>A model of 0.3 million parameters read a text in which questions are answered in three ways, and \
         imitated it: {} of its answers were right. Then it was given problems and learned only from which of its answers were \
         right: {} are now, and it writes {:.1} times as much.</p>\
         <h2>How to read it</h2><p><code>{QUESTION}</code> {MEANING} People of the text answer in one of three ways:</p>\
         <section class=ways>{ways}</section>\
         <p class=small>Right answers: {right}. Tokens: {tokens}. Entropy: {entropy}. R1-Zero is DeepSeek’s name for \
         reinforcement learning from a base model without worked examples.</p>\
         <h2>Before and after</h2>\
         <table><tr><th></th><th>base model</th><th>after</th></tr>{rows}</table>\
         <p class=small>{} held-out problems that neither model ever saw, {} answers to each at temperature 1. Pretraining took \
         {:.0} s, reinforcement learning {:.0} s ({} steps), everything {:.0} s. No answer, curve or sample is scripted.</p>\
         <h2>While it learned</h2><section class=charts>{charts}</section>\
         <h2>The same questions, before and after</h2>{examples}\
         <h2>What the base model read</h2><p class=small>Most people of the text blurt an answer, and are a little off; some work it out, \
         few check what they work out. Their sums slip now and then; only those who check mend theirs.</p><section class=text>{text}</section>\
         <p class=small>The trained model: <code>{}</code></p></main></html>\n",
        percent(before.interval.accuracy),
        percent(after.interval.accuracy),
        after.completion_tokens / before.completion_tokens.max(f64::MIN_POSITIVE),
        if outcome.quick { super::QUICK.held_out } else { super::FULL.held_out },
        super::measure::SAMPLES,
        outcome.pretrain_seconds,
        outcome.rl_seconds,
        curve.len(),
        outcome.seconds,
        escape(&outcome.model.display().to_string()),
    )
}

fn answer(name: &str, judged: &Judged) -> String {
    let (class, verdict) = match judged.outcome {
        Verdict::Correct => ("right", "right"),
        _ => ("wrong", "wrong"),
    };
    format!("<div class={class}><h3>{name}: {verdict}</h3><pre>{}</pre></div>", escape(&judged.completion))
}

/// `curves.svg`: accuracy and length side by side, for a page that shows no style sheets.
pub(super) fn picture(curve: &[Point]) -> String {
    let gap = 36.0;
    let (width, height) = (2.0 * WIDTH + gap, HEIGHT + 24.0);
    let accuracy = plot(curve, Some(1.0), |p| p.accuracy);
    let length = plot(curve, None, |p| p.completion_tokens);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\" fill=\"#6b7280\"><style>line {{ stroke: #8886 }} polyline {{ fill: none; stroke: #2563eb; stroke-width: 2 }} \
         .t {{ font-size: 14px; font-weight: 600 }}</style><text class=\"t\" x=\"{LEFT}\" y=\"15\">right answers, share</text>\
         <text class=\"t\" x=\"{}\" y=\"15\">tokens per answer</text><g transform=\"translate(0 24)\">{accuracy}</g>\
         <g transform=\"translate({} 24)\">{length}</g></svg>\n",
        WIDTH + gap + LEFT,
        WIDTH + gap
    )
}

/// A chart with its title, for the page.
fn chart(
    title: &str,
    unit: &str,
    curve: &[Point],
    top: Option<f64>,
    value: impl Fn(&Point) -> f64,
) -> String {
    format!(
        "<figure><figcaption><b>{title}</b> {}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img>{}</svg></figure>",
        escape(unit),
        plot(curve, top, value)
    )
}

/// A curve over steps, from 0 to `top` or to what fits: the inside of an SVG of [`WIDTH`] by [`HEIGHT`].
fn plot(curve: &[Point], top: Option<f64>, value: impl Fn(&Point) -> f64) -> String {
    let largest = curve.iter().map(&value).fold(0.0, f64::max);
    let top = top.unwrap_or_else(|| nice(largest));
    let last = curve.last().map_or(1, |p| p.step).max(2);
    let right = WIDTH - 8.0;
    let x = |step: u64| LEFT + (step - 1) as f64 / (last - 1) as f64 * (right - LEFT);
    let y = |v: f64| 8.0 + (1.0 - v / top) * (HEIGHT - BOTTOM - 8.0);
    let points: Vec<String> = curve.iter().map(|p| format!("{:.1},{:.1}", x(p.step), y(value(p)))).collect();
    let grid: Vec<String> = [0.0, 0.5, 1.0]
        .into_iter()
        .map(|share| {
            let (v, at) = (share * top, y(share * top));
            format!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" />\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(v)
            )
        })
        .collect();
    let bottom = HEIGHT - 6.0;
    format!(
        "{}<polyline points=\"{}\" /><text x=\"{LEFT}\" y=\"{bottom}\">step 1</text>\
         <text x=\"{right}\" y=\"{bottom}\" text-anchor=\"end\">{last}</text>",
        grid.concat(),
        points.join(" ")
    )
}

/// A round number at or above `x`.
fn nice(x: f64) -> f64 {
    let x = x.max(1e-3);
    let ten = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0].into_iter().map(|m| m * ten).find(|&round| round >= x).unwrap_or(x)
}

fn number(x: f64) -> String {
    let text = format!("{x:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_wrote_is_shown_as_text() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (x, top) in [(0.7, 1.0), (31.0, 40.0), (55.0, 100.0), (0.0, 0.001), (2.0, 2.0)] {
            assert!((nice(x) - top).abs() < 1e-9, "{x}: {}", nice(x));
        }
        assert_eq!((number(0.5), number(40.0), number(0.0)), ("0.5".into(), "40".into(), "0".into()));
    }
}
