// What the theme leaves out for readers without a mouse or without eyes.
document.addEventListener("DOMContentLoaded", async () => {
  for (const button of document.querySelectorAll(".search-button-field"))
    button.ariaLabel = button.textContent.trim().replace(/\s+/g, " ");
  for (const entry of document.querySelectorAll(".citation-list > .citation")) entry.role = "listitem";
  for (const home of document.querySelectorAll(".sidebar-primary-item:has(> .navbar-brand)")) // else in no landmark
    Object.assign(home, {role: "navigation", ariaLabel: "First page"});
  if (window.MathJax?.startup) await MathJax.startup.promise;
  // Names of files and tests in a table break where they have a joint.
  for (const name of document.querySelectorAll("td code.literal .pre"))
    name.innerHTML = name.innerHTML.replace(/\/|_|::/g, "$&<wbr>");
  // What is wider than its box is reached by Tab and moved by the arrows, and says on which side more stands;
  // `toggle`: what stands in a fold.
  const boxes = ".wide, .pst-scrollable-table-container, div.math, mjx-container, .output, pre";
  const mark = (box) => {
    const beyond = box.scrollWidth - box.clientWidth;
    box.classList.toggle("scrolls", beyond > 1);
    box.classList.toggle("more", beyond - box.scrollLeft > 1);
    if (beyond > 1 && box.clientWidth) box.tabIndex = 0;
  };
  const reach = () => document.querySelectorAll(boxes).forEach(mark);
  reach();
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  document.addEventListener("scroll", (event) => event.target.matches?.(boxes) && mark(event.target), true);
  document.addEventListener("input", reach); // a slider shows another picture
});
