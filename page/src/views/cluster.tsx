// The clusters of a workspace, and one of them: its nodes by state, what is wrong with it, its queue, and what can be done.
import { useRoute } from "preact-iso";
import { useState } from "preact/hooks";
import { type Page, Refused, all, ask, read, workspace as pathOf } from "../api";
import { plural } from "../format";
import { useLoad } from "../load";
import { Age, Copy, Empty, Facts, Json, Panel, Shown, State, Tabs, Time, tell, useTitle } from "../parts/basics";
import { askDeleteCluster } from "../parts/actions";
import { Dialog, confirm } from "../parts/dialog";
import { JobState, jobHref, why } from "../parts/jobs";
import { NodeBar, Nodes, clusterState, target } from "../parts/nodes";
import { Table } from "../parts/table";
import { Waits } from "../parts/why";
import { at } from "../paths";
import type { Cluster, Job, Login, Node, ScaleSettings } from "../types";
import { ClusterTable } from "./workspace";

export function Clusters() {
  const { g = "", w = "" } = useRoute().params;
  useTitle(`Clusters · ${w}`);
  const path = `${pathOf(g, w)}/clusters`;
  const loading = useLoad(path, [path], () => all<Cluster>(path));
  return (
    <section>
      <div class="head">
        <h1>Clusters</h1>
        <a class="button main" href={at.create("cluster", g, w)}>
          New cluster
        </a>
      </div>
      <Shown of={loading} lines={5}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty>
              <p>No cluster yet. A cluster is a set of nodes of one size; jobs run on it.</p>
              <p>
                <a class="button" href={at.create("cluster", g, w)}>
                  Make one
                </a>
              </p>
            </Empty>
          ) : (
            <ClusterTable rows={rows} />
          )
        }
      </Shown>
    </section>
  );
}

interface Loaded {
  cluster: Cluster;
  etag: string | null;
  nodes: Node[];
  running: Job[];
  queued: Job[];
}

async function load(g: string, w: string, path: string): Promise<Loaded> {
  const name = path.split("/").at(-1) ?? "";
  const jobs = (state: string, order: string): Promise<Page<Job>> =>
    read<Page<Job>>(`${pathOf(g, w)}/jobs`, {
      $filter: `executionState eq '${state}' and cluster eq '${decodeURIComponent(name)}'`,
      $orderby: order,
      $top: 50,
    });
  const [{ body: cluster, etag }, nodes, running, queued] = await Promise.all([
    ask<Cluster>(path),
    all<Node>(`${path}/nodes`),
    jobs("Running", "creationTime asc"),
    jobs("Queued", "creationTime asc"),
  ]);
  return { cluster, etag, nodes, running: running.value, queued: queued.value };
}

export function ClusterPage() {
  const { g = "", w = "", c = "" } = useRoute().params;
  useTitle(`${c} · ${w}`);
  const path = `${pathOf(g, w)}/clusters/${encodeURIComponent(c)}`;
  const loading = useLoad(path, [path, `${pathOf(g, w)}/experiments`], () => load(g, w, path));
  return (
    <section>
      <Shown of={loading} lines={12} title={c}>
        {(loaded) => <Shape {...loaded} />}
      </Shown>
    </section>
  );
}

function Shape({ cluster, etag, nodes, running, queued }: Loaded) {
  const [tab, setTab] = useState("nodes");
  const { properties } = cluster;
  return (
    <>
      <div class="head">
        <h1>{cluster.name}</h1>
        <State is={clusterState(cluster)} />
        <div class="row end">
          <button type="button" class="danger" onClick={() => askDeleteCluster(cluster, running.length, etag)}>
            Delete …
          </button>
        </div>
      </div>
      <p class="sentence">
        {properties.allocationState === "Steady" ? "Steady" : "Resizing"} at {plural(properties.currentNodeCount, "node")}, target {target(cluster)}, since{" "}
        <Age from={properties.allocationStateTransitionTime} long />
        {queued.length > 0 && `; ${plural(queued.length, "job")} ${queued.length === 1 ? "waits" : "wait"} for ${plural(queued.reduce((n, job) => n + job.properties.nodeCount, 0), "node")}`}
      </p>
      <Waits of={cluster.id} follows={[cluster.id]} />
      {properties.errors && properties.errors.length > 0 && (
        <div class="failure" role="group" aria-label="Errors">
          {properties.errors.map((error, index) => (
            <div key={index}>
              <strong>{error.code}</strong>
              <p>{error.message}</p>
              {error.details?.map((detail) => (
                <p key={detail.name} class="evidence">
                  <span class="quiet">{detail.name}</span> <code>{detail.value}</code>
                </p>
              ))}
            </div>
          ))}
        </div>
      )}
      <Facts
        of={[
          ["Size", properties.vmSize],
          ["Kept", properties.vmPriority === "dedicated" ? "dedicated" : "may be taken away"],
          ["Scale", properties.scaleSettings.autoScale ? "by its queue" : "by hand"],
          ["Administrator", properties.userAccountSettings.adminUserName],
          ["Made", <Time at={properties.creationTime} />],
          ["By", cluster.systemData?.createdBy ?? "–"],
        ]}
      />
      <NodeBar of={cluster} />
      <Nodes of={cluster} />
      <Resize key={JSON.stringify(properties.scaleSettings)} cluster={cluster} running={running.length} />
      <Tabs
        label="About this cluster"
        chosen={tab}
        choose={setTab}
        tabs={[
          { id: "nodes", name: `Nodes ${nodes.length}` },
          { id: "jobs", name: `Jobs ${running.length + queued.length}` },
          { id: "def", name: "Definition" },
        ]}
      />
      <Panel of={tab}>
        {tab === "nodes" && <NodeTable cluster={cluster} nodes={nodes} />}
        {tab === "jobs" &&
          (running.length + queued.length === 0 ? (
            <Empty>
              <p>No job runs on it, and none waits for it.</p>
            </Empty>
          ) : (
            <Table
              label="Jobs of this cluster"
              rows={[...running, ...queued]}
              id={(job) => job.id}
              columns={[
                {
                  name: "Job",
                  cell: (job) => (
                    <a class="row-link" href={jobHref(job)}>
                      {job.name}
                    </a>
                  ),
                },
                { name: "State", cell: (job) => <JobState of={job} /> },
                { name: "Nodes", as: "n", cell: (job) => job.properties.nodeCount },
                { name: "Lacks", as: "wide low", cell: (job) => why(job, cluster) },
                { name: "Since", as: "n", cell: (job) => <Age from={job.properties.executionStateTransitionTime} /> },
              ]}
            />
          ))}
        {tab === "def" && <Json of={cluster} />}
      </Panel>
      <footer class="actions">
        <Copy text={cluster.id} what="id" />
        <Copy text={cluster.name} what="name" />
      </footer>
    </>
  );
}

/** Worst first: what needs somebody is in sight. */
const ORDER = ["Unusable", "Leaving", "Preparing", "Running", "Idle"];

function NodeTable({ cluster, nodes }: { cluster: Cluster; nodes: Node[] }) {
  const user = cluster.properties.userAccountSettings.adminUserName;
  // Asking how to log in is recorded, so that it is asked again only where the nodes are others.
  const logins = useLoad(
    `${cluster.id} logins`,
    [],
    () => ask<Page<Login>>(`${cluster.id}/listRemoteLoginInformation`, { method: "POST" }).then((answer) => answer.body.value),
    nodes.map((node) => node.nodeId + node.state).join(),
  );
  const [asked, setAsked] = useState<string | null>(null);
  const close = (): void => setAsked(null);
  if (nodes.length === 0) {
    return (
      <Empty>
        <p>There are no nodes. Resize the cluster to have some.</p>
      </Empty>
    );
  }
  const sorted = [...nodes].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const hasGpus = nodes.some((node) => node.gpus.length > 0);
  return (
    <>
      <Table
        label="Nodes"
        rows={sorted}
        id={(node) => node.nodeId}
        columns={[
          { name: "Node", cell: (node) => node.nodeId },
          { name: "State", cell: (node) => <State is={node.state} /> },
          {
            name: "Why",
            cell: (node) =>
              node.state !== "Running" && (
                <button type="button" class="plain" aria-label={`Why ${node.nodeId} takes no job`} onClick={() => setAsked(node.nodeId)}>
                  Why
                </button>
              ),
          },
          { name: "Since", as: "n low", cell: (node) => <Age from={node.stateTransitionTime} /> },
          ...(hasGpus ? [{ name: "GPUs", as: "low", cell: (node: Node) => node.gpus.map((gpu) => gpu.name).join(", ") }] : []),
          {
            name: "Cause",
            as: "wide low",
            cell: (node) => <span title={node.errors.map((error) => error.message).join(" ")}>{node.errors[0]?.message}</span>,
          },
          {
            name: "Log in",
            cell: (node) => {
              const login = logins.state.value.data?.find((one) => one.nodeId === node.nodeId);
              if (!login) return <span class="quiet">–</span>;
              const line = `ssh -p ${Math.trunc(login.port)} ${user}@${login.ipAddress}`;
              return (
                <Copy text={line} what={`the line for ${login.nodeId}`}>
                  <code>{line}</code>
                </Copy>
              );
            },
          },
        ]}
      />
      {asked && (
        <Dialog title={`Why ${asked} takes no job`} close={close}>
          <div class="dialog-body">
            <Waits of={`${cluster.id}/nodes/${asked}`} follows={[cluster.id]} free={<p>Nothing is in its way: it takes jobs.</p>} />
            <div class="row end">
              <button type="button" onClick={close} autofocus>
                Close
              </button>
            </div>
          </div>
        </Dialog>
      )}
    </>
  );
}

const DEALLOCATION: [string, string][] = [
  ["requeue", "queued again"],
  ["terminate", "ended"],
  ["waitforjobcompletion", "finished first"],
];

function Resize({ cluster, running }: { cluster: Cluster; running: number }) {
  const { manual, autoScale } = cluster.properties.scaleSettings;
  const [auto, setAuto] = useState(Boolean(autoScale));
  const [to, setTo] = useState(manual?.targetNodeCount ?? cluster.properties.currentNodeCount);
  const [low, setLow] = useState(autoScale?.minimumNodeCount ?? 0);
  const [high, setHigh] = useState(autoScale?.maximumNodeCount ?? Math.max(1, cluster.properties.currentNodeCount));
  const [jobs, setJobs] = useState("requeue");
  const [error, setError] = useState<string | null>(null);
  const now = cluster.properties.currentNodeCount;
  const isSame = auto
    ? autoScale?.minimumNodeCount === low && autoScale.maximumNodeCount === high
    : manual !== undefined && manual.targetNodeCount === to;
  const scaleSettings: ScaleSettings = auto
    ? { autoScale: { minimumNodeCount: low, maximumNodeCount: high } }
    : { manual: { targetNodeCount: to, nodeDeallocationOption: jobs } };
  const act = async (): Promise<void> => {
    await ask(cluster.id, { method: "PATCH", body: { properties: { scaleSettings } } });
    tell(`${cluster.name} is to have ${auto ? `${low} to ${high}` : to} nodes.`);
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setError(null);
    if (!auto && to < now && running > 0 && jobs !== "waitforjobcompletion") {
      confirm({
        title: `Resize ${cluster.name} from ${now} to ${to}?`,
        body: (
          <p>
            {plural(running, "job")} run on it. Jobs on the {plural(now - to, "node")} that go are {jobs === "requeue" ? "queued again and begin anew" : "ended"}.
          </p>
        ),
        verb: "Resize",
        act,
      });
      return;
    }
    try {
      await act();
    } catch (cause) {
      setError(cause instanceof Refused ? cause.message : String(cause));
    }
  };
  const number = (label: string, value: number, set: (n: number) => void) => (
    <label class="field short">
      <span>{label}</span>
      <input type="number" min={0} max={1000} value={value} onInput={(event) => set(Number(event.currentTarget.value))} />
    </label>
  );
  return (
    <form class="inline" onSubmit={(event) => void submit(event)} aria-label="Resize">
      <label class="field short">
        <span>Scale</span>
        <select value={auto ? "auto" : "manual"} onChange={(event) => setAuto(event.currentTarget.value === "auto")}>
          <option value="manual">by hand</option>
          <option value="auto">by its queue</option>
        </select>
      </label>
      {auto ? (
        <>
          {number("At least", low, setLow)}
          {number("At most", high, setHigh)}
        </>
      ) : (
        <>
          {number("Nodes", to, setTo)}
          {to < now && (
            <label class="field short">
              <span>Jobs on nodes that go are</span>
              <select value={jobs} onChange={(event) => setJobs(event.currentTarget.value)}>
                {DEALLOCATION.map(([id, name]) => (
                  <option key={id} value={id}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
          )}
        </>
      )}
      <button type="submit" disabled={isSame}>
        Resize
      </button>
      {error && (
        <p class="violation" role="alert">
          {error}
        </p>
      )}
    </form>
  );
}
