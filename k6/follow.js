// Ask for something and follow the command until its saga has ended, in both languages: what every scenario of a kind shares.

import { check, sleep } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";
import { BASE_URL, WHO, number } from "./common.js";

const SAGA_TIMEOUT_S = number("SAGA_TIMEOUT_S", 30);
const FIRST_PAUSE_S = number("POLL_MS", 20) / 1000; // the pause grows by half each time: polls are load too
const LONGEST_PAUSE_S = 0.5;
const SELDOM_S = 0.2;
const AT_ONCE = 20;

export const acceptance = new Trend("acceptance_ms", true);
const saga = new Trend("saga_ms", true);
const accepted = new Counter("sagas_accepted");
const completed = new Counter("sagas_completed");
const refused = new Counter("sagas_refused");
const owed = new Counter("sagas_owed"); // accepted minus completed: an accepted command that was not seen to complete

const asXml = (value, name) => {
  if (Array.isArray(value)) return `<${name}>${value.map((one) => asXml(one, name.slice(0, -1))).join("")}</${name}>`;
  if (typeof value === "object") {
    return `<${name}>${Object.entries(value).map(([key, one]) => asXml(one, key)).join("")}</${name}>`;
  }
  return `<${name}>${value}</${name}>`;
};

export const FACES = {
  json: { type: "application/json", body: (said) => JSON.stringify(said), status: (text) => JSON.parse(text).status },
  xml: {
    type: "application/xml",
    body: (said) => asXml(said, "wish"),
    status: (text) => (/<status>([a-z]+)<\/status>/.exec(text) || [])[1],
  },
};

export const eitherFace = (share) => (Math.random() < share ? FACES.xml : FACES.json);

// An open-loop scenario: a slow system does not slow the load down.
export const arrivals = (rate, duration) => ({
  executor: "constant-arrival-rate",
  rate,
  timeUnit: "1s",
  duration,
  preAllocatedVUs: Math.ceil(rate * 5),
  maxVUs: Math.ceil(rate * (SAGA_TIMEOUT_S + 5)),
  gracefulStop: `${SAGA_TIMEOUT_S + 10}s`,
});

export const thresholds = (acceptanceMs, sagaMs) => ({
  http_req_failed: ["rate<0.01"],
  checks: ["rate>0.99"],
  acceptance_ms: [`p(95)<${acceptanceMs}`],
  saga_ms: [`p(95)<${sagaMs}`],
  sagas_completed: ["count>0"],
  sagas_refused: ["count==0"],
  sagas_owed: ["count==0"],
  dropped_iterations: ["count==0"], // else the load was not the one asked for
});

export function isReady() {
  const answer = http.get(`${BASE_URL}/readyz`);
  if (answer.status !== 200) {
    exec.test.abort(`${BASE_URL}/readyz answers ${answer.status || answer.error}: start the system first (make run)`);
  }
}

export function ask(face, path, said, name = `POST ${path}`) {
  const headers = { ...WHO, "Content-Type": face.type, Accept: face.type };
  return http.post(BASE_URL + path, face.body(said), { headers, tags: { name } });
}

// Make something that others need, and return the id that it bears.
export function made(path, said) {
  const headers = { ...WHO, "Content-Type": "application/json", Prefer: "wait=30" };
  const answer = http.post(BASE_URL + path, JSON.stringify(said), { headers, tags: { name: `POST ${path}` } });
  if (answer.status !== 201) exec.test.abort(`POST ${path} answers ${answer.status}: ${answer.body || answer.error}`);
  return answer.json("id");
}

// Make many of them, so many at once; `said` gives each by its number.
export function madeAll(path, count, said) {
  const headers = { ...WHO, "Content-Type": "application/json", Prefer: "wait=30" };
  const one = (n) => ["POST", BASE_URL + path, JSON.stringify(said(n)), { headers, tags: { name: `POST ${path}` } }];
  for (let from = 0; from < count; from += AT_ONCE) {
    const numbers = [...Array(Math.min(AT_ONCE, count - from)).keys()].map((n) => from + n);
    const wrong = http.batch(numbers.map(one)).find((answer) => answer.status !== 201);
    if (wrong) exec.test.abort(`POST ${path} answers ${wrong.status}: ${wrong.body || wrong.error}`);
  }
}

// With `turnedAway` a refusal for overload is counted there, and waited for as it says; it is no failed check.
export function accept(face, path, said, { name, turnedAway } = {}) {
  const answer = ask(face, path, said, name);
  if (turnedAway && answer.status === 503) {
    turnedAway.add(1);
    sleep(Number(answer.headers["Retry-After"] || 1));
    return undefined;
  }
  const location = answer.headers["Location"];
  const good = check(answer, { "accepted with 202 and a Location": () => answer.status === 202 && Boolean(location) });
  if (!good) return undefined;
  acceptance.add(answer.timings.duration);
  accepted.add(1);
  owed.add(1);
  return location;
}

export function follow(face, location) {
  const began = Date.now();
  let pause = FIRST_PAUSE_S;
  while (Date.now() - began < SAGA_TIMEOUT_S * 1000) {
    sleep(pause);
    const status = look(face, location);
    if (ended(status, Date.now() - began)) return status;
    pause = Math.min(pause * 1.5, LONGEST_PAUSE_S);
  }
  if (exec.vu.idInTest <= 3) console.error(`${location} did not end within ${SAGA_TIMEOUT_S} s`); // some, to look at
  return undefined;
}

// The same with few requests: the saga's time is that of its own stamps, accepted and ended.
export function followSeldom(location) {
  const began = Date.now();
  const params = { headers: { ...WHO, Accept: FACES.json.type }, tags: { name: "GET /commands/{id}" } };
  let pause = SELDOM_S;
  while (Date.now() - began < SAGA_TIMEOUT_S * 1000) {
    sleep(pause);
    const answer = http.get(BASE_URL + location, params);
    if (check(answer, { "the command is shown, never 404": () => answer.status === 200 })) {
      const { status, createdAt, updatedAt } = answer.json();
      if (ended(status, Date.parse(updatedAt) - Date.parse(createdAt))) return status;
    }
    pause = Math.min(pause * 1.5, LONGEST_PAUSE_S * 2);
  }
  return undefined;
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
