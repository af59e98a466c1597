//! `globaldns completion` and `globaldns man`: what shells and `man` read (X2).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

use super::called;
use super::export::print;

#[derive(Args, Debug)]
pub(super) struct Completion {
    /// The shell that reads it
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "globaldns", &mut script);
        print(&String::from_utf8(script)?)?;
        if called::name() != "globaldns" {
            called::say(
                "this is for the name globaldns; for kubectl, link the program to kubectl_complete-globaldns on the PATH",
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// The directory to write the pages to, such as /usr/local/share/man/man1
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let directory = self.directory.display().to_string();
        clap_mangen::generate_to(super::command(), &self.directory)
            .with_context(|| format!("writing man pages to {directory}; does the directory exist?"))?;
        Ok(ExitCode::SUCCESS)
    }
}
