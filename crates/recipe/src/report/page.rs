//! `report.html`: one page that needs nothing else. Everything that a model wrote is escaped.

use koan_eval::{Difference, Judged};
use koan_reward::Outcome;

use super::{
    Compared, Example, Measured, Point, Report, StepState, learned,
    measure::{ROWS, Row},
    notation, plot,
    plot::{Curve, HEIGHT, WIDTH},
    seconds, shown_figure,
};
use crate::{
    StepCost,
    cost::{PAPER, PAPER_PRICE_PER_HOUR, PaperCost},
};

const STYLE: &str = include_str!("report.css");

/// The page.
pub(super) fn html(
    report: &Report,
    stages: &[Measured],
    compared: &[Compared],
    steps: &[StepState],
    examples: &[Example],
) -> String {
    let notation = notation::of(report.world);
    let ways = notation.ways.map(|[name, answer, what]| {
        format!("<div><h3>{name}</h3><pre>{}</pre><p class=small>{what}.</p></div>", coloured(answer))
    });
    let also = if notation.also.is_empty() { String::new() } else { format!("<p>{}</p>", notation.also) };
    let n = stages.first().map_or(0, |of| of.answers.len());
    let samples = stages.first().and_then(|of| of.answers.first()).map_or(0, Vec::len);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Koan: {title}</title><style>{STYLE}</style><main><h1>{title}</h1>\
         <p class=lead>{lead}</p>\
         <h2>The models</h2><div class=wide>{table}</div>{compared}\
         <p class=small>{n} held-out problems that no model ever saw, {samples} answers to each at temperature 1; ± is half a 95% interval, which \
         takes the answers to a problem as one. Everything took {:.0} s. No answer, curve or sample is scripted.</p>\
         <h2>How to read it</h2><p><code>{}</code> {}</p><section class=ways>{}</section>{also}\
         {}{}\
         <h2>The same questions, by all models</h2>{}\
         <h2>What it took</h2><div class=wide>{}</div></main></html>\n",
        seconds(steps),
        escape(notation.question),
        escape(notation.meaning),
        ways.concat(),
        learned(stages),
        curves(stages),
        joined(examples.iter().map(example)),
        costs(steps),
        title = escape(report.title.as_deref().unwrap_or(notation.title)),
        lead = lead(stages),
        table = table(stages),
        compared = differences(compared),
    )
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().concat()
}

/// In two sentences, what the first model and the last one do.
fn lead(stages: &[Measured]) -> String {
    let percent = |of: &Measured, key| {
        of.figure(key).map_or_else(|| "–".to_owned(), |f| format!("{:.0}%", 100.0 * f.value))
    };
    let learned = stages.get(1).filter(|of| !of.curve.is_empty());
    let [Some(first), Some(zero)] = [stages.first(), learned] else { return String::new() };
    let name = |of: &Measured| escape(&of.stage.name);
    format!(
        "A small model read a text in which questions are answered in three ways, and imitated it: {} of the answers of <b>{}</b> are right. Then it was \
         given problems, and learned only from what a program can check of its answers: {} are right, of <b>{}</b>, and {} of them are checked (before: {}).",
        percent(first, "accuracy"),
        name(first),
        percent(zero, "accuracy"),
        name(zero),
        percent(zero, "checked"),
        percent(first, "checked"),
    )
}

fn table(stages: &[Measured]) -> String {
    let head = joined(
        stages
            .iter()
            .map(|of| format!("<th title=\"{}\">{}</th>", escape(&of.stage.about), escape(&of.stage.name))),
    );
    let is_measured = |row: &&Row| stages.iter().any(|of| of.figure(row.key).is_some());
    let rows = joined(ROWS.iter().filter(is_measured).map(|row| {
        let cell = |of: &Measured| {
            let figure = of.figure(row.key);
            let shown = figure.map_or_else(|| "–".to_owned(), |figure| shown_figure(figure, row.is_share));
            format!("<td>{shown}</td>")
        };
        format!("<tr><th>{}</th>{}</tr>", row.title, joined(stages.iter().map(cell)))
    }));
    let described = stages.iter().filter(|of| !of.stage.about.is_empty());
    let about = joined(
        described
            .map(|of| format!("<li><b>{}</b>: {}</li>", escape(&of.stage.name), escape(&of.stage.about))),
    );
    format!("<table><tr><th></th>{head}</tr>{rows}</table><ul class=small>{about}</ul>")
}

fn differences(compared: &[Compared]) -> String {
    let item = |Compared { better, than, difference: Difference { value, low, high } }: &Compared| {
        let [value, low, high] = [value, low, high].map(|x| 100.0 * x);
        format!(
            "<li>{} − {}: {value:+.1} points of right answers, 95% interval {low:+.1} to {high:+.1}, problem by problem</li>",
            escape(better),
            escape(than)
        )
    };
    if compared.is_empty() {
        String::new()
    } else {
        format!("<ul>{}</ul>", joined(compared.iter().map(item)))
    }
}

fn curves(stages: &[Measured]) -> String {
    let of_stage = |of: &Measured| {
        let curve =
            |value: fn(&Point) -> f64| -> Curve { of.curve.iter().map(|p| (p.step, value(p))).collect() };
        let charts = [
            chart("right answers", &curve(|p| p.accuracy), Some(1.0)),
            chart("checked answers", &curve(|p| p.checked), Some(1.0)),
            chart("words in the question’s language", &curve(|p| p.language), Some(1.0)),
            chart("tokens per answer", &curve(|p| p.completion_tokens), None),
        ];
        format!("<h3>{}</h3><section class=charts>{}</section>", escape(&of.stage.name), charts.concat())
    };
    let all = joined(stages.iter().filter(|of| !of.curve.is_empty()).map(of_stage));
    if all.is_empty() { all } else { format!("<h2>While they learned</h2>{all}") }
}

/// What was learned from text: the figures at the end, and the curves.
fn learned(stages: &[Measured]) -> String {
    let of_text: Vec<_> = stages.iter().filter(|of| !of.learned.is_empty()).collect();
    if of_text.len() < 2 {
        return String::new(); // one alone is compared with nothing
    }
    let head = joined(of_text.iter().map(|of| format!("<th>{}</th>", escape(&of.stage.name))));
    let rows = joined(learned::COLUMNS.iter().map(|column| {
        let figures: Vec<_> = of_text.iter().map(|of| learned::at_the_end(&of.learned, *column)).collect();
        let shown = |figure: &Option<f64>| match figure {
            Some(x) if *x >= 100.0 => format!("<td>{x:.0}</td>"),
            Some(x) => format!("<td>{x:.3}</td>"),
            None => "<td>–</td>".to_owned(),
        };
        if figures.iter().all(Option::is_none) {
            return String::new();
        }
        format!("<tr><th>{}</th>{}</tr>", column.0, joined(figures.iter().map(shown)))
    }));
    let charts = joined(of_text.iter().map(|of| {
        let of_column = |column: &learned::Column| {
            let curve = learned::curve(&of.learned, *column);
            if curve.len() < 2 { String::new() } else { chart(column.0, &curve, None) }
        };
        let charts = joined(learned::COLUMNS[1..5].iter().map(of_column));
        format!("<h3>{}</h3><section class=charts>{charts}</section>", escape(&of.stage.name))
    }));
    format!(
        "<h2>Learning from text</h2><div class=wide><table><tr><th></th>{head}</tr>{rows}</table></div>\
         <p class=small>Means of the last steps.</p>{charts}"
    )
}

fn chart(title: &str, curve: &[(u64, f64)], top: Option<f64>) -> String {
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img>{}</svg></figure>",
        plot::plot(curve, top)
    )
}

fn example(example: &Example) -> String {
    let answers = joined(example.answers.iter().map(|(name, judged)| answer(name, judged)));
    let prompt = example.problem.prompt.as_deref().unwrap_or_default();
    format!(
        "<article><p class=q>{} <span>right: {}</span></p><div class=answers>{answers}</div></article>",
        escape(prompt.trim()),
        escape(&example.problem.answer)
    )
}

fn answer(name: &str, judged: &Judged) -> String {
    let class = if judged.outcome == Outcome::Correct { "right" } else { "wrong" };
    format!(
        "<div class={class}><h3>{}: {class}</h3><pre>{}</pre></div>",
        escape(name),
        coloured(&judged.completion)
    )
}

/// What each step took, and what the paper's did.
fn costs(steps: &[StepState]) -> String {
    let count = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    let cells = |cost: &StepCost| {
        let flops = if cost.flops > 0.0 { format!("{:.2e}", cost.flops) } else { String::new() };
        let share = cost
            .peak_share
            .filter(|_| cost.flops > 0.0)
            .map_or_else(String::new, |s| format!("{:.0}%", 100.0 * s));
        let energy = cost.energy_wh.map_or_else(String::new, |wh| format!("{wh:.2}"));
        let money = cost.money.map_or_else(String::new, |money| format!("{money:.4}"));
        let [drawn, trained] = [cost.tokens_drawn, cost.tokens_trained].map(count);
        let shown = [format!("{:.1}", cost.seconds), drawn, trained, flops, share, energy, money];
        shown.map(|cell| format!("<td>{cell}</td>")).concat()
    };
    let row = |name: &str, kind: &str, cost: &StepCost| {
        format!("<tr><th>{}</th><td>{}</td>{}</tr>", escape(name), escape(kind), cells(cost))
    };
    let rows = joined(steps.iter().map(|step| row(&step.name, &step.kind, &step.cost)));
    let all = steps.iter().fold(StepCost::default(), |all, step| all.and(step.cost));
    let titles =
        ["step", "kind", "seconds", "tokens drawn", "tokens trained", "FLOPs", "of peak", "Wh", "money"];
    let titles = titles.map(|title| format!("<th>{title}</th>")).concat();
    let paper = PAPER.map(|PaperCost { what, gpu_hours }| {
        format!("{what} {gpu_hours:.0} hours of H800 GPUs (${:.0})", gpu_hours * PAPER_PRICE_PER_HOUR)
    });
    format!(
        "<table><tr>{titles}</tr>{rows}{}</table><p class=small>DeepSeek-R1 (arXiv:2501.12948), beyond its base model: {}.</p>",
        row("all", "", &all),
        paper.join(", ")
    )
}

/// A text, escaped, with its Chinese words in another colour.
fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for c in text.chars() {
        let is_han = ('\u{4e00}'..='\u{9fff}').contains(&c);
        if is_han != is_inside {
            out.push_str(if is_han { "<span class=zh>" } else { "</span>" });
            is_inside = is_han;
        }
        push_escaped(&mut out, c);
    }
    if is_inside {
        out.push_str("</span>");
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_wrote_is_shown_as_text() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        assert_eq!(coloured("<b加得2对"), "&lt;b<span class=zh>加得</span>2<span class=zh>对</span>");
    }
}
