// The page: requests what is new, and gives it to the charts and the rollouts.

const POLL_MS = 1500;
const POLL_FINISHED_MS = 15000;
const STEPS_FOR_PACE = 20; // the last steps, from which the time left is estimated

const byId = (id) => document.getElementById(id);
const columns = new Map(); // key → [step, value] of each line that has it, in the order of steps
const rollouts = new Rollouts();
let charts = [];
let place = { next: 0, mark: "" }; // how far metrics.jsonl is read
let overview = null;

const shared = {
  smoothing: 0,
  cursor: null,
  onCursor(step) {
    if (step === shared.cursor) return;
    shared.cursor = step;
    const picks = rollouts.stretches.length ? "; click for its rollouts" : "";
    byId("at").textContent = step === null ? "" : `step ${step}${picks}`;
    charts.forEach((chart) => chart.drawCursor());
  },
  onPick(step) {
    if (!rollouts.stretches.length) return;
    rollouts.show(step);
    byId("rollouts").scrollIntoView({ behavior: "smooth" });
  },
};

/** A duration in words. */
function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days ${Math.floor((s % 86400) / 3600)} h`;
}

async function ask(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error((await reply.json()).error);
  return reply.json();
}

/** Reads the lines that were added; all of them, if the run was resumed and repeats some steps. */
async function readMetrics() {
  let changed = false;
  for (;;) {
    const part = await ask(`api/metrics?from=${place.next}&mark=${place.mark}`);
    if (part.restarted) columns.clear();
    for (const row of part.rows) {
      for (const [key, value] of flatten(row)) {
        if (!columns.has(key)) columns.set(key, []);
        columns.get(key).push([row.step, value]);
      }
    }
    place = part;
    changed ||= part.restarted || part.rows.length > 0;
    if (!part.more) return changed;
  }
}

function drawCharts() {
  const specs = chartsFor(new Set(columns.keys()));
  byId("no-steps").hidden = specs.length > 0;
  if (specs.length !== charts.length || specs.some((spec, i) => spec.title !== charts[i].spec.title)) {
    charts = specs.map((spec) => new Chart(spec, shared));
    byId("charts").replaceChildren(...charts.map((chart) => chart.node));
  }
  charts.forEach((chart) => chart.update(columns));
}

function drawHeader() {
  const { state, message, steps, name, quiet_s } = overview;
  const last = (key) => columns.get(key)?.at(-1)?.[1];
  const step = last("step") ?? 0;
  const seconds = (columns.get("step_s") ?? []).map(([, s]) => s);
  const words = [steps ? `Step ${step} of ${steps}` : `Step ${step}`];
  if (seconds.length) words.push(`${duration(seconds.reduce((a, b) => a + b, 0))} of steps`);
  if (state === "training" && steps && seconds.length) {
    const late = seconds.slice(-STEPS_FOR_PACE);
    const pace = late.reduce((a, b) => a + b, 0) / late.length;
    words.push(`about ${duration(Math.max(0, steps - step) * pace)} left`);
  }
  if (state === "silent") words.push(`nothing was written for ${duration(quiet_s)}`);
  if (state === "killed") words.push("its process was killed");
  if (state === "failed" && message) words.push(message);
  if (["stopped", "failed", "killed"].includes(state)) words.push("--resume continues it");
  byId("name").textContent = name;
  document.title = `${steps ? `${step}/${steps}` : step} · ${name} · Koan`;
  const pill = byId("state");
  if (pill.textContent !== state) {
    pill.textContent = state;
    pill.className = `pill ${state}`;
  }
  byId("progress").textContent = words.join(" · ");
  byId("bar").hidden = !steps;
  if (steps) byId("bar").value = step / steps;
}

function drawSettings() {
  byId("path").textContent = overview.path;
  const config = byId("config"), lineage = byId("lineage");
  config.hidden = overview.config === null;
  config.querySelector("pre").textContent = overview.config ?? "";
  lineage.hidden = overview.lineage === null;
  const rows = Object.entries(overview.lineage ?? {}).map(([key, value]) =>
    el("tr", {}, el("th", {}, key), el("td", {}, typeof value === "string" ? value : JSON.stringify(value))));
  lineage.querySelector("table").replaceChildren(...rows);
}

async function poll() {
  try {
    overview = await ask("api/run");
    const changed = await readMetrics();
    if (changed) drawCharts();
    drawHeader();
    drawSettings();
    // A step's rollouts are complete when its line of metrics exists.
    const made = columns.get("step")?.at(-1)?.[0] ?? 0;
    rollouts.update(overview.rollouts.filter(([first]) => first <= made).map(([first, last]) => [first, Math.min(last, made)]));
    byId("trouble").hidden = true;
  } catch (error) {
    byId("trouble").textContent = error instanceof TypeError
      ? "The program that serves this page does not answer; it may have ended. The page shows the last data it got." : String(error.message);
    byId("trouble").hidden = false;
  }
  setTimeout(poll, overview?.state === "finished" ? POLL_FINISHED_MS : POLL_MS);
}

byId("smoothing").addEventListener("input", (event) => {
  shared.smoothing = Number(event.target.value);
  charts.forEach((chart) => chart.draw());
});
byId("explain").addEventListener("change", (event) => byId("charts").classList.toggle("explained", event.target.checked));
new ResizeObserver(() => charts.forEach((chart) => chart.draw())).observe(byId("charts"));
poll();
