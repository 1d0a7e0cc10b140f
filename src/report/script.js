// Shows a point's <title> at once, also on touch, and lights up the same network in every chart.
(() => {
  const tip = document.getElementById("tip");
  const texts = new WeakMap();
  let hot = [];
  const hide = () => {
    tip.hidden = true;
    hot.forEach((point) => point.classList.remove("hot"));
    hot = [];
  };
  const show = (event) => {
    const point = event.target.closest(".p");
    hide();
    if (!point) return;
    // The title is taken out, or the browser would show it a second time.
    const title = point.querySelector("title");
    if (title) {
      texts.set(point, title.textContent);
      point.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    // A row of the table has no text of its own: it only lights up.
    tip.textContent = texts.get(point) ?? "";
    tip.hidden = !tip.textContent;
    const key = point.dataset.k;
    if (key) hot = [...document.querySelectorAll(".p")].filter((other) => other.dataset.k === key);
    hot.forEach((other) => other.classList.add("hot"));
    const box = point.getBoundingClientRect();
    const x = Math.min(Math.max(box.x + box.width / 2 - tip.offsetWidth / 2, 8), innerWidth - tip.offsetWidth - 8);
    const above = box.y - tip.offsetHeight - 10;
    tip.style.left = x + "px";
    tip.style.top = (above > 8 ? above : box.bottom + 10) + "px";
  };
  addEventListener("pointerover", show);
  addEventListener("pointerdown", show);
  addEventListener("scroll", hide, { passive: true });
})();
