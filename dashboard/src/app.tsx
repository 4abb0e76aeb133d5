// The frame of the page: who may see it, where one is, and the keys that work everywhere.
import { useEffect, useState } from "preact/hooks";
import { locked, Problem, refreshSession, session } from "./api/client";
import { useKeys } from "./lib/keys";
import { page } from "./lib/view";
import { EventsPage } from "./pages/events";
import { HealthPage } from "./pages/health";
import { StatisticsPage } from "./pages/statistics";
import { Header } from "./parts/header";
import { Help } from "./parts/help";
import { KeyForm } from "./parts/keyform";
import { Failed, Loading } from "./parts/status";
import { Toast } from "./parts/toast";

const PAGES = { events: EventsPage, statistics: StatisticsPage, health: HealthPage };
const TITLES = { events: "Events", statistics: "Statistics", health: "Health" };

export function App() {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isHelping, setHelping] = useState(false);
  const begin = (): void => {
    setProblem(null);
    refreshSession().catch((error: unknown) => setProblem(error as Problem));
  };
  useEffect(begin, []);
  useEffect(() => {
    document.title = `${TITLES[page.value]} · brain-events`;
  }, [page.value]);
  useKeys({ "?": () => setHelping(true) });
  const body = () => {
    const Current = PAGES[page.value];
    if (locked.value) return <KeyForm />;
    if (session.value) return <Current />;
    return problem ? <Failed problem={problem} onRetry={begin} /> : <Loading />;
  };
  return (
    <>
      {!locked.value && <Header onHelp={() => setHelping(true)} />}
      {body()}
      {isHelping && <Help onClose={() => setHelping(false)} />}
      <Toast />
    </>
  );
}
