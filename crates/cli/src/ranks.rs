//! The processes that make a run together: those that `mpirun`, `srun` or another launcher started.

mod launcher;

use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use koan_train::comm::{CommError, Ranks};

use self::launcher::Launched;

static RANKS: OnceLock<Ranks> = OnceLock::new();

/// The ranks, of which this process is one.
pub(crate) fn ranks() -> &'static Ranks {
    RANKS.get_or_init(Ranks::alone)
}

/// Joins the processes that were started with this one, if there are others. What `works_on_several` does is done by all
/// together; all else is refused.
pub(crate) fn join(works_on_several: bool) -> anyhow::Result<()> {
    let Some(launched) = launcher::of(|name| std::env::var(name).ok()) else { return Ok(()) };
    let Launched { by, ranks: n, .. } = launched;
    if !works_on_several {
        bail!("{by} has started {n} processes, and this command is one process's work: start it by itself");
    }
    let ranks = connect(&launched)?;
    if ranks.ranks() != n {
        let found = ranks.ranks();
        bail!(
            "{by} has started {n} processes, and MPI knows of {found}: use the mpirun of the MPI that koan was built with, or srun"
        );
    }
    let _ = RANKS.set(ranks); // nobody has asked before
    Ok(())
}

#[cfg(feature = "mpi")]
fn connect(_: &Launched) -> anyhow::Result<Ranks> {
    use std::sync::Arc;

    use koan_train::{comm::Mpi, stage};

    let mpi = Mpi::join(|ended| {
        note!("error: {ended}");
        stage::record_failure(&ended.to_string());
    });
    Ok(Ranks::new(Arc::new(mpi.context("cannot join the other processes")?))?)
}

#[cfg(not(feature = "mpi"))]
fn connect(Launched { by, ranks, .. }: &Launched) -> anyhow::Result<Ranks> {
    bail!(
        "{by} has started {ranks} processes, and this koan was built without MPI: \
         build it with `cargo build --release --features mpi` (docs/guide/many-machines.md)"
    )
}

/// Takes leave of the others, after a command that ended by `result`.
pub(crate) fn leave(result: anyhow::Result<()>) -> anyhow::Result<()> {
    let Some(ranks) = RANKS.get().filter(|ranks| ranks.are_several()) else { return result };
    match result {
        Ok(()) => ranks.finish().context("the others have not finished"),
        Err(error) => {
            ranks.end(&format!("{error:#}"));
            Err(error)
        }
    }
}

/// Whether an error says no more than that another rank has ended: that rank says it, and the first.
pub(crate) fn is_echo(error: &anyhow::Error) -> bool {
    let ended = |e: &(dyn std::error::Error + 'static)| {
        matches!(e.downcast_ref::<CommError>(), Some(CommError::Ended { .. }))
    };
    !ranks().is_first() && error.chain().any(ended)
}

/// How many processes of this machine share its processors and cards, and the number of this one among them.
pub(crate) fn on_this_machine() -> (usize, usize) {
    launcher::of(|name| std::env::var(name).ok()).map_or((1, 0), |launched| launched.local)
}
