// The whole journey of a user through the unmodified JavaScript SDK, each step judged by what the SDK's own objects show.
//
//   node journey.js [http] [https]
//
// `http` has a token already; `https` signs in as a service principal with @azure/ms-rest-nodeauth.
"use strict";

// The packages are where the journey is started, not beside this file.
const load = require("node:module").createRequire(process.cwd() + "/");
const assert = require("node:assert/strict");
const { writeFileSync } = require("node:fs");
const { BatchAIManagementClient } = load("@azure/arm-batchai");
const { ResourceManagementClient } = load("@azure/arm-resources");
const { TokenCredentials } = load("@azure/ms-rest-js");
const { ApplicationTokenCredentials } = load("@azure/ms-rest-nodeauth");
const { Environment } = load("@azure/ms-rest-azure-env");

const env = process.env;
const share = "$AZ_BATCHAI_MOUNT_ROOT/shared";
// Longest wait for anything, and the time between two looks at something that changes by itself. Unit: milliseconds.
const patience = 60_000;
const look = 100;
// Writes a line, waits until that was read, and writes another: what follows it sees both only while it runs. Then a file, which holds a
// variable and a secret.
const command =
  'echo epoch 1; until [ -e "$AZ_BATCHAI_MOUNT_ROOT/shared/$GATE" ]; do sleep 0.05; done; echo epoch 2; echo done >&2; ' +
  'printf %s "$GREETING $PASSWORD" > $AZ_BATCHAI_OUTPUT_MODEL/weights.txt';

async function step(name, action) {
  const began = performance.now();
  await action();
  console.log(`    ${name.padEnd(36)} ${((performance.now() - began) / 1000).toFixed(2).padStart(6)} s`);
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(what, see, wanted) {
  const began = performance.now();
  for (;;) {
    const seen = await see();
    if (wanted(seen)) return seen;
    assert(performance.now() - began < patience, `${what}: not within ${patience} ms; last seen: ${JSON.stringify(seen)}`);
    await pause(look);
  }
}

const refused = (status, code) => (error) => {
  assert.equal(error.statusCode, status, String(error));
  assert.equal(error.code ?? error.body?.code, code, JSON.stringify(error));
  return true;
};

async function journey(group, endpoint, credentials) {
  // The SDK polls an operation every 30 s, whatever the server says, unless it is told otherwise.
  const options = { baseUri: endpoint, longRunningOperationRetryTimeout: 1 };
  const client = new BatchAIManagementClient(credentials, env.BATCHYARD_SUBSCRIPTION, options);
  const groups = new ResourceManagementClient(credentials, env.BATCHYARD_SUBSCRIPTION, options).resourceGroups;
  const { workspaces, clusters, experiments, jobs, usages } = client;
  const at = [group, "vision"];
  const inside = [...at, "digits"];
  let clusterId;

  const idle = (nodes) =>
    until(
      `${nodes} idle nodes`,
      () => clusters.get(...at, "pair"),
      (cluster) => {
        assert(!cluster.errors?.length, JSON.stringify(cluster.errors));
        const counts = cluster.nodeStateCounts;
        return (
          cluster.allocationState === "steady" &&
          cluster.currentNodeCount === nodes &&
          counts.idleNodeCount === nodes &&
          counts.unusableNodeCount + counts.preparingNodeCount + counts.leavingNodeCount + counts.runningNodeCount === 0
        );
      },
    );
  const submit = async (name, commandLine) => {
    const made = await jobs.create(...inside, name, {
      cluster: { id: clusterId },
      nodeCount: 1,
      stdOutErrPathPrefix: share,
      customToolkitSettings: { commandLine },
      outputDirectories: [{ id: "MODEL", pathPrefix: share, pathSuffix: "model" }],
      environmentVariables: [
        { name: "GREETING", value: "hello" },
        { name: "GATE", value: group },
      ],
      secrets: [{ name: "PASSWORD", value: "pa55word" }],
    });
    assert.equal(made.name, name);
    assert.equal(made.provisioningState, "succeeded");
    assert.equal(made.toolType, "custom");
    assert.deepEqual(made.secrets, [{ name: "PASSWORD" }], "secrets are not told");
  };
  const files = async (job, outputdirectoryid) =>
    new Map((await jobs.listOutputFiles(...inside, job, { outputdirectoryid })).map((file) => [file.name, file]));
  const ended = (job) => ["succeeded", "failed"].includes(job.executionState);
  const journeyBegan = performance.now();

  await step("resource group", async () => {
    assert.equal((await groups.checkExistence(group)).body, false);
    const made = await groups.createOrUpdate(group, { location: "eastus", tags: { purpose: "journey" } });
    assert.equal(made.name, group);
    assert.equal(made.properties.provisioningState, "Succeeded");
    assert.equal((await groups.checkExistence(group)).body, true);
    assert((await groups.list()).some((found) => found.name === group));
  });
  await step("workspace", async () => {
    const made = await workspaces.create(...at, { location: "eastus", tags: { team: "vision" } });
    assert.equal(made.provisioningState, "succeeded");
    assert.deepEqual(made.tags, { team: "vision" });
    assert(made.creationTime instanceof Date);
    assert.equal((await workspaces.get(...at)).id, made.id);
    assert.deepEqual((await workspaces.listByResourceGroup(group)).map((w) => w.name), ["vision"]);
  });
  await step("cluster", async () => {
    const made = await clusters.create(...at, "pair", {
      vmSize: "STANDARD_D1",
      userAccountSettings: { adminUserName: "ops", adminUserPassword: "not told again" },
      scaleSettings: { manual: { targetNodeCount: 1 } },
    });
    assert.equal(made.provisioningState, "succeeded");
    assert.equal(made.vmPriority, "dedicated");
    assert.deepEqual(made.userAccountSettings, { adminUserName: "ops" }, "secrets are not told");
    assert.deepEqual((await clusters.listByWorkspace(...at)).map((c) => c.name), ["pair"]);
    clusterId = made.id;
  });
  await step("its node is idle", () => idle(1));
  await step("remote login", async () => {
    const [login, ...others] = await clusters.listRemoteLoginInformation(...at, "pair");
    assert(login.nodeId && login.ipAddress && login.port > 0, JSON.stringify(login));
    assert.deepEqual(others, []);
  });
  await step("experiment", async () => {
    const made = await experiments.create(...inside);
    assert.equal(made.provisioningState, "succeeded");
    assert.deepEqual((await experiments.listByWorkspace(...at)).map((e) => e.name), ["digits"]);
  });
  await step("job", () => submit("train", command));
  await step("stream and wait", async () => {
    const listed = await until("stdout.txt", () => files("train", "stdouterr"), (found) => found.has("stdout.txt"));
    const link = listed.get("stdout.txt").downloadUrl;
    let read = "";
    let pieces = 0;
    let job;
    do {
      // The state before the bytes: what was written before the end is there when the end shows.
      job = await jobs.get(...inside, "train");
      const answer = await fetch(link, { headers: { range: `bytes=${read.length}-` } });
      const text = await answer.text();
      assert([200, 206, 416].includes(answer.status), text);
      if (answer.status === 206 && text) {
        read += text;
        pieces += 1;
        writeFileSync(`${env.BATCHYARD_SHARE}/${group}`, "");
      }
      if (!ended(job)) await pause(look);
    } while (!ended(job));
    assert.equal(job.executionState, "succeeded", JSON.stringify(job.executionInfo));
    assert.equal(read, "epoch 1\nepoch 2\n");
    assert.equal(pieces, 2);
    assert.equal(job.executionInfo.exitCode, 0);
    assert(job.executionInfo.endTime >= job.executionInfo.startTime);
  });
  await step("files", async () => {
    const logs = await files("train", "stdouterr");
    assert.equal(await (await fetch(logs.get("stderr.txt").downloadUrl)).text(), "done\n");
    const weights = (await files("train", "MODEL")).get("weights.txt");
    assert.equal(await (await fetch(weights.downloadUrl)).text(), "hello pa55word");
    assert.equal(weights.fileType, "file");
    assert.equal(weights.contentLength, 14);
    assert(weights.lastModified instanceof Date);
  });
  await step("terminate another", async () => {
    await submit("endless", "echo begun; sleep 600");
    await until("the job runs", () => jobs.get(...inside, "endless"), (job) => job.executionState === "running");
    assert.equal((await jobs.listRemoteLoginInformation(...inside, "endless")).length, 1);
    await jobs.terminate(...inside, "endless");
    const job = await until("the job ends", () => jobs.get(...inside, "endless"), ended);
    assert.equal(job.executionState, "failed");
    assert.equal(job.executionInfo.exitCode, undefined);
    assert.deepEqual(job.executionInfo.errors.map((error) => error.code), ["JobTerminated"]);
  });
  await step("resize to 2, then 0", async () => {
    for (const targetNodeCount of [2, 0]) {
      const scaleSettings = { manual: { targetNodeCount, nodeDeallocationOption: "terminate" } };
      const made = await clusters.update(...at, "pair", { scaleSettings });
      assert.equal(made.scaleSettings.manual.targetNodeCount, targetNodeCount);
      await idle(targetNodeCount);
    }
  });
  await step("usages", async () => {
    const found = (await usages.list("eastus")).find((usage) => usage.name.value.toLowerCase() === "clusters");
    assert(found.currentValue >= 1 && found.limit >= found.currentValue, JSON.stringify(found));
    assert(found.name.localizedValue);
  });
  await step("refusals", async () => {
    await assert.rejects(clusters.get(...at, "absent"), refused(404, "ClusterNotFound"));
    await assert.rejects(jobs.get(...inside, "absent"), refused(404, "JobNotFound"));
  });
  await step("delete", async () => {
    await jobs.deleteMethod(...inside, "endless");
    assert.deepEqual((await jobs.listByExperiment(...inside)).map((job) => job.name), ["train"]);
    await experiments.deleteMethod(...inside);
    assert.equal((await experiments.listByWorkspace(...at)).length, 0);
    await clusters.deleteMethod(...at, "pair");
    assert.equal((await clusters.listByWorkspace(...at)).length, 0);
    await workspaces.deleteMethod(...at);
    assert.equal((await workspaces.listByResourceGroup(group)).length, 0);
    await groups.deleteMethod(group);
    assert.equal((await groups.checkExistence(group)).body, false);
  });
  console.log(`    ${"whole journey".padEnd(36)} ${((performance.now() - journeyBegan) / 1000).toFixed(2).padStart(6)} s`);
}

const ways = {
  http: () => journey("js-http", env.BATCHYARD_ENDPOINT, new TokenCredentials(env.BATCHYARD_TOKEN)),
  https: () => {
    // A copy, as the SDK asks a public host about every authority where this is not set.
    const environment = {
      ...Environment.AzureCloud,
      name: "batchyard",
      activeDirectoryEndpointUrl: env.BATCHYARD_TLS_ENDPOINT + "/",
      resourceManagerEndpointUrl: env.BATCHYARD_TLS_ENDPOINT,
      validateAuthority: false,
    };
    const { BATCHYARD_CLIENT_ID, BATCHYARD_TENANT, BATCHYARD_CLIENT_SECRET } = env;
    const credentials = new ApplicationTokenCredentials(
      BATCHYARD_CLIENT_ID, BATCHYARD_TENANT, BATCHYARD_CLIENT_SECRET, undefined, environment);
    return journey("js-https", env.BATCHYARD_TLS_ENDPOINT, credentials);
  },
};

(async () => {
  const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(ways);
  for (const name of names) {
    console.log(`  ${name}`);
    await ways[name]();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
