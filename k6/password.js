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
import { Counter, Rate, Trend } from "k6/metrics";
import { BASE_URL, RUN, TREND_STATS, WHO, env, number } from "./common.js";

const RATE = number("RATE", 20);
const USERS = number("USERS", 0);
const DURATION = env("DURATION", "30s");
const XML_SHARE = number("XML_SHARE", 0.1);
const SAGA_TIMEOUT_S = number("SAGA_TIMEOUT_S", 30);
const ACCEPTANCE_P95_MS = number("ACCEPTANCE_P95_MS", 100);
const SAGA_P95_MS = number("SAGA_P95_MS", 1000);
const FIRST_PAUSE_S = number("POLL_MS", 20) / 1000; // the pause grows by half each time: polls are load too
const LONGEST_PAUSE_S = 0.5;

const acceptance = new Trend("acceptance_ms", true);
const saga = new Trend("saga_ms", true);
const accepted = new Counter("sagas_accepted");
const completed = new Counter("sagas_completed");
const refused = new Counter("sagas_refused");
const listing = new Trend("listing_ms", true);
const secondTry = new Rate("second_try_accepted");
const owed = new Counter("sagas_owed"); // accepted minus completed: an accepted command that was not seen to complete

const SCENARIOS = {
  users: { executor: "constant-vus", vus: USERS, duration: DURATION, exec: "createAndList", gracefulStop: "60s" },
  passwords: {
    executor: "constant-arrival-rate",
    rate: RATE,
    timeUnit: "1s",
    duration: DURATION,
    preAllocatedVUs: Math.ceil(RATE * 5),
    maxVUs: Math.ceil(RATE * (SAGA_TIMEOUT_S + 5)),
    gracefulStop: `${SAGA_TIMEOUT_S + 10}s`,
  },
};

const THRESHOLDS = {
  users: {
    checks: ["rate>0.99"],
    http_reqs: ["count>0"],
    second_try_accepted: ["rate>=0.9"],
  },
  passwords: {
    http_req_failed: ["rate<0.01"],
    checks: ["rate>0.99"],
    acceptance_ms: [`p(95)<${ACCEPTANCE_P95_MS}`],
    saga_ms: [`p(95)<${SAGA_P95_MS}`],
    sagas_completed: ["count>0"],
    sagas_refused: ["count==0"],
    sagas_owed: ["count==0"],
    dropped_iterations: ["count==0"], // else the load was not the one asked for
  },
};

const CHOSEN = USERS ? "users" : "passwords";

export const options = {
  scenarios: { [CHOSEN]: SCENARIOS[CHOSEN] },
  thresholds: THRESHOLDS[CHOSEN],
  summaryTrendStats: TREND_STATS,
};

const FACES = {
  json: {
    type: "application/json",
    body: (username) => JSON.stringify({ username }),
    status: (text) => JSON.parse(text).status,
  },
  xml: {
    type: "application/xml",
    body: (username) => `<password><username>${username}</username></password>`,
    status: (text) => (/<status>([a-z]+)<\/status>/.exec(text) || [])[1],
  },
};

export function setup() {
  const answer = http.get(`${BASE_URL}/readyz`);
  if (answer.status !== 200) {
    exec.test.abort(`${BASE_URL}/readyz answers ${answer.status || answer.error}: start the system first (make run)`);
  }
  return { run: RUN() };
}

export default function (data) {
  const face = Math.random() < XML_SHARE ? FACES.xml : FACES.json;
  const location = accept(face, `k6-${data.run}-${exec.scenario.iterationInTest}`);
  if (location) follow(face, location);
}

export function createAndList(data) {
  const face = Math.random() < XML_SHARE ? FACES.xml : FACES.json;
  create(face, `k6-${data.run}-${exec.scenario.iterationInTest}`);
  const params = { headers: { ...WHO, Accept: face.type }, tags: { name: "GET /passwords" } };
  const answer = http.get(`${BASE_URL}/passwords?limit=20`, params);
  if (check(answer, { "the list is shown": () => answer.status === 200 })) listing.add(answer.timings.duration);
  sleep(1);
}

function create(face, username) {
  let answer = ask(face, username);
  if (answer.status === 503) {
    sleep(Number(answer.headers["Retry-After"]));
    answer = ask(face, username);
    secondTry.add(answer.status === 202);
  }
  check(answer, { "accepted, or told when to come back": () => answer.status === 202 || answer.status === 503 });
  if (answer.status === 202) acceptance.add(answer.timings.duration);
}

function ask(face, username) {
  const headers = { ...WHO, "Content-Type": face.type, Accept: face.type };
  return http.post(`${BASE_URL}/passwords`, face.body(username), { headers, tags: { name: "POST /passwords" } });
}

function accept(face, username) {
  const answer = ask(face, username);
  const location = answer.headers["Location"];
  const good = check(answer, { "accepted with 202 and a Location": () => answer.status === 202 && Boolean(location) });
  if (!good) return undefined;
  acceptance.add(answer.timings.duration);
  accepted.add(1);
  owed.add(1);
  return location;
}

function follow(face, location) {
  const began = Date.now();
  let pause = FIRST_PAUSE_S;
  while (Date.now() - began < SAGA_TIMEOUT_S * 1000) {
    sleep(pause);
    const status = look(face, location);
    if (ended(status, Date.now() - began)) return;
    pause = Math.min(pause * 1.5, LONGEST_PAUSE_S);
  }
  if (exec.vu.idInTest <= 3) console.error(`${location} did not end within ${SAGA_TIMEOUT_S} s`); // some, to look at
}

function look(face, location) {
  const params = { headers: { ...WHO, Accept: face.type }, tags: { name: "GET /commands/{id}" } };
  const answer = http.get(location.startsWith("/") ? BASE_URL + location : location, params);
  const good = check(answer, { "the command is shown, never 404": () => answer.status === 200 });
  return good ? face.status(answer.body) : undefined;
}

function ended(status, elapsedMs) {
  if (status === "completed") {
    saga.add(elapsedMs);
    completed.add(1);
    owed.add(-1);
  } else if (status === "refused") {
    refused.add(1);
  }
  return status === "completed" || status === "refused" || status === "suspended";
}
