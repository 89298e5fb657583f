//! Curves over the steps of a run, as SVG.

use super::Point;

/// A value at each step.
pub(super) type Curve = Vec<(u64, f64)>;

/// Size of a chart, pixels, and the room for its labels.
pub(super) const WIDTH: f64 = 420.0;
pub(super) const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 24.0;

/// Accuracy and length side by side, for a page that shows no style sheets.
pub(super) fn picture(curve: &[Point]) -> String {
    let gap = 36.0;
    let (width, height) = (2.0 * WIDTH + gap, HEIGHT + 24.0);
    let of = |value: fn(&Point) -> f64| -> Curve { curve.iter().map(|p| (p.step, value(p))).collect() };
    let accuracy = plot(&of(|p| p.accuracy), Some(1.0));
    let length = plot(&of(|p| p.completion_tokens), None);
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

/// A curve over steps, from 0 to `top` or to what fits: the inside of an SVG of [`WIDTH`] by [`HEIGHT`].
pub(super) fn plot(curve: &[(u64, f64)], top: Option<f64>) -> String {
    let largest = curve.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = top.unwrap_or_else(|| nice(largest));
    let last = curve.last().map_or(1, |(step, _)| *step).max(2);
    let right = WIDTH - 8.0;
    let x = |step: u64| LEFT + step.saturating_sub(1) as f64 / (last - 1) as f64 * (right - LEFT);
    let y = |v: f64| 8.0 + (1.0 - v / top) * (HEIGHT - BOTTOM - 8.0);
    let points: Vec<String> =
        curve.iter().map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value))).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (x, top) in [(0.7, 1.0), (31.0, 40.0), (55.0, 100.0), (0.0, 0.001), (2.0, 2.0)] {
            assert!((nice(x) - top).abs() < 1e-9, "{x}: {}", nice(x));
        }
        assert_eq!((number(0.5), number(40.0), number(0.0)), ("0.5".into(), "40".into(), "0".into()));
    }
}
