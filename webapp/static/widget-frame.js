// Keeps an open widget true: asks for the numbers, says how old they are, and says when they cannot
// be had. The session's secret came with the document and goes out as a header, nowhere else.
(function () {
  "use strict";

  const HOST = document.body.dataset.hostOrigin;
  const FAST = 2000, SLOW = 15000, A_MINUTE = 60000, PATIENCE = 10000;
  const RETRIES = [2000, 4000, 8000, 15000];
  const root = document.documentElement;
  const usage = document.getElementById("usage");

  function post(message) {
    if (window.parent === window) { return; }
    // Only a frame that shows nothing may not know whose it was: all it has to say is that.
    window.parent.postMessage(Object.assign({ stripemeter: 1 }, message), HOST || "*");
  }

  if (!usage) {
    // The address was used already, or too late.
    post({ type: "ended" });
    return;
  }

  const status = document.getElementById("status");
  const age = document.getElementById("age");
  const activity = document.getElementById("activity");
  const events = document.getElementById("events");
  const said = document.createElement("p"); // what became of a download
  const locale = language(new URLSearchParams(location.search).get("locale"));

  let etag = usage.dataset.etag || null;
  let session = JSON.parse(document.body.getAttribute("hx-headers"))["X-Widget-Session"];
  let asOf = instant(usage.dataset.asOfAge);
  let endsAt = Date.now() + 1000 * Number(document.body.dataset.expiresIn || Infinity);
  let fastUntil = performance.now() + A_MINUTE;
  let askedAt = performance.now(), failures = 0, hasAskedToRenew = false;
  let poll = null; // the request under way: {xhr, limit}
  let timer, ticking, quiet, hasEvents = false;

  function language(tag) {
    try { return Intl.getCanonicalLocales(tag.replace("_", "-"))[0]; } catch { return "en-US"; } // the server's own
  }

  // The clock on the wall may be set, the page's own stands still while a laptop sleeps: both are
  // kept, and the one that says more is believed.
  function instant(ageSeconds) {
    const before = 1000 * Number(ageSeconds || 0);
    return { own: performance.now() - before, wall: Date.now() - before };
  }

  function since(at) { return Math.max(0, performance.now() - at.own, Date.now() - at.wall); }

  function state() { return root.dataset.state; }

  // The one live region speaks when the state changes, and not at every tick.
  function enter(name, sentence) {
    clearTimeout(quiet);
    root.dataset.state = name;
    if (status.textContent !== sentence) { status.textContent = sentence; }
    tick();
  }

  function clock(at) {
    // With its zone: the days and times beside it are UTC.
    const format = { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
    if (since(at) > 12 * 60 * A_MINUTE) { Object.assign(format, { day: "numeric", month: "short" }); }
    return new Intl.DateTimeFormat(locale, format).format(at.wall);
  }

  function ago(seconds) {
    if (seconds < 2) { return "now"; }
    if (seconds < 100) { return seconds + " s ago"; }
    const minutes = Math.round(seconds / 60);
    return minutes < 100 ? minutes + " min ago" : Math.round(minutes / 60) + " h ago";
  }

  function tick() {
    if (!age) { return; }
    clearTimeout(ticking);
    age.hidden = state() !== "live";
    if (age.hidden || document.hidden) { return; }
    const passed = since(asOf), text = "as of " + ago(Math.floor(passed / 1000));
    if (age.textContent !== text) { age.textContent = text; }
    age.title = clock(asOf);
    ticking = setTimeout(tick, 1000 - passed % 1000 + 5);
  }

  // ---- the numbers

  function schedule(delay) {
    clearTimeout(timer);
    // Many widgets that lost one server do not come back in step.
    timer = setTimeout(ask, delay > FAST * 2 ? delay * (1 + Math.random() / 10) : delay);
  }

  function scheduleNext() { schedule(performance.now() < fastUntil ? FAST : SLOW); }

  function ask() {
    clearTimeout(timer);
    if (poll || document.hidden || state() === "ended") { return; }
    if (Date.now() > endsAt && !hasAskedToRenew) {
      // As after a laptop's sleep: the page renews, and nothing is refused in the meantime.
      hasAskedToRenew = true;
      post({ type: "ended", renewable: true });
      failed(0);
      return;
    }
    askedAt = performance.now();
    poll = { xhr: null, limit: setTimeout(giveUp, PATIENCE) };
    htmx.trigger(usage, "refresh");
  }

  function giveUp() {
    const hanging = poll;
    if (!hanging) { return; }
    if (hanging.xhr) { hanging.xhr.abort(); }
    if (poll === hanging) { poll = null; failed(0); }
  }

  // Gives up what was asked in a session that another one has taken the place of.
  function forget() {
    const former = poll;
    poll = null;
    if (former) {
      clearTimeout(former.limit);
      if (former.xhr) { former.xhr.abort(); }
    }
    if (events) { htmx.trigger(events, "htmx:abort"); }
  }

  // The document says the tag without the quotation marks that stand around it in a header.
  function stateOf(tag) { return (tag || "").replace(/^W\/|"/g, "").split("-")[0]; }

  function isOurs(xhr) { return xhr.getResponseHeader("X-Widget-As-Of-Age") !== null; }

  function answered(xhr) {
    clearTimeout(poll.limit);
    poll = null;
    if (xhr.status === 401) { end(); return; }
    if (!(xhr.status === 200 || xhr.status === 304) || !isOurs(xhr)) {
      failed(1000 * Number(xhr.status && xhr.getResponseHeader("Retry-After")) || 0);
      return;
    }
    asOf = instant(xhr.getResponseHeader("X-Widget-As-Of-Age"));
    if (xhr.status === 200) {
      const before = etag;
      etag = xhr.getResponseHeader("ETag");
      // Behind the hyphen is the time, which makes estimates move though nothing was used.
      if (stateOf(before) !== stateOf(etag)) {
        fastUntil = performance.now() + A_MINUTE;
        refreshActivity();
      }
    }
    recovered();
    scheduleNext();
  }

  function failed(least) {
    if (state() !== "stale") { enter("stale", "Last updated " + clock(asOf) + ". Reconnecting…"); }
    failures += 1;
    schedule(Math.max(RETRIES[Math.min(failures, RETRIES.length) - 1], Math.min(least, A_MINUTE)));
  }

  function recovered() {
    failures = 0;
    if (state() === "live") { tick(); return; }
    enter("live", state() === "stale" ? "Up to date again." : "");
    quiet = setTimeout(function () { status.textContent = ""; }, 4000);
  }

  // Whoever sits here now may be somebody else: what the session showed goes with it.
  function end() {
    if (state() === "ended") { return; }
    forget();
    clearTimeout(timer);
    usage.replaceChildren();
    if (events) { events.replaceChildren(); }
    etag = null;
    hide(true);
    enter("ended", "This session has ended. If your usage does not come back by itself, reload the page.");
    post({ type: "ended", renewable: true });
  }

  function hide(isHidden) {
    if (activity) { activity.hidden = isHidden; }
    said.textContent = "";
    document.querySelectorAll("[data-download]").forEach(function (button) { button.hidden = isHidden; });
  }

  async function renew(code) {
    const address = new URL("session", new URL(usage.getAttribute("hx-get"), location.href));
    for (const pause of RETRIES) {
      try {
        const response = await fetch(address, {
          method: "POST", cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
          headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code: code }),
        });
        if (response.ok) { begin(await response.json()); return; }
        if (response.status < 500) { return; } // the page tries again with another code
      } catch { /* not reached: once more while the code lives */ }
      await new Promise(function (done) { setTimeout(done, pause); });
    }
  }

  function begin(answer) {
    forget();
    session = answer.session;
    document.body.setAttribute("hx-headers", JSON.stringify({ "X-Widget-Session": session }));
    endsAt = Date.now() + 1000 * answer.expiresInSeconds;
    hasAskedToRenew = false;
    etag = null; // it may be another customer's
    if (state() === "ended") {
      hide(false);
      enter("loading", "");
    }
    hasEvents = false;
    if (events && !activity.open) { events.replaceChildren(); }
    post({ type: "ready" });
    ask();
  }

  // ---- what was opened and where one was stays so when the numbers are replaced

  function keyOf(details, i) { return details.id || details.dataset.key || "at " + i; }

  function remember(within) {
    const all = Array.from(within.querySelectorAll("details"));
    const focused = document.activeElement, owner = focused && focused.tagName === "SUMMARY" && within.contains(focused) ? focused.parentElement : null;
    return {
      isOpen: new Map(all.map(function (details, i) { return [keyOf(details, i), details.open]; })),
      focused: owner ? keyOf(owner, all.indexOf(owner)) : null,
    };
  }

  function restore(within, kept) {
    within.querySelectorAll("details").forEach(function (details, i) {
      const key = keyOf(details, i);
      if (kept.isOpen.has(key)) { details.open = kept.isOpen.get(key); }
      if (key === kept.focused) { details.querySelector("summary").focus({ preventScroll: true }); }
    });
    if (within.contains(document.activeElement)) { rove(document.activeElement); }
  }

  // ---- a chart is one stop of the Tab key; inside it the arrows go from day to day

  function rove(to) {
    const group = to.closest("[data-roving]");
    if (!group) { return; }
    group.querySelectorAll("[tabindex]").forEach(function (each) { each.setAttribute("tabindex", each === to ? "0" : "-1"); });
  }

  function walk(event) {
    const from = event.target, group = from.closest && from.closest("[data-roving]");
    const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!group || !way || event.altKey || event.ctrlKey || event.metaKey || !from.hasAttribute("tabindex")) { return; }
    // As they stand, whichever way they are written.
    const stops = Array.from(group.querySelectorAll("[tabindex]")).sort(function (a, b) {
      return a.getBoundingClientRect().left - b.getBoundingClientRect().left;
    });
    const to = stops[Math.min(stops.length - 1, Math.max(0, stops.indexOf(from) + way))];
    event.preventDefault();
    rove(to);
    to.focus();
  }

  // ---- recent activity and the statement

  function refreshActivity() {
    if (events && activity.open && state() !== "ended") { htmx.trigger(events, "refresh"); }
  }

  async function download(button) {
    if (button.getAttribute("aria-disabled") === "true") { return; }
    button.setAttribute("aria-disabled", "true");
    said.textContent = "The statement is being made…";
    try {
      const response = await fetch(button.dataset.download, {
        headers: { "X-Widget-Session": session }, cache: "no-store", signal: AbortSignal.timeout(A_MINUTE),
      });
      if (response.status === 401) { end(); return; }
      if (!response.ok) { throw new Error(String(response.status)); }
      save(await response.blob(), fileName(response.headers.get("Content-Disposition")));
      said.textContent = "The statement has been downloaded.";
      setTimeout(function () { said.textContent = ""; }, PATIENCE);
    } catch {
      said.textContent = "The statement could not be downloaded. Try again in a moment.";
    } finally { button.removeAttribute("aria-disabled"); }
  }

  function fileName(disposition) {
    const given = /filename="?([^";]+)"?/.exec(disposition || "");
    return given ? given[1] : "statement.csv";
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, PATIENCE);
  }

  // ---- htmx asks and replaces; what an answer means is decided here

  document.addEventListener("htmx:configRequest", function (event) {
    if (event.target === usage && etag) { event.detail.headers["If-None-Match"] = etag; }
    event.detail.timeout = PATIENCE;
  });
  document.addEventListener("htmx:beforeSend", function (event) {
    if (event.target === usage && poll) { poll.xhr = event.detail.xhr; }
  });
  document.addEventListener("htmx:beforeOnLoad", function (event) {
    const xhr = event.detail.xhr, isLate = event.target === usage && (!poll || poll.xhr !== xhr);
    if (isLate || xhr.status !== 200 || (event.target === usage && !isOurs(xhr))) { event.preventDefault(); }
  });
  let kept;
  document.addEventListener("htmx:beforeSwap", function (event) { kept = remember(event.detail.target); });
  document.addEventListener("htmx:afterSwap", function (event) {
    restore(event.detail.target, kept);
    measure();
  });
  document.addEventListener("htmx:afterRequest", function (event) {
    const xhr = event.detail.xhr;
    if (event.target === usage && poll && poll.xhr === xhr) { answered(xhr); }
    if (event.target !== events || state() === "ended") { return; }
    if (xhr.status === 200) { hasEvents = true; }
    else if (xhr.status === 401) { end(); }
    else if (!hasEvents) { events.textContent = "Recent activity cannot be loaded at the moment."; }
  });

  // ---- the page around the frame, and the person before it

  function measure() {
    const height = Math.ceil(root.getBoundingClientRect().height);
    if (height !== measure.last) { post({ type: "size", height: height }); }
    measure.last = height;
  }

  function gesture() {
    fastUntil = performance.now() + A_MINUTE;
    if (performance.now() - askedAt > FAST) { ask(); } else if (!poll && !failures) { schedule(FAST); }
  }

  function seen() {
    clearTimeout(timer);
    tick();
    if (!document.hidden) { ask(); }
  }

  window.addEventListener("message", function (event) {
    const data = event.data;
    if (event.source !== window.parent || event.origin !== HOST || !data || data.stripemeter !== 1) { return; }
    if (data.type === "refresh") { gesture(); }
    if (data.type === "renew") { renew(data.code); }
  });
  document.addEventListener("pointerdown", gesture);
  document.addEventListener("keydown", function (event) {
    walk(event);
    gesture();
  });
  document.addEventListener("visibilitychange", seen);
  window.addEventListener("online", function () { if (failures) { ask(); } });
  window.addEventListener("pageshow", function (event) { if (event.persisted) { seen(); } });
  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-download]");
    if (button) { download(button); }
  });
  if (activity) { activity.addEventListener("toggle", refreshActivity); }

  said.id = "said";
  said.setAttribute("role", "status");
  said.className = "say";
  document.getElementById("widget").append(said);
  new ResizeObserver(measure).observe(root);
  enter("live", "");
  measure();
  post({ type: "ready" });
  if (!document.hidden) { scheduleNext(); }
})();
