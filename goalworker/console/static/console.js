"use strict";
/* Small conveniences. Every page works without them. */
(() => {
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  const largest = (seconds) => {
    for (const [unit, size] of UNITS) {
      if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
    }
    return "0 s";
  };

  /* Times since a moment, kept right while the page is seen. */
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now();
    for (const element of document.querySelectorAll("time[data-since]")) {
      const seconds = Math.floor((now - Date.parse(element.dataset.since)) / 1000);
      const words = seconds < -1 ? `in ${largest(-seconds)}` : `${largest(Math.max(0, seconds))} ago`;
      if (element.textContent !== words) element.textContent = words;
    }
  };
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);

  /* Requests of htmx carry the token of the session. */
  document.addEventListener("htmx:config:request", (event) => {
    const token = document.querySelector('meta[name="csrf"]');
    if (token && event.detail.ctx) event.detail.ctx.request.headers["X-CSRF-Token"] = token.content;
  });

  /* A request that failed says so above the page, until one succeeds. */
  const banner = document.getElementById("banner");
  const own = banner && banner.innerHTML.trim() === "";
  document.addEventListener("htmx:error", () => {
    if (own) banner.textContent = "The server could not be reached; what you see may be old.";
  });
  document.addEventListener("htmx:after:request", () => {
    if (own) banner.textContent = "";
  });

  /* The live feed: its state in words, its pause, and news for screen readers that do not come too often. */
  const list = document.getElementById("feed-list");
  const follow = () => {
    const SHOWN = 50;
    const SILENT = 40000;
    const NEWS = 20000;
    const pause = document.getElementById("feed-pause");
    const state = document.getElementById("feed-state");
    const news = document.getElementById("feed-news");
    let connection = null;
    let heard = Date.now();
    let words = "Connecting";
    let held = null;
    let resume = null;
    let unsaid = 0;

    const show = (now) => {
      words = now ?? words;
      const text = held ? "Paused" : words;
      if (state.textContent !== text) state.textContent = text;
    };
    pause.hidden = false;
    show();
    pause.addEventListener("click", () => {
      if (held) {
        resume();
        held = null;
      } else {
        held = new Promise((resolve) => { resume = resolve; });
      }
      pause.textContent = held ? "Resume" : "Pause";
      show();
    });
    list.addEventListener("htmx:sse:after:connection", (event) => {
      connection = event.detail.connection;
      heard = Date.now();
      if (event.detail.connection.status === 200) show("Live");
    });
    list.addEventListener("htmx:sse:before:connection", (event) => {
      if (event.detail.connection.attempt > 0) show("Disconnected; trying again");
    });
    list.addEventListener("htmx:sse:error", (event) => {
      show(event.detail.status === 401 ? "The session has ended; load the page again" : "Disconnected; trying again");
    });
    list.addEventListener("htmx:error", () => show("Disconnected; trying again"));
    list.addEventListener("htmx:sse:before:message", (event) => {
      heard = Date.now();
      /* What waits here is kept in order, and a slow client is what the server is prepared for. */
      if (held) event.detail.waitUntil(held);
    });
    list.addEventListener("htmx:sse:after:message", () => {
      unsaid += list.querySelectorAll("li:not([data-seen])").length;
      for (const entry of list.querySelectorAll("li:not([data-seen])")) entry.dataset.seen = "";
      while (list.children.length > SHOWN) list.lastElementChild.remove();
    });
    for (const entry of list.children) entry.dataset.seen = "";
    setInterval(() => {
      /* A connection that is cut without an end is silent for longer than the server's heartbeats are apart. */
      if (words === "Live" && !held && !document.hidden && Date.now() - heard > SILENT) {
        show("Disconnected; trying again");
        connection.reader?.cancel();
      }
    }, 1000);
    setInterval(() => {
      if (unsaid > 0) news.textContent = `${unsaid} more`;
      unsaid = 0;
    }, NEWS);
  };
  if (list) follow();

  /* A form that only waits for its visitor to send it. */
  const waiting = document.querySelector("form[data-send-at-once]");
  if (waiting) waiting.requestSubmit();

  /* Buttons that copy a sentence, where the browser lets a page copy. */
  const offerCopies = () => {
    if (!navigator.clipboard) return;
    for (const element of document.querySelectorAll("[data-copies][hidden]")) element.hidden = false;
  };
  offerCopies();
  document.addEventListener("htmx:after:swap", offerCopies);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const status = button.parentElement.querySelector("[role=status]");
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      status.textContent = "Copied.";
    } catch {
      status.textContent = "The browser refused; select the sentence instead.";
    }
  });
})();
