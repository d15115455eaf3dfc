// Runs before the page is drawn: the chosen theme, if one was chosen.
(function () {
  try {
    const theme = localStorage.getItem("tutelage:theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is off: the system's theme it is */ }
})();
