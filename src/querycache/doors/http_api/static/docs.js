"use strict";

// Draws the OpenAPI document. Every value is inserted as text.

const make = (name, text = "", attributes = {}) => {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

const named = (reference) => reference.split("/").pop();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return named(schema.$ref);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items) || "any"}[]`;
  return schema.type || "any";
}

function fieldTable(properties, required = []) {
  const table = make("table");
  const head = table.createTHead().insertRow();
  for (const title of ["name", "type", "default", ""]) head.append(make("th", title));
  const body = table.createTBody();
  for (const [name, schema] of Object.entries(properties)) {
    const row = body.insertRow();
    const given = "default" in schema ? JSON.stringify(schema.default) : "";
    row.append(make("td"), make("td", typeOf(schema)), make("td", given));
    row.cells[0].append(make("code", name));
    row.append(make("td", required.includes(name) ? "required" : schema.description || ""));
  }
  return table;
}

function schemaBlock(title, schema, schemas) {
  const block = make("section");
  const name = schema.$ref && named(schema.$ref);
  const full = name ? schemas[name] : schema;
  block.append(make("h3", name ? `${title}: ${name}` : title));
  if (full.description) block.append(make("p", full.description));
  if (full.properties) block.append(fieldTable(full.properties, full.required));
  return block;
}

function example(schema, schemas) {
  const full = schema.$ref ? schemas[named(schema.$ref)] : schema;
  const filled = {};
  for (const name of full.required || []) filled[name] = "";
  return JSON.stringify(filled, null, 2);
}

async function send(method, path, form, output) {
  let address = path;
  const query = new URLSearchParams();
  for (const input of form.querySelectorAll("input")) {
    if (input.dataset.place === "path") {
      address = address.replace(`{${input.name}}`, encodeURIComponent(input.value));
    } else if (input.value) {
      query.set(input.name, input.value);
    }
  }
  const options = { method: method.toUpperCase(), headers: {} };
  const body = form.querySelector("textarea");
  if (body) {
    options.body = body.value;
    options.headers["Content-Type"] = "application/json";
  }
  try {
    const answer = await fetch(query.size ? `${address}?${query}` : address, options);
    const text = await answer.text();
    const cache = answer.headers.get("X-Cache");
    let shown = text;
    try {
      shown = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // not JSON: shown as it is
    }
    output.textContent = `${answer.status}${cache ? `  X-Cache: ${cache}` : ""}\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
  output.hidden = false;
}

function tryIt(method, path, operation, schemas) {
  const form = make("form");
  for (const parameter of operation.parameters || []) {
    const label = make("label", parameter.name);
    const input = make("input", "", { name: parameter.name, "data-place": parameter.in });
    input.required = parameter.required;
    label.append(input);
    form.append(label);
  }
  const content = operation.requestBody?.content["application/json"];
  if (content) {
    const label = make("label", "body");
    const area = make("textarea", example(content.schema, schemas), { rows: "5" });
    area.spellcheck = false;
    label.append(area);
    form.append(label);
  }
  const output = make("pre", "", { role: "status" });
  output.hidden = true;
  form.append(make("button", "Send"), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(method, path, form, output);
  });
  return form;
}

function operationBlock(method, path, operation, schemas) {
  const block = make("details");
  const summary = make("summary");
  summary.append(make("span", method.toUpperCase(), { class: "method" }), make("code", path));
  summary.append(` ${operation.summary}`);
  const body = make("div");
  const asked = operation.requestBody?.content["application/json"]?.schema;
  if (asked) body.append(schemaBlock("Body", asked, schemas));
  for (const [status, response] of Object.entries(operation.responses)) {
    const schema = response.content?.["application/json"]?.schema;
    if (schema && status !== "default") body.append(schemaBlock(status, schema, schemas));
  }
  if (path !== "/mcp") body.append(tryIt(method, path, operation, schemas));
  block.append(summary, body);
  return block;
}

async function draw() {
  const operations = document.getElementById("operations");
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`/openapi.json answered ${answer.status}`);
  const api = await answer.json();
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").textContent = api.info.description;
  const { schemas } = api.components;
  operations.replaceChildren(make("h2", "Routes"));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      operations.append(operationBlock(method, path, operation, schemas));
    }
  }
  operations.append(make("h2", "Shapes"));
  for (const name of Object.keys(schemas)) {
    const block = make("details");
    const body = make("div");
    body.append(schemaBlock("Shape", { $ref: `#/components/schemas/${name}` }, schemas));
    block.append(make("summary", name), body);
    operations.append(block);
  }
  operations.setAttribute("aria-busy", "false");
}

draw().catch((error) => {
  document.getElementById("operations").textContent = String(error);
});
