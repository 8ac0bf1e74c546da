// What the page asks of the program behind it; every failure is an Error whose message is one line for the user.

const GONE = "the program behind this page does not answer; is it still running?";

/** What the page must know before anything is sent. */
export async function status() {
  return (await ask("status")).json();
}

/** Match two files; `tell` takes `{waiting}` or `{step}`. Returns the result of POST /match. */
export async function match(files, options, tell, signal) {
  const response = await ask("match", form({ image0: files[0], image1: files[1], ...options }), signal, {
    Accept: "application/x-ndjson",
  });
  for await (const line of lines(response)) {
    if (line.error) throw new Error(line.error);
    if (line.result) return line.result;
    tell(line);
  }
  throw new Error(GONE);
}

/** Keypoints of one file, by falling score. */
export async function keypoints(file, options, signal) {
  return (await ask("keypoints", form({ image: file, ...options }), signal)).json();
}

/** A model of two views that fits matches. */
export async function estimate(asked, signal) {
  return (await ask("estimate", JSON.stringify(asked), signal)).json();
}

/** A file that the browser cannot read, as a JPEG that it can, and the size of the photograph. */
export async function preview(file) {
  const response = await ask("preview", form({ image: file }));
  const size = ["X-Width", "X-Height"].map((name) => Number(response.headers.get(name)));
  return { blob: await response.blob(), size };
}

/** A photograph of the example. */
export async function example(side) {
  return new File([await (await ask(`example/${side}`)).blob()], ["motorcycle_left.png", "motorcycle_right.png"][side]);
}

async function ask(address, body, signal, headers = {}) {
  let response;
  try {
    response = await fetch(address, { method: body === undefined ? "GET" : "POST", body, headers, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(GONE);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `the program behind this page failed (${response.status}); its terminal tells why`);
}

function form(parts) {
  const data = new FormData();
  for (const [name, value] of Object.entries(parts)) {
    if (value instanceof File) data.append(name, value, value.name);
    else if (value !== undefined && value !== "") data.append(name, value);
  }
  return data;
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(GONE);
    });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
