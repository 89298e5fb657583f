//! What launchers tell the processes that they start, in variables.

/// A process among others that a launcher started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Launched {
    /// Who started it.
    pub(super) by: &'static str,
    /// How many there are, more than one.
    pub(super) ranks: usize,
    /// How many of them are on this machine, and the number of this one among them; one, and 0, where that is not said.
    pub(super) local: (usize, usize),
}

/// A launcher, and the variables that say how many processes there are, how many on this machine, and which of them this is.
struct Launcher {
    name: &'static str,
    ranks: &'static str,
    local_ranks: &'static str,
    local_rank: &'static str,
}

/// The first whose variables are there is meant: `mpirun` may run within a job of Slurm.
const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        name: "mpirun",
        ranks: "OMPI_COMM_WORLD_SIZE",
        local_ranks: "OMPI_COMM_WORLD_LOCAL_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    },
    Launcher {
        name: "mpirun",
        ranks: "PMI_SIZE",
        local_ranks: "MPI_LOCALNRANKS",
        local_rank: "MPI_LOCALRANKID",
    },
    // Of a step that srun started, not of a job.
    Launcher {
        name: "srun",
        ranks: "SLURM_STEP_NUM_TASKS",
        local_ranks: "SLURM_STEP_TASKS_PER_NODE",
        local_rank: "SLURM_LOCALID",
    },
    Launcher {
        name: "torchrun",
        ranks: "WORLD_SIZE",
        local_ranks: "LOCAL_WORLD_SIZE",
        local_rank: "LOCAL_RANK",
    },
];

/// What the variables say; none if this process was started alone.
pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    // Slurm writes `4(x2)` for two machines of four.
    let digits = |text: String| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    let number = |name| variable(name).and_then(digits);
    let launched = |launcher: &Launcher| {
        let ranks: usize = number(launcher.ranks)?;
        let local =
            (number(launcher.local_ranks).unwrap_or(1).max(1), number(launcher.local_rank).unwrap_or(0));
        Some(Launched { by: launcher.name, ranks, local })
    };
    LAUNCHERS.iter().find_map(launched).filter(|launched| launched.ranks > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Option<Launched> {
        of(|name| {
            text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        })
    }

    #[test]
    fn the_first_launcher_that_says_so_has_started_it() {
        let open_mpi = "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1";
        let launched = |by, ranks, local| Some(Launched { by, ranks, local });
        assert_eq!(of_text(open_mpi), launched("mpirun", 4, (2, 1)));
        let within = format!("{open_mpi} SLURM_STEP_NUM_TASKS=1 SLURM_LOCALID=0");
        assert_eq!(of_text(&within), launched("mpirun", 4, (2, 1)));
        let mpich = "PMI_SIZE=2 PMI_RANK=1 MPI_LOCALNRANKS=2 MPI_LOCALRANKID=1";
        assert_eq!(of_text(mpich), launched("mpirun", 2, (2, 1)));
        let slurm = "SLURM_STEP_NUM_TASKS=8 SLURM_STEP_TASKS_PER_NODE=4(x2) SLURM_LOCALID=3";
        assert_eq!(of_text(slurm), launched("srun", 8, (4, 3)));
        assert_eq!(of_text("WORLD_SIZE=2 RANK=0 LOCAL_RANK=0"), launched("torchrun", 2, (1, 0)));
    }

    #[test]
    fn a_process_alone_is_no_rank() {
        // The variables of a job of Slurm are not those of a step.
        for text in ["", "OMPI_COMM_WORLD_SIZE=1", "WORLD_SIZE=", "SLURM_NTASKS=8 SLURM_PROCID=0"] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
