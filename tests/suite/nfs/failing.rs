//! A file server that is away: what needs it fails within its time, and goes on once it is back.

use rustix::process::Signal;
use serde_json::json;

use super::{may_serve, processes, put_cluster, put_server, run, signal};
use crate::harness::{Server, Site, until};

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_so_long_and_not_longer() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    put_cluster(&site, "c", "nfs", "rw,timeo=10,retrans=2").await;
    run(&site, "before", "c", "echo kept > file; sync file").await;
    let frozen = processes(&server, "ganesha.nfsd");
    let [frozen] = frozen.as_slice() else { panic!("one: {frozen:?}") };
    signal(*frozen, Signal::STOP);
    let script = "import os,time,errno,sys\n\
                  def bounded(what):\n\
                  \x20   begun=time.time()\n\
                  \x20   try: what(); print('done')\n\
                  \x20   except OSError as e: print(errno.errorcode[e.errno], time.time()-begun < 10)\n\
                  bounded(lambda: os.stat('absent1')); bounded(lambda: open('new','w')); bounded(lambda: os.listdir('.'))\n\
                  begun=time.time()\n\
                  for n in range(3):\n\
                  \x20   try: os.mkdir('d%d'%n)\n\
                  \x20   except OSError: pass\n\
                  print('soon', time.time()-begun < 15)";
    let over = json!({ "environmentVariables": [{ "name": "SCRIPT", "value": script }] });
    let job = site.run("away", "c", "cd $AZ_BATCHAI_MOUNT_ROOT/nfs; python3 -c \"$SCRIPT\"", over).await;
    let said = site.stdout("away").await;
    assert_eq!(job["executionState"], "succeeded", "{job}\n{said}");
    assert_eq!(said, "EIO True\nEIO True\nEIO True\nsoon True\n");
    // The node takes jobs that do not need it.
    let job = site.run("other", "c", "echo fine", json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    signal(*frozen, Signal::CONT);
    let read = || async {
        let name = format!("again{}", uuid::Uuid::new_v4().simple());
        let job = site.run(&name, "c", "cat $AZ_BATCHAI_MOUNT_ROOT/nfs/file", json!({})).await;
        (job["executionState"] == "succeeded").then_some(name)
    };
    let job = until("it is there again", read, Option::is_some).await.expect("found");
    assert_eq!(site.stdout(&job).await, "kept\n");
}
