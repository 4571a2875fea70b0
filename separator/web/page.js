// Whoever left the page while something went on is told what became of it. (To ask before, as browsers can, would be
// too late: Gradio has hung up by then.)
(() => {
  "use strict";
  const LEFT = "separator-left";
  const TOLD = "The page was loaded anew: what was not finished is not kept. Please start again.";

  window.addEventListener("pagehide", () => {
    const isLive = document.querySelector(".live")?.separatorLive?.socket;
    if (isLive || document.querySelector("#stop:not([disabled])")) sessionStorage.setItem(LEFT, "1");
  });

  function tell() {
    const told = document.querySelector("#told");
    if (!told || document.querySelector("#left")) return;
    const note = document.createElement("p");
    note.id = "left";
    note.setAttribute("role", "alert");
    note.textContent = TOLD;
    told.before(note);
  }
  if (sessionStorage.getItem(LEFT)) {
    sessionStorage.removeItem(LEFT);
    const observer = new MutationObserver(tell);
    observer.observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#start, #example, .live-start")) return;
      observer.disconnect();
      document.querySelector("#left")?.remove();
    });
    tell();
  }
})();
