// Keeps the slider and the number beside it in step, and shows what is refused as it is typed.
(function () {
  "use strict";

  function positions() {
    document.querySelectorAll("[data-moves]").forEach(function (slider) {
      var field = document.getElementById(slider.dataset.moves);
      var plot = document.querySelector("#results [data-plot]");
      if (!field || !plot) { return; }
      var x = JSON.parse(plot.dataset.values).x, most = Number(x[x.length - 1]);
      slider.step = most <= 10 ? "any" : Math.max(1, Math.pow(10, Math.floor(Math.log10(most)) - 2));
      if (document.activeElement !== slider) {
        // A slider that is held keeps its scale, or it would run away from the hand.
        slider.max = most;
        slider.value = Number(field.value.replace(/[,\s]/g, "")) || 0;
      }
    });
  }

  document.addEventListener("input", function (event) {
    var slider = event.target.closest("[data-moves]");
    if (slider) { document.getElementById(slider.dataset.moves).value = slider.value; }
  });
  // Mistakes answer with a page as well; it is shown like any other.
  document.addEventListener("htmx:beforeSwap", function (event) {
    if (event.detail.xhr.status === 422) { event.detail.shouldSwap = true; event.detail.isError = false; }
  });
  document.addEventListener("htmx:afterSettle", function () {
    document.querySelectorAll("input[aria-describedby], textarea[aria-describedby]").forEach(function (input) {
      var error = document.getElementById(input.getAttribute("aria-describedby"));
      if (error && error.textContent) { input.setAttribute("aria-invalid", "true"); }
      else { input.removeAttribute("aria-invalid"); }
    });
    positions();
  });
  ["htmx:sendError", "htmx:responseError"].forEach(function (name) {
    document.addEventListener(name, function () {
      var answer = document.getElementById("answer");
      if (answer) { answer.textContent = "The server cannot be reached; what you see is from before. Type on to try again."; }
    });
  });
  positions();
})();
