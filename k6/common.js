// What every scenario shares: settings, the front door's answers, and its counters.

import http from "k6/http";

export const env = (name, fallback) => __ENV[name] || String(fallback);

export const number = (name, fallback) => {
  const value = Number(env(name, fallback));
  if (!(value >= 0)) throw new Error(`${name}=${__ENV[name]} is not a number from 0`);
  return value;
};

export const BASE_URL = env("BASE_URL", `http://127.0.0.1:${env("BFF_PORT", 3000)}`).replace(/\/$/, "");
export const SYSTEM_TAGS = ["name", "status"]; // each further one costs at every request
export const TREND_STATS = ["avg", "min", "med", "max", "p(90)", "p(95)", "p(99)", "count"];
export const RUN = () => Date.now().toString(36); // makes usernames unique across runs

// TOKEN: who the load is; needs the role operator, for it asks, looks and reads the metrics. Without it: AUTH=none.
export const WHO = __ENV.TOKEN ? { Authorization: `Bearer ${__ENV.TOKEN}` } : {};

const JSON_FACE = { ...WHO, "Content-Type": "application/json", Accept: "application/json" };

// Nobody reads the body of what is answered here: k6 takes enough of two cores as it is.
const ASKING = { headers: JSON_FACE, tags: { name: "POST /passwords" }, timeout: "40s", responseType: "none" };

export function ask(username, headers) {
  const params = headers ? { ...ASKING, headers: { ...JSON_FACE, ...headers } } : ASKING;
  return http.post(`${BASE_URL}/passwords`, JSON.stringify({ username }), params);
}

export function look(location) {
  return http.get(BASE_URL + location, { headers: JSON_FACE, tags: { name: "GET /commands/{id}" } });
}

// Unix seconds of a UUIDv7.
const momentOf = (id) => parseInt(id.slice(0, 8) + id.slice(9, 13), 16) / 1000;

// The counters of one web process: commands accepted and refused by it, and ended wherever they were accepted.
export function counters() {
  const { body: text, headers } = http.get(`${BASE_URL}/metrics`, { headers: WHO, tags: { name: "GET /metrics" } });
  const value = (pattern) => [...text.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
  return {
    at: momentOf(headers["X-Request-Id"]), // when they were read, not when the answer came: in a rush that is seconds later
    accepted: value(/^http_server_request_duration_seconds_count\{http_request_method="POST",http_response_status_code="202",http_route="\/passwords"\} (\S+)/gm),
    refused: value(/^protools_commands_refused_total\{.*\} (\S+)/gm),
    ended: value(/^protools_command_seconds_count (\S+)/gm),
    seconds: value(/^protools_command_seconds_sum (\S+)/gm),
    backlog: value(/^protools_commands_backlog (\S+)/gm),
  };
}

export const rates = (now, before) => {
  const span = now.at - before.at;
  return Object.fromEntries(["accepted", "refused", "ended"].map((name) => [name, (now[name] - before[name]) / span]));
};

export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
