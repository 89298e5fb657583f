//! Accuracy against cost as a picture (SVG): each model a point with its interval, so that one sees what more tokens or money
//! buy, as ScienceAgentBench (arXiv:2410.05080) shows agents. A line joins the models that no other beats at less cost.
//!
//! Colours are of middle lightness: the picture is read on a light page and on a dark one.

use std::fmt::Write as _;

use crate::{Interval, SuiteRow};

/// Size of a panel, and the room for its labels, pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;
const GAP: f64 = 28.0;
/// Panels beside one another.
const COLUMNS: usize = 2;
/// Costs that differ by more than this are drawn on a logarithmic axis.
const WIDE: f64 = 8.0;
/// Height of a label, and a character's width, pixels.
const LINE: f64 = 12.0;
const CHARACTER: f64 = 6.0;
/// Longer names are cut, characters.
const MAX_NAME: usize = 32;
/// Colours of models, in turn.
const COLOURS: [&str; 8] =
    ["#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626"];

/// A model in a panel.
#[derive(Clone, Debug)]
struct Point<'a> {
    model: &'a str,
    colour: &'static str,
    accuracy: Interval,
    cost: f64,
}

/// Draws `rows`: a panel of all sets together, if there are several, and one for each. Costs are money per problem if every row has a price,
/// otherwise mean tokens of a completion.
pub fn chart(rows: &[SuiteRow]) -> String {
    // How safe a model is is another question.
    let rows: Vec<&SuiteRow> = rows.iter().filter(|row| row.safety.is_none()).collect();
    let rows = &rows[..];
    let priced = !rows.is_empty() && rows.iter().all(|row| row.cost.is_some());
    let cost = |row: &&SuiteRow| match row.cost {
        Some(cost) if priced => cost / row.figures.problems.max(1) as f64,
        _ => row.figures.completion_tokens,
    };
    let (models, sets) = (in_order(rows, |row| &row.model), in_order(rows, |row| &row.set));
    let colour =
        |model: &str| COLOURS[models.iter().position(|&known| known == model).unwrap_or(0) % COLOURS.len()];
    let mut panels: Vec<(String, Vec<Point>)> = Vec::new();
    if sets.len() > 1 {
        let points = models.iter().map(|&model| {
            let of_model: Vec<&SuiteRow> = rows.iter().copied().filter(|row| row.model == model).collect();
            let accuracy = mean(&of_model.iter().map(|row| row.figures.pass_at_1).collect::<Vec<_>>());
            let cost = of_model.iter().map(cost).sum::<f64>() / of_model.len() as f64;
            Point { model, colour: colour(model), accuracy, cost }
        });
        panels.push((format!("mean of {} sets", sets.len()), points.collect()));
    }
    for set in sets {
        let of_set = rows.iter().filter(|row| row.set == set).map(|row| Point {
            model: &row.model,
            colour: colour(&row.model),
            accuracy: row.figures.pass_at_1,
            cost: cost(row),
        });
        panels.push((set.to_owned(), of_set.collect()));
    }
    let unit = if priced { "cost per problem" } else { "tokens per completion" };
    let columns = panels.len().clamp(1, COLUMNS);
    let width = columns as f64 * (WIDTH + GAP) - GAP;
    let height = panels.len().div_ceil(columns) as f64 * (HEIGHT + GAP) - GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\" fill=\"#6b7280\"><style>line {{ stroke: #8886 }} .front {{ fill: none; stroke: #8889; stroke-dasharray: 4 3 }} \
         .t {{ font-size: 14px; font-weight: 600 }} .i {{ stroke-width: 2 }} .m {{ font-weight: 600 }}</style>"
    );
    for (i, (title, points)) in panels.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * (WIDTH + GAP), (i / columns) as f64 * (HEIGHT + GAP));
        let _ = write!(svg, "<g transform=\"translate({x} {y})\">{}</g>", panel(title, unit, points));
    }
    svg + "</svg>\n"
}

/// The different values of a field, in the order in which they come.
fn in_order<'a>(rows: &[&'a SuiteRow], field: impl Fn(&'a SuiteRow) -> &'a str) -> Vec<&'a str> {
    let mut values: Vec<&str> = Vec::new();
    for row in rows {
        if !values.contains(&field(row)) {
            values.push(field(row));
        }
    }
    values
}

/// The mean accuracy of several sets, each of which counts the same: the ends of independent intervals add up in squares.
fn mean(sets: &[Interval]) -> Interval {
    let n = sets.len().max(1) as f64;
    let accuracy = sets.iter().map(|set| set.accuracy).sum::<f64>() / n;
    let reach =
        |of: &dyn Fn(&Interval) -> f64| sets.iter().map(|set| of(set).powi(2)).sum::<f64>().sqrt() / n;
    let (below, above) = (reach(&|set| set.accuracy - set.low), reach(&|set| set.high - set.accuracy));
    Interval { accuracy, low: (accuracy - below).max(0.0), high: (accuracy + above).min(1.0) }
}

/// The inside of a panel.
fn panel(title: &str, unit: &str, points: &[Point]) -> String {
    let axis = Axis::of(points);
    let top = points.iter().map(|point| point.accuracy.high).fold(0.0, f64::max);
    let top = [0.1, 0.2, 0.4, 0.6, 0.8].into_iter().find(|&round| round >= top).unwrap_or(1.0);
    let y = |share: f64| TOP + (1.0 - share / top) * (HEIGHT - TOP - BOTTOM);
    let (end, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg =
        format!("<text class=\"t\" x=\"{LEFT}\" y=\"15\">{}: right answers, pass@1</text>", escape(title));
    for share in [0.0, 0.5 * top, top] {
        let at = y(share);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" /><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}%</text>",
            LEFT - 6.0,
            at + 4.0,
            100.0 * share
        );
    }
    for tick in axis.ticks() {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            axis.at(tick),
            floor + 16.0,
            number(tick)
        );
    }
    let scale = if axis.logarithmic { ", logarithmic" } else { "" };
    let _ = write!(svg, "<text x=\"{end}\" y=\"{}\" text-anchor=\"end\">{unit}{scale}</text>", floor + 32.0);
    let front: Vec<String> = frontier(points)
        .into_iter()
        .map(|point| format!("{:.1},{:.1}", axis.at(point.cost), y(point.accuracy.accuracy)))
        .collect();
    if front.len() > 1 {
        let _ = write!(svg, "<polyline class=\"front\" points=\"{}\" />", front.join(" "));
    }
    let mut labels: Vec<[f64; 3]> = Vec::new();
    for point in points {
        let (x, at) = (axis.at(point.cost), y(point.accuracy.accuracy));
        let [low, high] = [point.accuracy.low, point.accuracy.high].map(y);
        let _ = write!(
            svg,
            "<line class=\"i\" style=\"stroke: {0}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" />\
             <circle cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"4.5\" fill=\"{0}\" />",
            point.colour
        );
        let name: String = match point.model.char_indices().nth(MAX_NAME) {
            Some((cut, _)) => format!("{}…", &point.model[..cut]),
            None => point.model.to_owned(),
        };
        let length = name.chars().count() as f64 * CHARACTER;
        let is_left = x + 9.0 + length > end;
        let start = if is_left { x - 9.0 - length } else { x + 9.0 };
        // Names that would lie on one another move down, then up.
        let is_free = |at: f64| {
            labels
                .iter()
                .all(|[from, to, other]| *to < start || *from > start + length || (other - at).abs() >= LINE)
        };
        let tries = (0..20_i32)
            .map(|i| at + 4.0 + LINE * f64::from((i + 1) / 2) * if i % 2 == 0 { -1.0 } else { 1.0 });
        let label = tries.into_iter().find(|&at| is_free(at)).unwrap_or(at + 4.0);
        labels.push([start, start + length, label]);
        let _ = write!(
            svg,
            "<text class=\"m\" x=\"{:.1}\" y=\"{label:.1}\" fill=\"{}\"{}>{}</text>",
            if is_left { x - 9.0 } else { x + 9.0 },
            point.colour,
            if is_left { " text-anchor=\"end\"" } else { "" },
            escape(&name)
        );
    }
    svg
}

/// The models that no other beats at the same or less cost, by cost.
fn frontier<'p, 'a>(points: &'p [Point<'a>]) -> Vec<&'p Point<'a>> {
    let mut by_cost: Vec<&Point> = points.iter().collect();
    by_cost
        .sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.accuracy.accuracy.total_cmp(&a.accuracy.accuracy)));
    let mut best = f64::NEG_INFINITY;
    by_cost.retain(|point| {
        let is_better = point.accuracy.accuracy > best;
        best = best.max(point.accuracy.accuracy);
        is_better
    });
    by_cost
}

/// The axis of costs.
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    fn of(points: &[Point]) -> Self {
        let costs = || points.iter().map(|point| point.cost).filter(|cost| cost.is_finite());
        let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
        if least > 0.0 && most > WIDE * least {
            return Self { from: least / 1.5, to: most * 1.5, logarithmic: true };
        }
        Self { from: 0.0, to: if most > 0.0 { 1.15 * most } else { 1.0 }, logarithmic: false }
    }

    fn at(&self, cost: f64) -> f64 {
        let share = if self.logarithmic {
            (cost.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            cost / self.to
        };
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - RIGHT - LEFT)
    }

    /// Round numbers, two to seven of them.
    fn ticks(&self) -> Vec<f64> {
        let power = |exponent: i32| 10_f64.powi(exponent);
        let (low, high) = (self.from.max(self.to * 1e-12), self.to);
        if self.logarithmic {
            let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let of = |steps: &'static [f64]| -> Vec<f64> {
                let all = exponents
                    .clone()
                    .flat_map(|exponent| steps.iter().map(move |step| step * power(exponent)));
                all.filter(|tick| (low..=high).contains(tick)).collect()
            };
            let fine = of(&[1.0, 2.0, 5.0]);
            return if fine.len() <= 7 { fine } else { of(&[1.0]) };
        }
        let unit = power(high.log10().floor() as i32);
        let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0].map(|step| step * unit);
        let step = steps.into_iter().find(|step| high / step <= 6.0).unwrap_or(high);
        (0..=6).map(|i| f64::from(i) * step).filter(|tick| *tick <= high).collect()
    }
}

/// Three digits, without those that say nothing.
fn number(x: f64) -> String {
    if x >= 100.0 || x == 0.0 {
        return format!("{x:.0}");
    }
    let digits = (2 - x.log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figures;

    fn row(model: &str, set: &str, accuracy: f64, tokens: f64, cost: Option<f64>) -> SuiteRow {
        let pass_at_1 = Interval { accuracy, low: accuracy - 0.05, high: accuracy + 0.05 };
        let figures = Figures {
            problems: 10,
            samples: 1,
            pass_at_1,
            pass_at_k: Vec::new(),
            majority: None,
            completion_tokens: tokens,
            truncated: 0.0,
        };
        SuiteRow {
            model: model.to_owned(),
            path: model.into(),
            set: set.to_owned(),
            figures,
            safety: None,
            tokens: 100,
            seconds: 1.0,
            cost,
            report: None,
        }
    }

    #[test]
    fn each_model_is_a_point_in_each_panel() {
        let rows = [
            row("base", "sums", 0.2, 50.0, None),
            row("r1 <b>", "sums", 0.8, 900.0, None),
            row("base", "maths", 0.1, 80.0, None),
            row("r1 <b>", "maths", 0.5, 1900.0, None),
        ];
        let svg = chart(&rows);
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"front\"").count()), (6, 3), "{svg}");
        for part in
            ["mean of 2 sets: ", "sums: right answers", "tokens per completion, logarithmic", "r1 &lt;b&gt;"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let priced = chart(&[row("a", "s", 0.5, 1.0, Some(1.0)), row("b", "s", 0.4, 1.0, Some(2.0))]);
        assert!(priced.contains("cost per problem<") && !priced.contains("mean of"), "{priced}");
        assert!(!priced.contains("class=\"front\""), "b is worse and dearer");
        let empty = chart(&[row("a", "s", 0.0, 0.0, None)]);
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }

    #[test]
    fn axes_have_round_numbers() {
        for (costs, ticks) in [
            ([3.0, 5.0], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            ([0.0, 0.0], vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            ([10.0, 1000.0], vec![10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]),
            ([0.001, 1000.0], vec![0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]),
        ] {
            let rows = costs.map(|cost| row("a", "s", 0.5, cost, None));
            let accuracy = rows[0].figures.pass_at_1;
            let points = costs.map(|cost| Point { model: "a", colour: COLOURS[0], accuracy, cost });
            let got = Axis::of(&points).ticks();
            assert_eq!(got.len(), ticks.len(), "{got:?}");
            assert!(got.iter().zip(&ticks).all(|(a, b)| (a - b).abs() < 1e-9 * b.max(1.0)), "{got:?}");
        }
        assert_eq!([0.00123, 0.5, 12.0, 1900.0, 0.0].map(number), ["0.00123", "0.5", "12", "1900", "0"]);
    }

    #[test]
    fn the_mean_of_sets_is_surer_than_each() {
        let set = Interval { accuracy: 0.5, low: 0.4, high: 0.6 };
        let of_four = mean(&[set; 4]);
        assert!((of_four.low - 0.45).abs() < 1e-9 && (of_four.high - 0.55).abs() < 1e-9, "{of_four:?}");
    }
}
