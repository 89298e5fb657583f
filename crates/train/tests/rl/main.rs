//! Runs of reinforcement learning as a whole, in small.

mod adapter;
mod course;
mod judges;
mod odd;
mod precision;
mod ranks;
mod resume;
mod safety;
mod tensorboard;
mod tiny_run;
