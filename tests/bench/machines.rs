//! Machines that are files: what a server asks for is written down in a folder, and whoever reads it plays the machines.
//!
//! A machine is there while its file is, so that servers come and go, and several see the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use batchyard::domain::machine::{MachineSpec, Observed, Presence, Size};
use batchyard::driver::{Capabilities, Driver, DriverError, LONGEST_BOOT, Listing};

/// Ends the name of a machine's file.
const END: &str = ".machine";

/// The driver.
pub(crate) struct Machines {
    folder: PathBuf,
    sizes: Vec<Size>,
}

impl Machines {
    /// Machines in `folder`, which is there.
    pub(crate) fn new(folder: PathBuf) -> Machines {
        Machines { folder, sizes: vec![Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 3584, gpus: 0 }] }
    }
}

/// The machines of `folder`, each with the token that its agent joins with.
pub(crate) fn read(folder: &Path, known: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Option<String>>> {
    let mut machines = BTreeMap::new();
    for name in names(folder)? {
        let token = if known(&name) { None } else { Some(std::fs::read_to_string(file(folder, &name))?) };
        machines.insert(name, token);
    }
    Ok(machines)
}

/// Takes `count` of the machines away, as a power cut would.
pub(crate) fn lose(folder: &Path, count: usize) -> Result<()> {
    for name in names(folder)?.into_iter().take(count) {
        std::fs::remove_file(file(folder, &name))?;
    }
    Ok(())
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(END)).map(str::to_owned));
    }
    Ok(names)
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{END}"))
}

/// An address that follows from the name.
fn observed(name: &str) -> Observed {
    let number = name.get(name.len().saturating_sub(6)..).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let [_, a, b, c] = number.unwrap_or_default().to_be_bytes();
    Observed::new(name, Presence::Present, Some(format!("10.{a}.{b}.{c}")))
}

fn failed(error: std::io::Error) -> DriverError {
    DriverError::Transient(error.into())
}

#[async_trait::async_trait]
impl Driver for Machines {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        let file = file(&self.folder, &spec.name);
        if !file.exists() {
            let beside = file.with_extension("new");
            std::fs::write(&beside, &spec.bootstrap.join_token).map_err(failed)?;
            std::fs::rename(beside, file).map_err(failed)?;
        }
        Ok(observed(&spec.name))
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        let names = names(&self.folder).map_err(failed)?;
        Ok(names.iter().map(|name| observed(name)).collect::<Vec<_>>().into())
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        match std::fs::remove_file(file(&self.folder, name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "files",
            isolation: "simulated".into(),
            share: false,
            file_servers: false,
            fence: None,
            longest_boot: LONGEST_BOOT,
        }
    }
}
