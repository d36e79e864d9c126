/** `<edgerestore-compare>`: two pictures one over the other, parted by a range input. */

const STYLE = `
  :host { display: flex; flex-direction: column; }
  .frame { position: relative; flex: 1; min-height: 200px; border-radius: 14px; overflow: hidden; background: var(--stage, #222); }
  img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
  .line { position: absolute; inset-block: 0; width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 0 1px #0008; }
  .tag { position: absolute; top: 12px; padding: 4px 12px; border-radius: 99px; background: #000b; color: #fff; font-size: .85rem; }
  .before { left: 12px; } .after { right: 12px; }
  input { width: 100%; height: 48px; margin: 0; accent-color: var(--accent, teal); cursor: pointer; }
  input:focus-visible { outline: 3px solid var(--accent, teal); }
  [hidden] { display: none; }
`;

export class Compare extends HTMLElement {
  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE); // no style element: the page's policy allows none
    root.adoptedStyleSheets = [sheet];
    root.innerHTML = `<div class="frame" dir="ltr"><img class="result" alt=""><img class="original" alt="">
      <span class="line"></span><span class="tag before"></span><span class="tag after"></span></div>
      <input type="range" min="0" max="100" value="50" dir="ltr">`;
    /** @type {HTMLImageElement} */ this.result = root.querySelector(".result");
    /** @type {HTMLImageElement} */ this.original = root.querySelector(".original");
    /** @type {HTMLInputElement} */ this.range = root.querySelector("input");
    this.range.addEventListener("input", () => this.part());
    const frame = root.querySelector(".frame");
    frame.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      const box = frame.getBoundingClientRect();
      this.range.value = String((100 * (event.clientX - box.left)) / box.width);
      this.part();
    });
  }

  /** Name the parts, in the page's language.
   * @param {string} before @param {string} after @param {string} range */
  label(before, after, range) {
    this.shadowRoot.querySelector(".before").textContent = before;
    this.shadowRoot.querySelector(".after").textContent = after;
    this.original.alt = before;
    this.result.alt = after;
    this.range.setAttribute("aria-label", range);
  }

  /** Show an original, and beside it a result where there is one.
   * @param {string} original @param {string} result */
  show(original, result) {
    if (this.original.src !== original) this.original.src = original;
    if (result) this.result.src = result;
    else this.result.removeAttribute("src");
    this.parted = Boolean(result);
    for (const one of [this.range, ...this.shadowRoot.querySelectorAll(".line, .after")]) one.hidden = !result;
    this.part();
  }

  part() {
    const share = this.parted ? Number(this.range.value) : 100;
    this.original.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    /** @type {HTMLElement} */ (this.shadowRoot.querySelector(".line")).style.left = `${share}%`;
  }
}

customElements.define("edgerestore-compare", Compare);
