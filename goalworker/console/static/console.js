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
