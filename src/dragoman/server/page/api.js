// Requests to the server.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const key = () => sessionStorage.getItem("key") || "";

const headers = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

async function checked(answer) {
  if (answer.ok) return answer;
  let message = answer.statusText;
  try {
    message = (await answer.json()).error.message;
  } catch { /* not in the form of our errors: its status says enough */ }
  throw new ApiError(message, answer.status);
}

export async function models() {
  const answer = await checked(await fetch("/v1/models", { headers: headers() }));
  return (await answer.json()).data.map((model) => model.id);
}

// Yield the events of a transcription as they arrive.
export async function* transcribe(file, name, options, signal) {
  const form = new FormData();
  form.append("file", file, name);
  form.append("model", options.model);
  form.append("response_format", "verbose_json");
  form.append("stream", "true");
  for (const kind of ["word", "segment"]) form.append("timestamp_granularities[]", kind);
  if (options.language && options.task === "transcriptions") form.append("language", options.language);
  let answer;
  for (;;) {
    answer = await fetch(`/v1/audio/${options.task}`, { method: "POST", body: form, headers: headers(), signal });
    if (answer.status !== 429) break;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(answer.headers.get("Retry-After") || 1)));
  }
  const reader = (await checked(answer)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const values = JSON.parse(event.replace(/^data: /, ""));
      if (values.error) throw new ApiError(values.error.message, 500);
      yield values;
    }
  }
}

export function liveSocket() {
  const protocols = ["realtime", ...(key() ? [`openai-insecure-api-key.${key()}`] : [])];
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return new WebSocket(`${scheme}://${location.host}/v1/realtime`, protocols);
}
