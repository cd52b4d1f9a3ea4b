//! The daemon's life: starts the parts in order, keeps them, stops them.

pub mod log;

use std::process::ExitCode;

use crate::config::Config;

/// Runs the daemon until it is told to stop.
pub fn serve(config: Config) -> ExitCode {
    let _ = config;
    ::log::error!("this build has no daemon in it");
    ExitCode::FAILURE
}
