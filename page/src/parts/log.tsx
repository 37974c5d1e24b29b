// The log viewer: any part of a file of any size, following its end while the job runs. What is read never moves; silence is explained.
import { useSignal } from "@preact/signals";
import Anser from "anser";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, clock, now, short } from "../format";
import { type Block, Held, rangeReader, settle } from "./log-file";

interface Props {
  href: string;
  name: string;
  /** Whether the job may still write to it. */
  grows: boolean;
}

/** How often a file that grows is looked at; the server has no other way to tell. Unit: milliseconds. */
const LOOK = 1_000;

/** Nearness to an edge at which more is read. Unit: pixels. */
const NEAR = 600;

export function Log({ href, name, grows }: Props) {
  const held = useMemo(() => new Held(rangeReader(href)), [href.split("?")[0]]);
  const box = useRef<HTMLDivElement>(null);
  const blocks = useSignal<Block[]>([]);
  const size = useSignal(0);
  const state = useSignal<{ error: string | null; loading: boolean }>({ error: null, loading: true });
  const follows = useSignal(true);
  const unseen = useSignal(0);
  const lastOutput = useSignal(0);
  const place = useSignal(0);
  const [wraps, setWraps] = useState(true);
  const [fills, setFills] = useState(false);
  const [found, setFound] = useState<string | null>(null);
  const work = useRef<{ abort: AbortController; busy: boolean }>({ abort: new AbortController(), busy: false });
  const keep = useRef<{ height: number; top: number } | null>(null);
  const grow = useRef(grows);
  grow.current = grows;

  const show = (): void => {
    blocks.value = held.blocks;
    size.value = held.size;
  };
  const run = async (task: (signal: AbortSignal) => Promise<void>): Promise<void> => {
    if (work.current.busy) return;
    work.current.busy = true;
    const { signal } = work.current.abort;
    try {
      await task(signal);
      if (!signal.aborted) state.value = { error: null, loading: false };
    } catch (cause) {
      if (!signal.aborted) state.value = { error: (cause as Error).message, loading: false };
    } finally {
      work.current.busy = false;
    }
  };
  const toEnd = (): Promise<void> =>
    run(async (signal) => {
      await held.jump(Number.MAX_SAFE_INTEGER, signal);
      follows.value = true;
      unseen.value = 0;
      show();
    });
  const toPlace = (at: number): Promise<void> =>
    run(async (signal) => {
      follows.value = false;
      await held.jump(at, signal);
      show();
      requestAnimationFrame(() => {
        const block = held.blocks[0];
        const part = block ? (at - block.from) / Math.max(1, block.to - block.from) : 0;
        if (box.current) box.current.scrollTop = Math.max(0, box.current.scrollHeight * part - box.current.clientHeight / 2);
      });
    });

  useEffect(() => {
    work.current = { abort: new AbortController(), busy: false };
    void toEnd();
    const timer = setInterval(() => {
      if (document.hidden || (!grow.current && held.isAtEnd && held.size > 0)) return;
      void run(async (signal) => {
        if (held.blocks.length === 0) {
          await held.jump(Number.MAX_SAFE_INTEGER, signal);
          if (held.blocks.length > 0) lastOutput.value = Date.now();
          show();
        } else if (follows.peek() && held.isAtEnd) {
          while (await held.after(signal)) lastOutput.value = Date.now();
          show();
        } else if (held.isAtEnd) {
          // Not following: how much there is more is told, and what is read does not move.
          const before = held.size;
          const read = await rangeReader(href)(before, before + 1, signal);
          if (read && read.size > before) {
            unseen.value = read.size - held.to;
            lastOutput.value = Date.now();
            size.value = read.size;
          }
        }
      });
    }, LOOK);
    return () => {
      clearInterval(timer);
      work.current.abort.abort();
    };
  }, [held]);

  useEffect(() => {
    // What was written between the last look and the end of the job.
    if (grows || held.blocks.length === 0) return;
    void run(async (signal) => {
      while (held.isAtEnd && (await held.after(signal))) lastOutput.value = Date.now();
      show();
    });
  }, [grows]);

  useLayoutEffect(() => {
    const view = box.current;
    if (!view) return;
    if (follows.peek()) view.scrollTop = view.scrollHeight;
    else if (keep.current) view.scrollTop = keep.current.top + (view.scrollHeight - keep.current.height);
    keep.current = null;
  }, [blocks.value]);

  const scrolled = (): void => {
    const view = box.current;
    if (!view) return;
    const isAtBottom = view.scrollHeight - view.scrollTop - view.clientHeight < 4;
    if (isAtBottom && held.isAtEnd && !follows.peek() && unseen.peek() === 0) follows.value = true;
    else if (!isAtBottom && follows.peek()) follows.value = false;
    const part = view.scrollHeight > 0 ? (view.scrollTop + view.clientHeight) / view.scrollHeight : 1;
    place.value = held.from + (held.to - held.from) * part;
    if (view.scrollTop < NEAR && held.from > 0) {
      void run(async (signal) => {
        const before = { height: view.scrollHeight, top: view.scrollTop };
        if (!(await held.before(signal))) return;
        keep.current = { height: before.height, top: view.scrollTop };
        show();
      });
    } else if (view.scrollHeight - view.scrollTop - view.clientHeight < NEAR && !held.isAtEnd) {
      void run(async (signal) => {
        const first = held.from;
        const top = view.scrollTop;
        const height = view.scrollHeight;
        await held.after(signal);
        // Where blocks were dropped above, what is read stays where it is.
        if (held.from !== first) keep.current = { height, top };
        show();
      });
    }
  };

  const find = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget as HTMLFormElement).get("find") ?? "");
    if (!text) return;
    setFound("looking …");
    const from = Math.max(0, Math.floor(place.peek()) + 1);
    let hit: number | null = null;
    await run(async (signal) => {
      hit = await held.find(text, from, signal, (at) => setFound(`looking at ${bytes(at)} …`));
    });
    if (hit === null) {
      setFound("not found");
      return;
    }
    const at: number = hit;
    await toPlace(at);
    setFound(`at ${bytes(at)}`);
    requestAnimationFrame(() => mark(box.current, text));
  };

  const percent = size.value > 0 ? Math.min(100, Math.round((follows.value ? 1 : place.value / size.value) * 100)) : 100;
  const { error, loading } = state.value;
  return (
    <div class={`log${fills ? " fills" : ""}`}>
      <div class="log-bar">
        <form onSubmit={(event) => void find(event)} role="search" aria-label={`Find in ${name}`}>
          <label>
            <span class="hidden-text">Find in the whole file</span>
            <input type="search" name="find" placeholder="find in the whole file" spellcheck={false} />
          </label>
        </form>
        <span class="quiet" role="status">
          {found}
        </span>
        <span class="grow" />
        <label class="slider">
          <span class="hidden-text">Place in the file</span>
          <input
            type="range"
            min={0}
            max={100}
            value={percent}
            onChange={(event) => {
              const value = Number(event.currentTarget.value);
              void (value >= 100 ? toEnd() : toPlace(Math.floor((size.peek() * value) / 100)));
            }}
          />
        </label>
        <span class="n quiet">
          {percent} % of {bytes(size.value)}
        </span>
        <button type="button" aria-pressed={follows.value} data-key="f" onClick={() => (follows.value ? (follows.value = false) : void toEnd())}>
          {grows ? "Follow" : "End"}
        </button>
        <label class="check">
          <input type="checkbox" checked={wraps} onChange={(event) => setWraps(event.currentTarget.checked)} /> wrap
        </label>
        <button type="button" aria-pressed={fills} data-key="z" onClick={() => setFills(!fills)}>
          Fill
        </button>
        <a class="button" href={href} download={name}>
          Download
        </a>
      </div>
      {error && (
        <p class="violation" role="alert">
          {error}
        </p>
      )}
      <div
        class={`log-text${wraps ? " wraps" : ""}`}
        ref={box}
        onScroll={scrolled}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={`${name}, ${bytes(size.value)}`}
      >
        {held.from > 0 && <div class="log-edge">… {bytes(held.from)} before this</div>}
        {blocks.value.map((block) => (
          <Piece key={`${block.from}`} text={block.text} />
        ))}
        {blocks.value.length === 0 && !loading && <div class="log-edge">{grows ? "Nothing was written yet." : "Nothing was written to it."}</div>}
        {unseen.value > 0 && (
          <button type="button" class="unseen" onClick={() => void toEnd()}>
            ↓ {bytes(unseen.value)} more
          </button>
        )}
      </div>
      <Foot grows={grows} lastOutput={lastOutput.value} size={size.value} />
    </div>
  );
}

/** Why nothing more comes. */
function Foot({ grows, lastOutput, size }: { grows: boolean; lastOutput: number; size: number }) {
  let text: string;
  if (!grows) text = `End of the file: ${bytes(size)} complete.`;
  else if (lastOutput) text = `Last output ${short(now.value - lastOutput)} ago, at ${clock(lastOutput)}. The job goes on.`;
  else text = "No output since this was opened. The job goes on.";
  return <p class="log-foot quiet">{text}</p>;
}

/** Text with its colours; what else a terminal would do is left out. */
function Piece({ text }: { text: string }) {
  const parts = useMemo(() => {
    const settled = settle(text);
    if (!settled.includes("\u001b")) return settled;
    return Anser.ansiToJson(settled, { use_classes: true, remove_empty: true, json: true }).map((part, index) => {
      const names = [part.fg && `${part.fg} fg`, part.bg && `${part.bg}-bg`, ...(part.decorations ?? [])].filter(Boolean);
      return names.length > 0 ? (
        <span key={index} class={names.join(" ")}>
          {part.content}
        </span>
      ) : (
        part.content
      );
    });
  }, [text]);
  return <pre>{parts}</pre>;
}

/** Selects the first place in sight that has the text. */
function mark(view: HTMLElement | null, text: string): void {
  if (!view) return;
  const walker = document.createTreeWalker(view, NodeFilter.SHOW_TEXT);
  const wanted = text.toLowerCase();
  let best: Range | null = null;
  let distance = Infinity;
  const middle = view.getBoundingClientRect().top + view.clientHeight / 2;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const content = node.nodeValue?.toLowerCase() ?? "";
    for (let at = content.indexOf(wanted); at >= 0; at = content.indexOf(wanted, at + 1)) {
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      const away = Math.abs(range.getBoundingClientRect().top - middle);
      if (away < distance) {
        distance = away;
        best = range;
      }
    }
  }
  if (!best) return;
  const selection = getSelection();
  selection?.removeAllRanges();
  selection?.addRange(best);
  view.scrollTop += best.getBoundingClientRect().top - middle;
}
