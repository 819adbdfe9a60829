// Let users of a running system create products, order them and take their deliveries, while as many others list.
//
//   CREATORS=200 READERS=200 THINK_S=5 DURATION=30s k6 run k6/users.js      (or: make k6 SCRIPT=users THINK_S=5)
//   TOKEN=$(protools token issue --role operator --subject k6) k6 run k6/users.js  where tokens are asked for
//
// A closed model: everybody thinks between two requests, THINK_S on average (half to one and a half of it), and waits for
// the answer. A creator asks for a product, looks five times a second until that has ended (ever more seldom),
// orders two of it, looks, has it delivered, looks, and so on; who is refused for overload comes back when it was told to. A reader looks at a page of
// products, then at a page of orders.
//
// Further variables: SAGA_TIMEOUT_S=30  ACCEPTANCE_P95_MS=100  SAGA_P95_MS=1500  LISTING_P95_MS=200
//
// acceptance_ms  POST sent -> 202 received, of all three kinds
// saga_ms        accepted -> ended, by the stamps of the command, of all three kinds
// order_ms       POST sent -> an answer that says `completed`, of orders: what the user sees
// listing_ms     GET sent -> a page received
//
// Any threshold that is crossed makes k6 exit 99.

import { check, sleep } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";
import { BASE_URL, RUN, TREND_STATS, WHO, env, number } from "./common.js";
import { FACES, accept, followSeldom, isReady, madeAll, thresholds } from "./follow.js";

const CREATORS = number("CREATORS", 200);
const READERS = number("READERS", 200);
const THINK_S = number("THINK_S", 5);
const DURATION = env("DURATION", "30s");
const SPARE_DRIVERS = 50;

const listing = new Trend("listing_ms", true);
const order = new Trend("order_ms", true);
const turnedAway = new Counter("requests_turned_away");

const users = (vus, exec) => ({ executor: "constant-vus", vus, duration: DURATION, exec, gracefulStop: "45s" });

const { dropped_iterations: _, ...kept } = thresholds(number("ACCEPTANCE_P95_MS", 100), number("SAGA_P95_MS", 1500));

export const options = {
  scenarios: { creators: users(CREATORS, "create"), readers: users(READERS, "list") },
  thresholds: { ...kept, listing_ms: [`p(95)<${number("LISTING_P95_MS", 200)}`], requests_turned_away: ["count==0"] },
  summaryTrendStats: TREND_STATS,
};

export function setup() {
  isReady();
  const run = RUN();
  madeAll("/conductores", CREATORS + SPARE_DRIVERS, (n) => ({ nombre: `k6-${run}-${n}` }));
  return { run };
}

const think = () => sleep(THINK_S * (0.5 + Math.random()));

// What this user does next, and to what.
let next = product;
let it;

export function create(data) {
  if (exec.vu.iterationInScenario === 0) sleep(Math.random() * THINK_S); // else all of them begin at once
  next = next(data);
  think();
}

function product(data) {
  const name = `k6-${data.run}-${exec.vu.idInTest}-${exec.vu.iterationInScenario}`;
  it = completed("/productos", { nombre: name, stock: 10 });
  return it ? place : product;
}

function place(data) {
  const wish = { id_producto: it, cantidad: 2, user_id: `k6-${data.run}-${exec.vu.idInTest}`, direccion_entrega: "Calle 1" };
  const began = Date.now();
  it = completed("/orders", wish);
  if (it) order.add(Date.now() - began);
  return it ? deliver : product;
}

function deliver() {
  const location = accept(FACES.json, `/orders/${it}/delivery`, {}, { name: "POST /orders/{id}/delivery", turnedAway });
  if (!location) return deliver; // else its driver would be busy for ever
  followSeldom(location);
  return product;
}

// Ask for it and follow it; return the id of what is completed.
function completed(path, said) {
  const location = accept(FACES.json, path, said, { turnedAway });
  const id = location && location.split("/").pop();
  return location && followSeldom(location) === "completed" ? id : undefined;
}

export function list() {
  if (exec.vu.iterationInScenario === 0) sleep(Math.random() * THINK_S);
  const path = exec.vu.iterationInScenario % 2 ? "/orders" : "/productos";
  const params = { headers: { ...WHO, Accept: "application/json" }, tags: { name: `GET ${path}` } };
  const answer = http.get(`${BASE_URL}${path}?limit=20`, params);
  if (check(answer, { "the list is shown": () => answer.status === 200 })) listing.add(answer.timings.duration);
  think();
}
