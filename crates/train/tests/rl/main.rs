//! Runs of reinforcement learning as a whole, in small.

mod course;
mod safety;
mod tiny_run;
