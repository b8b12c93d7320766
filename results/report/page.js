// The chart over time: a cursor, and zoom. The page says everything without it.
(function () {
  "use strict";
  var svg = document.querySelector("svg.timeline");
  if (!svg) return;
  var all = function (of, what) { return Array.prototype.slice.call(of.querySelectorAll(what)); };
  var region = svg.parentNode, readout = document.getElementById("readout");
  var zoomed = all(svg, ".zoomed, .zoomed-too"), cursor = svg.querySelector(".cursor"), pick = svg.querySelector(".pick");
  var left = +svg.dataset.left, right = +svg.dataset.right, end = +svg.dataset.end, bucket = +svg.dataset.bucket;
  var wide = svg.viewBox.baseVal.width, hovers = all(svg, ".hover"), ticks = all(svg, ".tick"), names = all(svg, ".name"), words = all(svg, ".words");
  var marks = {};
  all(svg, ".mark-at").forEach(function (m) {
    var i = Math.floor(m.dataset.from / bucket);
    (marks[i] = marks[i] || []).push(m.querySelector("title").textContent.replace(/^[^ ]+: /, ""));
  });
  var from = 0, to = end, at = -1, idle = readout.textContent;

  function x(ms) { return left + (ms - from) / (to - from) * (right - left); }
  function clock(ms) {
    var s = Math.floor(ms / 1000);
    return Math.floor(s / 60) + ":" + ("0" + s % 60).slice(-2);
  }
  function show(el, yes) { el.style.display = yes ? "" : "none"; }

  function draw() {
    var scale = end / (to - from);
    var matrix = "matrix(" + scale + " 0 0 1 " + (left - scale * left - from / (to - from) * (right - left)) + " 0)";
    zoomed.forEach(function (g) { g.setAttribute("transform", matrix); });
    var steps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400], step = 1000;
    for (var i = 0; i < steps.length && (to - from) / step > 10; i++) step = steps[i] * 1000;
    var next = Math.ceil(from / step) * step;
    ticks.forEach(function (t) {
      show(t, next <= to);
      t.setAttribute("x", x(next));
      t.textContent = clock(next);
      next += step;
    });
    names.forEach(function (n) {
      var a = Math.max(from, +n.dataset.from), b = Math.min(to, +n.dataset.to), title = n.querySelector("title");
      show(n, b > a && x(b) - x(a) > (n.textContent.length - title.textContent.length) * 7.6);
      n.setAttribute("x", (x(a) + x(b)) / 2);
    });
    words.forEach(function (w) {
      var a = +w.dataset.from, b = +w.dataset.to;
      show(w, b >= from && a <= to);
      var behind = x(Math.min(b, to)) + 5, room = right - behind > (w.textContent.length - w.querySelector("title").textContent.length) * 6.3;
      w.setAttribute("text-anchor", room ? "start" : "end");
      w.setAttribute("x", room ? behind : Math.max(x(Math.max(a, from)) - 5, left + 5));
    });
    point(at);
    all(document, "[data-zoom]").forEach(function (b) { b.disabled = from === 0 && to === end && b.dataset.zoom !== "in"; });
  }

  function point(i) {
    at = i;
    var ms = (i + 0.5) * bucket, seen = i >= 0 && ms >= from && ms <= to;
    show(cursor, seen);
    if (!seen) { readout.textContent = idle; return; }
    cursor.setAttribute("x1", x(ms));
    cursor.setAttribute("x2", x(ms));
    readout.textContent = (hovers[i] ? hovers[i].querySelector("title").textContent : "") + (marks[i] ? " · " + marks[i].join("; ") : "");
  }

  function zoom(a, b) {
    var least = Math.min(end, bucket * 4), w = Math.min(Math.max(b - a, least), end);
    from = Math.min(Math.max(a, 0), end - w);
    to = from + w;
    draw();
  }
  function act(what) {
    var w = to - from, mid = at >= 0 ? (at + 0.5) * bucket : (from + to) / 2;
    if (mid < from || mid > to) mid = (from + to) / 2;
    switch (what) {
      case "in": return zoom(mid - w / 4, mid + w / 4);
      case "out": return zoom(mid - w, mid + w);
      case "earlier": return zoom(from - w / 2, to - w / 2);
      case "later": return zoom(from + w / 2, to + w / 2);
      case "all": return zoom(0, end);
    }
  }
  function time(e) {
    var box = svg.getBoundingClientRect(), px = (e.clientX - box.left) / box.width * wide;
    return Math.min(Math.max(from + (px - left) / (right - left) * (to - from), 0), end);
  }

  all(document, "[data-zoom]").forEach(function (b) {
    b.addEventListener("click", function () { act(b.dataset.zoom); });
  });
  var begun = null;
  svg.addEventListener("pointermove", function (e) {
    var t = time(e);
    point(Math.min(Math.floor(t / bucket), hovers.length - 1));
    if (begun !== null) {
      show(pick, true);
      pick.setAttribute("x", Math.min(x(begun), x(t)));
      pick.setAttribute("width", Math.abs(x(t) - x(begun)));
    }
  });
  svg.addEventListener("pointerleave", function () { if (begun === null) point(-1); });
  svg.addEventListener("pointerdown", function (e) {
    if (e.button !== 0 || e.pointerType === "touch") return;
    begun = time(e);
    svg.setPointerCapture(e.pointerId);
  });
  svg.addEventListener("pointerup", function (e) {
    var a = begun, b = time(e);
    begun = null;
    show(pick, false);
    if (a !== null && Math.abs(x(a) - x(b)) > 8) zoom(Math.min(a, b), Math.max(a, b));
  });
  svg.addEventListener("pointercancel", function () { begun = null; show(pick, false); });
  region.addEventListener("keydown", function (e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    var last = hovers.length - 1, here = at >= 0 ? at : Math.floor(from / bucket);
    switch (e.key) {
      case "ArrowLeft": e.shiftKey ? act("earlier") : move(here - 1); break;
      case "ArrowRight": e.shiftKey ? act("later") : move(at < 0 ? here : here + 1); break;
      case "Home": move(0); break;
      case "End": move(last); break;
      case "+": case "=": act("in"); break;
      case "-": act("out"); break;
      case "0": case "Escape": act("all"); break;
      default: return;
    }
    e.preventDefault();
    function move(i) {
      i = Math.min(Math.max(i, 0), last);
      var ms = (i + 0.5) * bucket, w = to - from;
      at = i;
      if (ms < from) zoom(ms - bucket, ms - bucket + w);
      if (ms > to) zoom(ms + bucket - w, ms + bucket);
      point(i);
    }
  });
  window.addEventListener("beforeprint", function () {
    act("all");
    all(document, "details.printed").forEach(function (d) { d.open = true; });
  });
  document.documentElement.classList.add("live");
  draw();
})();
