/** The photo page: a picture, a recipe that is always run from the original, and its result. */
import { about, cancel, leave, result, state, submit, upload } from "./server.js";
import { say, speak } from "./texts.js";
import "./compare.js";

const TONES = { brightness: 2, contrast: 1, balance: 1 };
const IDLE_S = 60, WARN_S = 20;
const ENDED = ["done", "failed", "cancelled", "interrupted"];
const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** @typedef {{steps: Record<string, number>, background: string, tones: Record<string, number | "auto">}} Choice */
/** @returns {Choice} */
const untouched = () => ({ steps: {}, background: "none", tones: { brightness: 0, contrast: 0, balance: 0 } });

let server = { operations: [], max_upload_mb: 35 };
let picture = null, original = "", shown = "", job = null, busy = "", idle_s = 0;
/** @type {EventSource | null} */
let events = null;
/** @type {Choice} */
let choice = untouched();
let past = [], future = [], timer = 0, stale = false;

/** The operations in the order in which they are run, whatever order they were chosen in. */
function recipe() {
  const steps = ["dejpeg", "denoise", "deblur", "retouch"]
    .filter((op) => op in choice.steps).map((op) => ({ op, strength: choice.steps[op] }));
  if (Object.values(choice.tones).some(Boolean)) steps.push({ op: "tones", ...choice.tones });
  if ("cutout" in choice.steps) steps.push({ op: "cutout", background: choice.background });
  if ("enlarge" in choice.steps) steps.push({ op: "enlarge", strength: choice.steps.enlarge });
  return steps;
}

function tell(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function fail(error) {
  busy = "";
  $("progress").hidden = true;
  tell(error.status === 0 ? say("gone") : error.status === 507 ? say("full")
    : error.status === 413 ? say("too_large", server.max_upload_mb) : say("failed", error.message), true);
  refresh();
}

function refresh() {
  const ready = Boolean(picture) && !busy;
  $("blocked").textContent = ready ? "" : say(busy ? "wait" : "need");
  $("controls").disabled = !ready;
  $("auto").disabled = !ready;
  $("auto").hidden = busy === "working";
  $("cancel").hidden = busy !== "working";
  $("save").disabled = !ready || !job;
  $("reset").disabled = !ready || !past.length;
  $("another").disabled = !picture || Boolean(busy);
  $("undo").disabled = !ready || !past.length;
  $("redo").disabled = !ready || !future.length;
  $("drop").hidden = Boolean(picture);
  $("compare").hidden = !picture;
}

/** Take a new choice, and run it when the hand has come to rest. @param {(one: Choice) => void} change */
function change(change) {
  past.push(structuredClone(choice));
  future = [];
  change(choice);
  soon();
}

function soon(wait_ms = 350) {
  clearTimeout(timer);
  timer = setTimeout(run, wait_ms);
  draw();
  refresh();
}

async function run() {
  if (!picture) return;
  if (busy) { stale = true; return; }
  busy = "working";
  tell("");
  refresh();
  try {
    follow(await submit(picture.id, recipe()));
  } catch (error) { fail(error); }
}

function follow(told) {
  job = told;
  step(told);
  events?.close();
  events = new EventSource(`api/v1/jobs/${told.id}/events`);
  events.addEventListener("job", (event) => step(JSON.parse(event.data)));
  events.onerror = () => busy && tell(say("gone"), true);
}

async function step(told) {
  if (told.id !== job?.id || busy !== "working") return;
  const percent = Math.round(100 * told.progress);
  $("progress").hidden = ENDED.includes(told.state);
  $("progress").value = told.progress;
  if (told.state === "queued") tell(say("queued", told.position));
  else if (told.state === "working") tell(told.eta_s === null ? say("working", percent) : say("left", percent, Math.ceil(told.eta_s)));
  if (!ENDED.includes(told.state)) return;
  events?.close();
  busy = "ended";
  if (told.state === "done") {
    try {
      const next = URL.createObjectURL(await result(told.id));
      $("compare").show(original, next);
      if (shown) URL.revokeObjectURL(shown);
      shown = next;
      job = told;
      tell(say("done", `${told.width} × ${told.height}. ${told.message}`));
    } catch (error) { job = null; fail(error); return; }
  } else {
    job = null;
    if (told.state === "cancelled") tell(say("cancelled"));
    else tell(say("failed", told.message), true);
  }
  busy = "";
  refresh();
  if (stale) { stale = false; run(); }
}

async function take(file) {
  if (!file || busy) return;
  if (file.size > server.max_upload_mb * 1e6) { fail({ status: 413 }); return; }
  busy = "uploading";
  refresh();
  try {
    $("progress").hidden = false;
    const told = await upload(file, (share) => {
      $("progress").value = share;
      tell(share < 1 ? say("uploading", Math.round(100 * share)) : say("checking"));
    });
    forget();
    picture = told;
    original = `api/v1/pictures/${told.id}`;
    $("compare").show(original, "");
    $("progress").hidden = true;
    tell(`${told.name}, ${told.width} × ${told.height}. ${told.note}`);
    busy = "";
    refresh();
    $("auto").focus();
  } catch (error) { fail(error); }
}

function forget() {
  events?.close();
  clearTimeout(timer);
  picture = job = null;
  stale = false;
  busy = "";
  if (shown) URL.revokeObjectURL(shown);
  shown = "";
  choice = untouched();
  past = [];
  future = [];
  $("file").value = "";
  $("progress").hidden = true;
  tell("");
  draw();
  refresh();
}

/** Make an element. @param {string} tag @param {object} [fields] @param {...(Node|string)} inside */
function make(tag, fields = {}, ...inside) {
  const one = Object.assign(document.createElement(tag), fields);
  one.append(...inside);
  return one;
}

/** Build the controls once for a language; `draw` sets their values. */
function build() {
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = say(one.getAttribute("data-text"));
  document.title = say("title");
  $("compare").label(say("before"), say("after"), say("compare"));
  $("operations").replaceChildren(...server.operations.filter((one) => one.name !== "tones").map(operation));
  $("tones").replaceChildren(...Object.entries(TONES).map(tone));
  draw();
  refresh();
}

function operation({ name, enabled, reason }) {
  const box = make("input", { type: "checkbox", id: `op-${name}`, disabled: !enabled });
  const row = make("div", { className: "operation" }, make("label", { className: "switch" }, box, say(name)));
  if (!enabled) {
    const why = make("p", { className: "note", id: `why-${name}`, title: reason }, say("missing"));
    box.setAttribute("aria-describedby", why.id);
    row.append(why);
    return row;
  }
  box.onchange = () => change((one) => { if (box.checked) one.steps[name] = 1; else delete one.steps[name]; });
  if (name === "cutout") {
    const select = make("select", { id: "background" }, ...["none", "white", "black"].map((value) => make("option", { value }, say(value))));
    select.setAttribute("aria-label", say("background"));
    select.onchange = () => change((one) => { one.background = select.value; });
    row.append(select);
  } else {
    const range = make("input", { type: "range", id: `strength-${name}`, min: "0", max: "2", step: "0.05" });
    range.setAttribute("aria-label", say("strength", say(name)));
    range.onchange = () => change((one) => { one.steps[name] = Number(range.value); });
    row.append(range);
  }
  return row;
}

function tone([name, most]) {
  const range = make("input", { type: "range", id: name, min: `${-most}`, max: `${most}`, step: "0.05" });
  range.onchange = () => change((one) => { one.tones[name] = Number(range.value); });
  const auto = make("button", { type: "button", id: `auto-${name}` }, say("auto"));
  auto.setAttribute("aria-label", say("automatic", say(name)));
  auto.onclick = () => change((one) => { one.tones[name] = one.tones[name] === "auto" ? 0 : "auto"; });
  return make("div", { className: "tone" }, make("label", { htmlFor: name }, say(name)), range, auto);
}

function draw() {
  for (const { name, enabled } of server.operations) {
    const box = $(`op-${name}`), range = $(`strength-${name}`);
    if (!box || !enabled) continue;
    box.checked = name in choice.steps;
    if (range) { range.hidden = !box.checked; range.value = choice.steps[name] ?? 1; }
  }
  if ($("background")) { $("background").hidden = !("cutout" in choice.steps); $("background").value = choice.background; }
  for (const name of Object.keys(TONES)) {
    if (!$(name)) continue;
    const automatic = choice.tones[name] === "auto";
    $(name).value = automatic ? 0 : choice.tones[name];
    $(`auto-${name}`).setAttribute("aria-pressed", String(automatic));
  }
}

function auto() {
  const usable = server.operations.filter((one) => one.enabled).map((one) => one.name);
  change((one) => {
    for (const name of ["retouch", "cutout"]) if (usable.includes(name)) one.steps[name] = 1;
    one.tones = { brightness: "auto", contrast: "auto", balance: "auto" };
  });
  soon(0);
}

function travel(from, to) {
  if (busy || !from.length) return;
  to.push(structuredClone(choice));
  choice = from.pop();
  soon(0);
}

function save() {
  const link = make("a", { href: `api/v1/jobs/${job.id}/result?download=${encodeURIComponent($("name").value || job.name)}`, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
  $("naming").close();
  tell(say("saved"));
}

$("file").onchange = () => take($("file").files[0]);
$("auto").onclick = auto;
$("undo").onclick = () => travel(past, future);
$("redo").onclick = () => travel(future, past);
$("reset").onclick = () => { change((one) => Object.assign(one, untouched())); soon(0); };
$("another").onclick = () => { leave().catch(fail); forget(); $("file").focus(); };
$("cancel").onclick = () => job && cancel(job.id).catch(fail);
$("save").onclick = () => { $("name").value = job.name; $("naming").showModal(); };
$("naming-close").onclick = () => $("naming").close();
$("confirm").onclick = save;
$("name").onkeydown = (event) => event.key === "Enter" && save();
$("stay").onclick = () => $("leaving").close();
$("language").onchange = () => { speak($("language").value); localStorage.setItem("language", $("language").value); build(); };
addEventListener("paste", (event) => take(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); take(event.dataTransfer?.files[0]); });
addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || $("naming").open) return;
  event.preventDefault();
  if (event.shiftKey) travel(future, past); else travel(past, future);
});
for (const name of ["pointerdown", "keydown", "input"]) addEventListener(name, () => { idle_s = 0; if ($("leaving").open) $("leaving").close(); });
// A page that slept finds its job again at once.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && busy === "working" && job) state(job.id).then(step, fail);
});
setInterval(() => {
  idle_s = picture && !busy ? idle_s + 1 : 0;
  const left = IDLE_S - idle_s;
  if (left <= 0) { $("leaving").close(); leave().catch(fail); forget(); return; }
  if (left > WARN_S) return;
  $("leaving-text").textContent = say("leaving", left);
  if (!$("leaving").open) { $("naming").close(); $("leaving").showModal(); }
}, 1000);

async function begin() {
  try {
    server = await about();
    build();
    tell("");
  } catch (error) { fail(error); setTimeout(begin, 2000); }
}
const wanted = localStorage.getItem("language") ?? navigator.language.slice(0, 2);
speak(wanted);
$("language").value = document.documentElement.lang;
build();
begin();
