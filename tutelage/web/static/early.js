// Runs before the page is drawn.
(function () {
  // The chosen theme, if one was chosen.
  try {
    const theme = localStorage.getItem("tutelage:theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is off: the system's theme it is */ }
  // Until its scripts listen the page takes no clicks and no keys: a form sent by the browser alone would put its
  // fields into the address, and a click on a button would be lost.
  document.documentElement.inert = true;
  document.addEventListener("DOMContentLoaded", () => {
    document.documentElement.inert = false;
    document.querySelector("[autofocus]")?.focus();
    const tab = document.querySelector(".top [aria-current]"); // in sight also where the tabs are wider than the screen
    if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.clientWidth / 2;
  });
})();
