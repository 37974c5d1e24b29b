// A file of any size, held in part: blocks that end where lines end, read by byte ranges. Knows no document and no page.

/** Bytes of one reading. */
export const BLOCK = 256 * 1024;
/** Most blocks that are held. */
const MOST = 8;

export interface Block {
  /** Where it begins and ends in the file. Unit: bytes. */
  from: number;
  to: number;
  text: string;
}

/** Reads `[from, to)` of the file, and the file's size. `null` where nothing is there yet. */
export type Reader = (from: number, to: number, signal: AbortSignal) => Promise<{ bytes: Uint8Array; size: number } | null>;

export function rangeReader(href: string): Reader {
  return async (from, to, signal) => {
    const response = await fetch(href, { headers: { range: `bytes=${from}-${to - 1}` }, signal });
    if (response.status === 416) return null;
    if (!response.ok) throw new Error(`The file was answered ${response.status}. List the files again for a new link.`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
    return { bytes, size: total ? Number(total) : from + bytes.length };
  };
}

const NEWLINE = 10;

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** The parts of a file that are held, always without a hole between them. */
export class Held {
  blocks: Block[] = [];
  size = 0;

  constructor(private readonly reader: Reader) {}

  get from(): number {
    return this.blocks[0]?.from ?? 0;
  }

  get to(): number {
    return this.blocks.at(-1)?.to ?? 0;
  }

  get isAtEnd(): boolean {
    return this.to >= this.size;
  }

  /** Holds the part around `at` alone; the end, where it is at or past it. */
  async jump(at: number, signal: AbortSignal): Promise<void> {
    const first = await this.reader(Math.max(0, Math.min(at, Math.max(0, this.size - 1))), Math.max(0, at) + 1, signal);
    this.size = first?.size ?? 0;
    this.blocks = [];
    if (this.size === 0) return;
    const from = Math.max(0, Math.min(at, this.size) - BLOCK / 2);
    const to = Math.min(this.size, from + BLOCK);
    const start = to === this.size ? Math.max(0, to - BLOCK) : from;
    const read = await this.reader(start, to, signal);
    if (!read) return;
    const block = cut(read.bytes, start, start > 0, to < read.size);
    this.size = read.size;
    this.blocks = [block];
  }

  /** Reads on after what is held. Answers whether there was anything. */
  async after(signal: AbortSignal): Promise<boolean> {
    const from = this.to;
    const read = await this.reader(from, from + BLOCK, signal);
    if (!read || read.bytes.length === 0) return false;
    this.size = read.size;
    const block = cut(read.bytes, from, false, from + read.bytes.length < read.size);
    const last = this.blocks.at(-1);
    // Small pieces of a file that grows are put together, so that a slow log is not made of a thousand blocks.
    if (last && last.to - last.from + block.to - block.from <= BLOCK) {
      this.blocks = [...this.blocks.slice(0, -1), { from: last.from, to: block.to, text: last.text + block.text }];
    } else {
      this.blocks = [...this.blocks, block].slice(-MOST);
    }
    return true;
  }

  /** Reads what is before what is held. Answers whether there was anything. */
  async before(signal: AbortSignal): Promise<boolean> {
    const to = this.from;
    if (to === 0) return false;
    const from = Math.max(0, to - BLOCK);
    const read = await this.reader(from, to, signal);
    if (!read) return false;
    this.blocks = [cut(read.bytes, from, from > 0, false), ...this.blocks].slice(0, MOST);
    return true;
  }

  /** The first place after `from` that has `text`, without regard to case; through the whole file, and over its end once. */
  async find(text: string, from: number, signal: AbortSignal, progress: (at: number) => void): Promise<number | null> {
    const wanted = text.toLowerCase();
    const step = 4 * 1024 * 1024;
    const overlap = new TextEncoder().encode(text).length;
    const search = async (begin: number, end: number): Promise<number | null> => {
      for (let at = begin; at < end; at += step - overlap) {
        progress(at);
        const read = await this.reader(at, Math.min(end, at + step), signal);
        if (!read) return null;
        // One character a byte, so that a place in the text is a place in the file.
        const latin = new TextDecoder("latin1").decode(read.bytes).toLowerCase();
        const needle = new TextDecoder("latin1").decode(new TextEncoder().encode(wanted));
        const found = latin.indexOf(needle);
        if (found >= 0) return at + found;
      }
      return null;
    };
    return (await search(from, this.size)) ?? (await search(0, Math.min(this.size, from + overlap)));
  }
}

/** A block without the broken line at its beginning, or at its end, or both. */
function cut(bytes: Uint8Array, from: number, atStart: boolean, atEnd: boolean): Block {
  let begin = 0;
  let end = bytes.length;
  if (atStart) {
    const line = bytes.indexOf(NEWLINE);
    // A line longer than a block is shown in pieces.
    if (line >= 0 && line + 1 < end) begin = line + 1;
  }
  if (atEnd) {
    const line = bytes.lastIndexOf(NEWLINE);
    if (line + 1 > begin) end = line + 1;
  }
  return { from: from + begin, to: from + end, text: decode(bytes.subarray(begin, end)) };
}

/** A bar that is redrawn by carriage returns is its last state, with how often it was drawn. */
export function settle(text: string): string {
  if (!text.includes("\r")) return text;
  return text.replace(/[^\n]*\r[^\n]*/g, (line) => {
    const states = line.replace(/\r+$/, "").split(/\r+/);
    const last = states.at(-1) ?? "";
    return states.length > 1 ? `${last} ×${states.length}` : last;
  });
}
