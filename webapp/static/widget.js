// Shows a customer's usage in a page: gets a frame for the page's token, and renews it in time.
// The token stays in this script: in no address, storage or element.
(function () {
  "use strict";
  if (window.StripeMeterWidget) { return; }

  const OWN = document.currentScript?.src;
  const RETRIES = [0, 2, 4, 8, 15, 30]; // seconds, then 60
  const SAFE = " Your bill is not affected.";
  const WORDS = {
    unreachable: ["Your usage cannot be loaded right now.", "The server does not answer; trying again." + SAFE],
    token: ["Your usage cannot be shown right now.", "Try again, or sign in to this page again." + SAFE],
    setup: ["Your usage cannot be shown here yet.", "Please tell those who run this page."],
    ended: ["This session has ended.", "Reload the page."],
  };
  const widgets = new WeakMap();

  // Adopted: the page's policy may forbid other styles.
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`:host { all: initial !important; display: block !important; position: relative !important; }
    div { max-width: 720px; box-sizing: border-box; margin: auto; padding: 16px; font: 14px/20px system-ui; color: CanvasText; background: light-dark(#fff, #171e27); border: 1px solid light-dark(#d9dfe7, #2d3744); border-radius: 8px; }
    i { display: block; height: 24px; margin-bottom: 16px; background: currentColor; opacity: .1; }
    i:nth-of-type(3) { height: 180px; }
    @media (prefers-reduced-motion: no-preference) { i { animation: wait 2s infinite; } }
    @keyframes wait { 50% { opacity: .06; } }
    p { margin: 0 0 8px; }
    span { position: absolute; clip-path: inset(50%); }
    button { font: inherit; padding: 8px 16px; color: inherit; background: none; border: 1px solid; border-radius: inherit; }
    iframe { display: block; width: 100%; border: 0; }
    .waiting { position: absolute; top: 0; visibility: hidden; }`);

  const wrong = (sentence) => new Error("StripeMeterWidget: " + sentence);
  const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });
  const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1e3));
  const within = (seconds, promise) => Promise.race([promise, sleep(seconds).then(() => { throw `no answer in ${seconds} s`; })]);

  function looks({ theme, locale, dir, radius, compact, accent, brandColor }) {
    const asked = { theme, locale, dir, radius, compact: compact && 1, accent: `${accent || brandColor || ""}`.replace("#", "").replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3") };
    return "?" + new URLSearchParams(Object.entries(asked).filter(([, value]) => value || value === 0));
  }

  function mount(box, options, api) {
    const { getToken, token, tenantId, customerId, theme, compact, radius, title = "Usage and cost" } = options;
    const base = api.href.replace(/\/+$/, "");
    const host = element("div"), panel = element("div"), root = host.attachShadow({ mode: "closed" }), stop = new AbortController(), end = stop.signal;
    let held = token; // until exchanged
    let frame, live, busy, opened, logged, timer, failures = 0, due, since = 0, askedAt = 0;

    function draw(...children) {
      panel.hidden = false;
      panel.replaceChildren(...children);
    }

    const skeleton = () => draw(element("span", "Loading your usage"), ...Array.from({ length: compact ? 2 : 5 }, () => element("i")));

    async function newToken() {
      // At most once a second, whatever asks.
      await sleep(Math.min(1, 1 - (Date.now() - askedAt) / 1e3));
      askedAt = Date.now();
      try {
        held = await within(20, end.aborted || getToken());
        if (!held || typeof held !== "string") { throw "it has to give a string"; }
      } catch (error) {
        held = null;
        throw { kind: "token", detail: `getToken failed: ${error?.message || error}` };
      }
    }

    async function post() {
      const asked = { method: "POST", headers: { "Content-Type": "application/json" } };
      asked.body = JSON.stringify(held ? { token: held } : { tenantId, customerRef: customerId });
      try {
        const response = await within(10, fetch(base + "/v1/widget/frames", asked));
        return [response.status, await response.json().catch(() => ({})), response.headers.get("Retry-After")];
      } catch { throw { kind: "unreachable", detail: `${base} cannot be reached; if it runs, see this page's connect-src` }; }
    }

    async function exchange() {
      let given = held || !getToken ? await post() : [401];
      if (given[0] === 401 && getToken) {
        await newToken();
        given = await post();
      }
      const [status, answer, after] = given;
      if (status === 201) { return answer; }
      let kind = status === 429 || status >= 500 || status < 400 ? "unreachable" : "setup";
      if (status === 401 && held) { kind = getToken ? "token" : "ended"; }
      throw { kind, detail: `${status} ${answer.detail || "is it StripeMeter?"}`, seconds: Math.min(after, 60) };
    }

    const tell = (message) => frame.contentWindow?.postMessage({ stripemeter: 1, ...message }, api.origin);

    function drop() {
      frame?.remove();
      frame = live = null;
    }

    // Never the old one: that would be a step Back.
    function build(src) {
      const made = frame = element("iframe");
      Object.assign(made, { title, className: "waiting", referrerPolicy: "no-referrer", sandbox: "allow-scripts allow-same-origin allow-downloads", scrolling: "no", src });
      // Moved, it loads again: in vain, it is spent.
      made.onload = () => { made.onload = () => { if (made === frame) { ended(); } }; };
      root.append(made);
    }

    async function open() {
      if (busy || end.aborted) { return; }
      busy = true;
      try {
        const given = await exchange();
        if (end.aborted) { return; }
        const answer = new Promise((done, fail) => { opened = { done, fail }; });
        if (frame) { tell({ type: "renew", code: given.code }); } else { build(base + given.frameUrl + looks(options)); }
        await within(10, answer).catch(() => { throw { kind: "unreachable", detail: "the frame did not open: see this page's frame-src, and that the origins of all pages around it are the token's" }; });
        since = Date.now();
        logged = null;
        held = getToken ? null : token;
        if (getToken || !token) { later(Math.max(5, given.expiresInSeconds * 0.8)); }
      } catch (problem) {
        await sleep(.1); // a page left is silent
        failed(problem);
      } finally { busy = opened = null; }
    }

    function later(seconds) {
      clearTimeout(timer);
      due = 0;
      timer = setTimeout(() => { due = 1; wake(); }, seconds * 1e3);
    }

    const backOff = (least) => later(Math.max(least, RETRIES[failures] ?? 60));

    // Hidden or taken out, it asks nothing.
    function wake() {
      if (document.hidden || !host.isConnected || !due) { return; }
      due = 0;
      open();
    }

    function failed({ kind = "unreachable", detail, seconds, message = "" }) {
      if (end.aborted) { return; }
      detail ??= "failed: " + message;
      failures += 1;
      if (logged !== detail) { console.error("StripeMeterWidget: " + (logged = detail)); }
      if (!live) {
        const again = element("button", "Try again");
        again.onclick = () => { failures = 0; skeleton(); open(); };
        drop();
        draw(...WORDS[kind].map((words) => element("p", words)), ...(kind === "ended" ? [] : [again]));
      }
      if (kind === "unreachable" || (kind === "token" && failures < RETRIES.length)) { backOff(seconds || 0); }
    }

    function hear({ data, source, origin }) {
      if (source !== frame?.contentWindow || origin !== api.origin || data?.stripemeter !== 1) { return; }
      if (data.type === "size" && data.height > 0) { frame.style.height = Math.min(data.height, 3e4) + "px"; }
      if (data.type === "ended") { ended(data.renewable); }
      if (data.type === "ready") {
        live = panel.hidden = true;
        frame.className = "";
        opened?.done();
      }
    }

    // isOpen: it takes a code. What ends as it begins is begun later each time.
    function ended(isOpen) {
      live = false;
      if (!isOpen) {
        drop();
        skeleton();
        opened?.fail();
      }
      if (busy) { return; }
      failures = Date.now() - since < 3e4 ? failures + 1 : 0;
      backOff(0);
    }

    root.adoptedStyleSheets = [sheet];
    root.append(panel);
    panel.role = "status";
    panel.style = `border-radius: ${radius}px; color-scheme: ${/^(light|dark)$/.test(theme) ? theme : "light dark"}`;
    skeleton();
    addEventListener("message", hear, stop);
    document.addEventListener("visibilitychange", wake, stop);
    box.append(host);
    open();
    return {
      refresh() { if (live) { tell({ type: "refresh" }); } else if (Date.now() > askedAt + 5e3) { open(); } },
      destroy() {
        stop.abort();
        clearTimeout(timer);
        drop();
        host.remove();
      },
    };
  }

  function init(where, options) {
    const { token, getToken, tenantId, customerId, apiUrl } = options || {};
    const find = () => document.getElementById(`${where}`.replace(/^#/, "")) || where;
    let api, widget, isGone;
    if (!token && !getToken && !(tenantId && customerId)) { throw wrong("give getToken or token (in the sandbox, tenantId and customerId)."); }
    if (typeof (getToken || find) !== "function" || typeof (token || "") !== "string") { throw wrong("token is a string, getToken a function for one."); }
    try { api = new URL(apiUrl || new URL("/", OWN), location.href); } catch {}
    if (!/^https?:$/.test(api?.protocol)) { throw wrong("give apiUrl, an http or https address."); }

    function start() {
      const box = find();
      if (isGone) { return; }
      if (!box?.append) { throw wrong(`there is no element "${where}" on this page.`); }
      widgets.get(box)?.destroy();
      widgets.set(box, widget = mount(box, { ...options }, api));
    }

    if (document.readyState === "loading" && find() === where) { document.addEventListener("DOMContentLoaded", start); } else { start(); }
    return { refresh: () => widget?.refresh(), destroy: () => { isGone = true; widget?.destroy(); } };
  }

  window.StripeMeterWidget = window.StripemeterWidget = { initStripeMeterWidget: init, initStripemeterWidget: init };
})();
