// Asks every two seconds what both sides say, and shows it; the buttons are requests of their own.
"use strict";

const EVERY = 2000;
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });
const dollars = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const instant = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", day: "numeric", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC",
});
const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function ahead(seconds) {
  if (seconds === 0) return "the machine's own time";
  const days = Math.floor(seconds / 86400), hours = Math.floor((seconds % 86400) / 3600);
  const told = [];
  if (days) told.push(days === 1 ? "1 day" : `${days} days`);
  if (hours) told.push(hours === 1 ? "1 hour" : `${hours} hours`);
  return `${told.join(" and ") || "less than an hour"} ahead of the machine's`;
}

function line(about) {
  const row = element("tr");
  const head = element("th", about.name);
  head.scope = "row";
  const missing = Number(about.missing);
  const said = missing === 0 ? "✓ same" : `${missing > 0 ? "+" : "−"}${whole.format(Math.abs(missing))} to go`;
  row.append(
    head,
    element("td", whole.format(about.ours), "number"),
    element("td", whole.format(about.stripes), "number"),
    element("td", said, missing === 0 ? "number same" : "number behind"),
  );
  return row;
}

function table(customer) {
  const made = element("table"), head = element("thead"), row = element("tr"), body = element("tbody");
  for (const [title, className] of [["", ""], ["Ours", "number"], ["Stripe’s", "number"], ["", "number"]]) {
    const cell = element(title ? "th" : "td", title, className);
    if (title) cell.scope = "col";
    row.append(cell);
  }
  head.append(row);
  body.append(...customer.lines.map(line));
  made.append(element("caption", `${customer.name}: usage`, "visually-hidden"), head, body);
  return made;
}

const STATES = { draft: "draft, final an hour after its making", open: "final", paid: "final and paid", void: "void" };

function invoices(customer) {
  const list = element("ul", undefined, "invoices");
  for (const each of customer.invoices) {
    const told = `Stripe’s invoice to ${day.format(new Date(each.end))}: ${dollars.format(each.total)}, ${STATES[each.status] || each.status}. `;
    const same = Number(each.ours ?? 0) === Number(each.total);
    const ours = each.ours === null ? "Ours: no amount" : `Ours: ${dollars.format(each.ours)} ${same ? "✓ same" : "✕ not the same: what came when it was final is on no invoice"}`;
    const item = element("li", told);
    item.append(element("span", ours, same ? "same" : "behind"));
    list.append(item);
  }
  return list;
}

function card(customer) {
  const made = element("li", undefined, "card customer");
  const header = element("header");
  const money = element("p", undefined, "money");
  money.append(element("strong", customer.total === null ? "–" : dollars.format(customer.total)));
  const used = customer.lines.some((each) => Number(each.ours) !== 0);
  const pace = customer.projected === null ? "" : `, ≈ ${dollars.format(customer.projected)} by the end, at this pace`;
  const heading = customer.total !== null ? ` so far${pace}` : used ? " no price yet" : " nothing used yet";
  money.append(element("span", heading));
  const when = element("p", `${day.format(new Date(customer.start))} – ${day.format(new Date(customer.end))}`, "when");
  when.title = `${customer.start} to ${customer.end}`;
  header.append(element("h3", customer.name), when);
  made.append(header, money, table(customer));
  if (customer.unfolded) made.append(element("p", `${whole.format(customer.unfolded)} events are being counted`, "hint"));
  if (customer.invoices.length) made.append(invoices(customer));
  return made;
}

function show(state) {
  const lines = state.customers.flatMap((customer) => customer.lines);
  const behind = lines.filter((each) => Number(each.missing) !== 0).length;
  const used = lines.some((each) => Number(each.ours) !== 0);
  byId("headline").textContent = !used
    ? "Nothing has been used yet in this period"
    : behind === 0
      ? `Stripe’s totals equal ours, all ${lines.length}`
      : `${behind} of ${lines.length} totals ${behind === 1 ? "is" : "are"} on the way to Stripe`;
  byId("now").textContent = `${instant.format(new Date(state.now))} UTC`;
  byId("ahead").textContent = ahead(state.ahead_seconds);
  byId("customers").replaceChildren(...state.customers.map(card));
  for (const link of document.querySelectorAll("[data-link]")) link.href = state.links[link.dataset.link];
}

async function ask() {
  try {
    const answer = await fetch("/state");
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    show(said);
    if (document.body.classList.contains("stale")) byId("said").textContent = "Both answer again.";
    document.body.classList.remove("stale");
  } catch (error) {
    document.body.classList.add("stale");
    byId("headline").textContent = "One of the two does not answer as it should";
    byId("said").textContent = `${error.message} Trying again.`;
  }
}

async function run(button) {
  const buttons = document.querySelectorAll("[data-do]");
  for (const each of buttons) each.disabled = true;
  const waits = ["hour", "day", "month"].includes(button.dataset.do);
  byId("said").textContent = waits ? "What is on its way to Stripe arrives first …" : "…";
  try {
    const answer = await fetch(`/do/${button.dataset.do}`, { method: "POST" });
    const said = await answer.json();
    byId("said").textContent = said.said || said.error;
  } catch {
    byId("said").textContent = "The demo does not answer: is `make dev` still running?";
  }
  for (const each of buttons) each.disabled = false;
  button.focus();
  await ask();
}

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => run(button));
}
ask();
setInterval(ask, EVERY);
