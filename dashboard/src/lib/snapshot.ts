// The collector's readiness and metrics, as of the last check.
import { useEffect, useState } from "preact/hooks";
import { Problem, request, UNREACHABLE } from "../api/client";
import type { Readiness } from "../api/types";
import { parse, type Samples } from "./prometheus";
import { asProblem } from "./response";

export interface Snapshot {
  readiness: Readiness | null;
  /** The metrics of the last check that succeeded. */
  samples: Samples | null;
  problem: Problem | null;
  /** The time of the check. */
  at: string;
}

/** Check now, and each time `revision` changes. */
export function useSnapshot(revision: unknown): Snapshot | null {
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null);
  useEffect(() => {
    let isCancelled = false;
    void takeSnapshot().then((taken) => {
      if (!isCancelled) setSnapshot((before) => ({ ...taken, samples: taken.samples ?? before?.samples ?? null }));
    });
    return () => {
      isCancelled = true;
    };
  }, [revision]);
  return snapshot;
}

async function takeSnapshot(): Promise<Snapshot> {
  const at = new Date().toISOString();
  try {
    const readiness = await getReadiness();
    const samples = parse(await (await request("metrics")).text());
    return { readiness, samples, problem: null, at };
  } catch (error) {
    return { readiness: null, samples: null, problem: asProblem(error), at };
  }
}

/** The body has the same form whether the collector is ready (200) or not (503). */
async function getReadiness(): Promise<Readiness> {
  try {
    return (await (await fetch("readyz")).json()) as Readiness;
  } catch {
    throw new Problem(0, UNREACHABLE);
  }
}
