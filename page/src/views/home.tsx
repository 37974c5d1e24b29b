// All workspaces that one may read, with what goes on in each.
import { OWN, all, ask, read, root } from "../api";
import { jobs as jobCount } from "../format";
import { useLoad } from "../load";
import { Empty, Shown, State, Time, useTitle } from "../parts/basics";
import { askDelete } from "../parts/actions";
import { Table } from "../parts/table";
import { at, named } from "../paths";
import type { Cluster, Group, JobCounts, Workspace } from "../types";

interface Row {
  workspace: Workspace;
  counts: JobCounts | null;
  nodes: number | null;
  attention: number;
}

/** Workspaces beyond these are listed without their numbers. */
const COUNTED = 30;

async function load(): Promise<{ rows: Row[]; groups: Group[] }> {
  const [workspaces, groups] = await Promise.all([
    all<Workspace>(`${root()}/providers/Microsoft.BatchAI/workspaces`),
    all<Group>(`${root()}/resourceGroups`),
  ]);
  const rows = workspaces.map(async (workspace, index): Promise<Row> => {
    if (index >= COUNTED) return { workspace, counts: null, nodes: null, attention: 0 };
    const [counts, clusters] = await Promise.all([
      read<JobCounts>(`${workspace.id}/jobCounts`, { "api-version": OWN }).catch(() => null),
      all<Cluster>(`${workspace.id}/clusters`).catch(() => []),
    ]);
    const nodes = clusters.reduce((sum, one) => sum + one.properties.currentNodeCount, 0);
    const attention = clusters.filter((one) => one.properties.nodeStateCounts.unusableNodeCount > 0 || one.properties.errors?.length).length;
    return { workspace, counts, nodes, attention };
  });
  return { rows: await Promise.all(rows), groups };
}

export function Home() {
  useTitle("Workspaces");
  const loading = useLoad("home", [root()], load);
  return (
    <section>
      <div class="head">
        <h1>Workspaces</h1>
        <a class="button main" href={at.create("workspace")}>
          New workspace
        </a>
      </div>
      <Shown of={loading} lines={6}>
        {({ rows, groups }) => (
          <>
            {rows.length === 0 ? (
              <Empty>
                <p>There is no workspace that you may read. A workspace holds clusters, experiments and their jobs.</p>
                <p>
                  <a class="button main" href={at.create("workspace")}>
                    Make the first one
                  </a>
                </p>
              </Empty>
            ) : (
              <Table
                label="Workspaces"
                rows={rows}
                id={(row) => row.workspace.id}
                columns={[
                  {
                    name: "Workspace",
                    as: "wide",
                    cell: ({ workspace }) => {
                      const what = named(workspace.id);
                      return (
                        <a class="row-link" href={at.workspace(what?.g ?? "", workspace.name)}>
                          {workspace.name}
                        </a>
                      );
                    },
                  },
                  { name: "Group", cell: ({ workspace }) => named(workspace.id)?.g },
                  {
                    name: "State",
                    cell: ({ workspace, attention }) =>
                      workspace.properties.provisioningState !== "Succeeded" ? (
                        <State is={workspace.properties.provisioningState} />
                      ) : attention > 0 ? (
                        <State is="unusable">{attention} to look at</State>
                      ) : (
                        <span class="quiet">well</span>
                      ),
                  },
                  { name: "Queued", as: "n", cell: ({ counts }) => (counts ? jobCount(counts.queued) : "") },
                  { name: "Running", as: "n", cell: ({ counts }) => (counts ? jobCount(counts.running) : "") },
                  { name: "Failed", as: "n low", cell: ({ counts }) => (counts ? jobCount(counts.failed) : "") },
                  { name: "Succeeded", as: "n low", cell: ({ counts }) => (counts ? jobCount(counts.succeeded) : "") },
                  { name: "Nodes", as: "n", cell: ({ nodes }) => nodes ?? "" },
                  { name: "Made", as: "low", cell: ({ workspace }) => <Time at={workspace.properties.creationTime} /> },
                ]}
              />
            )}
            <h2>Resource groups</h2>
            {groups.length === 0 ? (
              <Empty>
                <p>None yet. A group is made along with its first workspace.</p>
              </Empty>
            ) : (
              <Table
                label="Resource groups"
                rows={groups}
                id={(row) => row.id}
                columns={[
                  { name: "Group", as: "wide", cell: (row) => row.name },
                  { name: "Region", cell: (row) => row.location },
                  {
                    name: "Workspaces",
                    as: "n",
                    cell: (row) => rows.filter((one) => named(one.workspace.id)?.g.toLowerCase() === row.name.toLowerCase()).length,
                  },
                  {
                    name: "Do",
                    as: "do",
                    cell: (row) => (
                      <>
                        <a href={at.create("workspace", row.name)}>Add a workspace</a>
                        <button type="button" class="plain" onClick={() => void deleteGroup(row, rows)}>
                          Delete …
                        </button>
                      </>
                    ),
                  },
                ]}
              />
            )}
          </>
        )}
      </Shown>
    </section>
  );
}

async function deleteGroup(group: Group, rows: Row[]): Promise<void> {
  const inside = rows.filter((one) => named(one.workspace.id)?.g.toLowerCase() === group.name.toLowerCase());
  const names = inside.map((one) => one.workspace.name);
  const { etag } = await ask<Group>(group.id);
  askDelete(group.id, {
    losses: names.length > 0 ? [`Everything in it goes too: ${names.join(", ")}, with their clusters, file servers and jobs.`] : [],
    etag,
  });
}
