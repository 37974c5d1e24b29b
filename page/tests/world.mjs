// A real server with real nodes, and a real browser: started before all tests, ended after them.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

export const OWN = "2026-11-01-preview";
const SHOTS = join(import.meta.dirname, "../../target/page-shots");
const BIN = process.env.BATCHYARD_BIN ?? join(import.meta.dirname, "../../target/debug/batchyard");
const BROWSER = process.env.BATCHYARD_CHROMIUM ?? "/usr/bin/chromium";

/** Waits until a look succeeds; fails with what it saw last. */
export async function until(what, look, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}; last: ${last?.message ?? JSON.stringify(last)}`);
    await pause(100);
  }
}

export async function startWorld() {
  mkdirSync(SHOTS, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "batchyard-page."));
  const share = join(folder, "share");
  mkdirSync(share);
  const server = spawn(BIN, ["up", "--data", join(folder, "data"), "--share", share, "--port", "0", "--tls-port", "0", "--env-file", join(folder, "env")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  server.stderr.on("data", (piece) => (log = (log + piece).slice(-20_000)));
  const stop = async () => {
    server.kill("SIGTERM");
    if (server.exitCode === null) await new Promise((done) => server.once("exit", done));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await until("the server is ready", () => {
      if (server.exitCode !== null) throw new Error(`the server ended: ${log}`);
      return existsSync(join(folder, "env"));
    }, 60);
    const env = Object.fromEntries(
      readFileSync(join(folder, "env"), "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => /^([A-Z_]+)='?(.*?)'?$/.exec(line).slice(1)),
    );
    const profile = mkdtempSync(join(folder, "browser."));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: BROWSER,
      headless: true,
      viewport: { width: 1280, height: 860 },
      colorScheme: "light",
      timezoneId: "Europe/Berlin",
      ignoreHTTPSErrors: true,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    const complaints = [];
    const watch = (page) => {
      page.on("console", (message) => {
        // What the server refuses is told by the browser too; everything else is a fault of the page.
        if (message.type() === "error" && !/status of (4|5)\d\d/.test(message.text())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
    };
    context.pages().forEach(watch);
    context.on("page", watch);
    const page = context.pages()[0] ?? (await context.newPage());
    return {
      env,
      share,
      context,
      page,
      complaints,
      base: env.BATCHYARD_ENDPOINT,
      log: () => log,
      /** Holds the server's process, which answers nobody meanwhile, or lets it go on. */
      hold: (is) => server.kill(is ? "SIGSTOP" : "SIGCONT"),
      async stop() {
        await context.close();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The API, as a script would use it: for what a test needs and is not about. */
export function api(world) {
  const root = `/subscriptions/${world.env.BATCHYARD_SUBSCRIPTION}`;
  return {
    root,
    workspace: (group, name) => `${root}/resourceGroups/${group}/providers/Microsoft.BatchAI/workspaces/${name}`,
    async call(method, path, body, version = OWN) {
      const response = await fetch(`${world.base}${path}${path.includes("?") ? "&" : "?"}api-version=${version}`, {
        method,
        headers: { authorization: `Bearer ${world.env.BATCHYARD_TOKEN}`, "content-type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text ? JSON.parse(text) : null;
    },
  };
}

export async function signIn(world, page = world.page, path = "/ui/", base = world.base) {
  await page.goto(base + path);
  await page.getByLabel("Client id", { exact: true }).fill(world.env.BATCHYARD_CLIENT_ID);
  await page.getByLabel("Secret", { exact: true }).fill(world.env.BATCHYARD_CLIENT_SECRET);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation", { name: "Sections" }).waitFor();
}

/** Goes to an address within the page: its token is in memory, so that a reload would sign out. */
export async function go(page, path) {
  await page.evaluate((to) => {
    history.pushState(null, "", to);
    dispatchEvent(new PopStateEvent("popstate"));
  }, path);
}

export function shot(page, name) {
  return page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Fails with every fault that axe finds. */
export async function accessible(page, where) {
  const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
  const faults = violations.flatMap((violation) => violation.nodes.map((node) => `${violation.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
  if (faults.length > 0) throw new Error(`${where}:\n${faults.join("\n")}`);
}

/** Fails where the page is wider than its window. */
export async function fits(page, where) {
  const found = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return null;
    const wide = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > width + 1 && !one.closest(".table-box, pre, .log-text"));
    return wide.slice(0, 5).map((one) => `${one.tagName}.${one.className}: ${Math.round(one.getBoundingClientRect().right)} of ${width}`);
  });
  if (found) throw new Error(`${where} is wider than its window: ${found.join(", ")}`);
}
