/** Requests to the server. Every failure is an `Error` of one line; `status` is 0 where it does not answer. */

/** @param {string} path relative to the page, so that a proxy may put it under a sub-path
 * @param {RequestInit} [options] */
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw Object.assign(new Error("no answer"), { status: 0 });
  }
  if (answer.ok) return answer;
  // A proxy in between may answer in HTML.
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(typeof told.error === "string" ? told.error : answer.statusText), { status: answer.status });
}

export const about = async () => (await ask("api/v1/server")).json();
export const leave = () => ask("api/v1/session", { method: "DELETE", keepalive: true });
export const state = async (/** @type {string} */ job) => (await ask(`api/v1/jobs/${job}`)).json();
export const cancel = (/** @type {string} */ job) => ask(`api/v1/jobs/${job}`, { method: "DELETE" });
export const result = async (/** @type {string} */ job) => (await ask(`api/v1/jobs/${job}/result`)).blob();

/** Submit a recipe. @param {string} picture @param {object[]} recipe */
export async function submit(picture, recipe) {
  const body = JSON.stringify({ picture, recipe });
  const headers = { "Content-Type": "application/json" };
  return (await ask("api/v1/jobs", { method: "POST", headers, body })).json();
}

/** Upload a file; `XMLHttpRequest` because `fetch` tells no progress of what is sent.
 * @param {File} file @param {(share: number) => void} progress */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `api/v1/pictures?name=${encodeURIComponent(file.name.slice(-200) || "photo")}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(Object.assign(new Error("no answer"), { status: 0 }));
    request.onload = () => {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (request.status === 201) resolve(told);
      else reject(Object.assign(new Error(told.error ?? request.statusText), { status: request.status }));
    };
    request.send(file);
  });
}
