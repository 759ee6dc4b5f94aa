const view = document.getElementById("view");
for (const button of document.querySelectorAll(".thumbs button")) {
  button.addEventListener("click", () => {
    const [image, map] = button.querySelectorAll("img"), [large, overlay] = view.querySelectorAll("img");
    large.src = image.src;
    overlay.hidden = !map;
    if (map) { overlay.src = map.src; overlay.alt = button.dataset.map; } else { overlay.removeAttribute("src"); }
    document.getElementById("view-path").textContent = button.dataset.path;
    document.getElementById("view-caption").textContent = button.dataset.caption + (map ? `. On the right, the ${button.dataset.map}: red supports the class, blue opposes it.` : "");
    view.showModal();
  });
}
view.addEventListener("click", (event) => { if (event.target === view) view.close(); });

for (const button of document.querySelectorAll("button.copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    let done = false;
    try { await navigator.clipboard.writeText(code.textContent); done = true; } catch {
      getSelection().selectAllChildren(code);
      try { done = document.execCommand("copy"); } catch { /* it stays selected */ }
    }
    button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  });
}

// what scrolls sideways can be reached by keyboard
const scrollers = document.querySelectorAll(".scroll");
function reach() {
  for (const one of scrollers) {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0; else one.removeAttribute("tabindex");
  }
}
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
reach();

const nav = document.querySelector("nav"), links = [...nav.querySelectorAll("a")];
function follow() {
  const line = innerHeight / 4, past = links.filter((link) => document.querySelector(link.hash).getBoundingClientRect().top <= line);
  const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const now = end ? links.at(-1) : past.at(-1) ?? links[0];
  for (const link of links) {
    if (link === now) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
  nav.scrollLeft = now.offsetLeft - nav.offsetLeft - 24;
}
addEventListener("scroll", follow, { passive: true });
follow();

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
