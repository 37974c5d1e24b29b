// What a job used over time: for each measure that its nodes tell, a small plot a rank with the same axes; below it a table with the same facts.
import { read } from "../api";
import { bytes, clock } from "../format";
import { useAgain, useLoad } from "../load";
import type { Attempt, Job, Measure, Samples, Use as Ranks } from "../types";
import { Empty, Shown } from "./basics";
import { isOver } from "./jobs";
import { Table } from "./table";

const size = (n: number): string => bytes(Math.round(n));
const rate = (n: number): string => `${size(n)}/s`;

const MEASURES: { id: Measure; name: string; text: (n: number) => string }[] = [
  { id: "cores", name: "Cores", text: (n) => n.toFixed(2) },
  { id: "memoryInBytes", name: "Memory", text: size },
  { id: "diskReadBytesPerSecond", name: "Read from disk", text: rate },
  { id: "diskWrittenBytesPerSecond", name: "Written to disk", text: rate },
  { id: "networkInBytesPerSecond", name: "Received", text: rate },
  { id: "networkOutBytesPerSecond", name: "Sent", text: rate },
  { id: "gpuPercent", name: "GPUs", text: (n) => `${Math.round(n)} %` },
  { id: "gpuMemoryInBytes", name: "GPU memory", text: size },
];

/** Most ranks that are drawn: the table has all. */
const DRAWN = 16;

/** No change tells of new samples. Unit: milliseconds. */
const AGAIN = 10_000;

/** Time without a point after which nobody knows what was there: nodes are looked at once a minute at least. Unit: milliseconds. */
const SILENCE = 150_000;

export function Use({ job, attempts, chosen, choose }: {
  job: Job;
  attempts: Attempt[];
  /** The number of an attempt; the latest where there is none. */
  chosen: string | undefined;
  choose: (number: string) => void;
}) {
  const isDone = isOver(job);
  const samples = useLoad(
    `${job.id} samples ${chosen ?? ""}`,
    [],
    () => read<Samples>(`${job.id}/samples`, { attempt: chosen }),
    job.properties.executionState,
  );
  useAgain(samples, isDone ? null : AGAIN);
  return (
    <>
      {attempts.length > 1 && (
        <label class="field short">
          <span>Attempt</span>
          <select value={chosen ?? attempts[0]?.number} onChange={(event) => choose(event.currentTarget.value)}>
            {attempts.map(({ number }) => (
              <option key={number} value={number}>
                {number}
              </option>
            ))}
          </select>
        </label>
      )}
      <Shown of={samples} lines={10}>
        {(data) => <Curves of={data} isDone={isDone} />}
      </Shown>
    </>
  );
}

function spread(rank: Ranks, id: Measure): { mean: number; max: number } | null {
  const told = rank.points.flatMap((point) => point[id] ?? []);
  if (told.length === 0) return null;
  return { mean: told.reduce((sum, one) => sum + one.mean, 0) / told.length, max: Math.max(...told.map((one) => one.max)) };
}

function Curves({ of, isDone }: { of: Samples; isDone: boolean }) {
  const ranks = [...of.series].sort((a, b) => (a.rank ?? 0) - (b.rank ?? 0));
  const told = MEASURES.map((measure) => ({ ...measure, spreads: ranks.map((rank) => spread(rank, measure.id)) })).filter((measure) =>
    measure.spreads.some(Boolean),
  );
  if (told.length === 0) {
    return (
      <Empty>
        <p>{isDone ? "Nothing is told of what it used: it was too short, or too long ago." : "Nothing is told yet of what it uses. It appears here by itself."}</p>
      </Empty>
    );
  }
  const from = Date.parse(of.from);
  const span = Math.max(1_000, Date.parse(of.to) - from);
  const x = (time: number): number => ((time - from) / span) * 1000;
  return (
    <>
      <div class="plots">
        {told.flatMap(({ id, name, text, spreads }) => {
          const top = id === "gpuPercent" ? 100 : Math.max(...spreads.map((one) => one?.max ?? 0)) || 1;
          return ranks.slice(0, DRAWN).map((rank, index) => (
            <figure key={`${id} ${index}`}>
              <figcaption>
                {name}
                {ranks.length > 1 && ` of rank ${rank.rank}`} <span class="quiet">up to {text(top)}</span>
              </figcaption>
              <svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label={`${name}; the table below has the same facts`}>
                {(["max", "mean"] as const).map((part) => (
                  <path key={part} class={part} d={line(rank, id, part, of.stepInSeconds, x, (n) => 100 - (n / top) * 100)} />
                ))}
              </svg>
              <div class="plot-axis quiet" aria-hidden="true">
                <span>{clock(of.from)}</span>
                <span>{clock(of.to)}</span>
              </div>
            </figure>
          ));
        })}
      </div>
      <p class="quiet">
        The strong line is the mean of each {of.stepInSeconds} s, the faint one the most.
        {ranks.length > DRAWN && ` ${DRAWN} of ${ranks.length} ranks are drawn; the table has all.`}
      </p>
      <Table
        label="What each rank used, mean and most"
        isPlain
        rows={ranks.map((rank, index) => ({ rank, index }))}
        id={({ index }) => String(index)}
        columns={[
          { name: "Rank", as: "n", cell: ({ rank }) => rank.rank ?? "–" },
          { name: "Node", cell: ({ rank }) => rank.nodeId ?? "–" },
          ...told.map(({ name, text, spreads }) => ({
            name,
            as: "n",
            cell: ({ index }: { index: number }) => {
              const one = spreads[index];
              return one ? `${text(one.mean)}, most ${text(one.max)}` : "–";
            },
          })),
        ]}
      />
    </>
  );
}

/** One line, broken where points are missing. */
function line(rank: Ranks, id: Measure, part: "mean" | "max", step: number, x: (time: number) => number, y: (n: number) => number): string {
  let before = -Infinity;
  let path = "";
  for (const point of rank.points) {
    const value = point[id];
    if (!value) continue;
    const time = Date.parse(point.time);
    const place = `${x(time).toFixed(1)} ${y(value[part]).toFixed(1)}`;
    path += time - before > Math.max(SILENCE, 3_000 * step) ? `M${place}h0` : `L${place}`;
    before = time;
  }
  return path;
}
