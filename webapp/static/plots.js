// Draws what a page says beside each [data-plot]: the figures come as decimal strings and stay so
// everywhere but here, where they become pixels.
(function () {
  "use strict";

  var drawn = new Map();

  function token(element, name) {
    return getComputedStyle(element).getPropertyValue(name).trim();
  }

  function compact(currency, digits) {
    var format = new Intl.NumberFormat("en-US", {
      style: "currency", currency: currency, notation: "compact", maximumFractionDigits: 2,
    });
    return function (value) { return format.format(value); };
  }

  var count = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });

  function axes(element, xValues, yValues, ySize) {
    var ink = token(element, "--muted"), line = token(element, "--line");
    var font = "12px system-ui, sans-serif";
    var shared = { stroke: ink, font: font, ticks: { show: false } };
    return [
      Object.assign({ grid: { show: false }, values: xValues, size: 28 }, shared),
      Object.assign({ grid: { stroke: line, width: 1 }, values: yValues, size: ySize || 64 }, shared),
    ];
  }

  function curve(element, data) {
    var x = data.x.map(Number);
    var money = compact(data.currency, data.digits);
    var names = data.series.map(function (each) { return "--series-" + each.letter; });
    var series = data.series.map(function (each, i) {
      return { label: each.title, stroke: token(element, names[i]), width: 2, pxAlign: 0, points: { show: false } };
    });
    function at(u, value, axis) { return Math.round(u.valToPos(value, axis, true)); }

    function below(u) {
      // Tier bounds as short ticks at the bottom, the quantity asked for as a line.
      var c = u.ctx, box = u.bbox, ratio = devicePixelRatio;
      c.save();
      data.series.forEach(function (each, i) {
        c.strokeStyle = token(element, names[i]);
        c.lineWidth = ratio;
        c.setLineDash([3 * ratio, 3 * ratio]);
        each.steps.map(Number).forEach(function (step) {
          var px = at(u, step, "x");
          c.globalAlpha = 0.55;
          c.beginPath(); c.moveTo(px, box.top); c.lineTo(px, box.top + box.height); c.stroke();
        });
      });
      c.globalAlpha = 1;
      c.setLineDash([]);
      var asked = Number(data.quantity);
      if (asked <= x[x.length - 1]) {
        c.strokeStyle = token(element, "--ink");
        c.lineWidth = 1.5 * ratio;
        var px = at(u, asked, "x");
        c.beginPath(); c.moveTo(px, box.top); c.lineTo(px, box.top + box.height); c.stroke();
        c.fillStyle = token(element, "--ink");
        c.font = 12 * ratio + "px system-ui, sans-serif";
        var right = px > box.left + box.width * 0.8;
        c.textAlign = right ? "right" : "left";
        c.fillText(count.format(asked), px + (right ? -4 : 4) * ratio, box.top + 12 * ratio);
      }
      c.restore();
    }

    function above(u) {
      // Direct labels at the right end, kept apart; crossovers as rings.
      var c = u.ctx, box = u.bbox, ratio = devicePixelRatio;
      c.save();
      c.strokeStyle = token(element, "--ink");
      c.fillStyle = token(element, "--card");
      c.lineWidth = 2 * ratio;
      data.crossovers.forEach(function (each) {
        c.beginPath();
        c.arc(at(u, Number(each.x), "x"), at(u, Number(each.y), "y"), 5 * ratio, 0, 2 * Math.PI);
        c.fill(); c.stroke();
        if (data.crossovers.length <= 6) {
          c.save();
          c.font = 12 * ratio + "px system-ui, sans-serif";
          c.fillStyle = token(element, "--ink");
          c.fillText(count.format(Number(each.x)), at(u, Number(each.x), "x") + 8 * ratio, at(u, Number(each.y), "y") + 14 * ratio);
          c.restore();
        }
      });
      c.font = "600 " + 13 * ratio + "px system-ui, sans-serif";
      c.textAlign = "left";
      c.textBaseline = "middle";
      var labels = data.series.map(function (each, i) {
        var last = Number(each.y[each.y.length - 1]);
        return { text: each.letter.toUpperCase(), y: at(u, last, "y"), colour: token(element, names[i]) };
      }).sort(function (a, b) { return a.y - b.y; });
      var floor = -Infinity;
      labels.forEach(function (label) {
        label.y = Math.max(label.y, floor);
        floor = label.y + 16 * ratio;
        c.fillStyle = label.colour;
        c.fillText(label.text, box.left + box.width + 6 * ratio, label.y);
      });
      c.restore();
    }

    return {
      options: {
        series: [{ label: "units" }].concat(series),
        scales: {
          x: { time: false, range: function () { return [0, x[x.length - 1]]; } },
          y: { range: function (u, low, high) { return [0, high > 0 ? high * 1.06 : 1]; } },
        },
        axes: axes(element,
          function (u, values) { return values.map(function (v) { return count.format(v); }); },
          function (u, values) { return values.map(money); }),
        legend: { show: false },
        padding: [12, 28, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        hooks: { drawClear: [below], draw: [above], setCursor: [readout] },
      },
      rows: [x].concat(data.series.map(function (each) { return each.y.map(Number); })),
    };

    function readout(u) {
      var i = u.cursor.idx, tip = element.querySelector(".readout");
      if (i == null || u.cursor.left < 0) { tip.hidden = true; return; }
      tip.hidden = false;
      tip.textContent = count.format(x[i]) + ": " + data.series.map(function (each) {
        return (data.series.length > 1 ? each.letter.toUpperCase() + " " : "") + money(Number(each.y[i]));
      }).join("   ");
    }
  }

  function bars(element, data) {
    var x = data.counts.map(function (_, i) { return i; });
    return {
      options: {
        series: [{ label: "change" }, {
          label: "customers", stroke: token(element, "--accent"), fill: token(element, "--accent"),
          paths: uPlot.paths.bars({ size: [0.86, 80] }), points: { show: false },
        }],
        scales: {
          x: { time: false, range: function () { return [-0.6, x.length - 0.4]; } },
          y: { range: function (u, low, high) { return [0, high > 0 ? high * 1.1 : 1]; } },
        },
        axes: axes(element,
          function (u, values) { return values.map(function (v) { return data.labels[v] || ""; }); },
          function (u, values) {
            return values.map(function (v) { return v % 1 ? "" : count.format(v); });
          }, 48).map(function (axis, i) {
            return i ? axis : Object.assign(axis, { splits: function () { return x; }, rotate: data.rotate || 0, size: data.rotate ? 72 : 28 });
          }),
        legend: { show: false },
        padding: [12, 12, 0, 0],
        cursor: { show: false },
      },
      rows: [x, data.counts.map(Number)],
    };
  }

  var kinds = { curve: curve, bars: bars };

  function draw(element) {
    if (!element.clientWidth) { return; }
    var old = drawn.get(element);
    if (old) { old.destroy(); }
    element.textContent = "";
    var tip = document.createElement("span");
    tip.className = "readout";
    tip.hidden = true;
    tip.setAttribute("aria-hidden", "true");
    element.appendChild(tip);
    var made = kinds[element.dataset.plot](element, JSON.parse(element.dataset.values));
    made.options.width = element.clientWidth;
    made.options.height = element.clientHeight;
    drawn.set(element, new uPlot(made.options, made.rows, element));
  }

  function all() {
    drawn.forEach(function (plot, element) {
      if (!element.isConnected) { plot.destroy(); drawn.delete(element); }
    });
    document.querySelectorAll("[data-plot]").forEach(draw);
  }

  document.documentElement.classList.add("scripted");
  document.addEventListener("htmx:afterSettle", all);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  var late;
  addEventListener("resize", function () { clearTimeout(late); late = setTimeout(all, 100); });
  all();
})();
