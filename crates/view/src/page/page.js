// The page: requests what is new, and gives it to the charts and the rollouts.

const POLL_MS = 1500;
const POLL_FINISHED_MS = 15000;

const byId = (id) => document.getElementById(id);
let wake = null; // ends the pause between two polls
let focus = new URLSearchParams(location.hash.slice(1)).get("run"); // the run whose rollouts and settings are shown

const shared = {
  smoothing: 0,
  cursor: null,
  onCursor(step) {
    if (step === shared.cursor) return;
    shared.cursor = step;
    const picks = rollouts.stretches.length ? "; click for its rollouts" : "";
    byId("at").textContent = step === null ? "" : `step ${step}${picks}`;
    charts.drawCursor();
  },
  onPick(step) {
    if (!rollouts.stretches.length) return;
    rollouts.show(step);
    byId("rollouts").scrollIntoView({ behavior: "smooth" });
  },
};
const charts = new Charts(shared);
const rollouts = new Rollouts();
const recipes = new Recipes((name) => {
  for (const run of runs.all) run.visible = run.name === name;
  focus = name;
  drawCharts();
  wake?.();
  byId("runs-title").scrollIntoView({ behavior: "smooth" });
});
const runs = new Runs(() => {
  drawCharts();
  wake?.();
});

function drawCharts() {
  const shown = runs.shown();
  const read = shown.filter((run) => run.columns.size);
  byId("no-steps").hidden = read.length > 0;
  byId("no-steps").textContent = shown.length ? "No step yet." : "No run is chosen.";
  byId("csv").hidden = shown.length === 0;
  byId("csv").href = csvOf(shown);
  charts.update(read);
}

function drawHeader() {
  if (recipes.current) return drawRecipe();
  const [run] = runs.all;
  const one = runs.all.length === 1;
  const steps = one ? run.overview.steps : null;
  byId("name").textContent = one ? run.name : `${runs.all.length} runs`;
  document.title = one ? `${steps ? `${run.step()}/${steps}` : run.step()} · ${run.name} · Koan` : `${runs.all.length} runs · Koan`;
  if (one && byId("state").textContent !== run.state()) {
    byId("state").textContent = run.state();
    byId("state").className = `pill ${run.state()}`;
  }
  if (!one) byId("state").textContent = "";
  byId("progress").textContent = one ? run.progress() : "";
  byId("words").textContent = one ? run.words() : "";
  byId("bar").hidden = !steps;
  if (steps) byId("bar").value = run.step() / steps;
}

/** The header of a recipe. */
function drawRecipe() {
  const state = recipes.state(), made = recipes.made();
  byId("name").textContent = recipes.current.name;
  document.title = `${Math.round(100 * made)}% · ${recipes.current.name} · Koan`;
  byId("state").textContent = state === "training" ? "running" : state;
  byId("state").className = `pill ${state}`;
  byId("progress").textContent = recipes.progress();
  byId("words").textContent = recipes.words();
  byId("bar").hidden = false;
  byId("bar").value = made;
  byId("bar").setAttribute("aria-label", "Steps of the recipe made");
}

function drawSettings(details) {
  byId("path").textContent = details.path;
  const config = byId("config"), lineage = byId("lineage");
  config.hidden = !details.config;
  config.querySelector("pre").textContent = details.config ?? "";
  lineage.hidden = !details.lineage;
  const rows = Object.entries(details.lineage ?? {}).map(([key, value]) =>
    el("tr", {}, el("th", {}, key), el("td", {}, typeof value === "string" ? value : JSON.stringify(value))));
  lineage.querySelector("table").replaceChildren(...rows);
}

/** Shows the rollouts and the settings of one of the runs. */
async function drawFocus() {
  const run = runs.all.find((run) => run.name === focus) ?? runs.shown()[0] ?? runs.all[0];
  if (!run) return;
  focus = run.name;
  rollouts.several = runs.all.length > 1;
  byId("closer").hidden = !rollouts.several;
  const names = runs.all.map((run) => run.name);
  const select = byId("run");
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  }
  select.value = focus;
  const details = await ask(`api/run?run=${encodeURIComponent(focus)}`);
  drawSettings(details);
  // A step's rollouts are complete when its line of metrics exists.
  const made = details.step ?? 0;
  const whole = (details.rollouts ?? []).filter(([first]) => first <= made).map(([first, last]) => [first, Math.min(last, made)]);
  rollouts.update(focus, whole);
}

async function poll() {
  try {
    await recipes.update();
    const begins = runs.all.length === 0;
    await runs.update();
    const first = begins ? recipes.firstRun() : null;
    if (first !== null) {
      for (const run of runs.all) run.visible = run.name === (focus ?? first);
      focus ??= first;
    }
    runs.draw();
    let changed = false;
    for (const run of runs.shown()) changed = (await run.read(drawCharts)) || changed;
    if (changed || !charts.charts.length) drawCharts();
    drawHeader();
    runs.draw();
    await runs.compare();
    await drawFocus();
    byId("trouble").hidden = true;
  } catch (error) {
    byId("trouble").textContent = error instanceof TypeError
      ? "The program that serves this page does not answer; it may have ended. The page shows the last data it got." : String(error.message);
    byId("trouble").hidden = false;
  }
  const over = runs.all.length + recipes.all.length > 0 && recipes.isOver() && runs.all.every((run) => run.overview.state === "finished");
  await new Promise((resolve) => {
    wake = resolve;
    setTimeout(resolve, over ? POLL_FINISHED_MS : POLL_MS);
  });
  wake = null;
  poll();
}

byId("smoothing").addEventListener("input", (event) => {
  shared.smoothing = Number(event.target.value);
  charts.redraw();
});
byId("explain").addEventListener("change", (event) => byId("curves").classList.toggle("explained", event.target.checked));
byId("run").addEventListener("change", (event) => {
  focus = event.target.value;
  wake?.();
});
poll();
