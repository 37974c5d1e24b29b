//! Groups, workspaces, clusters, experiments: verbs, formats and exit codes.

use serde_json::json;

use super::Shell;

#[test]
fn what_is_made_twice_is_made_once_and_what_is_absent_is_deleted() {
    let shell = Shell::at_work();
    let ran = shell.run("workspace create -o json").expect(0);
    assert!(ran.err.contains("unchanged"), "{}", ran.err);
    assert_eq!(ran.json()["properties"]["provisioningState"], "succeeded", "the published version's words");
    shell.run("experiment create").expect(0);
    shell.run("workspace create -l westeurope").expect(6);
    shell.run("cluster create -s STANDARD_D1 -t 0").expect(0);
    assert!(shell.run("cluster create -s STANDARD_D1 -t 0").expect(0).err.contains("unchanged"));
    let ran = shell.run("cluster create -s STANDARD_D1 -t 1").expect(6);
    assert!(ran.err.contains("scaleSettings.manual.targetNodeCount") && ran.err.contains("cluster resize"), "{}", ran.err);
    shell.run("cluster create -s STANDARD_D1 -t 0 --if-exists fail").expect(6);
    let ran = shell.run("cluster delete").expect(2);
    assert!(ran.err.contains("--yes"), "{}", ran.err);
    shell.run("cluster delete -y").expect(0);
    shell.run("cluster delete -y").expect(0);
    let ran = shell.run("cluster show").expect(3);
    assert!(ran.err.contains("batchyard cluster list"), "{}", ran.err);
    assert_eq!(shell.run("group exists").expect(0).out, "true\n");
    shell.run("group delete -y").expect(0);
    assert_eq!(shell.run("group exists").expect(0).out, "false\n");
}

#[test]
fn answers_come_in_every_format() {
    let shell = Shell::at_work();
    let id = shell.run("workspace show --query id -o tsv").expect(0).out;
    let group = id.split('/').nth(4).expect("a group");
    assert_eq!(shell.run("workspace show -o tsv").expect(0).out, format!("w\t{group}\teastus\tsucceeded\t\n"));
    let table = shell.run("workspace list -o table").expect(0).out;
    let mut lines = table.lines();
    assert!(lines.next().expect("titles").starts_with("Name"), "{table}");
    assert!(lines.next().expect("dashes").starts_with("---"), "{table}");
    assert_eq!(lines.next().expect("a row").split_whitespace().nth(3), Some("succeeded"));
    assert!(shell.run("workspace show -o yaml").expect(0).out.contains("name: w\n"));
    assert_eq!(shell.run("workspace show -o none").expect(0).out, "");
    let ran = shell.run("workspace show --query '{Where:location,Name:name}' -o json").expect(0);
    assert_eq!(ran.out, "{\n  \"Where\": \"eastus\",\n  \"Name\": \"w\"\n}\n");
    let table = shell.run("workspace list -o table --query '[].{Where:location,Name:name}'").expect(0).out;
    assert!(table.starts_with("Where"), "{table}");
    shell.run("workspace show --query '[?'").expect(2);
    assert_eq!(shell.run("workspace show").expect(0).json()["name"], "w", "JSON where no terminal is");
    // A whole id goes before every default, and old scripts' words are understood.
    assert_eq!(shell.run(&format!("batchai workspace show -n {}", id.trim())).expect(0).json()["name"], "w");
    let ran = shell.run("rest -u '/subscriptions/{subscription}/resourceGroups?api-version=2019-10-01&$top=1'").expect(0);
    assert!(ran.json()["value"].is_array());
    assert!(shell.run("list-usages -o table").expect(0).out.contains("Limit"));
    // A reader that goes away is no error to tell.
    let line = format!("{} list-usages -o json | head -c 1", env!("CARGO_BIN_EXE_batchyard"));
    let output = shell.command("bash").args(["-c", &format!("set -o pipefail; {line}")]).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn tags_are_set() {
    let shell = Shell::at_work();
    let ran = shell.run("workspace update --tags team=vision stage=test").expect(0);
    assert_eq!(ran.json()["tags"], json!({"team": "vision", "stage": "test"}));
    shell.run("workspace update").expect(2);
}

#[test]
fn a_cluster_grows_shrinks_and_is_waited_for() {
    let shell = Shell::at_work();
    let ran = shell.run("cluster create -s STANDARD_D1 -t 1 --wait -o json").expect(0);
    assert_eq!(ran.json()["properties"]["nodeStateCounts"]["idleNodeCount"], 1);
    assert!(ran.err.contains("1 of 1 nodes: 1 idle"), "{}", ran.err);
    let nodes = shell.run("cluster node list -o tsv").expect(0).out;
    assert_eq!(nodes.lines().count(), 1, "{nodes}");
    shell.run("cluster resize -t 2 --wait").expect(0);
    assert_eq!(shell.run("cluster node list --query 'length(@)' -o tsv").expect(0).out, "2\n");
    let ran = shell.run("cluster wait --nodes 3 --timeout 1").expect(7);
    assert!(ran.err.contains("nothing was cancelled"), "{}", ran.err);
    shell.run("cluster auto-scale --min 0 --max 1").expect(0);
    shell.run("cluster auto-scale --min 2 --max 1").expect(2);
    let text = shell.run("cluster watch --once").expect(0).out;
    assert!(text.contains("STANDARD_D1") && text.contains("queue: empty"), "{text}");
}

#[test]
fn a_file_is_checked_without_making_anything_and_each_problem_has_its_place() {
    let shell = Shell::at_work();
    shell.write("cluster.yaml", "properties:\n  vmSize: STANDARD_D1\n  scaleSettings:\n    manual:\n      targetNodeCount: 0\n");
    let ran = shell.run("cluster validate -f cluster.yaml").expect(0);
    assert_eq!(ran.json()["outcome"], "Create");
    shell.run("cluster show").expect(3);
    shell.run("cluster create -f cluster.yaml").expect(0);
    assert_eq!(shell.run("cluster validate -f cluster.yaml").expect(0).json()["outcome"], "Unchanged");
    shell.write(
        "job.json",
        "{\n  \"properties\": {\n    \"nodeCount\": 0,\n    \"stdOutErrPathPrefix\": \"\",\n    \"customToolkitSettings\": { \"commandLine\": \"true\" }\n  }\n}\n",
    );
    let ran = shell.run("job validate -n j -f job.json").expect(5);
    assert!(ran.err.contains("job.json has 2 problems"), "{}", ran.err);
    assert!(ran.err.contains("3:18 properties.nodeCount"), "{}", ran.err);
    assert!(ran.err.contains("4:28 properties.stdOutErrPathPrefix"), "{}", ran.err);
    shell.run("job show -n j").expect(3);
    shell.write("broken.json", "{");
    shell.run("job validate -n j -f broken.json").expect(5);
    shell.run("job validate -n j -f absent.json").expect(1);
}
