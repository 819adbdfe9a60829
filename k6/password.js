// Ask a running system for passwords at a constant rate and follow every command until its saga has ended; or let many
// users ask and list at once.
//
//   RATE=20 DURATION=30s BASE_URL=http://127.0.0.1:3000 k6 run k6/password.js      (or: make k6 RATE=20)
//   USERS=200 DURATION=30s k6 run k6/password.js                                   (or: make k6 USERS=200)
//   TOKEN=$(protools token issue --role operator --subject k6) k6 run k6/password.js  where tokens are asked for
//
// Each of USERS asks for a password, lists passwords, waits a second, and so on; nothing is followed. Who is refused for
// overload comes back when it was told to.
//
// Further variables: XML_SHARE=0.1  POLL_MS=20  SAGA_TIMEOUT_S=30  ACCEPTANCE_P95_MS=100  SAGA_P95_MS=1000
//
// acceptance_ms  POST sent -> 202 received
// saga_ms        202 received -> a poll that answers `completed`; too long by up to the pause before that poll
//
// The rate is open-loop: a slow system does not slow the load down. Any threshold that is crossed makes k6 exit 99.

import { check, sleep } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Rate, Trend } from "k6/metrics";
import { BASE_URL, RUN, TREND_STATS, WHO, env, number } from "./common.js";
import { accept, acceptance, arrivals, ask, eitherFace, follow, isReady, thresholds } from "./follow.js";

const USERS = number("USERS", 0);
const DURATION = env("DURATION", "30s");
const XML_SHARE = number("XML_SHARE", 0.1);

const listing = new Trend("listing_ms", true);
const secondTry = new Rate("second_try_accepted");

const SCENARIOS = {
  users: { executor: "constant-vus", vus: USERS, duration: DURATION, exec: "createAndList", gracefulStop: "60s" },
  passwords: arrivals(number("RATE", 20), DURATION),
};

const THRESHOLDS = {
  users: {
    checks: ["rate>0.99"],
    http_reqs: ["count>0"],
    second_try_accepted: ["rate>=0.9"],
  },
  passwords: thresholds(number("ACCEPTANCE_P95_MS", 100), number("SAGA_P95_MS", 1000)),
};

const CHOSEN = USERS ? "users" : "passwords";

export const options = {
  scenarios: { [CHOSEN]: SCENARIOS[CHOSEN] },
  thresholds: THRESHOLDS[CHOSEN],
  summaryTrendStats: TREND_STATS,
};

export function setup() {
  isReady();
  return { run: RUN() };
}

export default function (data) {
  const face = eitherFace(XML_SHARE);
  const location = accept(face, "/passwords", { username: `k6-${data.run}-${exec.scenario.iterationInTest}` });
  if (location) follow(face, location);
}

export function createAndList(data) {
  const face = eitherFace(XML_SHARE);
  create(face, `k6-${data.run}-${exec.scenario.iterationInTest}`);
  const params = { headers: { ...WHO, Accept: face.type }, tags: { name: "GET /passwords" } };
  const answer = http.get(`${BASE_URL}/passwords?limit=20`, params);
  if (check(answer, { "the list is shown": () => answer.status === 200 })) listing.add(answer.timings.duration);
  sleep(1);
}

function create(face, username) {
  let answer = ask(face, "/passwords", { username });
  if (answer.status === 503) {
    sleep(Number(answer.headers["Retry-After"]));
    answer = ask(face, "/passwords", { username });
    secondTry.add(answer.status === 202);
  }
  check(answer, { "accepted, or told when to come back": () => answer.status === 202 || answer.status === 503 });
  if (answer.status === 202) acceptance.add(answer.timings.duration);
}
