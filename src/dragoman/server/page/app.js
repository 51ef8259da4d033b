// The page: files and the microphone in, transcripts out.

import { ApiError, models, transcribe } from "./api.js";
import { wav } from "./formats.js";
import { Microphone } from "./microphone.js";
import { Result, element } from "./result.js";
import { CODES, language, languageName, setLanguage, text, translate } from "./texts.js";

const $ = (id) => document.getElementById(id);
const queue = [];
let working = false;
let microphone = null;

function say(name, values = {}, isError = false) {
  Object.assign($("status").dataset, values);
  if (name) $("status").dataset.text = name;
  else delete $("status").dataset.text;
  $("status").textContent = name ? text(name, values) : "";
  $("status").classList.toggle("error", isError);
}

function chosen() {
  return { model: $("model").value, language: $("language").value.trim(), task: $("task").value };
}

// --- interface ------------------------------------------------------------------------------------------------------

function show() {
  document.documentElement.lang = language();
  document.documentElement.dir = language() === "ar" ? "rtl" : "ltr";
  const other = language() === "ar" ? "en" : "ar";
  $("interface").lang = other;
  $("interface").textContent = other === "ar" ? "العربية" : "English";
  translate(document);
  document.dispatchEvent(new Event("interface"));
  $("languages").replaceChildren(...CODES.map((code) => element("option", { value: code, label: languageName(code) })));
  if (microphone) $("record-text").textContent = text("stop");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", String(theme === "dark"));
  localStorage.setItem("theme", theme);
}

async function loadModels() {
  try {
    const names = await models();
    $("model").replaceChildren(...names.map((name) => element("option", { value: name, textContent: name })));
    say("");
  } catch (error) {
    if (error.status === 401) $("key-field").hidden = false;
    say(error.status === 401 ? "needkey" : "lost", {}, true);
  }
}

// --- files ----------------------------------------------------------------------------------------------------------

function add(files) {
  for (const file of files) {
    const result = new Result(file.name, file, () => $("format").value);
    $("results").append(result.card);
    enqueue({ file, name: file.name, result });
  }
}

function enqueue(item) {
  item.result.setState("waiting");
  queue.push({ ...item, options: chosen() });
  if (!working) work();
}

async function work() {
  working = true;
  while (queue.length) {
    const item = queue.shift();
    if (!item.result.removed) await transcribeOne(item);
  }
  working = false;
}

async function transcribeOne(item) {
  const { file, name, result, options } = item;
  const controller = new AbortController();
  result.onremove = () => controller.abort();
  result.clear();
  delete result.state.dataset.text;
  result.state.textContent = "…";
  say("working", { name });
  try {
    for await (const event of transcribe(file, name, options, controller.signal)) {
      if (event.type === "transcript.text.segment") result.add(event, event.end / event.duration);
      if (event.type === "transcript.text.done") {
        result.finish({ language: event.language === "unknown" ? "" : event.language, duration: event.duration });
        say("done", { name });
      }
    }
  } catch (error) {
    if (result.removed) return say("");
    if (error.status === 401) $("key-field").hidden = false;
    const message = error.status === 401 ? text("needkey") : error instanceof ApiError ? error.message : text("lost");
    result.fail(message, () => enqueue(item));
    say("");
  }
}

// --- microphone -----------------------------------------------------------------------------------------------------

function liveView() {
  const segments = [];
  let done = "";
  $("live").hidden = false;
  $("live-text").textContent = text("listening");
  return {
    segments,
    handle(event) {
      if (event.type === "dragoman.partial") {
        const tentative = element("span", { className: "tentative", textContent: event.tentative });
        $("live-text").replaceChildren(`${done} ${event.text} `, tentative);
      } else if (event.type.endsWith("transcription.completed")) {
        segments.push(...event.segments);
        done = `${done} ${event.transcript}`.trim();
        $("live-text").textContent = done;
      } else if (event.type.endsWith("failed") || event.type === "error") {
        delete $("status").dataset.text;
        $("status").textContent = event.error.message;
        $("status").classList.add("error");
      }
    },
  };
}

async function startRecording() {
  const view = liveView();
  microphone = new Microphone(chosen(), view.handle, () => stopRecording("lost"));
  microphone.view = view;
  $("record").setAttribute("aria-pressed", "true");
  $("record-text").textContent = text("stop");
  say("listening");
  try {
    await microphone.start();
  } catch (error) {
    microphone = null;
    $("live").hidden = true;
    showIdle();
    say("microphone", { why: error.message }, true);
  }
}

function showIdle() {
  $("record").setAttribute("aria-pressed", "false");
  $("record-text").textContent = text("record");
}

async function stopRecording(problem) {
  const { view } = microphone;
  const stopping = microphone;
  microphone = null;
  $("record").disabled = true;
  const { chunks, rate } = await stopping.stop();
  $("record").disabled = false;
  showIdle();
  $("live").hidden = true;
  const time = new Date().toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit" });
  const name = `${text("recording")} ${time}`;
  const result = new Result(name, wav(chunks, rate), () => $("format").value);
  $("results").append(result.card);
  view.segments.forEach((segment) => result.add(segment));
  result.finish({ duration: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0) / 2 / rate });
  say(problem || "done", { name }, Boolean(problem));
}

// --- events ---------------------------------------------------------------------------------------------------------

$("files").onchange = ({ target }) => {
  add(target.files);
  target.value = "";
};
$("record").onclick = () => (microphone ? stopRecording() : startRecording());
$("interface").onclick = () => {
  setLanguage($("interface").lang);
  show();
};
$("theme").onclick = () => {
  const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  setTheme(dark === "dark" ? "light" : "dark");
};
$("options").onsubmit = (event) => event.preventDefault();
$("key").onchange = ({ target }) => {
  sessionStorage.setItem("key", target.value.trim());
  loadModels();
};
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});

if (localStorage.getItem("theme")) setTheme(localStorage.getItem("theme"));
show();
loadModels();
