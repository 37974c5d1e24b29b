// The numbers that a job wrote about itself, as curves: of each output directory the files that `hasCurves` knows.
import { type Page, ask, fileLink } from "../api";
import { plural } from "../format";
import { useAgain, useLoad } from "../load";
import type { Job, OutputFile } from "../types";
import { Shown } from "./basics";
import { type Curve, curves, hasCurves } from "./curve-file";
import { isOver } from "./jobs";
import { rangeReader } from "./log-file";
import { Table } from "./table";

/** Most of a file that is read, from its start. Unit: bytes. */
const MOST = 4 * 1024 * 1024;

/** Most curves that are drawn: the table has all. */
const DRAWN = 24;

/** No change tells of what a job writes. Unit: milliseconds. */
const AGAIN = 10_000;

interface Written {
  directory: string;
  name: string;
  curves: Curve[];
  isCut: boolean;
}

async function load(job: Job, signal: AbortSignal): Promise<Written[]> {
  const directories = (job.properties.outputDirectories ?? []).map((one) => one.id);
  const all = directories.map(async (directory): Promise<Written[]> => {
    const listed = await ask<Page<OutputFile>>(`${job.id}/listOutputFiles`, {
      method: "POST",
      query: { outputdirectoryid: directory, linkexpiryinminutes: 10, maxresults: 1000 },
      signal,
    });
    const files = listed.body.value.filter((file) => file.fileType === "file" && hasCurves(file.name) && file.downloadUrl);
    return Promise.all(
      files.map(async (file) => {
        const link = fileLink(file.downloadUrl ?? "");
        const read = link.readable ? await rangeReader(link.href)(0, MOST, signal) : null;
        const isCut = (read?.size ?? 0) > MOST;
        const text = new TextDecoder().decode(read?.bytes);
        return { directory, name: file.name, curves: curves(file.name, text, isOver(job) && !isCut), isCut };
      }),
    );
  });
  return (await Promise.all(all)).flat().filter((file) => file.curves.length > 0);
}

export function Written({ job }: { job: Job }) {
  const isDone = isOver(job);
  const written = useLoad(`${job.id} metrics`, [], (signal) => load(job, signal), job.properties.executionState);
  useAgain(written, isDone ? null : AGAIN);
  return (
    <Shown of={written} lines={4}>
      {(files) =>
        files.length === 0 ? (
          <p class="quiet">
            Numbers that the job writes to <code>metrics.jsonl</code> or <code>metrics.csv</code> in an output directory are drawn here.
          </p>
        ) : (
          <>
            {files.map((file) => (
              <File key={`${file.directory}/${file.name}`} of={file} />
            ))}
          </>
        )
      }
    </Shown>
  );
}

function File({ of: { directory, name, curves: all, isCut } }: { of: Written }) {
  return (
    <section>
      <h2>
        {name} <span class="quiet">in {directory}</span>
      </h2>
      <div class="plots">
        {all.slice(0, DRAWN).map((curve) => (
          <Plot key={curve.name} of={curve} />
        ))}
      </div>
      {all.length > DRAWN && (
        <p class="quiet">
          {DRAWN} of {plural(all.length, "curve")} are drawn; the table has all.
        </p>
      )}
      {isCut && <p class="quiet">The file is longer than what is read of it: these are its first {MOST / 1024 / 1024} MiB.</p>}
      <Table
        label={`What ${name} in ${directory} tells`}
        isPlain
        rows={all}
        id={(curve) => curve.name}
        columns={[
          { name: "Name", cell: (curve) => curve.name },
          { name: "Last", as: "n", cell: (curve) => short(curve.last) },
          { name: "Least", as: "n", cell: (curve) => short(curve.least) },
          { name: "Most", as: "n", cell: (curve) => short(curve.most) },
          { name: "Values", as: "n", cell: (curve) => curve.count },
        ]}
      />
    </section>
  );
}

/** A number with four digits that matter. */
function short(n: number): string {
  return String(Number(n.toPrecision(4)));
}

function Plot({ of: { name, along, points, least, most, last } }: { of: Curve }) {
  const xs = points.map(([x]) => x);
  const [from, to] = [Math.min(...xs), Math.max(...xs)];
  const x = (value: number): string => (((value - from) / (to - from || 1)) * 1000).toFixed(1);
  // A curve that never moves is drawn in the middle.
  const y = (value: number): string => (most === least ? 50 : 100 - ((value - least) / (most - least)) * 100).toFixed(1);
  const path = points.map(([px, py], index) => `${index === 0 ? "M" : "L"}${x(px)} ${y(py)}`).join("");
  return (
    <figure>
      <figcaption>
        {name} <span class="quiet">{short(last)}, from {short(least)} to {short(most)}</span>
      </figcaption>
      <svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label={`${name}; the table below has the same facts`}>
        <path d={points.length > 1 ? path : `${path}h0`} />
      </svg>
      <div class="plot-axis quiet" aria-hidden="true">
        <span>{short(from)}</span>
        <span>{along}</span>
        <span>{short(to)}</span>
      </div>
    </figure>
  );
}
