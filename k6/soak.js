// Keep a running system at a part of its capacity for long; every saga must end, and none later than at the beginning.
//
//   RATE=180 DURATION=10m k6 run k6/soak.js      (or: make k6-soak, which also watches memory and tables)
//
// Prints one line of JSON every ten seconds: accepted, refused and ended per second, and the mean time to the end in ms.

import { sleep } from "k6";
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";
import { ask, counters, env, number, rates, RUN, SYSTEM_TAGS, TREND_STATS } from "./common.js";

const RATE = Math.round(number("RATE", 100));
const DURATION = env("DURATION", "10m");
const EVERY_S = 10;

const acceptance = new Trend("acceptance_ms", true);
const wrong = new Counter("answers_other_than_202");

export const options = {
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      exec: "load",
      rate: RATE,
      timeUnit: "1s",
      duration: DURATION,
      preAllocatedVUs: RATE * 2, // made while it runs they would come too late, and iterations would be dropped
    },
    watch: { executor: "constant-vus", vus: 1, duration: DURATION, exec: "watch" },
  },
  thresholds: { answers_other_than_202: ["count==0"], dropped_iterations: ["count==0"] },
  summaryTrendStats: TREND_STATS,
  systemTags: SYSTEM_TAGS,
};

export const setup = () => ({ run: RUN() });

export function load(data) {
  const answer = ask(`soak-${data.run}-${exec.scenario.iterationInTest}`);
  if (answer.status === 202) acceptance.add(answer.timings.duration);
  else wrong.add(1);
}

let before;

export function watch() {
  before = before || counters();
  sleep(EVERY_S);
  const now = counters();
  const mean_ms = (1000 * (now.seconds - before.seconds)) / Math.max(1, now.ended - before.ended);
  console.log(JSON.stringify({ at: now.at, ...rates(now, before), mean_ms, backlog: now.backlog }));
  before = now;
}
