"use strict";
(() => {
  const list = document.getElementById("list");
  const episodes = [...list.tBodies];
  const filters = [...document.querySelectorAll("[data-filter]")];
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const episode of episodes) {
      const chosen = filters.every((f) => !f.value || episode.dataset[f.dataset.filter] === f.value);
      const text = words.length ? `${episode.textContent} ${episode.dataset.id}`.toLowerCase() : "";
      episode.hidden = !(chosen && words.every((word) => text.includes(word)));
      count += !episode.hidden;
    }
    shown.textContent = `${count} of ${episodes.length} episodes`;
  };

  const key = (episode, column) => {
    const cell = episode.rows[0].cells[column];
    const text = cell.dataset.key ?? cell.textContent;
    return text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };

  const sort = (header) => {
    const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of header.parentElement.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = episodes.map((episode) => [key(episode, header.cellIndex), episode]);
    keyed.sort(([a], [b]) => sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(b)));
    list.append(...keyed.map(([, episode]) => episode));
  };

  const toggle = (button) => {
    const details = document.getElementById(button.getAttribute("aria-controls"));
    details.hidden = !details.hidden;
    button.setAttribute("aria-expanded", String(!details.hidden));
    button.firstChild.textContent = details.hidden ? "Show" : "Hide";
    const film = details.querySelector("video[data-src]");
    if (film && !film.src) film.src = film.dataset.src; // decoded only when somebody looks
  };

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.classList.contains("sort")) sort(button.closest("th"));
    if (button?.classList.contains("open")) toggle(button);
  });
  for (const control of filters) control.addEventListener("change", filter);
  search.addEventListener("input", filter);
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());

  const theme = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (dark) => theme.setAttribute("aria-pressed", String(dark));
  paint(prefersDark.matches);
  theme.addEventListener("click", () => {
    const dark = theme.getAttribute("aria-pressed") !== "true";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    paint(dark);
  });
})();
