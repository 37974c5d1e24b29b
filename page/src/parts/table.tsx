// A table of any length: only the rows in sight are in the document. Rows have one height, so that the scroll bar tells the truth.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  /** `n` for numbers; `wide` takes what is left; `low` is left out where there is little room. */
  as?: string;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string;
  /** Rows that there are in all, where they are not all here yet. */
  total?: number;
  /** Called where rows come into sight that are not here. */
  more?: () => void;
  selected?: Set<string>;
  select?: (id: string, isSelected: boolean) => void;
  selectAll?: (isSelected: boolean) => void;
  /** Nothing in its rows takes the focus: the table takes it itself, so that keys scroll it. */
  isPlain?: boolean;
  /** What a row is called where it is selected. */
  named?: (row: T) => string;
}

const HEIGHT = 32;
/** Tables up to this length are in the document as a whole. */
const SHORT = 60;
const MARGIN = 12;

export function Table<T>({ label, columns, rows, id, total, more, selected, select, selectAll, isPlain, named }: Props<T>) {
  const body = useRef<HTMLTableSectionElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const range = useSignal({ from: 0, to: SHORT });
  const all = Math.max(total ?? 0, rows.length);
  const isLong = all > SHORT;
  const look = (): void => {
    const table = body.current;
    if (!table || !isLong) return;
    const top = table.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(-top / HEIGHT) - MARGIN);
    const to = Math.min(all, Math.ceil((window.innerHeight - top) / HEIGHT) + MARGIN);
    if (from !== range.peek().from || to !== range.peek().to) range.value = { from, to };
    if (more && to > rows.length && rows.length < all) more();
  };
  useEffect(() => {
    let frame = 0;
    const scrolled = (): void => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(look);
    };
    addEventListener("scroll", scrolled, { passive: true });
    addEventListener("resize", scrolled);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", scrolled);
      removeEventListener("resize", scrolled);
    };
  });
  useLayoutEffect(look, [rows.length, all]);
  const from = isLong ? Math.min(range.value.from, all) : 0;
  const to = isLong ? Math.max(from, Math.min(range.value.to, all)) : rows.length;
  const width = columns.length + (select ? 1 : 0);
  const shown = [];
  for (let index = from; index < to; index++) {
    const row = rows[index];
    shown.push(
      row === undefined ? (
        <tr key={`wait ${index}`} class="waiting" aria-rowindex={index + 2}>
          <td colSpan={width}>…</td>
        </tr>
      ) : (
        <tr key={id(row)} aria-rowindex={isLong ? index + 2 : undefined} class={selected?.has(id(row)) ? "chosen" : ""}>
          {select && (
            <td class="pick">
              <input
                type="checkbox"
                aria-label={`Select ${named?.(row) ?? id(row)}`}
                checked={selected?.has(id(row)) ?? false}
                onChange={(event) => select(id(row), event.currentTarget.checked)}
              />
            </td>
          )}
          {columns.map((column, position) =>
            position === 0 ? (
              <th key={column.name} scope="row" class={column.as}>
                {column.cell(row)}
              </th>
            ) : (
              <td key={column.name} class={column.as} data-name={column.name}>
                {column.cell(row)}
              </td>
            ),
          )}
        </tr>
      ),
    );
  }
  const everyone = selected !== undefined && rows.length > 0 && selected.size === rows.length;
  return (
    <div class="table-box" ref={box} {...(isPlain && { tabIndex: 0, role: "region", "aria-label": `${label}, as a table` })}>
      <table aria-label={label} aria-rowcount={isLong ? all + 1 : undefined}>
        <thead>
          <tr>
            {select && (
              <th class="pick" scope="col">
                <input
                  type="checkbox"
                  aria-label="Select all that are loaded"
                  checked={everyone}
                  onChange={(event) => selectAll?.(event.currentTarget.checked)}
                />
              </th>
            )}
            {columns.map((column) => (
              <th key={column.name} scope="col" class={column.as}>
                {column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody ref={body}>
          {from > 0 && <Space rows={from} width={width} />}
          {shown}
          {to < all && isLong && <Space rows={all - to} width={width} />}
        </tbody>
      </table>
    </div>
  );
}

function Space({ rows, width }: { rows: number; width: number }) {
  return (
    <tr class="space" aria-hidden="true" style={{ height: `${rows * HEIGHT}px` }}>
      <td colSpan={width} />
    </tr>
  );
}
