// Of one map; `root`, the element that holds it, and `sounds`, by clip, are set before.
// A click plays; pointing and focus tell; all panels light up together.
const all = [...root.querySelectorAll(".sm-point")], say = root.querySelector(".sm-say");
const keys = [...root.querySelectorAll(".sm-legend button")];
let player = null, pressed = null;
const place = p => p.dataset.at.split(" ").map(Number);
function light(p) {
  root.querySelectorAll(".sm-plane").forEach(plane => {
    const twin = plane.querySelector(`.sm-point[data-i="${p.dataset.i}"]`), [x, y] = place(twin);
    const halo = plane.querySelector(".sm-halo");
    halo.setAttribute("cx", x); halo.setAttribute("cy", y); halo.classList.add("sm-on");
  });
  say.textContent = p.dataset.what;
}
function play(p) {
  light(p);
  if (player) player.pause();
  player = new Audio(sounds[p.dataset.i]);
  const mine = player;
  player.onplaying = () => { root.dataset.playing = p.dataset.i; say.textContent = "\u25b6 " + p.dataset.what; };
  player.onended = () => { delete root.dataset.playing; root.dataset.played = p.dataset.i; };
  player.play().catch(e => {
    if (mine === player) say.textContent = p.dataset.what + " (not played: " + e.message + ")";
  });
}
function step(p, dx, dy) {
  const [x, y] = place(p), mates = [...p.parentNode.querySelectorAll(".sm-point")];
  let best = null, least = Infinity;
  for (const q of mates) {
    const [u, v] = place(q), ahead = (u - x) * dx + (v - y) * dy, aside = Math.abs((u - x) * dy - (v - y) * dx);
    if (q !== p && ahead > 0 && ahead + 2 * aside < least) { best = q; least = ahead + 2 * aside; }
  }
  if (!best) return;
  mates.forEach(q => q.setAttribute("tabindex", q === best ? 0 : -1));
  best.focus();
}
function highlight(kind) {
  all.forEach(p => p.classList.toggle("sm-dim", kind !== null && p.dataset.kind !== kind));
}
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
all.forEach(p => {
  p.addEventListener("pointerenter", () => light(p));
  p.addEventListener("focus", () => light(p));
  p.addEventListener("click", () => play(p));
  p.addEventListener("keydown", e => {
    if (e.key === "Enter" || e.key === " ") play(p);
    else if (arrows[e.key]) step(p, ...arrows[e.key]);
    else return;
    e.preventDefault(); e.stopPropagation();
  });
});
keys.forEach(b => {
  const kind = b.dataset.kind;
  b.addEventListener("pointerenter", () => highlight(kind));
  b.addEventListener("pointerleave", () => highlight(pressed));
  b.addEventListener("click", () => {
    pressed = pressed === kind ? null : kind;
    keys.forEach(other => other.setAttribute("aria-pressed", other.dataset.kind === pressed));
    highlight(pressed);
  });
});
