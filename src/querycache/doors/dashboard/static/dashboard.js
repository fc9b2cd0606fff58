"use strict";

// Follows /events and puts what it says in the places that the page marks. The words come ready;
// every value is inserted as text.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 100;
const FASTEST_S = 1e-6;
const DECADES = 7;
const KEPT = 600;
const LEAST = { seconds: 120, minutes: 60 };
const LONGEST_PAUSE_MS = 15000;

const root = document.documentElement;
const byId = (id) => document.getElementById(id);

let token = "";
let range = "seconds";
let ranges = null;
let words = null;
let pauseMs = 1000;

// --- texts and tables ------------------------------------------------------------------------

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, state) {
  if (node.dataset.state !== state) node.dataset.state = state;
}

function cellOf(column, name) {
  const [what, series, scale] = column.split(":");
  const cell = document.createElement(what === "name" ? "th" : "td");
  cell.className = what;
  if (what === "name") cell.scope = "row";
  if (what === "spark") {
    const chart = document.createElementNS(SVG, "svg");
    const given = {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      "data-chart": `${series}.${name}`,
      "data-scale": scale,
    };
    for (const [key, value] of Object.entries(given)) chart.setAttribute(key, value);
    cell.append(chart);
  }
  return cell;
}

function putCell(cell, text) {
  if (cell.className === "spark") return;
  if (cell.className !== "code") {
    put(cell, text);
  } else if (cell.textContent !== text) {
    const code = document.createElement("code");
    code.textContent = text;
    cell.replaceChildren(...(text ? [code] : []));
  }
}

function putRows(body, rows) {
  const columns = body.dataset.columns.split(" ");
  if (!rows.length) {
    if (!body.dataset.empty || body.querySelector(".empty")) return;
    const cell = document.createElement("td");
    cell.className = "empty";
    cell.colSpan = columns.length;
    cell.textContent = body.dataset.empty;
    const line = document.createElement("tr");
    line.append(cell);
    body.replaceChildren(line);
    return;
  }
  const kept = body.rows.length === rows.length && !body.querySelector(".empty");
  const same = kept && rows.every((row, n) => (body.rows[n].dataset.name ?? row.name) === row.name);
  if (!same) {
    body.replaceChildren(
      ...rows.map((row) => {
        const line = document.createElement("tr");
        line.append(...columns.map((column) => cellOf(column, row.name)));
        return line;
      }),
    );
  }
  rows.forEach((row, n) => {
    const line = body.rows[n];
    line.dataset.name = row.name;
    mark(line, row.state);
    row.cells.forEach((text, column) => putCell(line.cells[column], text));
  });
}

function putPage(page) {
  words = page;
  for (const node of document.querySelectorAll("[data-show]")) {
    if (!(node.dataset.now && hovered)) put(node, page.texts[node.dataset.show] ?? "");
  }
  for (const node of document.querySelectorAll("[data-state-of]")) {
    mark(node, page.states[node.dataset.stateOf] ?? "");
  }
  for (const node of document.querySelectorAll("[data-meter]")) {
    node.setAttribute("width", `${((page.meters[node.dataset.meter] ?? 0) * 100).toFixed(2)}%`);
  }
  for (const body of document.querySelectorAll("[data-rows]")) {
    putRows(body, page.tables[body.dataset.rows] ?? []);
  }
}

// --- charts ----------------------------------------------------------------------------------

function heightOf(value, scale, top) {
  let share = value / top;
  if (scale === "share") share = value;
  if (scale === "latency") share = Math.log10(Math.max(value, FASTEST_S) / FASTEST_S) / DECADES;
  return HEIGHT * (1 - Math.min(1, Math.max(0, share)));
}

function topOf(lines) {
  const most = Math.max(0, ...lines.flat().filter((value) => value !== null));
  return most > 0 ? 2 ** Math.ceil(Math.log2(most)) : 1;
}

function across() {
  return Math.max(LEAST[range], ...Object.values(ranges[range].series).map((line) => line.length));
}

function pathOf(values, kept, scale, top, groups) {
  const size = Math.max(1, Math.floor(kept / groups));
  const told = [];
  let penDown = false;
  for (let start = 0; start < values.length; start += size) {
    const group = values.slice(start, start + size).filter((value) => value !== null);
    if (!group.length) {
      penDown = false;
      continue;
    }
    const x = WIDTH * (1 - (values.length - Math.min(start + size, values.length)) / kept);
    const mean = group.reduce((sum, value) => sum + value, 0) / group.length;
    told.push(`${penDown ? "L" : "M"}${x.toFixed(0)} ${heightOf(mean, scale, top).toFixed(1)}`);
    if (!penDown) told.push("h0");
    penDown = true;
  }
  return told.join("");
}

const linesOf = (names) => names.map((name) => ranges[range].series[name] ?? []);

function draw() {
  if (!ranges) return;
  const kept = across();
  for (const chart of document.querySelectorAll("[data-chart]")) {
    const names = chart.dataset.chart.split(" ");
    const lines = linesOf(names);
    const top = topOf(lines);
    const groups = chart.classList.contains("spark") ? 60 : 200;
    names.forEach((name, n) => {
      let path = chart.children[n];
      if (!path) {
        path = document.createElementNS(SVG, "path");
        path.dataset.series = name;
        chart.append(path);
      }
      path.setAttribute("d", pathOf(lines[n], kept, chart.dataset.scale, top, groups));
    });
  }
  for (const label of document.querySelectorAll("[data-top]")) {
    put(label, bytes(topOf(linesOf(label.dataset.top.split(" ")))));
  }
  for (const label of document.querySelectorAll("[data-from]")) {
    put(label, `${duration(kept * ranges[range].step_s)} ago`);
  }
  if (hovered) point();
}

function extend(sample) {
  const { series, at } = ranges.seconds;
  if (sample.at - at < 0.5) return; // the history has it
  const passed = Math.max(1, Math.min(KEPT, Math.round(sample.at - at)));
  for (const [name, values] of Object.entries(series)) {
    for (let missed = 1; missed < passed; missed += 1) values.push(null);
    values.push(sample.steps[name] ?? null);
    if (values.length > KEPT) values.splice(0, values.length - KEPT);
  }
  ranges.seconds.at = sample.at;
}

// --- a moment under the pointer --------------------------------------------------------------

let hovered = null; // {plot, share}: where the pointer is

function bytes(count) {
  let left = count;
  for (const unit of ["B", "KB", "MB"]) {
    if (left < 1024) return `${left.toFixed(unit === "B" || left >= 100 ? 0 : 1)} ${unit}`;
    left /= 1024;
  }
  return `${left.toFixed(left >= 100 ? 0 : 1)} GB`;
}

function duration(seconds) {
  if (seconds < 1e-3) return `${Number((seconds * 1e6).toPrecision(3))} µs`;
  if (seconds < 1) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(0)} h`;
}

const UNITS = { share: (value) => `${(value * 100).toFixed(1)} %`, latency: duration, auto: bytes };

function point() {
  const { plot, share } = hovered;
  const chart = plot.querySelector("svg");
  const seen = ranges[range];
  const back = Math.round((1 - share) * across());
  for (const key of plot.parentNode.querySelectorAll("[data-now]")) {
    const values = seen.series[key.dataset.now] ?? [];
    const value = values[values.length - 1 - back] ?? null;
    put(key, value === null ? "–" : UNITS[chart.dataset.scale](value));
  }
  const moment = new Date((seen.at - back * seen.step_s) * 1000);
  plot.querySelector(".cursor").style.left = `${share * 100}%`;
  put(plot.querySelector(".moment"), `${moment.toISOString().slice(11, 19)} UTC`);
}

function hover(event) {
  const plot = event.currentTarget;
  const box = plot.getBoundingClientRect();
  if (!ranges || !box.width) return;
  if (!plot.querySelector(".cursor")) {
    for (const name of ["cursor", "moment"]) {
      const node = document.createElement("span");
      node.className = name;
      plot.append(node);
    }
  }
  const share = (event.clientX - box.left) / box.width;
  hovered = { plot, share: Math.min(1, Math.max(0, share)) };
  point();
}

function leave(event) {
  hovered = null;
  for (const node of event.currentTarget.querySelectorAll(".cursor, .moment")) node.remove();
  if (words) putPage(words);
}

// --- the stream ------------------------------------------------------------------------------

const bearing = () => ({ headers: token ? { Authorization: `Bearer ${token}` } : {} });

function live(state, said) {
  mark(byId("live"), state);
  put(byId("liveness"), said);
}

function heard(name, data) {
  if (name === "history") {
    ranges = JSON.parse(data);
    draw();
  } else if (name === "sample" && ranges) {
    extend(JSON.parse(data));
    draw();
  } else if (name === "page") {
    putPage(JSON.parse(data));
    live("live", "live");
    mark(document.body, "open");
  }
}

async function listen(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(
        part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
      );
      if (fields.event) heard(fields.event, fields.data);
      if (fields.retry) pauseMs = Number(fields.retry);
    }
  }
}

function lock(said) {
  token = "";
  mark(document.body, "locked");
  put(byId("refused"), said);
  byId("token").focus();
}

async function follow() {
  for (;;) {
    try {
      const answer = await fetch("/events", { ...bearing(), cache: "no-store" });
      if (answer.status === 401) {
        lock("This token is not valid.");
        return;
      }
      if (answer.ok) await listen(answer);
      else live("lost", `the server says ${answer.status}, as of`);
    } catch {
      // what the connection ended with makes no difference
    }
    if (byId("live").dataset.state === "live") live("lost", "no connection, as of");
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 1.5);
  }
}

// --- what can be pressed ---------------------------------------------------------------------

async function runDoctor() {
  const button = byId("run-doctor");
  const said = byId("doctor-said");
  button.disabled = true;
  byId("doctor").hidden = false;
  put(said, "The doctor looks at everything; this takes some seconds.");
  try {
    const answer = await fetch("/doctor", { ...bearing(), cache: "no-store" });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error.message);
    const found = told.findings.map((one, n) => ({
      name: String(n),
      cells: [one.name, one.evidence, one.remedy],
      state: one.severity,
    }));
    put(said, `What the doctor found at ${new Date().toISOString().slice(11, 19)} UTC:`);
    putRows(byId("doctor-found"), found);
  } catch (error) {
    put(said, `The doctor could not be run: ${error.message}`);
  }
  button.disabled = false;
}

byId("run-doctor").addEventListener("click", runDoctor);
for (const button of document.querySelectorAll("[data-range]")) {
  button.addEventListener("click", () => {
    range = button.dataset.range;
    for (const other of document.querySelectorAll("[data-range]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    draw();
  });
}
for (const plot of document.querySelectorAll(".plot")) {
  plot.addEventListener("pointermove", hover);
  plot.addEventListener("pointerleave", leave);
}
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  put(byId("refused"), "");
  follow();
});
root.classList.add("scripted");
if (document.body.dataset.state === "locked") byId("token").focus();
else follow();
