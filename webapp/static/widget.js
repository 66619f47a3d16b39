// Shows a customer's usage in a page: exchanges the page's token for a frame that opens once, and
// renews it before it ends. The token stays in this script: in no address, storage or element.
(function () {
  "use strict";
  if (window.StripeMeterWidget) { return; }

  const OWN = document.currentScript && document.currentScript.src;
  const RETRIES = [2, 4, 8, 15, 30, 60]; // seconds
  const MOST = 5; // failures with tokens in a row, after which a person has to ask
  const SAFE = "Your bill is not affected.";
  const WORDS = {
    unreachable: ["Your usage cannot be loaded at the moment.", "The server does not answer; it is asked again by itself. " + SAFE],
    token: ["Your usage cannot be shown at the moment.", "This page got no access to it. Try again, or sign in to this page again. " + SAFE],
    setup: ["Your usage cannot be shown on this page yet.", "Whoever runs this page has to allow it: please let them know. " + SAFE],
    ended: ["This session has ended.", "Reload the page to see your usage again."],
  };
  const DARK = "{ --ink: #e7ecf3; --muted: #9fabba; --line: #2d3744; --card: #171e27; }";
  const widgets = new WeakMap();

  // Adopted, not inserted: the page's policy may forbid that. Of two `!important`, `:host`'s wins.
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host { all: initial !important; display: block !important; position: relative !important; }
    div { --ink: #1b2430; --muted: #5b6675; --line: #d9dfe7; --card: #fff; padding: 16px; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 8px; font: 16px/1.5 system-ui, sans-serif; }
    .dark ${DARK} @media (prefers-color-scheme: dark) { .auto ${DARK} }
    [hidden] { display: none; }
    i { display: block; height: 24px; margin-bottom: 16px; background: var(--line); border-radius: 4px; animation: wait 1.6s infinite; }
    i:first-of-type { width: 60%; } i:nth-of-type(3) { height: 160px; }
    @keyframes wait { 50% { opacity: .5; } }
    @media (prefers-reduced-motion: reduce) { i { animation: none; } }
    p { margin: 0 0 8px; } p + p { color: var(--muted); }
    span { position: absolute; clip-path: inset(50%); }
    button { font: inherit; min-height: 40px; padding: 4px 16px; color: inherit; background: none; border: 1px solid var(--muted); border-radius: 8px; cursor: pointer; }
    button:focus-visible { outline: 3px solid; outline-offset: 2px; }
    iframe { display: block; width: 100%; border: 0; }
    .waiting { position: absolute; top: 0; visibility: hidden; }`);

  const wrong = (sentence) => new Error("StripeMeterWidget: " + sentence);
  const failure = (kind, detail, seconds = 0) => Object.assign(new Error(detail), { kind, seconds });
  const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

  function address(given) {
    let url;
    try { url = given ? new URL(given, location.href) : new URL("/", OWN); } catch { /* said below */ }
    if (!url || !/^https?:$/.test(url.protocol)) { throw wrong("give apiUrl, the http or https address of StripeMeter."); }
    return { base: (url.origin + url.pathname).replace(/\/+$/, ""), origin: url.origin };
  }

  // Only how it looks: whose usage it is, is the token's to say.
  function looks(options) {
    const asked = new URLSearchParams(), accent = String(options.accent || options.brandColor || "").replace("#", "");
    const { theme, locale, dir, radius } = options;
    const values = { theme, locale, dir, radius: parseInt(radius, 10), compact: options.compact && 1, accent: accent.length === 3 ? accent.replace(/./g, "$&$&") : accent };
    for (const [name, value] of Object.entries(values)) { if (value || value === 0) { asked.set(name, value); } }
    return "?" + asked;
  }

  function mount(box, options, api) {
    const host = element("div"), panel = element("div"), root = host.attachShadow({ mode: "closed" }), stop = new AbortController();
    const { getToken } = options, isKeyless = !getToken && !options.token;
    let held = options.token || null, frame = null, live = false, spoke = false; // spoke: since it was loaded
    let busy = false, settle = null, failures = 0, logged = "", timer, due = Infinity, renews = false, since = 0, askedAt = 0;

    root.adoptedStyleSheets = [sheet];
    panel.setAttribute("role", "status");
    panel.className = /^(light|dark)$/.test(options.theme) ? options.theme : "auto";
    panel.dir = options.dir === "rtl" ? "rtl" : "ltr";
    panel.style.borderRadius = parseInt(options.radius, 10) + "px";
    root.append(panel);

    function draw(...children) {
      panel.hidden = false;
      panel.replaceChildren(...children);
    }

    function drawSkeleton() {
      draw(element("span", "Loading your usage"), ...Array.from({ length: options.compact ? 2 : 5 }, () => element("i")));
    }

    async function newToken() {
      // Whatever asks, the page's backend is asked once a second at most.
      await sleep(askedAt + 1000 - Date.now());
      if (stop.signal.aborted) { return; }
      askedAt = Date.now();
      held = await Promise.race([
        Promise.resolve().then(getToken).catch((error) => { throw failure("token", "getToken failed: " + (error && error.message || error)); }),
        sleep(20000).then(() => { throw failure("token", "getToken did not answer within 20 seconds."); }),
      ]);
      if (typeof held !== "string" || !held) { held = null; throw failure("token", "getToken has to resolve to the token, a string."); }
    }

    async function post() {
      const body = isKeyless ? { tenantId: options.tenantId, customerRef: options.customerId } : { token: held };
      const patience = new AbortController(), late = setTimeout(() => patience.abort(), 10000);
      stop.signal.addEventListener("abort", () => patience.abort());
      try {
        const response = await fetch(api.base + "/v1/widget/frames", {
          method: "POST", credentials: "omit", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: patience.signal,
        });
        return { status: response.status, after: +response.headers.get("Retry-After") || 0, answer: await response.json().catch(() => ({})) };
      } catch {
        throw failure("unreachable", `${api.base} cannot be reached. If it runs, this page's Content-Security-Policy may miss it in connect-src.`);
      } finally { clearTimeout(late); }
    }

    async function exchange() {
      const wasHeld = held;
      if (getToken && !held) { await newToken(); }
      let given = await post();
      if (given.status === 401 && getToken && wasHeld) {
        await newToken();
        given = await post();
      }
      const { status, after, answer } = given;
      if (status === 201 && /^\/[^/]/.test(answer.frameUrl)) { return answer; }
      let kind = status === 429 || status >= 500 || status < 400 ? "unreachable" : "setup";
      if (status === 401 && !isKeyless) { kind = getToken ? "token" : "ended"; }
      if (kind === "token") { held = null; }
      throw failure(kind, `${status} ${answer.detail || "without detail"}`, Math.min(after, 60));
    }

    const tell = (message) => frame.contentWindow.postMessage({ stripemeter: 1, ...message }, api.origin);

    function drop() {
      if (frame) { frame.remove(); }
      frame = null;
      live = false;
    }

    // A new element each time: a new address in the old one would be a step of the page's history.
    function build(url) {
      const made = frame = element("iframe");
      Object.assign(made, { title: options.title || "Usage and cost", className: "waiting", referrerPolicy: "no-referrer", scrolling: "no", src: url });
      made.sandbox = "allow-scripts allow-same-origin allow-downloads";
      made.onload = () => {
        // A browser's own error page loads as well, and says nothing.
        if (!spoke) { setTimeout(() => { if (!spoke && made === frame) { ended(false); } }, 3000); }
        spoke = false;
      };
      root.append(made);
    }

    function show(given) {
      return new Promise((done, fail) => {
        const late = setTimeout(() => settle(true), 15000);
        settle = (isLost) => {
          clearTimeout(late);
          settle = null;
          if (!isLost) { done(); return; }
          if (!live) { drop(); }
          fail(failure("unreachable", `The frame did not open. This page's Content-Security-Policy may miss ${api.origin} in frame-src.`));
        };
        if (frame) { tell({ type: "renew", code: given.code }); } else { build(api.base + given.frameUrl + looks(options)); }
      });
    }

    async function open() {
      if (busy || stop.signal.aborted) { return; }
      busy = true;
      clearTimeout(timer);
      if (!frame) { drawSkeleton(); }
      try {
        const given = await exchange();
        if (stop.signal.aborted) { return; }
        await show(given);
        since = Date.now();
        logged = "";
        if (getToken || isKeyless) { later(Math.max(5, given.expiresInSeconds * 0.8), true); }
      } catch (problem) { failed(problem); } finally { busy = false; }
    }

    function later(seconds, isRenewal) {
      clearTimeout(timer);
      renews = isRenewal;
      due = Date.now() + seconds * 1000;
      timer = setTimeout(wake, seconds * 1000);
    }

    const backOff = (least) => later(Math.max(least, RETRIES[Math.min(failures, RETRIES.length) - 1]), false);

    // A hidden page, or an element that the page took out, asks for nothing until it is seen again.
    function wake() {
      if (document.hidden || !host.isConnected || Date.now() < due) { return; }
      due = Infinity;
      if (renews && getToken) { held = null; }
      open();
    }

    function failed(problem) {
      if (stop.signal.aborted) { return; }
      const { kind = "unreachable", message, seconds = 0 } = problem;
      failures += 1;
      if (logged !== message) { console.error("StripeMeterWidget: " + message); }
      logged = message;
      if (!live) {
        const again = element("button", "Try again");
        again.onclick = () => { failures = 0; open(); };
        drop();
        draw(...WORDS[kind].map((words) => element("p", words)), ...(kind === "ended" ? [] : [again]));
      }
      if (kind === "unreachable" || (kind === "token" && failures <= MOST)) { backOff(seconds); }
    }

    function hear({ data, source, origin }) {
      if (!frame || source !== frame.contentWindow || origin !== api.origin || !data || data.stripemeter !== 1) { return; }
      if (data.type === "size" && data.height > 0) { frame.style.height = Math.min(Math.ceil(data.height), 30000) + "px"; }
      if (data.type === "ended") { ended(data.renewable); }
      if (data.type === "ready") {
        spoke = live = true;
        frame.className = "";
        panel.hidden = true;
        if (settle) { settle(false); }
      }
    }

    // isOpen: the frame's page is there still and takes a new code; else it has to be another frame.
    function ended(isOpen) {
      live = false;
      if (!isOpen) { drop(); }
      if (settle && !isOpen) { settle(true); }
      if (busy) { return; }
      if (!frame) { drawSkeleton(); }
      // What ends as soon as it begins is not begun again at once.
      failures = Date.now() - since < 30000 ? failures + 1 : 0;
      if (failures) { backOff(0); } else { open(); }
    }

    window.addEventListener("message", hear);
    document.addEventListener("visibilitychange", wake);
    box.append(host);
    open();
    return {
      refresh() {
        if (live) { tell({ type: "refresh" }); } else if (Date.now() > askedAt + 5000) { open(); }
      },
      destroy() {
        stop.abort();
        clearTimeout(timer);
        window.removeEventListener("message", hear);
        document.removeEventListener("visibilitychange", wake);
        host.remove();
      },
    };
  }

  function init(where, options) {
    const { token, getToken, tenantId, customerId, apiUrl } = options || {};
    if (getToken && typeof getToken !== "function") { throw wrong("getToken has to be a function that resolves to a token."); }
    if (token && typeof token !== "string") { throw wrong("token has to be a string."); }
    if (!token && !getToken && !(tenantId && customerId)) { throw wrong("give getToken or token; in the sandbox tenantId and customerId will do."); }
    const api = address(apiUrl), kept = { ...options }, find = () => typeof where === "string" ? document.getElementById(where) : where;
    let widget = null, isGone = false;

    function start() {
      const box = find();
      if (isGone) { return; }
      if (!(box instanceof Element)) { throw wrong(`there is no element "${where}" on this page.`); }
      if (widgets.has(box)) { widgets.get(box).destroy(); }
      widgets.set(box, widget = mount(box, kept, api));
    }

    if (document.readyState === "loading" && !find()) { document.addEventListener("DOMContentLoaded", start); } else { start(); }
    return {
      refresh() { if (widget) { widget.refresh(); } },
      destroy() { isGone = true; if (widget) { widget.destroy(); } },
    };
  }

  window.StripeMeterWidget = window.StripemeterWidget = Object.freeze({ initStripeMeterWidget: init, initStripemeterWidget: init });
})();
