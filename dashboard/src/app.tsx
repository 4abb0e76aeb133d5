// The frame of the dashboard: the session, the current page, and the shortcuts that work on every page.
import { useEffect, useState } from "preact/hooks";
import { locked, Problem, refreshSession, session } from "./api/client";
import { useShortcuts } from "./lib/shortcuts";
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
  const [isHelpOpen, setHelpOpen] = useState(false);
  const loadSession = (): void => {
    setProblem(null);
    refreshSession().catch((error: unknown) => setProblem(error as Problem));
  };
  useEffect(loadSession, []);
  useEffect(() => {
    document.title = `${TITLES[page.value]} · brain-events`;
  }, [page.value]);
  useShortcuts({ "?": () => setHelpOpen(true) });
  const body = () => {
    const CurrentPage = PAGES[page.value];
    if (locked.value) return <KeyForm />;
    if (session.value) return <CurrentPage />;
    return problem ? <Failed problem={problem} onRetry={loadSession} /> : <Loading />;
  };
  return (
    <>
      {!locked.value && <Header onHelp={() => setHelpOpen(true)} />}
      {body()}
      {isHelpOpen && <Help onClose={() => setHelpOpen(false)} />}
      <Toast />
    </>
  );
}
