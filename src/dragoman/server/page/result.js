// The card of a recording: player, progress, segments that can be played and edited, downloads.

import { FORMATS, download, shortClock } from "./formats.js";
import { nameOfAnswer, seconds, text, translate } from "./texts.js";

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Name an element for screen readers, in the language of the interface.
function label(named, name, values = {}) {
  Object.assign(named.dataset, { label: name, ...values });
  named.setAttribute("aria-label", text(name, values));
}

function button(name, action, className = "button") {
  const made = element("button", { type: "button", className, onclick: action });
  made.dataset.text = name;
  made.textContent = text(name);
  return made;
}

// Words of a segment without word timestamps: they share its time in proportion to their letters.
function spread({ text: whole, start, end }) {
  const parts = whole.split(/\s+/).filter(Boolean);
  const letters = parts.reduce((sum, part) => sum + part.length, 0) || 1;
  let time = start;
  return parts.map((word) => {
    const begin = time;
    time += ((end - start) * word.length) / letters;
    return { word, start: begin, end: time };
  });
}

export class Result {
  constructor(name, blob, format) {
    Object.assign(this, { name, segments: [], facts: {}, format });
    this.player = element("audio", { controls: true, preload: "metadata", src: URL.createObjectURL(blob) });
    this.bar = element("progress", { max: 1 });
    label(this.player, "player", { name });
    label(this.bar, "progress", { name });
    this.state = element("p", { className: "facts" });
    this.list = element("ol", { className: "segments", dir: "auto" });
    this.message = element("p", { className: "error", hidden: true, dir: "auto" });
    this.message.setAttribute("role", "alert");
    this.downloads = element("div", { className: "downloads", hidden: true });
    const title = element("h2", {}, element("bdi", { textContent: name }));
    this.card = element("article", { className: "result" },
      element("header", {}, title, this.state, button("remove", () => this.remove(), "quiet")),
      this.player, this.bar, this.message, this.list, this.downloads);
    this.card.setAttribute("aria-label", name);
    this.player.addEventListener("timeupdate", () => this.mark());
    this.list.addEventListener("keydown", (event) => this.move(event));
    this.list.addEventListener("click", ({ target }) => target.word && this.playFrom(target.word.start));
  }

  remove() {
    this.removed = true;
    this.onremove?.();
    URL.revokeObjectURL(this.player.src);
    this.card.remove();
  }

  setState(name) {
    this.state.dataset.text = name;
    this.state.textContent = text(name);
  }

  fail(message, retry) {
    this.setState("failed");
    this.bar.hidden = this.player.hidden = true;
    this.message.hidden = false;
    this.message.replaceChildren(message, " ", button("retry", () => {
      this.message.hidden = true;
      retry();
    }));
  }

  clear() {
    this.segments = [];
    this.list.replaceChildren();
    this.bar.hidden = this.player.hidden = false;
    this.bar.removeAttribute("value");
  }

  add(segment, progress) {
    const own = { start: segment.start, end: segment.end, text: segment.text.trim(), words: segment.words || [] };
    this.segments.push(own);
    this.list.append(this.row(own));
    if (progress) this.bar.value = progress;
  }

  finish(facts) {
    this.facts = facts;
    this.bar.hidden = true;
    this.describe();
    document.addEventListener("interface", () => this.describe());
  }

  // Show language and duration, in the language of the interface.
  describe() {
    delete this.state.dataset.text;
    const { language, duration } = this.facts;
    const parts = [language && nameOfAnswer(language), duration && seconds(duration)];
    if (this.segments.length) this.state.textContent = parts.filter(Boolean).join(" · ");
    else this.setState("empty");
    this.showDownloads();
  }

  showDownloads() {
    const title = element("span");
    title.dataset.text = "download";
    const buttons = Object.keys(FORMATS).map((format) => {
      const action = () => download(this.name, format, this.segments, this.facts);
      const made = element("button", { type: "button", className: "button", textContent: format, onclick: action });
      if (format === this.format()) made.classList.add("primary");
      made.setAttribute("aria-label", `${text("download")} ${format}`);
      return made;
    });
    const copy = button("copy", async () => {
      await navigator.clipboard.writeText(FORMATS.txt.make(this.segments));
      copy.textContent = text("copied");
    }, "quiet");
    this.downloads.replaceChildren(title, ...buttons, copy);
    this.downloads.hidden = !this.segments.length;
    translate(this.downloads);
  }

  row(segment) {
    const time = element("button", { type: "button", className: "time", textContent: shortClock(segment.start) });
    label(time, "play", { time: shortClock(segment.start) });
    time.onclick = () => this.playFrom(segment.start);
    const words = element("div", { className: "words", dir: "auto" });
    words.setAttribute("role", "group");
    label(words, "words");
    for (const word of segment.words.length ? segment.words : spread(segment)) {
      words.append(this.word(word), " ");
    }
    words.querySelector(".word")?.setAttribute("tabindex", "0");
    const row = element("li", {}, time, words, button("edit", () => this.edit(segment, row), "quiet edit"));
    return row;
  }

  word(word) {
    const made = element("span", { className: "word", textContent: word.word, tabIndex: -1, word });
    made.setAttribute("role", "button");
    if (word.probability < 0.3) made.classList.add("doubtful");
    else if (word.probability < 0.6) made.classList.add("unsure");
    if (word.probability !== undefined) made.title = `${Math.round(100 * word.probability)} %`;
    return made;
  }

  edit(segment, row) {
    const area = element("textarea", { value: segment.text, dir: "auto" });
    label(area, "text");
    const field = (name, value) => {
      const input = element("input", { type: "number", step: "0.01", min: "0", value: value.toFixed(2) });
      const title = element("span", { textContent: text(name) });
      title.dataset.text = name;
      return [input, element("label", {}, title, input)];
    };
    const [start, startLabel] = field("start", segment.start);
    const [end, endLabel] = field("end", segment.end);
    const problem = element("span", { className: "error" });
    problem.setAttribute("role", "alert");
    const close = () => {
      const fresh = this.row(segment);
      editor.closest("li").replaceWith(fresh);
      fresh.querySelector(".edit").focus();
    };
    const save = () => {
      if (!(start.valueAsNumber >= 0 && end.valueAsNumber >= start.valueAsNumber)) {
        problem.textContent = text("wrongtimes");
        return;
      }
      const changed = { text: area.value.replace(/\s+/g, " ").trim(), start: start.valueAsNumber, end: end.valueAsNumber };
      const same = changed.text === segment.text && start.value === start.defaultValue && end.value === end.defaultValue;
      if (!same) Object.assign(segment, changed, { words: [] });
      close();
    };
    start.defaultValue = start.value;
    end.defaultValue = end.value;
    const times = element("div", { className: "times" }, startLabel, endLabel,
      button("save", save, "button primary"), button("cancel", close), problem);
    const editor = element("div", { className: "editor" }, area, times);
    editor.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    });
    row.replaceChildren(row.querySelector(".time"), editor);
    area.focus();
  }

  playFrom(seconds) {
    this.player.currentTime = seconds;
    this.player.play().catch(() => {}); // a browser may refuse to play; the place is set all the same
  }

  mark() {
    const now = this.player.currentTime;
    for (const made of this.list.querySelectorAll(".word")) {
      made.classList.toggle("now", !this.player.paused && made.word.start <= now && now < made.word.end);
    }
  }

  move(event) {
    if (!event.target.word) return;
    const words = [...this.list.querySelectorAll(".word")];
    const forward = getComputedStyle(event.target.parentElement).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const steps = { [forward]: 1, [forward === "ArrowRight" ? "ArrowLeft" : "ArrowRight"]: -1 };
    if (event.key === "Enter" || event.key === " ") this.playFrom(event.target.word.start);
    else if (!steps[event.key]) return;
    event.preventDefault();
    const next = words[words.indexOf(event.target) + (steps[event.key] || 0)];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

