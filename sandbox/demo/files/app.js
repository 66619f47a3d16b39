// What a host's page does: hand the widget a token of its own backend's, and say how it looks.
"use strict";

const LOOKS = document.getElementById("looks").elements;
const BRAND = { accent: "#b4430b", radius: 14 };
const byId = (id) => document.getElementById(id);
let widget = null;

async function getToken() {
  const answer = await fetch("/widget-token", { method: "POST" });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said.token;
}

// What is not as it would be anyway.
function chosen() {
  const theme = LOOKS.theme.value, locale = LOOKS.locale.value, about = { locale };
  if (theme !== "auto") about.theme = theme;
  if (locale === "ar") about.dir = "rtl";
  if (LOOKS.compact.checked) about.compact = true;
  return { ...about, ...BRAND };
}

function embed() {
  const options = chosen();
  document.documentElement.dataset.theme = LOOKS.theme.value;
  document.body.classList.toggle("narrow", LOOKS.narrow.checked);
  const source = document.querySelector("script[src$='/widget.js']").src;
  const written = Object.entries(options).map(([name, value]) => `\n    ${name}: ${JSON.stringify(value)},`);
  byId("lines").textContent = `<div id="usage-widget"></div>\n<script src="${source}"></script>\n\n`
    + `StripeMeterWidget.initStripeMeterWidget(\n  "usage-widget", {\n    getToken,${written.join("")}\n  });`;
  if (widget) widget.destroy();
  if (!window.StripeMeterWidget) {
    byId("failed").hidden = false;
    byId("failed").textContent = `Usage cannot be shown: ${source} does not answer. Is \`make dev\` still running?`;
    return;
  }
  widget = StripeMeterWidget.initStripeMeterWidget("usage-widget", { getToken, ...options });
}

// The choice stands in the address, so that it can be passed on.
function remember() {
  const asked = new URLSearchParams({ theme: LOOKS.theme.value, locale: LOOKS.locale.value });
  for (const name of ["compact", "narrow"]) if (LOOKS[name].checked) asked.set(name, "1");
  history.replaceState(null, "", `?${asked}`);
}

function recall() {
  const asked = new URLSearchParams(location.search);
  for (const name of ["theme", "locale"]) {
    if ([...LOOKS[name].options].some((each) => each.value === asked.get(name))) LOOKS[name].value = asked.get(name);
  }
  for (const name of ["compact", "narrow"]) LOOKS[name].checked = asked.get(name) === "1";
}

async function use(button) {
  const buttons = document.querySelectorAll("[data-use]");
  for (const each of buttons) each.disabled = true;
  byId("said").textContent = "…";
  byId("where").hidden = true;
  try {
    const answer = await fetch(`/app/use/${button.dataset.use}`, { method: "POST" });
    const said = await answer.json();
    byId("said").textContent = said.said || said.error;
    byId("where").hidden = !said.events;
  } catch {
    byId("said").textContent = "Nimbus does not answer: is `make dev` still running?";
  }
  for (const each of buttons) each.disabled = false;
  button.focus();
  if (widget) widget.refresh();
}

for (const button of document.querySelectorAll("[data-use]")) {
  button.addEventListener("click", () => use(button));
}
byId("looks").addEventListener("change", () => { remember(); embed(); });
recall();
embed();
