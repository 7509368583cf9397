// Draws what /live.json says, once per second. Texts come from programs: they are set as text, never as HTML.
"use strict";

const ASK_EVERY_MS = 1000, PATIENCE_MS = 5000, WORKERS_SHOWN_MAX = 256;
const GRADES = { ready: "good", ok: "good", running: "good", reloading: "warn", degraded: "warn", starting: "warn", paused: "warn",
  draining: "warn", leaving: "warn", stopping: "warn" };

function make(tag, attributes, ...children) {
  const element = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const grade = (state) => GRADES[state] ?? "bad";
const number = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
const signalled = (end) => end.signal ? `signal ${end.signal}` : `exit code ${end.code}`;

function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit}`;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}s`;
}

function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${(value / 2 ** 20).toFixed(1)} MiB`;
}

// A line is broken where nothing was measured.
function path(values, top, kind) {
  let drawn = "", isDown = false;
  values.forEach((value, at) => {
    if (value === null) { isDown = false; return; }
    const x = (at / Math.max(values.length - 1, 1)) * 300, y = 98 - (value / top) * 94;
    drawn += `${isDown ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (!isDown) drawn += "h0.1";
    isDown = true;
  });
  return make("path", { class: kind, d: drawn });
}

function chart(title, samples, which, seconds) {
  const [median, tail] = ["p50", "p99"].map((quantile) => samples.map((sample) => sample[`${which}_${quantile}_ms`]));
  const known = tail.filter((value) => value !== null), top = Math.max(...known, 0.1);
  const now = `${ms(median.at(-1))}, p99 ${ms(tail.at(-1))}`;
  const label = `${title}, last ${length(samples.length * seconds)}: now ${now}, at most ${known.length ? ms(top) : "–"}`;
  const drawing = make("svg", { viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    path(median, top, "median"), path(tail, top, "tail"));
  return make("figure", {}, make("h3", {}, title), drawing,
    make("figcaption", { class: "faint" }, `last ${length(samples.length * seconds)}, top ${known.length ? ms(top) : "–"} · `,
      make("span", { class: "median" }, `p50 ${ms(median.at(-1))}`), " ", make("span", { class: "tail" }, `p99 ${ms(tail.at(-1))}`)));
}

function figures(pool) {
  const shed = Object.values(pool.shed).reduce((sum, count) => sum + count, 0);
  const pairs = [["accepted", pool.accepted], ["done", pool.done], ["lost", pool.lost], ["shed", shed], ["waiting", pool.waiting],
    ["claimed", pool.claimed], ["in line", pool.queue.length, pool.queue.limit]];
  return make("dl", { class: "figures" }, ...pairs.map(([name, value, limit]) => {
    const isBad = (name === "lost" && value > 0) || (limit && value >= limit);
    const text = limit ? `${number(value)} / ${number(limit)}` : number(value);
    return make("div", {}, make("dt", {}, name), make("dd", isBad ? { class: "bad" } : {}, text));
  }));
}

function workers(pool) {
  const heads = ["worker", "state", "pid", "claimed", "waiting", "done", "age", "memory", "restarts", "last exit, words"];
  const rows = pool.workers.slice(0, WORKERS_SHOWN_MAX).map((worker) => {
    const last = [worker.last_exit && signalled(worker.last_exit), worker.says].filter(Boolean).join(" · ");
    const cells = [`${worker.slot}.${worker.generation}`, worker.state, worker.pid ?? "–",
      worker.claimed === null ? "–" : `${worker.claimed} / ${worker.capacity}`, number(worker.waiting), number(worker.done),
      length(worker.age_s), bytes(worker.rss_bytes), number(worker.restarts), last];
    return make("tr", {}, ...cells.map((cell, at) => make("td", at === 1 ? { class: grade(worker.state) } : {}, String(cell))));
  });
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
  const more = pool.workers.length - rows.length;
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Workers of ${pool.name}` }, table,
    more > 0 ? make("p", { class: "faint" }, `and ${number(more)} more`) : "");
}

function pool(about, live) {
  const samples = live.history[about.name] ?? [], seconds = live.sampled_every_s;
  const head = make("header", {}, make("h2", {}, about.name), make("span", { class: `state ${grade(about.state)}` }, about.state),
    make("span", { class: "faint" }, `generation ${about.generation} · ${about.handoff} · ${about.listeners.join(" ")}`));
  const undone = about.reload.last === "undone" ? make("p", { class: "bad" }, `last reload undone: ${about.reload.reason}`) : "";
  const charts = samples.length ? make("div", { class: "charts" }, chart("Waiting time", samples, "waited", seconds),
    chart("Service time", samples, "served", seconds)) : "";
  return make("article", { class: "pool" }, head, undone, figures(about), charts, workers(about));
}

function events(id, items, none, show) {
  const shown = items.map((item) => make("li", {}, ...show(item)));
  document.getElementById(id).replaceChildren(...(shown.length ? shown : [make("li", { class: "faint" }, none)]));
}

function draw(live) {
  const status = live.status, state = live.presence === "running" ? status.state : live.presence;
  document.title = `${state} · ostler`;
  const age = status.age_s > 2 ? ` · nothing new for ${length(status.age_s)}` : "";
  say(`${state} · ${status.version} · pid ${status.pid} · up ${length(status.uptime_s)}${age}`, grade(state));
  // Who has scrolled a table or stands on it stays there.
  const places = [...document.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box === document.activeElement]);
  document.getElementById("pools").replaceChildren(...status.pools.map((about) => pool(about, live)));
  document.querySelectorAll(".scroll").forEach((box, at) => {
    const [left, isActive] = places[at] ?? [0, false];
    box.scrollLeft = left;
    if (isActive) box.focus({ preventScroll: true });
  });
  events("reloads", live.reloads, "none since the start", (reload) => [
    make("span", { class: `state ${grade(reload.outcome)}` }, reload.outcome), ` ${length(reload.ago_s)} ago: ${reload.verdict}`]);
  events("deaths", live.deaths, "none since the start", (death) => [
    make("strong", {}, death.worker), ` ${new Date(death.at_unix_ms).toLocaleTimeString()}: ${signalled(death)} after ` +
    `${length(death.age_s)}${death.cause ? `, ${death.cause}` : ""}${death.lost ? `, ${death.lost} lost with it` : ""} `,
    death.last_word ? make("code", {}, death.last_word) : ""]);
}

function say(text, kind) {
  const summary = document.getElementById("summary");
  if (summary.textContent !== text) summary.textContent = text;
  summary.className = kind;
}

async function ask() {
  try {
    const answer = await fetch("/live.json", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    draw(await answer.json());
  } catch (error) {
    say(`no answer: ${error.message}`, "bad");
  }
  // Nobody looks at a hidden page.
  if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
  setTimeout(ask, ASK_EVERY_MS);
}

ask();
