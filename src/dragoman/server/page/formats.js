// Segments as text, subtitles and JSON, as they are shown: edited.

function clock(seconds, point, hours = true) {
  const ms = Math.round(seconds * 1000);
  const pad = (number, count = 2) => String(Math.floor(number)).padStart(count, "0");
  const rest = `${pad((ms / 60000) % 60)}:${pad((ms / 1000) % 60)}${point}${pad(ms % 1000, 3)}`;
  return hours || ms >= 3600000 ? `${pad(ms / 3600000)}:${rest}` : rest;
}

export const shortClock = (seconds) => clock(seconds, ".", false).slice(0, -2);

const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

export const FORMATS = {
  txt: { type: "text/plain", make: (segments) => segments.map((one) => `${one.text}\n`).join("") },
  srt: {
    type: "application/x-subrip",
    make: (segments) => segments.map((one, i) =>
      `${i + 1}\n${clock(one.start, ",")} --> ${clock(one.end, ",")}\n${one.text}\n\n`).join(""),
  },
  vtt: {
    type: "text/vtt",
    make: (segments) => `WEBVTT\n\n${segments.map((one) =>
      `${clock(one.start, ".")} --> ${clock(one.end, ".")}\n${safe(one.text)}\n\n`).join("")}`,
  },
  json: {
    type: "application/json",
    make: (segments, facts) => `${JSON.stringify(
      { text: segments.map((one) => one.text).join(" "), ...facts, segments: segments.map(({ start, end, text, words }) =>
        ({ start, end, text, words })) }, null, 1)}\n`,
  },
};

export function download(name, format, segments, facts) {
  const { type, make } = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([make(segments, facts)], { type: `${type};charset=utf-8` }));
  link.download = `${name.replace(/\.[^.]+$/, "")}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// 16-bit mono samples as a WAV file.
export function wav(chunks, rate) {
  const size = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const word = (place, letters) => [...letters].forEach((c, i) => head.setUint8(place + i, c.charCodeAt(0)));
  word(0, "RIFF"); head.setUint32(4, 36 + size, true); word(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, rate * 2, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  word(36, "data"); head.setUint32(40, size, true);
  return new Blob([head, ...chunks], { type: "audio/wav" });
}
