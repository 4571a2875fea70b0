// What the page tells beside what the server does: of visitors who left it while something went on, and of a server
// that is gone. (To ask before somebody leaves, as browsers can, would be too late: Gradio has hung up by then.)
(() => {
  "use strict";
  const LEFT = "separator-left";
  const AGAIN = "The page was loaded anew: what was not finished is not kept. Please start again.";
  const LOST = "The connection to the server was lost: what was not finished is not kept. Load the page again when it is back.";
  // So often, and so long, it is asked whether the server is there, and so many times in vain it is gone.
  const ASK_SECONDS = 3;
  const WAIT_SECONDS = 10;
  const MOST_MISSED = 2;

  const isAtWork = () => document.querySelector("#stop:not([disabled])");

  function note(id, text) {
    const told = document.querySelector("#told");
    if (!told || document.getElementById(id)) return;
    const paragraph = document.createElement("p");
    paragraph.id = id;
    paragraph.setAttribute("role", "alert");
    paragraph.textContent = text;
    told.before(paragraph);
  }

  window.addEventListener("pagehide", () => {
    const isLive = document.querySelector(".live")?.separatorLive?.socket;
    if (isLive || isAtWork()) sessionStorage.setItem(LEFT, "1");
  });

  if (sessionStorage.getItem(LEFT)) {
    sessionStorage.removeItem(LEFT);
    const tell = () => note("left", AGAIN);
    const observer = new MutationObserver(tell);
    observer.observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#start, #example, .live-start")) return;
      observer.disconnect();
      document.querySelector("#left")?.remove();
    });
    tell();
  }

  // While it is lost, how far it was says nothing any more.
  let missed = 0;
  let before = "";
  async function ask() {
    const told = document.querySelector("#told");
    if (isAtWork()) {
      try {
        await fetch("separator/page.js", { cache: "no-store", signal: AbortSignal.timeout(WAIT_SECONDS * 1000) });
        missed = 0;
      } catch {
        missed += 1;
      }
      if (missed === MOST_MISSED) {
        before = told.textContent;
        told.hidden = true;
        note("lost", LOST);
      }
    }
    // It was away for a moment only, or it ended.
    if (told?.hidden && told.textContent !== before) {
      told.hidden = false;
      document.querySelector("#lost")?.remove();
    }
    setTimeout(ask, ASK_SECONDS * 1000);
  }
  ask();
})();
