// Shows /openapi.json as a page, without anything from elsewhere.

const api = await (await fetch("openapi.json")).json();
const main = document.getElementById("document");

/** An element with children. */
function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

/** A paragraph; what stands between backticks is code. */
function paragraph(text) {
  return make("p", ...text.split("`").map((part, at) => (at % 2 ? make("code", part) : part)));
}

function resolved(schema) {
  return schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.format === "binary") return "file";
  const name = [schema.type].flat().join(" or ");
  return schema.items ? `${name} of ${typeOf(schema.items)}` : name;
}

function rangeOf({ minimum, exclusiveMinimum, maximum, enum: choices, default: standard }) {
  const parts = [];
  if (choices) parts.push(choices.join(" | "));
  if (minimum !== undefined) parts.push(`from ${minimum}`);
  if (exclusiveMinimum !== undefined) parts.push(`above ${exclusiveMinimum}`);
  if (maximum !== undefined) parts.push(`to ${maximum}`);
  if (standard !== undefined) parts.push(`default ${standard}`);
  return parts.join(", ");
}

function table(schema) {
  const { properties = {}, required = [] } = resolved(schema);
  const head = make("tr", ...["name", "type", "values", "meaning"].map((name) => make("th", name)));
  const rows = Object.entries(properties).map(([name, field]) =>
    make("tr", make("td", make("code", name), required.includes(name) ? "" : " (optional)"), make("td", typeOf(field)),
      make("td", rangeOf(field)), make("td", field.description ?? "")));
  const wide = make("div", make("table", head, ...rows));
  wide.className = "wide";
  return wide;
}

function curl(path, type, schema) {
  if (!type.startsWith("multipart")) return `curl ${location.origin}${path} -d @request.json`;
  const { required } = schema;
  return ["curl", ...required.map((name, at) => `-F ${name}=@${"ab"[at]}.jpg`), `${location.origin}${path}`].join(" ");
}

main.append(paragraph(api.info.description));
for (const [path, { post }] of Object.entries(api.paths)) {
  const [[type, { schema }]] = Object.entries(post.requestBody.content);
  main.append(make("h2", make("code", "POST"), ` ${path}: ${post.summary}`), paragraph(post.description));
  main.append(make("pre", make("code", curl(path, type, schema))), make("p", `Takes ${type}:`), table(schema));
  const gives = Object.entries(post.responses["200"].content).map(([name, { schema: given }]) => `${name} (${typeOf(given)})`);
  main.append(make("p", `Gives ${gives.join(", or ")}.`));
}
for (const [name, schema] of Object.entries(api.components.schemas)) {
  main.append(make("h2", name), paragraph(schema.description ?? ""), table(schema));
}
