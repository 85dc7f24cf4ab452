"use strict";
// Everything works without this script: titles of the shapes, and tables in the order of the page.
(() => {
  const root = document.documentElement, tip = document.getElementById("tip");

  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // The pointer's own titles would cover the panel below.
  for (const title of document.querySelectorAll("[data-tip] > title")) title.remove();

  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    const left = x + 18 + box.width > innerWidth ? x - 14 - box.width : x + 18;
    const top = y + 14 + box.height > innerHeight ? y - 12 - box.height : y + 14;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${Math.max(6, top)}px`;
  };
  const show = (mark, x, y) => { tip.textContent = mark.dataset.tip; tip.hidden = false; place(x, y); };
  const hide = () => { tip.hidden = true; };
  const marked = (event) => event.target instanceof Element && event.target.closest("[data-tip]");

  document.addEventListener("pointermove", (event) => {
    const mark = marked(event);
    if (mark) show(mark, event.clientX, event.clientY);
    else if (!(document.activeElement && document.activeElement.matches("[data-tip]"))) hide();
  });
  document.addEventListener("focusin", (event) => {
    const mark = marked(event);
    if (!mark) return hide();
    const box = mark.getBoundingClientRect();
    show(mark, box.right, box.bottom);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, { passive: true });

  // One stop of the tab key for each picture; arrows go from mark to mark.
  for (const picture of document.querySelectorAll("svg.picture")) {
    const marks = [...picture.querySelectorAll("[data-tip]")];
    marks.forEach((mark, number) => mark.setAttribute("tabindex", number ? "-1" : "0"));
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const here = marks.indexOf(document.activeElement);
      const ends = { Home: 0, End: marks.length - 1 }[event.key];
      if (here < 0 || (step === undefined && ends === undefined)) return;
      event.preventDefault();
      const next = ends ?? (here + step + marks.length) % marks.length;
      marks[here].setAttribute("tabindex", "-1");
      marks[next].setAttribute("tabindex", "0");
      marks[next].focus();
    });
  }

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a, column), key(b, column)) * (falling ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }
})();
