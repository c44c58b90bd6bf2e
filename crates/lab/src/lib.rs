//! The composition root: providers, tools, state on disk, the command line.

pub mod catalogue;
pub mod commands;
pub mod control;
pub mod embedded;
pub mod exit;
mod export;
pub mod manifests;
pub mod names;
mod provider;
mod reach;
pub mod scenarios;
pub mod snapshots;
pub mod state;
pub mod tools;
pub mod why;

pub use commands::main;
