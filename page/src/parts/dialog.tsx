// Dialogs that ask before something is lost. Nothing is said to be done before the server said so.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refused } from "../api";

interface Question {
  title: string;
  body: ComponentChildren;
  /** The word on the button that does it. */
  verb: string;
  /** A name to type, where more is lost than what was asked about. */
  typed?: string;
  /** Carries it out. */
  act: () => Promise<void>;
}

const asked = signal<Question | null>(null);

/** Asks, and carries out what was confirmed; refusals are shown in the dialog. */
export function confirm(question: Question): void {
  asked.value = question;
}

export function Dialog({ title, close, children, wide }: { title: string; close?: () => void; children: ComponentChildren; wide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const from = document.activeElement as HTMLElement | null;
    dialog.current?.showModal();
    return () => from?.focus?.();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "wide" : ""}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        close?.();
      }}
    >
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

export function Asked() {
  const question = asked.value;
  return question ? <Asking key={question.title} {...question} /> : null;
}

function Asking({ title, body, verb, typed, act }: Question) {
  const [text, setText] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const close = (): void => {
    asked.value = null;
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act();
      close();
    } catch (cause) {
      setError(cause instanceof Refused ? `${cause.message} (${cause.code})` : String(cause));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={(event) => void submit(event)}>
        <div class="dialog-body">{body}</div>
        {typed && (
          <label class="field">
            <span>
              Type <code>{typed}</code> to go on
            </span>
            <input value={text} onInput={(event) => setText(event.currentTarget.value)} autocomplete="off" spellcheck={false} />
          </label>
        )}
        {error && (
          <p class="violation" role="alert">
            {error}
          </p>
        )}
        <div class="row end">
          <button type="button" onClick={close} autofocus>
            Cancel
          </button>
          <button type="submit" class="danger" disabled={isBusy || (typed !== undefined && text !== typed)}>
            {isBusy ? "Asking the server …" : verb}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
