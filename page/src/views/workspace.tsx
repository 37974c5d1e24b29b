// A workspace: what needs somebody, what waits and runs, its clusters, its newest jobs.
import { useRoute } from "preact-iso";
import { all, ask, read, workspace as pathOf } from "../api";
import type { Page } from "../api";
import { count, jobs as jobCount, plural } from "../format";
import { useLoad } from "../load";
import { Age, Copy, Empty, Shown, State, Time, useTitle } from "../parts/basics";
import { askDelete } from "../parts/actions";
import { JobState, clusterName, jobHref, why } from "../parts/jobs";
import { Nodes, clusterState, target } from "../parts/nodes";
import { Table } from "../parts/table";
import { at, named } from "../paths";
import type { Cluster, Experiment, FileServer, Job, JobCounts, Workspace } from "../types";

interface Overview {
  workspace: Workspace;
  etag: string | null;
  counts: JobCounts;
  clusters: Cluster[];
  servers: FileServer[];
  experiments: Experiment[];
  newest: Job[];
  failed: Job[];
  queued: Job[];
}

const NEWEST = "creationTime desc";
/** Failures older than this need nobody any more. Unit: milliseconds. */
const RECENT = 24 * 3600 * 1000;

async function load(path: string): Promise<Overview> {
  const jobs = (filter: string | undefined, order: string, top: number): Promise<Page<Job>> =>
    read<Page<Job>>(`${path}/jobs`, { $filter: filter, $orderby: order, $top: top });
  const [{ body, etag }, counts, clusters, servers, experiments, newest, failed, queued] = await Promise.all([
    ask<Workspace>(path),
    read<JobCounts>(`${path}/jobCounts`),
    all<Cluster>(`${path}/clusters`),
    all<FileServer>(`${path}/fileServers`),
    all<Experiment>(`${path}/experiments`),
    jobs(undefined, NEWEST, 12),
    jobs("executionState eq 'Failed'", NEWEST, 3),
    jobs("executionState eq 'Queued'", "creationTime asc", 1),
  ]);
  return { workspace: body, etag, counts, clusters, servers, experiments, newest: newest.value, failed: failed.value, queued: queued.value };
}

export function WorkspacePage() {
  const { g = "", w = "" } = useRoute().params;
  useTitle(`${w} · ${g}`);
  const path = pathOf(g, w);
  const loading = useLoad(path, [path], () => load(path));
  return (
    <section>
      <Shown of={loading} lines={12} title={w}>
        {(overview) => <Shape key={path} g={g} w={w} {...overview} />}
      </Shown>
    </section>
  );
}

function Shape({ g, w, workspace, etag, counts, clusters, servers, experiments, newest, failed, queued }: Overview & { g: string; w: string }) {
  const clusterOf = (job: Job): Cluster | undefined => clusters.find((one) => one.id.toLowerCase() === job.properties.cluster.id.toLowerCase());
  const recent = failed.filter((job) => Date.now() - Date.parse(job.properties.executionStateTransitionTime) < RECENT);
  const unwell = clusters.filter((one) => one.properties.nodeStateCounts.unusableNodeCount > 0 || one.properties.errors?.length);
  const lost = servers.filter((one) => one.properties.provisioningState === "Failed");
  const oldest = queued[0];
  const runningNodes = clusters.reduce((sum, one) => sum + one.properties.nodeStateCounts.runningNodeCount, 0);
  const losses: string[] = [];
  const nodes = clusters.reduce((sum, one) => sum + one.properties.currentNodeCount, 0);
  const jobs = counts.queued + counts.running + counts.terminating + counts.succeeded + counts.failed;
  if (clusters.length) losses.push(`${plural(clusters.length, "cluster")} with ${plural(nodes, "node")} go.`);
  if (experiments.length) {
    losses.push(`${plural(experiments.length, "experiment")} with ${plural(jobs, "job")} go, of which ${counts.running} run.`);
  }
  if (servers.length) losses.push(`${plural(servers.length, "file server")} and what is on them go.`);
  return (
    <>
      <div class="head">
        <h1>{w}</h1>
        {workspace.properties.provisioningState !== "Succeeded" && <State is={workspace.properties.provisioningState} />}
        <span class="quiet">
          group {g} · {workspace.location}
        </span>
        <div class="row end">
          <a class="button main" href={at.create("job", g, w)}>
            New job
          </a>
          <a class="button" href={at.create("cluster", g, w)}>
            New cluster
          </a>
        </div>
      </div>

      <section class={`attention${unwell.length + lost.length + recent.length === 0 ? " none" : ""}`} aria-labelledby="attention">
        <h2 id="attention">Needs attention {unwell.length + lost.length + recent.length || ""}</h2>
        {unwell.length + lost.length + recent.length === 0 && <p class="quiet">Nothing does.</p>}
        <ul>
          {unwell.map((one) => (
            <li key={one.id}>
              <State is="unusable">{one.name}</State>
              <span class="grow">
                {one.properties.nodeStateCounts.unusableNodeCount > 0 && `${plural(one.properties.nodeStateCounts.unusableNodeCount, "node")} unusable. `}
                {one.properties.errors?.[0]?.message}
              </span>
              <a href={at.cluster(g, w, one.name)}>Evidence</a>
            </li>
          ))}
          {lost.map((one) => (
            <li key={one.id}>
              <State is="failed">{one.name}</State>
              <span class="grow">The file server could not be made.</span>
              <a href={at.fileServer(g, w, one.name)}>Look</a>
            </li>
          ))}
          {recent.map((job) => (
            <li key={job.id}>
              <State is="failed">{job.name}</State>
              <span class="grow">
                <Time at={job.properties.executionInfo?.endTime} /> {why(job)}
              </span>
              <a href={`${jobHref(job)}?tab=log`}>Log</a>
              <a href={at.create("job", g, w, { from: job.id })}>Resubmit as …</a>
            </li>
          ))}
        </ul>
      </section>

      <div class="tiles">
        <a class="tile" href={`${at.jobs(g, w)}?state=Queued`}>
          <b>{jobCount(counts.queued)}</b> waiting{oldest && <span>, oldest <Age from={oldest.properties.creationTime} /></span>}
        </a>
        <a class="tile" href={`${at.jobs(g, w)}?state=Running`}>
          <b>{jobCount(counts.running)}</b> running{runningNodes > 0 && <span> on {plural(runningNodes, "node")}</span>}
        </a>
        <a class="tile" href={`${at.jobs(g, w)}?state=Succeeded`}>
          <b>{jobCount(counts.succeeded)}</b> succeeded
        </a>
        <a class="tile" href={`${at.jobs(g, w)}?state=Failed`}>
          <b>{jobCount(counts.failed)}</b> failed
        </a>
      </div>

      <div class="head">
        <h2>Clusters</h2>
      </div>
      {clusters.length === 0 ? (
        <Empty>
          <p>No cluster yet. Jobs run on the nodes of a cluster.</p>
          <p>
            <a class="button" href={at.create("cluster", g, w)}>
              Make one
            </a>
          </p>
        </Empty>
      ) : (
        <ClusterTable rows={clusters} />
      )}

      <div class="head">
        <h2>Newest jobs</h2>
        <span class="row end">
          <a href={at.jobs(g, w)}>All {count(jobs)}{counts.capped && "+"}</a>
        </span>
      </div>
      {newest.length === 0 ? (
        <Empty>
          <p>{clusters.length === 0 ? "No job yet. Make a cluster first." : "No job yet."}</p>
          {clusters.length > 0 && (
            <p>
              <a class="button" href={at.create("job", g, w)}>
                Submit the first
              </a>
            </p>
          )}
        </Empty>
      ) : (
        <Table
          label="Newest jobs"
          rows={newest}
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
            { name: "Why", as: "wide low", cell: (job) => <span title={why(job)}>{why(job, clusterOf(job))}</span> },
            {
              name: "Experiment",
              as: "low",
              cell: (job) => <a href={at.experiment(g, w, job.properties.experimentName)}>{job.properties.experimentName}</a>,
            },
            { name: "Cluster", as: "low", cell: (job) => clusterName(job) },
            {
              name: "Took",
              as: "n",
              cell: (job) => <Age from={job.properties.executionInfo?.startTime} to={job.properties.executionInfo?.endTime} />,
            },
            { name: "Submitted", as: "n", cell: (job) => <Time at={job.properties.creationTime} /> },
          ]}
        />
      )}

      <div class="head">
        <h2>Experiments</h2>
      </div>
      {experiments.length === 0 ? (
        <p class="quiet">None yet: one is made along with its first job.</p>
      ) : (
        <ul class="chips">
          {experiments.map((one) => (
            <li key={one.id}>
              <a class="row-link" href={at.experiment(g, w, one.name)}>
                {one.name}
              </a>
            </li>
          ))}
        </ul>
      )}
      <footer class="actions">
        <Copy text={workspace.id} what="id" />
        <button type="button" class="plain bad" onClick={() => askDelete(workspace.id, { losses, etag })}>
          Delete the workspace …
        </button>
      </footer>
    </>
  );
}

export function ClusterTable({ rows }: { rows: Cluster[] }) {
  return (
    <Table
      label="Clusters"
      rows={rows}
      id={(one) => one.id}
      columns={[
        {
          name: "Cluster",
          cell: (one) => {
            const what = named(one.id);
            return (
              <a class="row-link" href={at.cluster(what?.g ?? "", what?.w ?? "", one.name)}>
                {one.name}
              </a>
            );
          },
        },
        { name: "State", cell: (one) => <State is={clusterState(one)} /> },
        { name: "Nodes", as: "wide", cell: (one) => <Nodes of={one} /> },
        { name: "Target", as: "n low", cell: (one) => target(one) },
        { name: "Size", as: "low", cell: (one) => one.properties.vmSize },
        { name: "Since", as: "n low", cell: (one) => <Age from={one.properties.allocationStateTransitionTime} /> },
      ]}
    />
  );
}
