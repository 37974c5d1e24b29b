// The page: sign-in, the frame around every view, and which address shows which view.
import "./style.css";
import { render } from "preact";
import { LocationProvider, Route, Router, useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import { Asked } from "./parts/dialog";
import { Spoken, Told } from "./parts/basics";
import { Frame, Keys } from "./parts/frame";
import { SignIn } from "./parts/sign-in";
import { ended, resume, session } from "./session";
import { Activity } from "./views/activity";
import { ClusterPage, Clusters } from "./views/cluster";
import { Create } from "./views/create";
import { FileServerPage, FileServers } from "./views/file-server";
import { Home } from "./views/home";
import { JobPage } from "./views/job";
import { Jobs } from "./views/jobs";
import { Usage } from "./views/usage";
import { WorkspacePage } from "./views/workspace";

function Nowhere() {
  const { path } = useLocation();
  return (
    <section>
      <h1>There is nothing at this address</h1>
      <p>
        <code>{path}</code> names no view of this page. <a href="/ui/">Begin at the workspaces.</a>
      </p>
    </section>
  );
}

function Moved() {
  const { path } = useLocation();
  // The first thing that is read aloud after a move is the new view, not the old link.
  useEffect(() => {
    if (document.activeElement === document.body || document.activeElement?.closest("main")) {
      document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
    }
    window.scrollTo(0, 0);
  }, [path]);
  return null;
}

function Page() {
  if (!session.value) return <SignIn />;
  return (
    <>
      <Frame>
        <Router>
          <Route path="/ui" component={Home} />
          <Route path="/ui/g/:g/w/:w" component={WorkspacePage} />
          <Route path="/ui/g/:g/w/:w/jobs" component={Jobs} />
          <Route path="/ui/g/:g/w/:w/e/:e" component={Jobs} />
          <Route path="/ui/g/:g/w/:w/e/:e/j/:j" component={JobPage} />
          <Route path="/ui/g/:g/w/:w/clusters" component={Clusters} />
          <Route path="/ui/g/:g/w/:w/c/:c" component={ClusterPage} />
          <Route path="/ui/g/:g/w/:w/fs" component={FileServers} />
          <Route path="/ui/g/:g/w/:w/fs/:f" component={FileServerPage} />
          <Route path="/ui/new/:kind" component={Create} />
          <Route path="/ui/activity" component={Activity} />
          <Route path="/ui/usage" component={Usage} />
          <Route default component={Nowhere} />
        </Router>
      </Frame>
      <Moved />
      {ended.value && <SignIn over />}
    </>
  );
}

function App() {
  return (
    <LocationProvider scope="/ui">
      <Page />
      <Keys />
      <Asked />
      <Told />
      <Spoken />
    </LocationProvider>
  );
}

const home = document.getElementById("page");
if (home) void resume().then(() => render(<App />, home));
