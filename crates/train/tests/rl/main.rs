//! Runs of reinforcement learning as a whole, in small.

mod course;
mod odd;
mod safety;
mod tensorboard;
mod tiny_run;
