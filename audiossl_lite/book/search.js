// Excerpts for the search page from SEARCH_TEXT, above: opened from disk, a page may read no other page.
// Sphinx's searchtools.js asks for each page that it found, makes text of it, and shows a piece of that text as text.
{
  const ask = window.fetch;
  const textOf = Search.htmlToText;
  window.fetch = (address, ...more) => {
    const page = String(address).replace(/^\.\/|\.html$/g, "");
    return Object.hasOwn(SEARCH_TEXT, page) ? Promise.resolve(new Response(page)) : ask(address, ...more);
  };
  Search.htmlToText = (page, anchor) => {
    if (!Object.hasOwn(SEARCH_TEXT, page)) return textOf(page, anchor);
    const parts = SEARCH_TEXT[page];
    const first = parts.findIndex(([id]) => "#" + id === anchor);
    return parts.slice(Math.max(first, 0)).map(([, words]) => words).join(" ");
  };
}
