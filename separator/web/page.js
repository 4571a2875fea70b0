// Messages that the server cannot send: for visitors who left the page during a job, and for a lost connection.
// (The page cannot ask before a visitor leaves, as browsers allow: by then, Gradio has closed the connection.)
(() => {
  "use strict";
  const LEFT = "separator-left";
  const AGAIN = "The page was reloaded. Unfinished recordings were discarded. Please start again.";
  const LOST =
    "The connection to the server was lost. Unfinished recordings were discarded. Reload the page when the server is back.";
  // Interval and timeout of requests that check for the server, and number of failures after which it counts as lost.
  const CHECK_SECONDS = 3;
  const TIMEOUT_SECONDS = 10;
  const MAX_FAILURES = 2;

  const isBusy = () => document.querySelector("#stop:not([disabled])");

  function note(id, text) {
    const status = document.querySelector("#told");
    if (!status || document.getElementById(id)) return;
    const paragraph = document.createElement("p");
    paragraph.id = id;
    paragraph.setAttribute("role", "alert");
    paragraph.textContent = text;
    status.before(paragraph);
  }

  window.addEventListener("pagehide", () => {
    const isLive = document.querySelector(".live")?.separatorLive?.socket;
    if (isLive || isBusy()) sessionStorage.setItem(LEFT, "1");
  });

  if (sessionStorage.getItem(LEFT)) {
    sessionStorage.removeItem(LEFT);
    const showNote = () => note("left", AGAIN);
    const observer = new MutationObserver(showNote);
    observer.observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#start, #example, .live-start")) return;
      observer.disconnect();
      document.querySelector("#left")?.remove();
    });
    showNote();
  }

  // The progress is hidden while the connection is lost, since it no longer changes.
  let failures = 0;
  let before = "";
  async function check() {
    const status = document.querySelector("#told");
    if (isBusy()) {
      try {
        await fetch("separator/page.js", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000) });
        failures = 0;
      } catch {
        failures += 1;
      }
      if (failures === MAX_FAILURES) {
        before = status.textContent;
        status.hidden = true;
        note("lost", LOST);
      }
    }
    // The status has changed, so the connection is back, or the job has ended.
    if (status?.hidden && status.textContent !== before) {
      status.hidden = false;
      document.querySelector("#lost")?.remove();
    }
    setTimeout(check, CHECK_SECONDS * 1000);
  }
  check();
})();
