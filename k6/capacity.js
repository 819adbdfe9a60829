// Measure how many commands a second a running system ends when more are asked for than it can do.
//
//   VUS=48 DURATION_S=20 k6 run k6/capacity.js
//
// Clients that ask again as soon as they are answered; who is refused waits a moment. The first third warms up. Prints
// one line of JSON: {"capacity": commands ended per second, the median of windows of WINDOW_S}.

import { sleep } from "k6";
import exec from "k6/execution";
import { ask, counters, median, number, rates, RUN, SYSTEM_TAGS } from "./common.js";

const VUS = number("VUS", 48);
const DURATION_S = number("DURATION_S", 20);
const WINDOW_S = 2;

export const options = {
  systemTags: SYSTEM_TAGS,
  scenarios: {
    load: { executor: "constant-vus", vus: VUS, duration: `${DURATION_S}s`, exec: "load", gracefulStop: "10s" },
    watch: { executor: "per-vu-iterations", vus: 1, iterations: 1, exec: "watch", maxDuration: `${DURATION_S + 10}s` },
  },
};

export const setup = () => ({ run: RUN() });

export function load(data) {
  const answer = ask(`capacity-${data.run}-${exec.scenario.iterationInTest}`);
  if (answer.status !== 202) sleep(0.2);
}

export function watch() {
  sleep(DURATION_S / 3);
  const seen = [];
  let before = counters();
  while (seen.length * WINDOW_S < (DURATION_S * 2) / 3 - WINDOW_S) {
    sleep(WINDOW_S);
    const now = counters();
    seen.push(rates(now, before).ended);
    before = now;
  }
  console.log(JSON.stringify({ capacity: median(seen), windows: seen.map(Math.round) }));
}
