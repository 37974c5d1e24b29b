// The nodes of a cluster by state, worst first: words with numbers, and a bar that says the same.
import type { Cluster, NodeCounts } from "../types";
import { State } from "./basics";

const ORDER: [string, keyof NodeCounts][] = [
  ["unusable", "unusableNodeCount"],
  ["leaving", "leavingNodeCount"],
  ["preparing", "preparingNodeCount"],
  ["running", "runningNodeCount"],
  ["idle", "idleNodeCount"],
];

export function byState(cluster: Cluster): [string, number][] {
  return ORDER.map(([state, member]): [string, number] => [state, cluster.properties.nodeStateCounts[member]]).filter(([, n]) => n > 0);
}

export function target(cluster: Cluster): string {
  const { manual, autoScale } = cluster.properties.scaleSettings;
  const now = cluster.properties.scaling?.targetNodeCount;
  if (autoScale) return `${now === undefined ? "" : `${now} of `}${autoScale.minimumNodeCount} to ${autoScale.maximumNodeCount}`;
  return String(manual?.targetNodeCount ?? cluster.properties.currentNodeCount);
}

export function Nodes({ of }: { of: Cluster }) {
  const counts = byState(of);
  if (counts.length === 0) return <span class="quiet">no nodes</span>;
  return (
    <span class="nodes">
      {counts.map(([state, n]) => (
        <State key={state} is={state}>
          {n} {state}
        </State>
      ))}
    </span>
  );
}

export function NodeBar({ of }: { of: Cluster }) {
  const counts = byState(of);
  if (counts.length === 0) return null;
  return (
    <div class="bar" aria-hidden="true">
      {counts.map(([state, n]) => (
        <span key={state} class={`b-${state}`} style={{ flexGrow: String(n) }} />
      ))}
    </div>
  );
}

/** What the cluster's own states come to, in one word. */
export function clusterState(cluster: Cluster): string {
  const { provisioningState, allocationState } = cluster.properties;
  return provisioningState === "Succeeded" ? allocationState : provisioningState;
}
