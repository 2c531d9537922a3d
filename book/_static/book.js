// What the theme leaves out for readers without a mouse or without eyes.
document.addEventListener("DOMContentLoaded", async () => {
  for (const button of document.querySelectorAll(".search-button-field"))
    button.ariaLabel = button.textContent.trim().replace(/\s+/g, " ");
  for (const entry of document.querySelectorAll(".citation-list > .citation")) entry.role = "listitem";
  for (const home of document.querySelectorAll(".sidebar-primary-item:has(> .navbar-brand)")) // else in no landmark
    Object.assign(home, {role: "navigation", ariaLabel: "First page"});
  if (window.MathJax?.startup) await MathJax.startup.promise;
  // What is wider than its box is reached by Tab and moved by the arrows; `toggle`: what stands in a fold.
  const reach = () => {
    for (const box of document.querySelectorAll(".wide, .pst-scrollable-table-container, div.math, mjx-container, .output"))
      if (box.scrollWidth > box.clientWidth && box.clientWidth) box.tabIndex = 0;
  };
  reach();
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  document.addEventListener("input", reach); // a slider shows another picture
});
