// What the result pages do; report_page.py puts it into each of them.

// Which method's results are shown.
const switches = document.querySelectorAll(".switch button");
for (const button of switches) {
  button.onclick = () => {
    for (const other of switches) other.setAttribute("aria-pressed", other === button);
    for (const part of document.querySelectorAll("div[data-method]")) {
      part.hidden = part.dataset.method !== button.dataset.method;
    }
  };
}

// Searching with a picture of the map: NEAR[i] lists [cell of the sheet, caption] of its nearest neighbours.
const places = document.querySelectorAll(".map button");
for (const button of places) {
  button.onclick = () => {
    for (const other of places) other.setAttribute("aria-pressed", other === button);
    const heading = document.createElement("p");
    heading.textContent = button.getAttribute("aria-label") + ": its nearest neighbours";
    const found = document.createElement("div");
    for (const [cell, caption] of NEAR[button.dataset.i]) {
      const figure = document.createElement("figure");
      figure.className = "card";
      const picture = document.createElement("i");
      picture.className = "pic";
      picture.dataset.cell = cell;
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", caption);
      const text = document.createElement("figcaption");
      text.textContent = caption;
      figure.append(picture, text);
      found.append(figure);
    }
    document.querySelector(".panel").replaceChildren(heading, found);
  };
}
if (places.length) places[0].click();
