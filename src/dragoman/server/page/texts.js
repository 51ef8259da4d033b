// The words of the interface, in English and Arabic.

const TEXTS = {
  en: {
    tagline: "Speech to text", drop: "Drop recordings here", formats: "Audio or video, in any usual format. Several are transcribed one after the other.",
    choose: "Choose files", record: "Record", stop: "Stop", options: "Options", model: "Model", language: "Language",
    detect: "Detected", task: "Task", transcribe: "Transcribe", translate: "Translate to English", format: "Download as",
    plain: "Text", key: "API key", live: "Live", results: "Transcripts", theme: "Dark or light",
    privacy: "Recordings go to this server only, and are not kept.", waiting: "Waiting", sending: "Sending {name} …",
    working: "Transcribing {name} …", done: "{name} is transcribed.", failed: "Failed", listening: "Listening …",
    microphone: "The microphone cannot be used: {why}", lost: "The connection to the server is lost.",
    recording: "Recording", edit: "Edit", save: "Save", cancel: "Cancel", start: "Start (s)", end: "End (s)",
    text: "Text", play: "Play from {time}", download: "Download", progress: "Progress of {name}", copy: "Copy text",
    copied: "Copied.", words: "Words. Arrow keys move, Enter plays.", empty: "No speech was found.",
    needkey: "This server asks for an API key. Enter it above, and try again.", retry: "Try again", remove: "Remove",
    wrongtimes: "The start must be a number of seconds, and the end must not be before it.", edited: "edited",
    player: "Player of {name}",
  },
  ar: {
    tagline: "من الكلام إلى النص", drop: "أفلت التسجيلات هنا", formats: "صوت أو فيديو بأي صيغة شائعة. وتُفرَّغ الملفات واحدًا بعد الآخر.",
    choose: "اختر ملفات", record: "سجّل", stop: "أوقف", options: "الخيارات", model: "النموذج", language: "اللغة",
    detect: "تُكتشف تلقائيًا", task: "المهمة", transcribe: "تفريغ", translate: "ترجمة إلى الإنجليزية", format: "صيغة التنزيل",
    plain: "نص", key: "مفتاح الواجهة", live: "مباشر", results: "النصوص المفرَّغة", theme: "داكن أو فاتح",
    privacy: "لا تُرسل التسجيلات إلا إلى هذا الخادم، ولا يُحتفظ بها.", waiting: "في الانتظار", sending: "جارٍ إرسال {name} …",
    working: "جارٍ تفريغ {name} …", done: "اكتمل تفريغ {name}.", failed: "تعذّر التفريغ", listening: "جارٍ الاستماع …",
    microphone: "تعذّر استعمال الميكروفون: {why}", lost: "انقطع الاتصال بالخادم.",
    recording: "تسجيل", edit: "تحرير", save: "حفظ", cancel: "إلغاء", start: "البداية (ث)", end: "النهاية (ث)",
    text: "النص", play: "شغّل من {time}", download: "تنزيل", progress: "تقدّم {name}", copy: "انسخ النص",
    copied: "نُسخ النص.", words: "الكلمات. تنقّل بالأسهم وشغّل بمفتاح الإدخال.", empty: "لم يُعثر على كلام.",
    needkey: "يطلب هذا الخادم مفتاحًا. أدخله في الأعلى ثم أعد المحاولة.", retry: "أعد المحاولة", remove: "أزل",
    wrongtimes: "يجب أن تكون البداية عددًا من الثواني، وألا تسبقها النهاية.", edited: "محرَّر",
    player: "مشغّل {name}",
  },
};

const wanted = () => localStorage.getItem("interface") || (navigator.language.startsWith("ar") ? "ar" : "en");
let current = TEXTS[wanted()] ? wanted() : "en";

export const language = () => current;

export function text(name, values = {}) {
  return TEXTS[current][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export function setLanguage(code) {
  current = code;
  localStorage.setItem("interface", code);
}

export const CODES = ["ar", "de", "en", "es", "fa", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "tr", "ur", "zh"];

const names = (code) => new Intl.DisplayNames([code], { type: "language" });

export const languageName = (code) => names(current).of(code);

// The answer of the server names languages in English.
export function nameOfAnswer(name) {
  const code = CODES.find((one) => names("en").of(one).toLowerCase() === name);
  return code ? languageName(code) : name;
}

export function seconds(value) {
  const form = { style: "unit", unit: "second", unitDisplay: "narrow", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(current, form).format(value);
}

// Write the words of the interface into every element that names them; their values are in its other data.
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text, element.dataset);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label, element.dataset));
  }
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}
