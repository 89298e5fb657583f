//! The table of what steps cost, with the paper's beside it.

use koan_recipe::{
    StepCost, StepState,
    cost::{PAPER, PAPER_PRICE_PER_HOUR, Rates},
};
use koan_train::cost::EnergySource;

use super::show::seconds;

/// Columns after the name.
const HEADER: [&str; 7] = ["time", "drawn", "trained", "FLOPs", "of peak", "energy", "money"];
/// Width of a column.
const WIDTH: usize = 10;

/// Prints what each of the steps cost, all of them, and the paper's; at other `rates` than they were counted at, where these say so.
pub(super) fn print(states: &[&StepState], rates: Rates) -> anyhow::Result<()> {
    let at_rates = |cost: StepCost| {
        let watts = rates.watts.or(cost.watts);
        cost.at(Rates { watts, price_per_hour: rates.price_per_hour.or(cost.price_per_hour) })
    };
    let costs: Vec<StepCost> = states.iter().map(|state| at_rates(state.cost)).collect();
    let names = states.iter().map(|state| state.name.chars().count());
    let width = names.chain(PAPER.iter().map(|row| row.what.len())).max().unwrap_or(0);
    let row = |name: &str, cells: &[String; HEADER.len()]| {
        let cells = cells.iter().map(|cell| format!("{cell:>WIDTH$}")).collect::<Vec<_>>().concat();
        say!("{}", format!("{name:width$}{cells}").trim_end())
    };
    row("", &HEADER.map(str::to_owned))?;
    for (state, cost) in states.iter().zip(&costs) {
        row(&state.name, &cells(cost))?;
    }
    let all = costs.iter().copied().fold(StepCost::default(), StepCost::and);
    row("all", &cells(&all))?;
    say!("\nDeepSeek-R1 beyond its base model, on H800 GPUs at $2 per hour (arXiv:2501.12948v2)")?;
    let paper = |what: &str, hours: f64| {
        let mut cells: [String; HEADER.len()] = Default::default();
        cells[0] = format!("{hours} h");
        cells[HEADER.len() - 1] = format!("${}", hours * PAPER_PRICE_PER_HOUR);
        row(what, &cells)
    };
    for of in PAPER {
        paper(of.what, of.gpu_hours)?;
    }
    paper("all", PAPER.iter().map(|of| of.gpu_hours).sum())?;
    say!("")?;
    for line in notes(&costs) {
        say!("{line}")?;
    }
    Ok(())
}

fn cells(cost: &StepCost) -> [String; HEADER.len()] {
    let StepCost { tokens_drawn, tokens_trained, flops, peak_share, energy_wh, money, .. } = *cost;
    let none = || "-".to_owned();
    [
        seconds(cost.seconds),
        thousands(tokens_drawn),
        thousands(tokens_trained),
        if flops > 0.0 { format!("{flops:.2e}") } else { none() },
        peak_share.map_or_else(none, |share| format!("{:.1}%", 100.0 * share)),
        energy_wh.map_or_else(none, |wh| format!("{wh:.2} Wh")),
        money.map_or_else(none, |money| format!("{money:.4}")),
    ]
}

/// How the columns are known.
fn notes(costs: &[StepCost]) -> Vec<String> {
    let is = |source| costs.iter().any(|cost| cost.energy_source == Some(source));
    let mut all = vec![
        "drawn: tokens sampled; trained: tokens learned from, once for each pass. FLOPs of all passes: docs/guide/recipes.md"
            .to_owned(),
    ];
    let fastest = costs.iter().filter_map(|cost| cost.peak_flops_per_s).fold(0.0, f64::max);
    if fastest > 0.0 {
        all.push(format!(
            "peak: {:.0} GFLOP/s, the fastest large product measured on this machine",
            fastest / 1e9
        ));
    }
    all.push(match (is(EnergySource::Measured), is(EnergySource::Watts)) {
        (true, false) => {
            "energy: measured by the machine's counters (RAPL), with all that ran on it".to_owned()
        }
        (true, true) => {
            "energy: measured by the machine's counters (RAPL), where they were there; else watts × time"
                .to_owned()
        }
        (false, true) => "energy: stated watts × time".to_owned(),
        (false, false) => "energy: this machine does not tell; --watts W says what it takes".to_owned(),
    });
    if costs.iter().all(|cost| cost.money.is_none()) {
        all.push("money: --price-per-hour PRICE says what an hour costs".to_owned());
    }
    all
}

/// A count, in a unit that suits it.
pub(super) fn thousands(n: u64) -> String {
    match n {
        0 => "-".to_owned(),
        n if n < 10_000 => n.to_string(),
        n if n < 1_000_000 => format!("{:.1} K", n as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        n => format!("{:.1} G", n as f64 / 1e9),
    }
}
