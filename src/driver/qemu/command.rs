//! How a machine is started: its parts as arguments of QEMU. Pure.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::driver::local::layout::{MACHINE, PRIVATE, Told};
use crate::driver::local::network::{GUEST_ADDRESS, MACHINE_TAP, OWN_TAP};
use crate::driver::qemu::{Accelerator, Run};

/// The program.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// In the shell's folder of what its machine is made of: the image, a kernel, and that kernel's first file system.
pub(super) const IMAGE: &str = "image";
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRD: &str = "initrd";

/// There: what cloud-init reads, and the socket by which QEMU is spoken to.
pub(super) const SEED: &str = "seed";
pub(super) const MONITOR: &str = "monitor";

/// In the shell: the machine's own disk, over the image.
pub(super) const OWN_DISK: &str = "/var/lib/machine/disk.qcow2";

/// What the machine finds its disks by, below `/dev/disk/by-id`.
pub(super) const DATA_DISK: &str = "virtio-data";
pub(super) const PROGRAM_DISK: &str = "virtio-batchyard";

/// Memory of translated code. Unit: MiB. QEMU's default takes a share of the host's memory for each machine.
const TRANSLATIONS: u32 = 64;

/// A path in the shell's folder of what its machine is made of.
pub(super) fn part(name: &str) -> PathBuf {
    Path::new(PRIVATE).join(MACHINE).join(name)
}

/// The hardware address of an interface with this network address.
pub(super) fn hardware(address: Ipv4Addr) -> String {
    let [_, b, c, d] = address.octets();
    format!("52:54:00:{b:02x}:{c:02x}:{d:02x}")
}

/// The arguments for a machine. `is_there` tells which parts there are.
pub(super) fn arguments(run: &Run, told: &Told, is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |option: &str, value: &str| all.extend([option.to_owned(), value.to_owned()]);
    let (accelerator, processor) = match run.accelerator {
        Accelerator::Kvm => ("kvm".to_owned(), "host"),
        Accelerator::Tcg => (format!("tcg,tb-size={TRANSLATIONS}"), "max"),
    };
    add("-accel", &accelerator);
    add("-cpu", processor);
    add("-machine", "q35");
    add("-smp", &told.cores.to_string());
    add("-m", &format!("{}M", told.memory_mib));
    add("-display", "none");
    // Whatever gets out of the machine and into QEMU starts nothing and becomes nobody else.
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add("-serial", "stdio");
    add("-qmp", &format!("unix:{},server=on,wait=off", part(MONITOR).display()));
    add("-device", "virtio-rng-pci");
    let mut disk = |source: &str, more: &str| {
        add("-drive", &format!("if=none,id={more},{source}"));
        add("-device", &format!("virtio-blk-pci,drive={more},serial={more}"));
    };
    disk(&format!("file={OWN_DISK},format=qcow2,discard=unmap"), "root");
    disk(&format!("file={PRIVATE}/batchyard,format=raw,readonly=on"), "batchyard");
    if let Some(data) = &told.disk {
        disk(&format!("file={},format=raw,discard=unmap,cache=writeback", data.display()), "data");
    }
    let seed = part(SEED);
    add("-drive", &format!("if=virtio,format=raw,readonly=on,file.driver=vvfat,file.label=CIDATA,file.dir={}", seed.display()));
    for (name, address) in [(MACHINE_TAP, told.address), (OWN_TAP, GUEST_ADDRESS)] {
        add("-netdev", &format!("tap,id={name},ifname={name},script=no,downscript=no"));
        add("-device", &format!("virtio-net-pci,netdev={name},mac={}", hardware(address)));
    }
    if is_there(&part(KERNEL)) {
        add("-kernel", &part(KERNEL).display().to_string());
        add("-append", &run.kernel_line);
        if is_there(&part(INITRD)) {
            add("-initrd", &part(INITRD).display().to_string());
        }
    }
    all.extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::qemu::Format;

    #[test]
    fn a_machine_is_its_size_and_has_its_own_disks_and_links() {
        let told = Told {
            host_name: "tvm-1".into(),
            address: Ipv4Addr::new(10, 96, 3, 4),
            prefix: 24,
            gateway: None,
            nameservers: vec![],
            cores: 2,
            memory_mib: 2048,
            admin: None,
            disk: Some("/d".into()),
        };
        let run = Run {
            accelerator: Accelerator::Tcg,
            boot_deadline: Duration::from_secs(1),
            format: Format::Raw,
            kernel_line: "console=ttyS0".into(),
        };
        let line = arguments(&run, &told, |path| path.ends_with(KERNEL)).join(" ");
        for part in [
            "-accel tcg,tb-size=64",
            "-smp 2",
            "-m 2048M",
            "file=/d,format=raw",
            "serial=data",
            "mac=52:54:00:60:03:04",
            "mac=52:54:00:fe:4d:02",
            "-kernel /run/batchyard/machine/kernel -append console=ttyS0",
            "-sandbox on",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!line.contains("-initrd"), "{line}");
        let plain = Told { disk: None, ..told };
        assert!(!arguments(&run, &plain, |_| false).join(" ").contains("serial=data"));
    }
}
