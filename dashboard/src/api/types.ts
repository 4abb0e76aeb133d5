// The API's types by the names that the page uses; `schema.ts` is made from the collector's own description.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Severity = "info" | "warning" | "error" | "critical";
export type Event = Schemas["Event"];
export type Facet = Schemas["Facet"];
export type Facets = Schemas["Facets"];
export type Histogram = Schemas["Histogram"];
/** Where a search found a word: a JSON pointer into the event, and code points of the text there. */
export type Match = Schemas["Match"];
export type Readiness = Schemas["Readiness"];
export type Session = Schemas["Session"];
export type Stats = Schemas["Stats"];

/** From the lowest to the highest. */
export const SEVERITIES: readonly Severity[] = ["info", "warning", "error", "critical"];
