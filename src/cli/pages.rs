//! Manual pages and shell completions, made from the command line itself: what a package ships never lags behind.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, fail};

/// Writes `man/*.1` and `completions/` into a directory.
pub(super) fn write(directory: &Path) -> ExitCode {
    match write_all(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to {}: {error}", directory.display())),
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    let man = directory.join("man");
    fs::create_dir_all(&man)?;
    // ternd.1, ternd-ctl.1, ternd-ctl-kick.1 ...
    clap_mangen::generate_to(Cli::command(), &man)?;

    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Cli::command(), "ternd", &completions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_page_and_each_shell_its_completions() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path()).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join("man").join(name)).unwrap();
        assert!(page("ternd.1").contains("Exit codes"));
        assert!(page("ternd-ctl-kick.1").contains("allocation"));
        assert!(page("ternd-ctl-room-close.1").contains("everybody"));
        assert!(page("ternd-invite.1").contains("secret"));
        assert!(page("ternd-check.1").contains("Binding"));
        for name in ["ternd.bash", "_ternd", "ternd.fish"] {
            assert!(directory.path().join("completions").join(name).is_file(), "{name}");
        }
    }
}
