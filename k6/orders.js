// Order from a running system at a constant rate: each order is followed until it starts, and delivered at once.
//
//   RATE=10 DURATION=30s BASE_URL=http://127.0.0.1:3000 k6 run k6/orders.js      (or: make k6 SCRIPT=orders RATE=10)
//   TOKEN=$(protools token issue --role operator --subject k6) k6 run k6/orders.js  where tokens are asked for
//
// It begins with a product that has stock for all of it, and with as many drivers as may be on their way at once.
//
// Further variables: STOCK=1000000 (0: all are refused)  DRIVERS=100  XML_SHARE=0.5  POLL_MS=20  SAGA_TIMEOUT_S=30  ACCEPTANCE_P95_MS=100  SAGA_P95_MS=1500
//
// acceptance_ms  POST sent -> 202 received, of orders and deliveries
// saga_ms        202 received -> a poll that answers `completed`, of orders and deliveries
//
// The rate is open-loop: a slow system does not slow the load down. Any threshold that is crossed makes k6 exit 99.

import exec from "k6/execution";
import { RUN, TREND_STATS, env, number } from "./common.js";
import { FACES, accept, arrivals, eitherFace, follow, isReady, made, thresholds } from "./follow.js";

const STOCK = number("STOCK", 1000000);
const DRIVERS = number("DRIVERS", 100);
const XML_SHARE = number("XML_SHARE", 0.5);

export const options = {
  scenarios: { orders: arrivals(number("RATE", 10), env("DURATION", "30s")) },
  thresholds: thresholds(number("ACCEPTANCE_P95_MS", 100), number("SAGA_P95_MS", 1500)),
  summaryTrendStats: TREND_STATS,
};

export function setup() {
  isReady();
  const run = RUN();
  for (let n = 0; n < DRIVERS; n += 1) made("/conductores", { nombre: `k6-${run}-${n}` });
  return { run, product: made("/productos", { nombre: `k6-${run}`, stock: STOCK }) };
}

export default function (data) {
  const face = eitherFace(XML_SHARE);
  const wish = {
    id_producto: data.product,
    cantidad: 1,
    user_id: `k6-${data.run}-${exec.scenario.iterationInTest}`,
    direccion_entrega: "Calle 1",
  };
  const location = accept(face, "/orders", wish);
  if (!location || follow(face, location) !== "completed") return;
  const path = `/orders/${location.split("/").pop()}/delivery`;
  const delivery = accept(FACES.json, path, {}, { name: "POST /orders/{id}/delivery" });
  if (delivery) follow(FACES.json, delivery);
}
