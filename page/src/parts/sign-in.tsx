// Signing in: with a client's name and secret, or with a token that one has already. Over the page where a token ended: what was typed stays.
import { useState } from "preact/hooks";
import { ended, enter, exchange, isKept, isSafe, leave, session } from "../session";
import { useTitle } from "./basics";
import { Dialog } from "./dialog";

export function SignIn({ over }: { over?: boolean }) {
  if (over) {
    return (
      <Dialog title="Sign in again">
        <p>{ended.value} What is on the page stays.</p>
        <Form />
        <p>
          <button type="button" class="plain" onClick={() => void leave()}>
            Leave instead
          </button>
        </p>
      </Dialog>
    );
  }
  return <Door />;
}

function Door() {
  useTitle("Sign in");
  return (
    <main class="door" tabIndex={-1}>
      <h1>
        <img src="/ui/icon.svg" alt="" width="40" height="40" />
        batchyard
      </h1>
      <Form />
      <p class="quiet">
        {isKept ? "You stay signed in until you sign out, the token ends, or the browser is closed." : "The token stays in this tab's memory."}{" "}
        <a href="/docs">The API and its documents</a>
      </p>
    </main>
  );
}

function Form() {
  const [how, setHow] = useState<"client" | "token">("client");
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string): string => String(form.get(name) ?? "").trim();
    setBusy(true);
    setError(null);
    try {
      await enter(how === "client" ? await exchange(text("client"), text("secret")) : text("token").replace(/^Bearer /i, ""));
    } catch (cause) {
      setError(cause instanceof TypeError ? "The server was not reached." : (cause as Error).message);
      setBusy(false);
    }
  };
  if (!isSafe()) {
    return (
      <p class="failure" role="alert">
        This address is plain http, where others can read a secret on its way. Use https, or open the page on the server's own machine.
      </p>
    );
  }
  return (
    <form class="sign-in" onSubmit={(event) => void submit(event)}>
      <fieldset class="choice">
        <legend class="hidden-text">How to sign in</legend>
        {(["client", "token"] as const).map((one) => (
          <label key={one}>
            <input type="radio" name="how" checked={how === one} onChange={() => setHow(one)} />
            {one === "client" ? "Client id and secret" : "Token"}
          </label>
        ))}
      </fieldset>
      {how === "client" ? (
        <>
          <label class="field">
            <span>Client id</span>
            <input name="client" autocomplete="username" required defaultValue={session.value?.name ?? ""} spellcheck={false} />
          </label>
          <label class="field">
            <span>Secret</span>
            <input name="secret" type="password" autocomplete="current-password" required />
          </label>
        </>
      ) : (
        <label class="field">
          <span>Bearer token</span>
          <textarea name="token" rows={4} required spellcheck={false} autocomplete="off" />
        </label>
      )}
      {error && (
        <p class="violation" role="alert">
          {error}
        </p>
      )}
      <button type="submit" class="main" disabled={isBusy}>
        {isBusy ? "Signing in …" : "Sign in"}
      </button>
    </form>
  );
}
