// The collector's readiness and metrics, as of the last look.
import { useEffect, useState } from "preact/hooks";
import { Problem, request } from "../api/client";
import type { Readiness } from "../api/types";
import { asProblem } from "./answer";
import { parse, type Samples } from "./prometheus";

export interface Look {
  readiness: Readiness | null;
  samples: Samples | null;
  problem: Problem | null;
  at: string;
}

/** Look now, and each time `again` is another. What was seen before stays beside a problem. */
export function useLook(again: unknown): Look | null {
  const [look, setLook] = useState<Look | null>(null);
  useEffect(() => {
    let isOver = false;
    void take().then((taken) => {
      if (!isOver) setLook((before) => ({ ...taken, samples: taken.samples ?? before?.samples ?? null }));
    });
    return () => {
      isOver = true;
    };
  }, [again]);
  return look;
}

async function take(): Promise<Look> {
  const at = new Date().toISOString();
  try {
    const readiness = await ready();
    const samples = parse(await (await request("metrics")).text());
    return { readiness, samples, problem: null, at };
  } catch (error) {
    return { readiness: null, samples: null, problem: asProblem(error), at };
  }
}

/** Ready or not, the answer is of the same kind; only the status differs. */
async function ready(): Promise<Readiness> {
  try {
    return (await (await fetch("readyz")).json()) as Readiness;
  } catch {
    throw new Problem(0, "The collector does not answer.");
  }
}
