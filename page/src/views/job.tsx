// One job: the sentence that says how it is, and behind tabs its log, its attempts, what it used and wrote
// about itself, its files and its definition.
import { useLocation, useRoute } from "preact-iso";
import { useEffect, useRef } from "preact/hooks";
import { type Page, ask, fileLink, read, workspace as pathOf } from "../api";
import { bytes, clock, plural } from "../format";
import { changes } from "../live";
import { useAgain, useLoad } from "../load";
import { Age, Copy, Empty, Facts, Json, Panel, Shown, State, Tabs, Time, say, sign, useTitle } from "../parts/basics";
import { askDelete, askTerminate } from "../parts/actions";
import { Attempts } from "../parts/attempts";
import { Files } from "../parts/files";
import { clusterName, isOver, jobState } from "../parts/jobs";
import { Log } from "../parts/log";
import { Use } from "../parts/use";
import { Waits } from "../parts/why";
import { Written } from "../parts/written";
import { at } from "../paths";
import type { Attempt, Job, OutputFile } from "../types";

interface Loaded {
  job: Job;
  etag: string | null;
  attempts: Attempt[];
}

async function load(path: string): Promise<Loaded> {
  const [{ body: job, etag }, attempts] = await Promise.all([ask<Job>(path), read<{ value: Attempt[] }>(`${path}/attempts`)]);
  return { job, etag, attempts: attempts.value };
}

export function JobPage() {
  const { g = "", w = "", e = "", j = "" } = useRoute().params;
  const path = `${pathOf(g, w)}/experiments/${encodeURIComponent(e)}/jobs/${encodeURIComponent(j)}`;
  const loading = useLoad(path, [path, `${pathOf(g, w)}/clusters`], () => load(path));
  const state = loading.state.value.data?.job.properties.executionState ?? "";
  useTitle(`${state ? `${sign(state)} ` : ""}${j} · ${e}`);
  const before = useRef("");
  useEffect(() => {
    if (state && before.current && before.current !== state) say(`${j} is ${state.toLowerCase()}`);
    before.current = state;
  }, [state]);
  return (
    <section>
      <Shown of={loading} lines={14} title={j}>
        {(loaded) => <Shape {...loaded} path={path} g={g} w={w} e={e} />}
      </Shown>
    </section>
  );
}

const TABS = ["log", "time", "use", "files", "events", "def"] as const;

function Shape({ job, etag, attempts, path, g, w, e }: Loaded & { path: string; g: string; w: string; e: string }) {
  const { query, route, path: address } = useLocation();
  const isDone = isOver(job);
  const waits = !isDone && jobState(job) !== "Running";
  const usual = job.properties.executionState === "Queued" ? "time" : "log";
  const tab = TABS.find((one) => one === query["tab"]) ?? usual;
  const choose = (name: string, value: string): void => {
    const search = new URLSearchParams(query);
    search.set(name, value);
    route(`${address}?${search.toString()}`, true);
  };
  const own = changes.value.filter((change) => change.resourceId.toLowerCase() === job.id.toLowerCase());
  return (
    <>
      <div class="head">
        <h1>{job.name}</h1>
        <State is={jobState(job)} />
        <div class="row end">
          {!isDone && job.properties.executionState !== "Terminating" && (
            <button type="button" onClick={() => askTerminate(job.id)}>
              Terminate …
            </button>
          )}
          <a class="button" href={at.create("job", g, w, { from: job.id })}>
            Resubmit as …
          </a>
          <button
            type="button"
            class="danger"
            onClick={() =>
              askDelete(job.id, {
                losses: isDone ? [] : ["It has not ended: its processes are ended on every node."],
                etag: isDone ? etag : null,
                done: () => route(at.experiment(g, w, e)),
              })
            }
          >
            Delete …
          </button>
        </div>
      </div>
      <Sentence job={job} attempts={attempts} />
      {waits && <Waits of={path} follows={["clusters", "experiments"].map((kind) => `${pathOf(g, w)}/${kind}`)} version={jobState(job)} />}
      <Errors job={job} />
      <Facts
        of={[
          ["Cluster", <a href={at.cluster(g, w, clusterName(job))}>{clusterName(job)}</a>],
          ["Nodes", job.properties.nodeCount],
          ["Tool", job.properties.toolType],
          ["Limit", job.properties.constraints.maxWallClockTime],
          ["Priority", job.properties.schedulingPriority],
          ["Submitted", <Time at={job.properties.creationTime} />],
          ["By", job.systemData?.createdBy ?? "–"],
        ]}
      />
      <Tabs
        label="About this job"
        chosen={tab}
        choose={(id) => choose("tab", id)}
        tabs={[
          { id: "log", name: "Log" },
          { id: "time", name: attempts.length > 1 ? `Attempts ${attempts.length}` : "Time line" },
          { id: "use", name: "Use" },
          { id: "files", name: "Files" },
          { id: "events", name: own.length > 0 ? `Events ${own.length}` : "Events" },
          { id: "def", name: "Definition" },
        ]}
      />
      <Panel of={tab}>
        {tab === "log" && <Logs job={job} path={path} chosen={query["file"]} choose={(name) => choose("file", name)} />}
        {tab === "time" && <Attempts of={attempts} job={job} />}
        {tab === "use" && (
          <>
            <Use job={job} attempts={attempts} chosen={query["attempt"]} choose={(number) => choose("attempt", number)} />
            <Written job={job} />
          </>
        )}
        {tab === "files" && <Files job={job} />}
        {tab === "events" && <Events of={own} />}
        {tab === "def" && <Json of={job} />}
      </Panel>
      <footer class="actions">
        <Copy text={job.id} what="id" />
        <Copy text={job.name} what="name" />
      </footer>
    </>
  );
}

function Sentence({ job, attempts }: { job: Job; attempts: Attempt[] }) {
  const { executionState, executionInfo, nodeCount, creationTime } = job.properties;
  const attempt = attempts[0];
  const nodes = attempt?.nodes.map((node) => node.nodeId).filter(Boolean) ?? [];
  const on = nodes.length > 0 ? ` on ${nodes.length > 4 ? plural(nodes.length, "node") : nodes.join(", ")}` : "";
  const number = attempt && attempts.length > 1 ? `, attempt ${attempt.number}` : "";
  switch (executionState) {
    case "Queued":
      return (
        <p class="sentence">
          Queued <Age from={creationTime} long />: needs {plural(nodeCount, "node")}
          {number}
        </p>
      );
    case "Running":
      return (
        <p class="sentence">
          Running <Age from={executionInfo?.startTime} long />
          {on}
          {number}
        </p>
      );
    case "Terminating":
      return <p class="sentence">Being terminated{on}: waits for its processes to end</p>;
    case "Succeeded":
      return (
        <p class="sentence">
          Succeeded at <Time at={executionInfo?.endTime} /> after <Age from={executionInfo?.startTime} to={executionInfo?.endTime} long />: exit{" "}
          {executionInfo?.exitCode ?? 0}
          {number}
        </p>
      );
    default:
      return (
        <p class="sentence">
          Failed at <Time at={executionInfo?.endTime} /> after <Age from={executionInfo?.startTime} to={executionInfo?.endTime} long />
          {executionInfo?.exitCode !== undefined && `: exit ${executionInfo.exitCode}`}
          {attempt?.cause && attempt.cause !== "Exited" && `, ${attempt.cause}`}
          {on}
          {number}
        </p>
      );
  }
}

function Errors({ job }: { job: Job }) {
  const errors = job.properties.executionInfo?.errors ?? [];
  if (errors.length === 0) return null;
  return (
    <div class="failure" role="group" aria-label="Why it failed">
      {errors.map((error, index) => (
        <div key={index}>
          <strong>{error.code}</strong>
          <p>{error.message}</p>
          {error.details?.map((detail) => (
            <p key={detail.name}>
              <span class="quiet">{detail.name}</span> <code>{detail.value}</code>
            </p>
          ))}
        </div>
      ))}
    </div>
  );
}

function Logs({ job, path, chosen, choose }: { job: Job; path: string; chosen: string | undefined; choose: (name: string) => void }) {
  const isDone = isOver(job);
  const files = useLoad(`${path} logs`, [], async () => {
    const page = await ask<Page<OutputFile>>(`${path}/listOutputFiles`, {
      method: "POST",
      query: { outputdirectoryid: "stdouterr", linkexpiryinminutes: 600 },
    });
    return page.body.value.filter((file) => file.fileType === "file");
  }, job.properties.executionState);
  const waits = !isDone && job.properties.executionState !== "Queued" && files.state.value.data?.length === 0;
  // No change tells of the first output.
  useAgain(files, waits ? 1_000 : null);
  return (
    <Shown of={files} lines={10}>
      {(list) => {
        const failed = job.properties.executionState === "Failed";
        const size = (name: string): number => list.find((one) => one.name === name)?.properties?.contentLength ?? 0;
        const usual = failed && size("stderr.txt") > 0 ? "stderr.txt" : "stdout.txt";
        const file = list.find((one) => one.name === chosen) ?? list.find((one) => one.name === usual) ?? list[0];
        if (!file?.downloadUrl) {
          return (
            <Empty>
              <p>
                {isDone
                  ? "The job wrote no output: it ended before its command began."
                  : "No output yet. It appears here as soon as the first process writes."}
              </p>
            </Empty>
          );
        }
        const link = fileLink(file.downloadUrl);
        return (
          <>
            <div class="log-files" role="group" aria-label="File">
              {list.map((one) => (
                <button key={one.name} type="button" aria-pressed={one.name === file.name} onClick={() => choose(one.name)}>
                  {one.name} {isDone && <span class="quiet">{bytes(one.properties?.contentLength ?? 0)}</span>}
                </button>
              ))}
            </div>
            {link.readable ? (
              <Log key={link.href.split("?")[0]} href={link.href} name={file.name} grows={!isDone} />
            ) : (
              <Empty>
                <p>This output is in storage elsewhere, which the page may not read.</p>
                <p>
                  <a class="button" href={link.href} target="_blank" rel="noreferrer">
                    Open it there
                  </a>
                </p>
              </Empty>
            )}
          </>
        );
      }}
    </Shown>
  );
}

function Events({ of }: { of: typeof changes.value }) {
  if (of.length === 0) {
    return (
      <Empty>
        <p>Nothing changed since this page was opened. Changes appear here as they happen.</p>
      </Empty>
    );
  }
  return (
    <ol class="events">
      {of.map((change) => (
        <li key={change.id}>
          <time dateTime={change.time}>{clock(change.time)}</time> <b>{change.what.replace(/_/g, " ")}</b> {change.why}
        </li>
      ))}
    </ol>
  );
}

