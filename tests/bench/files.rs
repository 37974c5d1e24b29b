//! Files on a file server, as a job has them through its mount, beside the same on the node's bare disk.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use crate::load::{Connection, median};
use crate::product::{Product, Site};
use crate::{Report, is_final};

/// Size of the file that is written and read as a whole. Unit: MiB.
const LARGE: u64 = 256;

/// How many small files there are. Each has 4 KiB.
const SMALL: u64 = 1_000;

/// What a job runs in each folder: prints seconds, one a line. What was written is dropped from the node's memory before it is read; from
/// the file server's it is not.
const SCRIPT: &str = r#"
import os, sys, time
large, small = int(sys.argv[1]), int(sys.argv[2])
def took(what):
    begun = time.time(); what(); print(time.time() - begun)
def write():
    with open('large', 'wb') as f:
        for n in range(large): f.write(data)
        os.fsync(f.fileno())
def read():
    fd = os.open('large', os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while os.read(fd, 1 << 20): pass
    os.close(fd)
def create():
    for n in range(small):
        with open('small/%d' % n, 'wb') as f: f.write(data[:4096])
def walk():
    for e in os.scandir('small'): e.stat()
def remove():
    for n in range(small): os.remove('small/%d' % n)
data = os.urandom(1 << 20)
for folder in sys.argv[3:]:
    os.makedirs(folder); os.chdir(folder); os.mkdir('small')
    for what in (write, read, create, walk, remove): took(what)
"#;

/// Measures both, where nodes here can hold file servers.
pub async fn measure(report: &Report, product: &Product, runs: usize) -> Result<()> {
    if !["/usr/bin/ganesha.nfsd", "/dev/fuse", "/usr/bin/python3"].iter().all(|path| Path::new(path).exists()) {
        eprintln!("skipped: files need nfs-ganesha, /dev/fuse and python3");
        return Ok(());
    }
    let site = product.furnish(1).await?;
    let mut on = Connection::open(product.address).await?;
    let server = json!({ "properties": {
        "vmSize": "STANDARD_D1",
        "sshConfiguration": { "userAccountSettings": { "adminUserName": "bench", "adminUserPassword": "not a secret: nobody listens" } },
        "dataDisks": { "diskSizeInGB": 4, "diskCount": 1, "storageAccountType": "Standard_LRS" } } });
    product.ask(&mut on, Method::PUT, &site.file_server(), Some(&server)).await?;
    product.wait_for(&mut on, &site.file_server(), |made| made["properties"]["provisioningState"] == "succeeded").await?;
    let mut figures: [Vec<Vec<f64>>; 2] = [vec![vec![]; 5], vec![vec![]; 5]];
    for run in 0..runs {
        let name = format!("f{run}");
        let told = one(product, &mut on, site, &name).await?;
        ensure!(told.len() == 10, "the job says too little: {told:?}");
        for (at, seconds) in told.into_iter().enumerate() {
            figures[at / 5][at % 5].push(seconds);
        }
    }
    let [bare, mount] = figures.map(|kinds| kinds.into_iter().map(median).collect::<Vec<f64>>());
    let row = |peer: &str, stage: &str, seconds: &[f64]| -> Value {
        json!({ "peer": peer, "stage": stage, "write_mib_s": LARGE as f64 / seconds[0], "read_mib_s": LARGE as f64 / seconds[1],
            "create_per_s": SMALL as f64 / seconds[2], "stat_per_s": SMALL as f64 / seconds[3], "remove_per_s": SMALL as f64 / seconds[4] })
    };
    report.line(row("bound", "disk", &bare));
    let mut measured = row("product", "files", &mount);
    measured["ratio"] = json!(bare[0] / mount[0]);
    report.line(measured);
    product.clear(site).await
}

async fn one(product: &Product, on: &mut Connection, site: Site, name: &str) -> Result<Vec<f64>> {
    let result = product.share().join(format!("files-{name}"));
    let command = format!(
        "python3 -c \"$SCRIPT\" {LARGE} {SMALL} $AZ_BATCHAI_JOB_TEMP/bench $AZ_BATCHAI_JOB_MOUNT_ROOT/nfs/{name} > \
         $AZ_BATCHAI_MOUNT_ROOT/shared/files-{name}"
    );
    let mut job = product.job(&site, &command);
    job["properties"]["environmentVariables"] = json!([{ "name": "SCRIPT", "value": SCRIPT }]);
    job["properties"]["mountVolumes"] = json!({ "fileServers": [{
        "fileServer": { "id": product.id(&site.file_server()) }, "relativeMountPath": "nfs" }] });
    let path = format!("{}/{name}", site.jobs());
    product.ask(on, Method::PUT, &path, Some(&job)).await?;
    let ended = product.wait_for(on, &path, is_final).await?;
    ensure!(ended["properties"]["executionState"] == "succeeded", "the job failed: {ended}");
    let text = std::fs::read_to_string(&result)?;
    text.split_whitespace().map(|word| word.parse().context("a number")).collect()
}
