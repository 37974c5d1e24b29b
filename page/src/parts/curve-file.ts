// Numbers over time as programs write them, in files called `metrics.jsonl` or `metrics.csv`: JSON objects, one a line, or a line of names
// and lines of values. Knows no document and no page. What is no number is left out, never an error: the file is somebody's own.

/** What is drawn to the right: the first of these that a line has as a number, else how many lines came before. */
const ALONG = ["step", "global_step", "iteration", "epoch"];

/** Most points of a curve: of more, the least and the most of each stretch are kept. */
export const POINTS = 2000;

/** Most curves of a file. */
const MOST = 64;

export interface Curve {
  name: string;
  /** What is to the right. */
  along: string;
  /** In the order of the file. */
  points: [x: number, y: number][];
  least: number;
  most: number;
  last: number;
  /** How many values there were. */
  count: number;
}

/** Whether a file of that name has curves. */
export function hasCurves(name: string): boolean {
  return /^metrics\.(jsonl|csv)$/i.test(name);
}

type Line = [name: string, value: number][];

function* jsonLines(text: string): Generator<Line> {
  for (const line of text.split("\n")) {
    let read: unknown;
    try {
      read = JSON.parse(line);
    } catch {
      // The last line may not be whole yet.
      continue;
    }
    if (typeof read !== "object" || read === null || Array.isArray(read)) continue;
    yield Object.entries(read).filter((pair): pair is [string, number] => typeof pair[1] === "number" && Number.isFinite(pair[1]));
  }
}

function* csvLines(text: string): Generator<Line> {
  const cells = (line: string): string[] => line.split(",").map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
  const [first = "", ...rest] = text.split(/\r?\n/);
  const names = cells(first);
  for (const line of rest) {
    if (!line.trim()) continue;
    yield cells(line).flatMap((cell, index): Line => {
      const name = names[index];
      const value = cell === "" ? NaN : Number(cell);
      return name && Number.isFinite(value) ? [[name, value]] : [];
    });
  }
}

/** The curves of a file, in the order in which their names come. `isWhole` says that its last line is. */
export function curves(name: string, text: string, isWhole: boolean): Curve[] {
  const whole = isWhole ? text : text.slice(0, text.lastIndexOf("\n") + 1);
  const lines = /\.csv$/i.test(name) ? csvLines(whole) : jsonLines(whole);
  const found = new Map<string, Curve>();
  let index = 0;
  for (const line of lines) {
    const values = new Map(line);
    const along = ALONG.find((one) => values.has(one));
    const x = along === undefined ? index : values.get(along)!;
    index += 1;
    for (const [metric, y] of line) {
      if (metric === along) continue;
      const before = found.get(metric);
      if (before) {
        before.points.push([x, y]);
        before.least = Math.min(before.least, y);
        before.most = Math.max(before.most, y);
        before.last = y;
        before.count += 1;
      } else if (found.size < MOST) {
        found.set(metric, { name: metric, along: along ?? "line", points: [[x, y]], least: y, most: y, last: y, count: 1 });
      }
    }
  }
  return [...found.values()].map((curve) => ({ ...curve, points: fewer(curve.points) }));
}

/** Of each stretch the least and the most, in their order. */
function fewer(points: Curve["points"]): Curve["points"] {
  if (points.length <= POINTS) return points;
  const stretch = Math.ceil(points.length / (POINTS / 2));
  const kept: Curve["points"] = [];
  for (let from = 0; from < points.length; from += stretch) {
    let low = from;
    let high = from;
    for (let at = from; at < Math.min(points.length, from + stretch); at++) {
      if (points[at]![1] < points[low]![1]) low = at;
      if (points[at]![1] > points[high]![1]) high = at;
    }
    for (const at of new Set([Math.min(low, high), Math.max(low, high)])) kept.push(points[at]!);
  }
  return kept;
}
