// The API's types under the names that the dashboard uses. `schema.ts` is generated from the OpenAPI description.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Severity = "info" | "warning" | "error" | "critical";
export type Event = Schemas["Event"];
export type Facet = Schemas["Facet"];
export type Facets = Schemas["Facets"];
export type Histogram = Schemas["Histogram"];
/** The position of a search match: a JSON pointer into the event, and code point offsets in that text. */
export type Match = Schemas["Match"];
export type Readiness = Schemas["Readiness"];
export type Session = Schemas["Session"];
export type Stats = Schemas["Stats"];

/** From the lowest to the highest. */
export const SEVERITIES: readonly Severity[] = ["info", "warning", "error", "critical"];
