// Make products in a running system at a constant rate, while users list them.
//
//   RATE=20 USERS=20 DURATION=30s BASE_URL=http://127.0.0.1:3000 k6 run k6/productos.js      (or: make k6 SCRIPT=productos)
//   TOKEN=$(protools token issue --role operator --subject k6) k6 run k6/productos.js        where tokens are asked for
//
// Further variables: XML_SHARE=0.5  POLL_MS=20  SAGA_TIMEOUT_S=30  ACCEPTANCE_P95_MS=100  SAGA_P95_MS=1000  LISTING_P95_MS=200
//
// acceptance_ms  POST sent -> 202 received
// saga_ms        202 received -> a poll that answers `completed`
// listing_ms     GET sent -> a page received
//
// The rate is open-loop: a slow system does not slow the load down. Any threshold that is crossed makes k6 exit 99.

import { check, sleep } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Trend } from "k6/metrics";
import { BASE_URL, RUN, TREND_STATS, WHO, env, number } from "./common.js";
import { accept, arrivals, eitherFace, follow, isReady, thresholds } from "./follow.js";

const DURATION = env("DURATION", "30s");
const XML_SHARE = number("XML_SHARE", 0.5);

const listing = new Trend("listing_ms", true);

export const options = {
  scenarios: {
    products: arrivals(number("RATE", 20), DURATION),
    listing: { executor: "constant-vus", vus: number("USERS", 20), duration: DURATION, exec: "list" },
  },
  thresholds: {
    ...thresholds(number("ACCEPTANCE_P95_MS", 100), number("SAGA_P95_MS", 1000)),
    listing_ms: [`p(95)<${number("LISTING_P95_MS", 200)}`],
  },
  summaryTrendStats: TREND_STATS,
};

export function setup() {
  isReady();
  return { run: RUN() };
}

export default function (data) {
  const face = eitherFace(XML_SHARE);
  const name = `k6-${data.run}-${exec.scenario.iterationInTest}`;
  const location = accept(face, "/productos", { nombre: name, stock: 10 });
  if (location) follow(face, location);
}

export function list() {
  const params = { headers: { ...WHO, Accept: eitherFace(XML_SHARE).type }, tags: { name: "GET /productos" } };
  const answer = http.get(`${BASE_URL}/productos?limit=20`, params);
  if (check(answer, { "the list is shown": () => answer.status === 200 })) listing.add(answer.timings.duration);
  sleep(1);
}
