// Series of points and what is drawn of them. A series is { x, y }: its steps in their order, and its values; a value may be
// NaN, where a run wrote what is not a number.

/** Appends a point; one of an earlier step than the last is left out. */
function append(series, x, y) {
  if (series.x.length && x < series.x[series.x.length - 1]) return;
  series.x.push(x);
  series.y.push(y);
}

/** The index of the point nearest to step `x`. */
function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - xs[low - 1] <= xs[low] - x ? low - 1 : low;
}

/** Whether a series has fewer than half the points of the lines of metrics in its span: it is measured now and then. */
function isSparse(series, steps) {
  if (series.x.length < 2) return false;
  const lines = nearest(steps, series.x[series.x.length - 1]) - nearest(steps, series.x[0]) + 1;
  return series.x.length < lines / 2;
}

/**
 * An exponential moving average over steps, without the bias of its start: what lies `unit` steps back counts `weight` times
 * as much as what lies here, however many points are between.
 */
function smooth({ x, y }, weight, unit) {
  const averages = new Array(y.length);
  let sum = 0, norm = 0;
  for (let i = 0; i < y.length; i++) {
    const kept = i ? weight ** ((x[i] - x[i - 1]) / unit) : 0;
    sum *= kept;
    norm *= kept;
    if (Number.isFinite(y[i])) {
      sum += (1 - weight) * y[i];
      norm += 1 - weight;
    }
    averages[i] = Number.isFinite(y[i]) ? sum / norm : NaN;
  }
  return { x, y: averages };
}

/** What is drawn of a series: measured now and then, its points; otherwise their moving average. */
function drawn(series, weight, steps, seldom) {
  if (!weight || seldom || isSparse(series, steps)) return series;
  const unit = Math.max(1, (steps[steps.length - 1] - steps[0]) / Math.max(1, steps.length - 1));
  return smooth(series, weight, unit);
}

/** Of the points that fall on one of `columns` of pixels: the first, the last, the least and the greatest. */
function thin({ x, y }, columns) {
  if (x.length <= 4 * columns) return { x, y };
  const kept = { x: [], y: [] };
  const width = (x[x.length - 1] - x[0]) / columns || 1;
  for (let start = 0; start < x.length;) {
    const column = Math.floor((x[start] - x[0]) / width);
    let end = start, low = start, high = start;
    for (; end < x.length && Math.floor((x[end] - x[0]) / width) === column; end++) {
      if (!(y[end] >= y[low])) low = end;
      if (!(y[end] <= y[high])) high = end;
    }
    for (const i of [...new Set([start, low, high, end - 1])].sort((a, b) => a - b)) {
      kept.x.push(x[i]);
      kept.y.push(y[i]);
    }
    start = end;
  }
  return kept;
}

/** Widens `range` to the finite values among `values`. */
function widen(range, values) {
  for (const value of values) {
    if (value < range[0] && value > -Infinity) range[0] = value;
    if (value > range[1] && value < Infinity) range[1] = value;
  }
}
