// Let users order by request id from a running system, each request twice, while they list what is theirs.
//
//   RATE=20 USERS=10 DURATION=30s BASE_URL=http://127.0.0.1:3000 k6 run k6/pedidos.js      (or: make k6 SCRIPT=pedidos)
//
// Further variables: ORDER_P95_MS=500  LISTING_P95_MS=200
//
// order_ms    POST sent -> 201 received: the order is made and worked on, or that took longer than 5 s
// listing_ms  GET sent -> the caller's own orders received
//
// The users sign up first. The rate is open-loop. Any threshold that is crossed makes k6 exit 99.

import { check } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";
import { BASE_URL, RUN, TREND_STATS, env, number } from "./common.js";
import { arrivals, isReady } from "./follow.js";

const USERS = number("USERS", 10);
const PATH = "/api/v1/order/";
const JSON_BODY = { "Content-Type": "application/json" };

const order = new Trend("order_ms", true);
const listing = new Trend("listing_ms", true);
const doubled = new Counter("orders_doubled"); // a request that came again and was another order

export const options = {
  scenarios: { orders: arrivals(number("RATE", 20), env("DURATION", "30s")) },
  thresholds: {
    http_req_failed: ["rate<0.01"],
    checks: ["rate==1"],
    order_ms: [`p(95)<${number("ORDER_P95_MS", 500)}`],
    listing_ms: [`p(95)<${number("LISTING_P95_MS", 200)}`],
    orders_doubled: ["count==0"],
    dropped_iterations: ["count==0"], // else the load was not the one asked for
  },
  summaryTrendStats: TREND_STATS,
};

export function setup() {
  isReady();
  const run = RUN();
  return { run, tokens: [...Array(USERS).keys()].map((number) => signUp(`k6-${run}-${number}`)) };
}

function signUp(username) {
  const password = `a password of ${username}`;
  const said = { username, email: `${username}@example.test`, password, passwordConfirm: password };
  const answer = http.post(`${BASE_URL}/signup`, JSON.stringify(said), { headers: JSON_BODY });
  if (answer.status !== 201) exec.test.abort(`POST /signup answers ${answer.status}: ${answer.body || answer.error}`);
  return answer.json("token");
}

export default function (data) {
  const number = exec.scenario.iterationInTest;
  const bearer = { Authorization: `Bearer ${data.tokens[number % USERS]}` };
  const asked = { headers: { ...bearer, ...JSON_BODY, "X-Request-Id": `k6-${data.run}-${number}` }, tags: { name: `POST ${PATH}` } };
  const [first, again] = [0, 1].map(() => http.post(BASE_URL + PATH, JSON.stringify({ price: 400 }), asked));
  order.add(first.timings.duration);
  const good = check(first, { "taken with 201": (answer) => answer.status === 201 });
  if (good && again.json("orderId") !== first.json("orderId")) doubled.add(1);
  const own = http.get(`${BASE_URL}${PATH}?limit=20`, { headers: bearer, tags: { name: `GET ${PATH}` } });
  if (check(own, { "the own orders are shown": (answer) => answer.status === 200 })) listing.add(own.timings.duration);
}
