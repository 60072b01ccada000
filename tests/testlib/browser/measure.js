// Returns what is wrong with the layout and the contrast of the page, and what it is made of.
(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  // WCAG 2.2, "relative luminance" and "contrast ratio".
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const contrast = (element) => {
    const [low, high] = [parse(getComputedStyle(element).color), background(element)]
      .map(luminance)
      .sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const width = document.documentElement.clientWidth;
  const name = (element) => `${element.tagName}.${element.className}`;
  const overflowing = [];
  const faint = [];
  const tiny = [];
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    const scrolls = element.closest(".scroll, pre");
    // Only for a reader who hears the page.
    const unseen = element.closest("thead, .unseen");
    if (unseen && getComputedStyle(unseen).clipPath !== "none") continue;
    if (!scrolls && box.width && (box.right > width + 0.5 || box.left < -0.5)) {
      overflowing.push(name(element));
    }
    const ownText = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.data.trim(),
    );
    if (ownText && box.width > 1 && element.checkVisibility()) {
      if (contrast(element) < 4.5) faint.push(`${name(element)} ${contrast(element).toFixed(2)}`);
      if (parseFloat(getComputedStyle(element).fontSize) < 10) tiny.push(name(element));
    }
    if (!scrolls && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1) {
      if (!["SPAN", "B", "LI"].includes(element.tagName)) overflowing.push(`${name(element)} inside`);
    }
  }
  const elements = [...document.querySelectorAll("*")];
  return {
    overflowing,
    faint,
    tiny,
    scrollWidth: document.documentElement.scrollWidth,
    width,
    tags: [...new Set(elements.map((element) => element.tagName.toLowerCase()))].sort(),
    attributes: [...new Set(elements.flatMap((element) => element.getAttributeNames()))].sort(),
    headings: [...document.querySelectorAll("h1, h2")].map((element) => element.textContent),
    text: document.body.innerText,
    content: document.body.textContent,
    reportHeight: document.querySelector("details pre")?.getBoundingClientRect().height ?? null,
  };
})();
