// The attempts of a job on one time line, a lane for each node; below it a table with the same facts.
import { duration, moment, now } from "../format";
import type { Attempt, Job } from "../types";
import { Age, Empty, State, Time } from "./basics";
import { isOver } from "./jobs";

interface Bar {
  from: number;
  to: number;
  kind: string;
  label: string;
}

const ms = (time: string | undefined): number | undefined => (time ? Date.parse(time) : undefined);

/** How a node's part of an attempt ended, as a state. */
function ending(node: Attempt["nodes"][number]): string {
  if (!node.endTime) return "running";
  if (node.end === "Exited" && !node.exitCode) return "succeeded";
  return node.end === "Stopped" ? "leaving" : "failed";
}

export function Attempts({ of, job }: { of: Attempt[]; job: Job }) {
  const created = Date.parse(job.properties.creationTime);
  const oldest = [...of].reverse();
  const end = isOver(job) ? (ms(job.properties.executionInfo?.endTime) ?? now.value) : now.value;
  if (of.length === 0) {
    return (
      <Empty>
        <p>
          No attempt yet: the job waits <Age from={job.properties.creationTime} long />. An attempt begins when its nodes are free together.
        </p>
      </Empty>
    );
  }
  const span = Math.max(1, end - created);
  const lanes: { name: string; bars: Bar[] }[] = [];
  let waitedFrom = created;
  for (const attempt of oldest) {
    const begun = Date.parse(attempt.creationTime);
    const over = ms(attempt.endTime) ?? end;
    for (const node of attempt.nodes) {
      const started = ms(node.startTime);
      const bars: Bar[] = [{ from: waitedFrom, to: begun, kind: "queued", label: "queued" }];
      bars.push({ from: begun, to: started ?? over, kind: "preparing", label: "preparing" });
      if (started) bars.push({ from: started, to: ms(node.endTime) ?? end, kind: ending(node), label: ending(node) });
      lanes.push({ name: `${of.length > 1 ? `attempt ${attempt.number} ` : ""}${node.nodeId ?? `rank ${node.rank}`}`, bars });
    }
    waitedFrom = over;
  }
  const marks = [0, 0.25, 0.5, 0.75, 1];
  return (
    <>
      <figure class="lanes" aria-label="Time line; the table below has the same facts">
        {lanes.slice(0, 64).map((lane, index) => (
          <div key={index} class="lane">
            <span class="lane-name">{lane.name}</span>
            <span class="lane-bars">
              {lane.bars
                .filter((bar) => bar.to > bar.from)
                .map((bar, position) => (
                  <span
                    key={position}
                    class={`b-${bar.kind}`}
                    title={`${bar.label} ${duration(bar.to - bar.from)}`}
                    style={{ left: `${((bar.from - created) / span) * 100}%`, width: `${Math.max(0.3, ((bar.to - bar.from) / span) * 100)}%` }}
                  />
                ))}
            </span>
          </div>
        ))}
        <div class="lane axis" aria-hidden="true">
          <span class="lane-name" />
          <span class="lane-bars">
            {marks.map((mark) => (
              <span key={mark} style={{ left: `${mark * 100}%` }}>
                {mark === 0 ? moment(created) : `+${span < 20_000 ? `${((span * mark) / 1000).toFixed(1)} s` : duration(span * mark)}`}
              </span>
            ))}
          </span>
        </div>
        <p class="legend" aria-hidden="true">
          {["queued", "preparing", "running", "succeeded", "failed"].map((kind) => (
            <span key={kind}>
              <i class={`b-${kind}`} /> {kind}
            </span>
          ))}
        </p>
      </figure>
      <div class="table-box" tabIndex={0} role="region" aria-label="Attempts, as a table">
        <table aria-label="Attempts">
          <thead>
            <tr>
              <th scope="col" class="n">
                Attempt
              </th>
              <th scope="col">Node</th>
              <th scope="col" class="n">
                Rank
              </th>
              <th scope="col">State</th>
              <th scope="col">Placed</th>
              <th scope="col">Started</th>
              <th scope="col" class="n">
                Ran
              </th>
              <th scope="col" class="wide">
                End
              </th>
            </tr>
          </thead>
          <tbody>
            {of.flatMap((attempt) =>
              attempt.nodes.map((node) => (
                <tr key={`${attempt.number} ${node.rank}`}>
                  <th scope="row" class="n">
                    {attempt.number}
                  </th>
                  <td>{node.nodeId ?? "–"}</td>
                  <td class="n">{node.rank}</td>
                  <td>
                    <State is={node.startTime ? ending(node) : "preparing"} />
                  </td>
                  <td>
                    <Time at={attempt.creationTime} />
                  </td>
                  <td>
                    <Time at={node.startTime} />
                  </td>
                  <td class="n">
                    <Age from={node.startTime} to={node.endTime} />
                  </td>
                  <td class="wide">
                    {[node.end, node.exitCode !== undefined && `exit ${node.exitCode}`, attempt.cause !== node.end && attempt.cause, node.message]
                      .filter(Boolean)
                      .join(", ")}
                  </td>
                </tr>
              )),
            )}
          </tbody>
        </table>
      </div>
    </>
  );
}
