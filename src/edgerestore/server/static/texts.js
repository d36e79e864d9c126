/** The page's texts. A plural or a number is put in by `say`. */
export const TEXTS = {
  en: {
    title: "Restore a photo", undo: "Undo", redo: "Redo", language: "Language", photo: "Photo",
    choose: "Choose a photo", drop: "or drop it here, or paste it", adjust: "Adjust", auto: "Auto",
    cancel: "Cancel", reset: "Reset", another: "Another photo", save: "Save", save_as: "Save as", name: "Name", back: "Back",
    still_there: "Are you still there?", stay: "Continue", leaving: "Your photos are deleted in {0} s.",
    before: "Original", after: "Result", compare: "How much of the original is shown",
    need: "Choose a photo first.", uploading: "Uploading: {0} %", checking: "Checking the photo …",
    wait: "One moment: the photo is being worked on.", queued: "Waiting: number {0} in the queue",
    working: "Working: {0} %", left: "Working: {0} %, about {1} s left", done: "Done. {0}", cancelled: "Cancelled.",
    failed: "That did not work: {0}", gone: "The server does not answer. Trying again …", too_large: "The file is larger than {0} MB, the limit here.",
    full: "The disk is full. Ask the staff.", missing: "Not installed here", strength: "Strength of {0}",
    deblur: "Sharpen", denoise: "Remove noise", dejpeg: "Remove JPEG blocks", retouch: "Retouch", enlarge: "Enlarge", cutout: "Remove background",
    background: "Background", none: "Transparent", white: "White", black: "Black", color: "Colour",
    brightness: "Brightness", contrast: "Contrast", balance: "Warmth", automatic: "{0}: automatic", saved: "Saved.",
  },
  uk: {
    title: "Відновлення фото", undo: "Скасувати зміну", redo: "Повторити", language: "Мова", photo: "Фото",
    choose: "Виберіть фото", drop: "або перетягніть сюди чи вставте", adjust: "Налаштування", auto: "Авто",
    cancel: "Зупинити", reset: "Скинути", another: "Інше фото", save: "Зберегти", save_as: "Зберегти як", name: "Назва", back: "Назад",
    still_there: "Ви ще тут?", stay: "Продовжити", leaving: "Ваші фото буде видалено за {0} с.",
    before: "Оригінал", after: "Результат", compare: "Яку частину оригіналу показано",
    need: "Спершу виберіть фото.", uploading: "Завантаження: {0} %", checking: "Перевірка фото …",
    wait: "Хвилинку: фото обробляється.", queued: "Очікування: номер {0} у черзі",
    working: "Обробка: {0} %", left: "Обробка: {0} %, лишилося близько {1} с", done: "Готово. {0}", cancelled: "Зупинено.",
    failed: "Не вдалося: {0}", gone: "Сервер не відповідає. Спробуємо ще …", too_large: "Файл більший за {0} МБ, дозволену межу.",
    full: "Диск заповнено. Зверніться до персоналу.", missing: "Тут не встановлено", strength: "Сила: {0}",
    deblur: "Різкість", denoise: "Прибрати шум", dejpeg: "Прибрати блоки JPEG", retouch: "Ретуш", enlarge: "Збільшити", cutout: "Прибрати тло",
    background: "Тло", none: "Прозоре", white: "Біле", black: "Чорне", color: "Колір",
    brightness: "Яскравість", contrast: "Контраст", balance: "Теплота", automatic: "{0}: автоматично", saved: "Збережено.",
  },
};

let language = "en";

/** Choose the language of all that `say` returns. @param {string} wanted */
export function speak(wanted) {
  language = wanted in TEXTS ? wanted : "en";
  document.documentElement.lang = language;
}

/** Return a text, its gaps filled. @param {string} key @param {...(string|number)} gaps */
export function say(key, ...gaps) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\d)\}/g, (_, at) => String(gaps[Number(at)] ?? ""));
}
