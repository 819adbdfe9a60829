// Ask a running system for three times what it can do, and see that it stays calm.
//
//   CAPACITY=300 k6 run k6/overload.js      (or: make k6-overload, which starts a system and measures its capacity)
//
// Further variables: TIMES=3  RAMP_S=10  HOLD_S=60  ACCEPT_WITHIN=30  SAMPLE=100 (one in so many is followed to its end,
// and one refused in so many comes back when it is told to)
//
// The arrival rate does not depend on the answers. Each second one line of JSON is printed: what was accepted, refused
// and ended, from the counters of the one web process. Any threshold that is crossed makes k6 exit 99.

import { sleep } from "k6";
import exec from "k6/execution";
import { Counter, Rate, Trend } from "k6/metrics";
import { ask, counters, look, median, number, rates, RUN, SYSTEM_TAGS, TREND_STATS } from "./common.js";

const CAPACITY = number("CAPACITY", 0);
const RATE = Math.round(CAPACITY * number("TIMES", 3));
const RAMP_S = number("RAMP_S", 10);
const HOLD_S = number("HOLD_S", 60);
const ACCEPT_WITHIN = number("ACCEPT_WITHIN", 30);
const SAMPLE = number("SAMPLE", 100);
const CALM_AFTER_S = 10;
const CALM_S = 10;
const LOAD_S = RAMP_S + HOLD_S;
const WINDOW = 5; // seconds over which a rate is judged

const acceptance = new Trend("acceptance_ms", true);
const refusal = new Trend("refusal_ms", true);
const done = new Trend("accepted_to_done_ms", true);
const afterwards = new Trend("afterwards_ms", true);
const accepted = new Counter("commands_accepted");
const refused = new Counter("commands_refused");
const wrong = new Counter("answers_neither_202_nor_503");
const unended = new Counter("followed_but_not_ended");
const secondTry = new Rate("second_try_accepted");
const fast = new Rate("ended_at_90_percent_of_capacity");
const calm = new Rate("unloaded_latency_afterwards");

export const options = {
  scenarios: {
    load: {
      executor: "ramping-arrival-rate",
      exec: "load",
      startRate: 0,
      timeUnit: "1s",
      stages: [
        { target: RATE, duration: `${RAMP_S}s` },
        { target: RATE, duration: `${HOLD_S}s` },
      ],
      preAllocatedVUs: Math.ceil(RATE / 2),
      maxVUs: RATE * 3,
      gracefulStop: "150s", // for those who come back when they were told to
    },
    watch: { executor: "per-vu-iterations", vus: 1, iterations: 1, exec: "watch", maxDuration: `${LOAD_S + 40}s` },
    afterwards: {
      executor: "constant-arrival-rate",
      exec: "afterwards_",
      rate: 2,
      timeUnit: "1s",
      startTime: `${LOAD_S + CALM_AFTER_S}s`,
      duration: `${CALM_S}s`,
      preAllocatedVUs: 20,
    },
  },
  thresholds: {
    ended_at_90_percent_of_capacity: ["rate==1"],
    accepted_to_done_ms: [`p(99)<${ACCEPT_WITHIN * 1000}`],
    followed_but_not_ended: ["count==0"],
    second_try_accepted: ["rate>=0.9"],
    unloaded_latency_afterwards: ["rate>=0.9"],
    answers_neither_202_nor_503: ["count==0"],
    dropped_iterations: ["count==0"], // else the load was not the one asked for
  },
  summaryTrendStats: TREND_STATS,
  systemTags: SYSTEM_TAGS,
};

export function setup() {
  if (!CAPACITY) exec.test.abort("CAPACITY is missing: what the system can do, in commands a second");
  const run = RUN();
  const times = [];
  for (let n = 0; n < 20; n += 1) times.push(timed(`before-${run}-${n}`));
  return { run, unloaded: median(times) };
}

function timed(username) {
  const began = Date.now();
  const answer = ask(username, { Prefer: "wait=30" });
  return answer.status === 201 ? Date.now() - began : Infinity;
}

export function load(data) {
  const username = `overload-${data.run}-${exec.scenario.iterationInTest}`;
  const sampled = exec.scenario.iterationInTest % SAMPLE === 0;
  const answer = ask(username);
  if (answer.status === 202) return admitted(answer, sampled);
  if (answer.status !== 503) return void wrong.add(1);
  refused.add(1);
  refusal.add(answer.timings.duration);
  if (sampled) comeBack(username, Number(answer.headers["Retry-After"]));
}

function admitted(answer, sampled) {
  accepted.add(1);
  acceptance.add(answer.timings.duration);
  if (sampled) follow(answer.headers["Location"]);
}

function comeBack(username, seconds) {
  sleep(seconds);
  const answer = ask(username);
  secondTry.add(answer.status === 202);
  if (answer.status === 202) admitted(answer, false);
}

function follow(location) {
  for (const until = Date.now() + 2000 * ACCEPT_WITHIN; Date.now() < until; sleep(1)) {
    const answer = look(location);
    const command = answer.status === 200 ? answer.json() : {};
    if (["completed", "refused", "suspended"].includes(command.status)) {
      done.add(Date.parse(command.updatedAt) - Date.parse(command.createdAt));
      return;
    }
  }
  unended.add(1);
}

export function watch() {
  const rows = [counters()];
  for (let second = 1; second <= LOAD_S + 30; second += 1) {
    sleep(Math.max(0, rows[0].at + second - Date.now() / 1000));
    rows.push(counters());
    const now = rows[second];
    console.log(JSON.stringify({ second, ...rates(now, rows[second - 1]), backlog: now.backlog }));
    if (second > RAMP_S + WINDOW && second <= LOAD_S) {
      fast.add(rates(now, rows[second - WINDOW]).ended >= 0.9 * CAPACITY);
    }
  }
}

export function afterwards_(data) {
  const took = timed(`after-${data.run}-${exec.scenario.iterationInTest}`);
  afterwards.add(took);
  calm.add(took <= 2 * data.unloaded + 20);
}
