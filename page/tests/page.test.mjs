// What people do with the page, by clicks, in a real Chromium against a real server with real nodes. Pictures are kept in target/page-shots.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { transformSync } from "esbuild";
import { accessible, api, fits, go, shot, signIn, startWorld, until } from "./world.mjs";

let world;
let page;

before(async () => {
  world = await startWorld();
  page = world.page;
  page.setDefaultTimeout(15_000);
});

after(async () => {
  await world?.stop();
});

const heading = (name) => page.getByRole("heading", { level: 1, name });
const state = (word) => page.locator(".head .state", { hasText: word });

test("the first load is small, comes from this server alone, and under the policy", async () => {
  const seen = [];
  page.on("response", (response) => seen.push(response));
  await page.goto(world.base + "/");
  await heading("batchyard").waitFor();
  assert.equal(new URL(page.url()).pathname, "/ui/", "the root leads to the page");
  let sum = 0;
  for (const response of seen) {
    assert.ok(response.url().startsWith(world.base), response.url());
    if (response.status() === 200) sum += (await response.request().sizes()).responseBodySize;
  }
  const requests = seen.filter((response) => response.status() === 200).length;
  console.log(`first load: ${(sum / 1024).toFixed(1)} KiB compressed in ${requests} requests`);
  assert.ok(sum > 10_000 && sum <= 60 * 1024, `${sum} bytes`);
  assert.ok(requests <= 6, `${requests} requests`);
  const document = seen.find((response) => response.url().endsWith("/ui/"));
  const policy = document.headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "trusted-types 'none'"]) {
    assert.ok(policy.includes(part), `${part} in ${policy}`);
  }
  const script = seen.find((response) => response.url().endsWith(".js"));
  assert.match(script.headers()["cache-control"], /immutable/);
  assert.equal(script.headers()["content-encoding"], "br");
  const again = await fetch(document.url(), { headers: { "if-none-match": document.headers()["etag"] } });
  assert.equal(again.status, 304);
  page.removeAllListeners("response");
  await shot(page, "01-sign-in");
  await accessible(page, "sign-in");
});

test("a wrong secret is told, and a right one lets in", async () => {
  await page.getByLabel("Client id", { exact: true }).fill(world.env.BATCHYARD_CLIENT_ID);
  await page.getByLabel("Secret", { exact: true }).fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  assert.notEqual((await page.getByRole("alert").textContent()).trim(), "");
  await shot(page, "02-refused");
  await signIn(world);
  await heading("Workspaces").waitFor();
  await page.getByText("live", { exact: true }).waitFor();
  await shot(page, "03-empty");
});

test("a token lets in as well", async () => {
  const other = await world.context.newPage();
  await other.goto(world.base + "/ui/usage");
  await other.getByLabel("Token", { exact: true }).check();
  await other.getByLabel("Bearer token").fill(world.env.BATCHYARD_TOKEN);
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.getByRole("heading", { level: 1, name: "Usage" }).waitFor();
  await other.close();
});

test("over https a reload and other tabs stay signed in, and signing out ends it in all", async () => {
  const base = world.env.BATCHYARD_TLS_ENDPOINT;
  const tab = await world.context.newPage();
  const title = (of, name) => of.getByRole("heading", { level: 1, name }).waitFor();
  await signIn(world, tab, "/ui/", base);
  await until("it is kept", async () => (await world.context.cookies(`${base}/ui/session`)).length === 1);
  const [{ httpOnly, secure, sameSite, expires }] = await world.context.cookies(`${base}/ui/session`);
  assert.deepEqual({ httpOnly, secure, sameSite, expires }, { httpOnly: true, secure: true, sameSite: "Strict", expires: -1 });
  assert.deepEqual(await world.context.cookies(`${base}/subscriptions`), [], "the API is sent none");
  const readable = await tab.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  assert.ok(!/eyJ/.test(readable), readable);
  await tab.reload();
  await title(tab, "Workspaces");
  const other = await world.context.newPage();
  await other.goto(`${base}/ui/usage`);
  await title(other, "Usage");
  assert.equal(await other.evaluate(async () => (await fetch("/subscriptions?api-version=2020-01-01")).status), 401);
  await tab.locator("details.menu > summary").click();
  await tab.getByRole("button", { name: "Sign out" }).click();
  await title(tab, "batchyard");
  await title(other, "batchyard");
  await until("it has ended", async () => (await world.context.cookies(`${base}/ui/session`)).length === 0);
  await tab.reload();
  await title(tab, "batchyard");
  await accessible(tab, "sign-in over https");
  await tab.close();
  await other.close();
});

test("the quickstart: a workspace and a cluster are made", async () => {
  await page.getByRole("link", { name: "New workspace" }).click();
  await heading("New workspace").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("vision");
  await page.getByLabel(/^Resource group/).fill("lab");
  await page.getByRole("button", { name: "Create" }).click();
  await heading("vision").waitFor();
  await page.getByText("Nothing does.").waitFor();
  await shot(page, "04-workspace-empty");
  await page.getByRole("link", { name: "New cluster" }).click();
  await page.getByLabel("Name", { exact: true }).fill("pair");
  await page.getByLabel("Size of a node").fill("STANDARD_D1");
  await page.getByLabel("Nodes", { exact: true }).fill("2");
  await shot(page, "05-new-cluster");
  await page.getByRole("button", { name: "Create" }).click();
  await heading("pair").waitFor();
  // Live: nobody reloads.
  await page.getByText("2 idle").waitFor({ timeout: 60_000 });
  await page.getByText("ssh -p").first().waitFor();
  await page.getByRole("table", { name: "Nodes" }).getByText("idle").first().waitFor();
  await shot(page, "06-cluster");
});

test("what the server finds wrong stands beside its field", async () => {
  await page.getByRole("link", { name: "vision" }).first().click();
  await heading("vision").waitFor();
  await page.getByRole("link", { name: "New job" }).click();
  await page.getByLabel("Name", { exact: true }).fill("wrong");
  await page.getByLabel(/^Experiment/).fill("digits");
  await page.getByLabel(/^Nodes/).fill("0");
  await page.getByLabel(/^Where output goes/).fill("");
  await page.getByRole("button", { name: "Submit" }).click();
  await page.getByRole("alert").waitFor();
  const nodes = page.getByLabel(/^Nodes/);
  assert.equal(await nodes.getAttribute("aria-invalid"), "true");
  assert.match(await page.locator(`#${await nodes.getAttribute("aria-describedby")}`).textContent(), /nodeCount/);
  await shot(page, "07-violations");
  await accessible(page, "violations");
});

test("the quickstart: a job is submitted, and its log follows it live", async () => {
  await page.getByLabel("Name", { exact: true }).fill("train01");
  await page.getByLabel(/^Nodes/).fill("1");
  await page.getByLabel(/^Where output goes/).fill("$AZ_BATCHAI_MOUNT_ROOT/shared");
  const command = "for i in 1 2 3 4 5; do printf 'epoch %s \\033[32mgood\\033[0m\\n' $i; sleep 1; done; echo data > $AZ_BATCHAI_OUTPUT_MODEL/weights.bin";
  await page.getByLabel(/^Command/).fill(command);
  // Form and JSON are one document.
  await page.getByRole("button", { name: "JSON" }).click();
  const json = page.getByLabel("The document that is sent");
  const document = JSON.parse(await json.inputValue());
  assert.equal(document.properties.customToolkitSettings.commandLine, command);
  document.properties.outputDirectories = [{ id: "MODEL", pathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared", pathSuffix: "model" }];
  await json.fill(JSON.stringify(document));
  await page.getByRole("button", { name: "Form" }).click();
  assert.equal(await page.getByLabel("Id of outputs 1").inputValue(), "MODEL");
  await shot(page, "08-new-job");
  await page.getByRole("button", { name: "Submit" }).click();
  await heading("train01").waitFor();
  await state("running").waitFor();
  const log = page.getByRole("log");
  await log.getByText("epoch 2").waitFor();
  await shot(page, "09-job-running");
  assert.ok(await state("running").isVisible(), "it is seen while it runs");
  await log.getByText("epoch 5").waitFor();
  await state("succeeded").waitFor();
  await page.getByText("End of the file").waitFor();
  assert.equal(await log.locator(".ansi-green").first().textContent(), "good");
  await shot(page, "10-job-done");
});

test("its files are there, its attempts and its definition too", async () => {
  await page.getByRole("tab", { name: "Files" }).click();
  const file = page.getByRole("link", { name: "weights.bin", exact: true });
  await file.waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), file.click()]);
  assert.equal(download.suggestedFilename(), "weights.bin");
  await shot(page, "11-files");
  await page.keyboard.press("2");
  await page.getByRole("table", { name: "Attempts" }).getByText("exit 0").waitFor();
  await shot(page, "12-attempts");
  await page.getByRole("tab", { name: "Definition" }).click();
  await page.getByLabel("Definition as JSON").getByText("outputDirectories").waitFor();
});

test("a job that fails says why, and is resubmitted with a change", async () => {
  await page.getByRole("tab", { name: "Log" }).click();
  await page.getByRole("link", { name: "Resubmit as" }).click();
  await heading("New job").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("broken");
  await page.getByLabel(/^Command/).fill("echo 'no such image' >&2; exit 3");
  await page.getByRole("button", { name: "Submit" }).click();
  await heading("broken").waitFor();
  await state("failed").waitFor({ timeout: 60_000 });
  await page.getByText("exit 3").first().waitFor();
  await page.getByRole("log").getByText("no such image").waitFor();
  await shot(page, "13-job-failed");
  await page.getByRole("link", { name: "vision" }).first().click();
  await page.getByRole("heading", { name: "Needs attention 1" }).waitFor();
  await shot(page, "14-workspace");
});

test("a job is terminated after a question", async () => {
  const { call, workspace } = api(world);
  const path = `${workspace("lab", "vision")}/experiments/digits/jobs/long`;
  await call("PUT", path, {
    properties: {
      cluster: { id: `${workspace("lab", "vision")}/clusters/pair` },
      nodeCount: 1,
      stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
      customToolkitSettings: { commandLine: "seq 1 400000; sleep 600" },
    },
  });
  // It came by the stream, not by a reload.
  await page.getByRole("table", { name: "Newest jobs" }).getByRole("link", { name: "long" }).click();
  await state("running").waitFor();
  await page.getByRole("log").getByText("400000", { exact: false }).waitFor();
});

test("a long log is found in, read from its start, and does not move while it is read", async () => {
  const log = page.getByRole("log");
  await page.getByLabel("Find in the whole file").fill("\n123456\n".trim());
  await page.keyboard.press("Enter");
  await log.getByText("123456").waitFor();
  await page.getByLabel("Place in the file").fill("0");
  await until("the beginning is shown", async () => (await log.textContent()).startsWith("1\n2\n3\n"));
  await page.keyboard.press("Escape");
  await log.evaluate((box) => (box.scrollTop = 200));
  const top = await log.evaluate((box) => box.scrollTop);
  await until("it was looked at again", () => new Promise((done) => setTimeout(() => done(true), 1500)));
  assert.equal(await log.evaluate((box) => box.scrollTop), top);
  await shot(page, "15-long-log");
  await page.getByRole("button", { name: "Follow" }).click();
  await log.getByText("400000").waitFor();
  await page.getByRole("button", { name: "Terminate" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel", "the harmless button has the focus");
  await accessible(page, "a dialog");
  await shot(page, "16-terminate");
  await dialog.getByRole("button", { name: "Terminate" }).click();
  await state("failed").waitFor({ timeout: 60_000 });
});

test("numbers of a file are read as far as they are numbers, and many as few", async () => {
  const { code } = transformSync(readFileSync(join(import.meta.dirname, "../src/parts/curve-file.ts"), "utf8"), { loader: "ts" });
  const { curves, hasCurves, POINTS } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  assert.deepEqual(["metrics.jsonl", "metrics.csv", "metrics.json", "my-metrics.csv"].map(hasCurves), [true, true, false, false]);
  const grows = '{"epoch":1,"loss":2}\n{"epoch":2,"loss":1,"note":"x","nan":null}\nnull\n[1]\n{"epoch":3,"loss":0}';
  const loss = { name: "loss", along: "epoch", points: [[1, 2], [2, 1]], least: 1, most: 2, last: 1, count: 2 };
  assert.deepEqual(curves("metrics.jsonl", grows, false), [loss], "the last line may not be whole yet");
  assert.equal(curves("metrics.jsonl", grows, true)[0].last, 0);
  const columns = curves("metrics.csv", 'a,"b"\r\n1,2\r\n,5\r\nx,3\r\n', true).map(({ name, along, points }) => [name, along, points]);
  assert.deepEqual(columns, [["a", "line", [[0, 1]]], ["b", "line", [[0, 2], [1, 5], [2, 3]]]]);
  const many = Array.from({ length: 50_000 }, (_, n) => `{"step":${n},"v":${n === 33_333 ? 99 : Math.sin(n)}}\n`).join("");
  const [curve] = curves("metrics.jsonl", many, true);
  assert.ok(curve.points.length <= POINTS && curve.points.some(([x, y]) => x === 33_333 && y === 99), "what stands out is kept");
  assert.deepEqual([curve.count, curve.most], [50_000, 99]);
});

test("what a job uses is drawn while it runs, as far as its node tells it, and what it writes about itself", async () => {
  const { call, workspace } = api(world);
  await call("PUT", `${workspace("lab", "vision")}/experiments/digits/jobs/busy`, {
    properties: {
      cluster: { id: `${workspace("lab", "vision")}/clusters/pair` },
      nodeCount: 1,
      stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
      outputDirectories: [{ id: "OUT", pathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared" }],
      customToolkitSettings: {
        commandLine: [
          `for n in $(seq 60); do echo "{\\"step\\": $n, \\"loss\\": $((100 - n))}"; done > $AZ_BATCHAI_OUTPUT_OUT/metrics.jsonl`,
          "timeout 25 sh -c 'while :; do :; done'",
          "true",
        ].join("; "),
      },
    },
  });
  await go(page, "/ui/g/lab/w/vision/e/digits/j/busy?tab=use");
  const figure = (name) => page.locator("figure", { has: page.locator("figcaption", { hasText: name }) });
  await figure("Cores").waitFor({ timeout: 60_000 });
  await until("a line is drawn", async () => /^M.*L/.test(await figure("Cores").locator("path.mean").getAttribute("d")), 60);
  const table = page.getByRole("table", { name: "What each rank used" });
  const cell = (name) => table.locator(`td[data-name="${name}"]`);
  const [mean, most] = (await cell("Cores").textContent()).split(", most ").map(Number);
  assert.ok(mean > 0.1 && most >= mean && most < 3, `${mean} ${most}`);
  assert.match(await cell("Memory").textContent(), /iB, most .*iB$/);
  assert.equal(await page.locator("figure", { hasText: "GPU" }).count(), 0, "it has none");
  await figure("loss").waitFor();
  assert.match(await figure("loss").locator("path").getAttribute("d"), /^M0.0 0.0L.*L1000.0 100.0$/);
  const loss = page.getByRole("table", { name: "What metrics.jsonl in OUT tells" }).locator("tbody tr");
  assert.deepEqual(await loss.locator("th, td").allTextContents(), ["loss", "40", "40", "99", "60"]);
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `what a job used, in ${colorScheme}`);
    await shot(page, `25-use-${colorScheme}`);
  }
  await state("succeeded").waitFor({ timeout: 60_000 });
  await figure("Cores").waitFor();
});

test("what waits says why: the gate, the number that is missing, who holds it and what clears it", async () => {
  const { call, workspace } = api(world);
  const inside = workspace("lab", "vision");
  const experiment = `${inside}/experiments/digits/jobs`;
  const put = (name, nodeCount, commandLine) =>
    call("PUT", `${experiment}/${name}`, {
      properties: {
        cluster: { id: `${inside}/clusters/pair` },
        nodeCount,
        stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
        customToolkitSettings: { commandLine },
      },
    });
  await put("holder", 1, "sleep 600");
  await until("it has a node", async () => (await call("GET", `${experiment}/holder`)).properties.executionState === "Running");
  await put("both", 2, "sleep 600");
  await put("later", 1, "true");
  await go(page, "/ui/g/lab/w/vision/e/digits/j/both");
  const gate = page.getByRole("group", { name: "Why it waits" });
  await gate.getByText("Gang", { exact: true }).waitFor();
  const fact = (name) => gate.locator("div", { has: page.locator("dt", { hasText: name }) }).locator("dd");
  assert.equal(await fact("Missing").textContent(), "1 node");
  assert.equal(await fact("Needed").textContent(), "2");
  assert.match(await fact("Held by").textContent(), /^holder, 1 node until .* at the latest$/);
  assert.match(await fact("What clears it").textContent(), /end\.$/);
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `what a job waits for, in ${colorScheme}`);
    await shot(page, `22-why-job-${colorScheme}`);
  }
  await go(page, "/ui/g/lab/w/vision/e/digits/j/later");
  await gate.getByText("Priority", { exact: true }).waitFor();
  assert.equal(await fact("Ahead").textContent(), "1 job");
  // By the name of who holds it one gets there; what is ended there lets the other go on, and nobody reloads.
  await gate.getByRole("link", { name: "both" }).click();
  await heading("both").waitFor();
  await gate.getByRole("link", { name: "holder" }).waitFor();
  await call("POST", `${experiment}/holder/terminate`);
  await state("running").waitFor({ timeout: 60_000 });
  assert.equal(await gate.count(), 0);
  await call("DELETE", `${experiment}/later`);
  await call("POST", `${experiment}/both/terminate`);
  await state("failed").waitFor({ timeout: 60_000 });
});

test("a cluster says why it has not its nodes, and a node why it takes no job", async () => {
  const { call, workspace } = api(world);
  const path = `${workspace("lab", "vision")}/clusters/broken`;
  await call("PUT", path, {
    properties: {
      vmSize: "STANDARD_D1",
      scaleSettings: { manual: { targetNodeCount: 1 } },
      userAccountSettings: { adminUserName: "ops" },
      nodeSetup: { setupTask: { commandLine: "exit 3", stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared" } },
    },
  });
  await go(page, "/ui/g/lab/w/vision/c/broken");
  const nodes = page.getByRole("table", { name: "Nodes" });
  await nodes.getByRole("row", { name: "unusable" }).first().getByRole("button", { name: "takes no job" }).click({ timeout: 60_000 });
  const dialog = page.getByRole("dialog", { name: "takes no job" });
  await dialog.getByText("Node health").waitFor();
  await dialog.getByText("What clears it").waitFor();
  await accessible(page, "what a node waits for");
  await shot(page, "23-why-node");
  await dialog.getByRole("button", { name: "Close" }).click();
  const gate = page.getByRole("group", { name: "Why it waits" });
  await gate.getByText("1 node", { exact: true }).waitFor();
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `what a cluster waits for, in ${colorScheme}`);
    await shot(page, `24-why-cluster-${colorScheme}`);
  }
  await call("DELETE", path);
});

test("a cluster is resized, up and down", async () => {
  await go(page, "/ui/g/lab/w/vision/c/pair");
  await heading("pair").waitFor();
  await page.getByRole("form", { name: "Resize" }).getByLabel("Nodes").fill("1");
  await page.getByRole("button", { name: "Resize" }).click();
  await page.getByText("Steady at 1 node").waitFor({ timeout: 60_000 });
});

test("thousands of jobs are listed, found, and scrolled without a stutter", async () => {
  const { call, workspace } = api(world);
  const inside = workspace("lab", "vision");
  await call("PUT", `${inside}/clusters/none`, {
    properties: { vmSize: "STANDARD_D1", scaleSettings: { manual: { targetNodeCount: 0 } }, userAccountSettings: { adminUserName: "ops" } },
  });
  await call("PUT", `${inside}/experiments/sweep`);
  let next = 0;
  const total = Number(process.env.PAGE_TEST_JOBS ?? 10_000);
  const work = async () => {
    while (next < total) {
      const name = `lr-${String(next++).padStart(5, "0")}`;
      await call("PUT", `${inside}/experiments/sweep/jobs/${name}`, {
        properties: {
          cluster: { id: `${inside}/clusters/none` },
          nodeCount: 1,
          stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
          customToolkitSettings: { commandLine: "true" },
        },
      });
    }
  };
  const began = Date.now();
  await Promise.all(Array.from({ length: 16 }, work));
  console.log(`${total} jobs were made in ${((Date.now() - began) / 1000).toFixed(1)} s`);
  const list = "/ui/g/lab/w/vision/e/sweep";
  const asked = Date.now();
  await go(page, list);
  const table = page.getByRole("table", { name: "Jobs of sweep" });
  await table.getByRole("link", { name: `lr-${String(total - 1).padStart(5, "0")}` }).waitFor();
  console.log(`the list is usable after ${Date.now() - asked} ms`);
  assert.equal(await table.getAttribute("aria-rowcount"), String(total + 1));
  assert.ok((await table.locator("tbody tr").count()) < 120, "only what is in sight is in the document");
  await shot(page, "17-jobs");
  // From one end to the other: the longest frame is told by the browser itself.
  const longest = await page.evaluate(async () => {
    let longest = 0;
    let last = performance.now();
    let done = false;
    const frame = (now) => {
      longest = Math.max(longest, now - last);
      last = now;
      if (!done) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    const height = () => document.documentElement.scrollHeight;
    for (let at = 0; at < height(); at += 4000) {
      scrollTo(0, at);
      await new Promise((then) => setTimeout(then, 16));
    }
    done = true;
    return longest;
  });
  console.log(`scrolled through: the longest frame took ${longest.toFixed(0)} ms`);
  assert.ok(longest < 500, `${longest} ms`);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await table.getByRole("link", { name: "lr-00000" }).waitFor({ timeout: 30_000 });
  // Found by name, by state, and sorted; all of it is in the address.
  await page.evaluate(() => scrollTo(0, 0));
  await page.getByLabel("Name contains").fill("R-0123");
  await table.getByRole("link", { name: "lr-01239" }).waitFor();
  await until("ten are found", async () => (await table.locator("tbody tr").count()) === 10);
  assert.match(page.url(), /q=R-0123/);
  await page.getByLabel("Order").selectOption("by name");
  await until("the order is another", async () => (await table.locator("tbody a.row-link").first().textContent()) === "lr-01230");
  // Many at once: partly by keys.
  await table.locator("tbody a.row-link").first().focus();
  await page.keyboard.press("x");
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByText("2 selected").waitFor();
  await shot(page, "18-bulk");
  await page.getByRole("region", { name: "Selected jobs" }).getByRole("button", { name: "Delete 2" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete 2" }).click();
  await until("eight are left", async () => (await table.locator("tbody tr").count()) === 8);
});

const ROUTES = [
  ["home", "/ui/", "Workspaces"],
  ["workspace", "/ui/g/lab/w/vision", "vision"],
  ["jobs", "/ui/g/lab/w/vision/jobs", "Jobs"],
  ["experiment", "/ui/g/lab/w/vision/e/digits", "digits"],
  ["job-log", "/ui/g/lab/w/vision/e/digits/j/train01?tab=log", "train01"],
  ["job-time", "/ui/g/lab/w/vision/e/digits/j/train01?tab=time", "train01"],
  ["job-use", "/ui/g/lab/w/vision/e/digits/j/train01?tab=use", "train01"],
  ["job-files", "/ui/g/lab/w/vision/e/digits/j/train01?tab=files", "train01"],
  ["job-events", "/ui/g/lab/w/vision/e/digits/j/train01?tab=events", "train01"],
  ["job-definition", "/ui/g/lab/w/vision/e/digits/j/train01?tab=def", "train01"],
  ["clusters", "/ui/g/lab/w/vision/clusters", "Clusters"],
  ["cluster", "/ui/g/lab/w/vision/c/pair", "pair"],
  ["file-servers", "/ui/g/lab/w/vision/fs", "File servers"],
  ["new-workspace", "/ui/new/workspace", "New workspace"],
  ["new-cluster", "/ui/new/cluster?g=lab&w=vision", "New cluster"],
  ["new-job", "/ui/new/job?g=lab&w=vision", "New job"],
  ["new-file-server", "/ui/new/fileServer?g=lab&w=vision", "New file server"],
  ["activity", "/ui/activity", "Activity"],
  ["usage", "/ui/usage", "Usage"],
  ["nowhere", "/ui/none", "There is nothing"],
  ["absent", "/ui/g/lab/w/none", null],
];

for (const colours of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    test(`every route in ${colours} at ${width} px: no fault of access, nothing wider than the window`, async () => {
      await page.emulateMedia({ colorScheme: colours });
      await page.setViewportSize({ width, height: 860 });
      for (const [name, path, title] of ROUTES) {
        await go(page, path);
        if (title) await heading(title).waitFor();
        else await page.getByRole("alert").waitFor();
        await until("it is loaded", async () => (await page.locator("[aria-busy]").count()) === 0);
        await fits(page, `${name} at ${width}`);
        await shot(page, `route-${name}-${colours}-${width}`);
        await accessible(page, `${name} in ${colours} at ${width}`);
      }
      await page.emulateMedia({ colorScheme: "light" });
      await page.setViewportSize({ width: 1280, height: 860 });
    });
  }
}

test("keys: find, help, go; and off with one switch", async () => {
  await go(page, "/ui/g/lab/w/vision");
  await heading("vision").waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("j");
  await heading("Jobs").waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await accessible(page, "keys");
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await page.getByRole("dialog", { name: "Find" }).waitFor();
  const { workspace } = api(world);
  await page.keyboard.insertText(`${workspace("lab", "vision")}/experiments/digits/jobs/train01`);
  await accessible(page, "find");
  await page.keyboard.press("Enter");
  await heading("train01").waitFor();
  await page.locator("details.menu > summary").click();
  await accessible(page, "menu");
  await shot(page, "19-menu");
  await page.getByLabel("Single keys").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.locator("details.menu > summary").click();
  await page.getByLabel("Single keys").check();
  await page.keyboard.press("Escape");
});

test("two tabs of one caller have one stream between them", async () => {
  const streams = new Set();
  world.context.on("request", (request) => {
    if (request.url().includes("/events?")) streams.add(request);
  });
  const other = await world.context.newPage();
  await signIn(world, other, "/ui/g/lab/w/vision/e/digits");
  // The list is there before the job is: it comes by the stream, and not with the list.
  await other.getByRole("link", { name: "train01" }).waitFor();
  const { call, workspace } = api(world);
  await call("PUT", `${workspace("lab", "vision")}/experiments/digits/jobs/seen`, {
    properties: {
      cluster: { id: `${workspace("lab", "vision")}/clusters/none` },
      nodeCount: 1,
      stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
      customToolkitSettings: { commandLine: "true" },
    },
  });
  await other.getByRole("button", { name: "1 new job" }).click();
  await other.getByRole("link", { name: "seen" }).waitFor();
  assert.equal(streams.size, 0, "the first tab's stream serves both");
  await other.close();
});

test("a server that falls silent is told, and the page goes on by itself", async () => {
  world.hold(true);
  try {
    await page.locator(".link.reconnecting").waitFor({ timeout: 30_000 });
    await page.locator(".link.offline").waitFor({ timeout: 40_000 });
    await shot(page, "20-offline");
  } finally {
    world.hold(false);
  }
  await page.locator(".link.live").waitFor({ timeout: 30_000 });
});

test("the quickstart ends: everything is deleted, after its name was typed", async () => {
  await go(page, "/ui/");
  await heading("Workspaces").waitFor();
  await page.getByRole("table", { name: "Resource groups" }).getByRole("button", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog");
  const button = dialog.getByRole("button", { name: "Delete" });
  await dialog.getByText("vision").waitFor();
  assert.ok(await button.isDisabled());
  await dialog.getByLabel(/^Type/).fill("lab");
  await shot(page, "21-delete");
  await button.click();
  await page.getByText("There is no workspace that you may read").waitFor({ timeout: 120_000 });
});

test("signing out forgets the token, and nothing was written down", async () => {
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  assert.ok(!kept.includes(world.env.BATCHYARD_CLIENT_SECRET) && !/eyJ/.test(kept), kept);
  await page.locator("details.menu > summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await heading("batchyard").waitFor();
});

test("the browser had nothing to complain about", () => {
  assert.deepEqual([...new Set(world.complaints)], []);
});
