// Show what the stand-in holds now, without losing the place on the page.
"use strict";

async function look() {
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["clock", "held"]) {
      const here = document.getElementById(id);
      const there = fresh.getElementById(id);
      if (here.innerHTML !== there.innerHTML) here.replaceChildren(...there.childNodes);
    }
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}

setInterval(() => { if (!document.hidden) look(); }, 1500);
